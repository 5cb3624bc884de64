//! Access to the observer. With a token, a request needs it. Without one, the observer listens on
//! loopback or on a Unix socket: then a request must name this machine as its host, since any other
//! site could have a name of its own lead here (DNS rebinding). What changes the server must not
//! come from another site at all.

use std::net::IpAddr;

use constant_time_eq::constant_time_eq_n;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};

/// The longest token that is compared. The time of a comparison does not depend on what is sent.
const MAX_TOKEN: usize = 256;

/// By which browsers say where a request comes from (Fetch Metadata Request Headers).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request has to have.
#[derive(Debug)]
pub(crate) struct Guard {
    token: Option<[u8; MAX_TOKEN + 1]>,
    /// The address that a request came to is that of a Unix socket.
    is_local: bool,
}

impl Guard {
    pub(crate) fn new(token: Option<&str>, is_local: bool) -> Guard {
        Guard { token: token.and_then(|token| padded(token.as_bytes())), is_local }
    }

    /// Whether a request may see what the server does.
    ///
    /// # Errors
    /// 401 without the token; 403 if another host is meant.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        match &self.token {
            Some(token) => {
                let sent = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
                let sent = bearer(sent).and_then(padded).unwrap_or([0; MAX_TOKEN + 1]);
                if constant_time_eq_n(token, &sent) { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
            }
            None if self.is_local || means_this_machine(headers) => Ok(()),
            None => Err(StatusCode::FORBIDDEN),
        }
    }
}

/// The token of a header `Bearer TOKEN` (RFC 6750, section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A token with its length, in as many bytes for each token; `None` if it is too long.
fn padded(token: &[u8]) -> Option<[u8; MAX_TOKEN + 1]> {
    let mut all = [0; MAX_TOKEN + 1];
    all.get_mut(1..1 + token.len())?.copy_from_slice(token);
    // A token has at least one byte, so nothing sent is none.
    all[0] = u8::try_from(token.len()).unwrap_or(u8::MAX);
    Some(all)
}

/// Whether the host of a request is an address, or `localhost`. A request without one is of no
/// browser.
fn means_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// Whether a browser says that a request comes from a page of another site. `Sec-Fetch-Site`, which
/// no page can set, decides: behind a proxy the host is another one than that of the page. Where a
/// browser does not send it, `Origin` must be this host.
pub(crate) fn is_of_another_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
        !matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn a_token_is_known_or_not() {
        let guard = Guard::new(Some("secret"), false);
        for (value, allowed) in [
            ("Bearer secret", true),
            ("bearer secret ", true),
            ("Bearer secret2", false),
            ("Bearer secre", false),
            ("Bearer ", false),
            ("Basic secret", false),
            ("secret", false),
            ("", false),
            (&format!("Bearer {}", "x".repeat(9_000)), false),
        ] {
            let checked = guard.check(&headers(AUTHORIZATION, value));
            assert_eq!(checked, if allowed { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }, "{value}");
        }
        assert_eq!(guard.check(&HeaderMap::new()), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(guard.check(&headers(HOST, "localhost")), Err(StatusCode::UNAUTHORIZED));
    }

    #[test]
    fn without_a_token_this_machine_must_be_meant() {
        let guard = Guard::new(None, false);
        for (host, allowed) in [
            ("localhost:9100", true),
            ("LOCALHOST", true),
            ("127.0.0.1:80", true),
            ("[::1]:9100", true),
            ("[::1]", true),
            ("evil.example:9100", false),
            ("localhost.evil.example", false),
            ("", false),
            ("127.0.0.1.evil.example", false),
        ] {
            let checked = guard.check(&headers(HOST, host));
            assert_eq!(checked, if allowed { Ok(()) } else { Err(StatusCode::FORBIDDEN) }, "{host}");
        }
        assert_eq!(guard.check(&HeaderMap::new()), Ok(()));
        assert_eq!(Guard::new(None, true).check(&headers(HOST, "evil.example")), Ok(()));
    }

    #[test]
    fn another_site_is_told_from_this_one() {
        let (host, origin, site) = (HOST, ORIGIN, SEC_FETCH_SITE);
        for (sent, is_other) in [
            (&[][..], false),
            (&[(&host, "a.example")], false),
            (&[(&site, "same-origin")], false),
            (&[(&site, "none")], false),
            (&[(&site, "same-site")], true),
            (&[(&site, "cross-site")], true),
            (&[(&site, "same-origin"), (&site, "cross-site")], true),
            (&[(&site, "")], true),
            (&[(&host, "a.example:9"), (&origin, "http://A.example:9")], false),
            (&[(&host, "a.example:9"), (&origin, "https://a.example")], true),
            (&[(&host, "a.example"), (&origin, "http://evil.example")], true),
            (&[(&host, "a.example"), (&origin, "null")], true),
            (&[(&origin, "http://a.example")], true),
            // A proxy has changed the host.
            (&[(&host, "127.0.0.1:9"), (&origin, "https://a.example"), (&site, "same-origin")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_of_another_site(&headers), is_other, "{sent:?}");
        }
    }
}
