//! Access to the observer. With a token, a request needs it. Without one, the observer listens on
//! loopback or on a Unix socket: then a request must name this machine as its host, since any other
//! site could have a name of its own lead here (DNS rebinding).

use std::net::IpAddr;

use constant_time_eq::constant_time_eq_n;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};

/// The longest token that is compared. The time of a comparison does not depend on what is sent.
const MAX_TOKEN: usize = 256;

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

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
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
}
