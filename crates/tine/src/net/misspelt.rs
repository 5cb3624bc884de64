//! Addresses with a usual mistake: what is wrong, and the address that was probably meant.

use std::net::Ipv6Addr;

/// Why a text is no address of the form `HOST:PORT`, and the next move. `None` if its mistake is
/// not a usual one.
#[must_use]
pub fn explain(text: &str) -> Option<(&'static str, String)> {
    if text.is_empty() {
        return Some(("it is empty", "write HOST:PORT".to_owned()));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Some(("this is a URL", format!("write {}", of_url(scheme, rest))));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return in_brackets(rest);
    }
    // The last group of an IPv6 address may be its port, or may not.
    if text.matches(':').count() > 1 {
        return Some(("an IPv6 address needs brackets", "write [IPV6]:PORT, as in [::1]:9999".to_owned()));
    }
    match text.split_once(':') {
        Some(("", _)) => Some(("the host before the colon is missing", "write HOST:PORT".to_owned())),
        None if text.contains('.') => Some(("the port is missing", format!("write {text}:PORT"))),
        _ => None,
    }
}

fn in_brackets(rest: &str) -> Option<(&'static str, String)> {
    let (inner, after) = rest.split_once(']').unwrap_or((rest, ""));
    let ip = inner.split_once('%').map_or(inner, |(ip, _)| ip);
    if ip.parse::<Ipv6Addr>().is_err() {
        return Some(("not an IPv6 address in the brackets", "write [IPV6]:PORT".to_owned()));
    }
    match after.starts_with(':') {
        true => None,
        false => Some(("the port is missing", format!("write [{inner}]:PORT"))),
    }
}

/// The address of a URL's server.
fn of_url(scheme: &str, rest: &str) -> String {
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (host, scheme) {
        ("", "unix") => format!("unix:{rest}"),
        (host, "vsock") if host.contains(':') => format!("vsock:{host}"),
        (_, "vsock") => "vsock:CID:PORT".to_owned(),
        ("", _) => "HOST:PORT".to_owned(),
        (host, _) if has_port => host.to_owned(),
        (host, "http" | "ws") => format!("{host}:80"),
        (host, "https" | "wss") => format!("{host}:443"),
        (host, _) => format!("{host}:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_mistakes_are_described_and_corrected() {
        for (text, why, next) in [
            ("[::1]", "the port is missing", "write [::1]:PORT"),
            ("[fe80::1%eth0]", "the port is missing", "write [fe80::1%eth0]:PORT"),
            ("[::1]80", "the port is missing", "write [::1]:PORT"),
            ("[::1", "the port is missing", "write [::1]:PORT"),
            ("[host]:80", "not an IPv6 address in the brackets", "write [IPV6]:PORT"),
            ("[]", "not an IPv6 address in the brackets", "write [IPV6]:PORT"),
            ("::1", "an IPv6 address needs brackets", "write [IPV6]:PORT, as in [::1]:9999"),
            ("fe80::1:80", "an IPv6 address needs brackets", "write [IPV6]:PORT, as in [::1]:9999"),
            ("http://", "this is a URL", "write HOST:PORT"),
            ("http://example.org", "this is a URL", "write example.org:80"),
            ("https://me@example.org/a?b", "this is a URL", "write example.org:443"),
            ("http://[::1]:8080/", "this is a URL", "write [::1]:8080"),
            ("http://[::1]/", "this is a URL", "write [::1]:80"),
            ("tcp://example.org", "this is a URL", "write example.org:PORT"),
            ("tcp://0.0.0.0:7001", "this is a URL", "write 0.0.0.0:7001"),
            ("unix:///run/x", "this is a URL", "write unix:/run/x"),
            ("vsock://2:5000", "this is a URL", "write vsock:2:5000"),
            ("vsock://2:5000/x", "this is a URL", "write vsock:2:5000"),
            ("vsock://2", "this is a URL", "write vsock:CID:PORT"),
            ("example.org", "the port is missing", "write example.org:PORT"),
            ("127.0.0.1", "the port is missing", "write 127.0.0.1:PORT"),
            ("", "it is empty", "write HOST:PORT"),
            (":80", "the host before the colon is missing", "write HOST:PORT"),
        ] {
            assert_eq!(explain(text), Some((why, next.to_owned())), "{text}");
        }
        for text in ["9999", "http", "host:80", "host:", "[::1]:80", "[::1]:http", "no-such-service"] {
            assert_eq!(explain(text), None, "{text}");
        }
    }
}
