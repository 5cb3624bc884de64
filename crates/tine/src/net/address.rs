//! Addresses of listeners and servers, as text: `HOST:PORT`, `unix:PATH`.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;
use crate::net::dns;

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host and a TCP port.
    Tcp {
        /// Host name or numeric address, without brackets.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// A Unix socket in the file system.
    Unix(PathBuf),
    /// A Unix socket in the abstract namespace of Linux (unix(7)).
    Abstract(String),
}

impl FromStr for Address {
    type Err = Error;

    /// Reads `9999` (all addresses), `localhost:9999`, `127.0.0.1:9999`, `[::1]:9999`, `unix:PATH`
    /// or `unix:@NAME`.
    fn from_str(text: &str) -> Result<Address, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path);
        }
        let (host, port) = match text.rsplit_once(':') {
            None => ("::", text),
            Some((host, port)) => (bare_host(text, host)?, port),
        };
        let port = port.parse().map_err(|_| invalid(text, "the port is not a number from 0 to 65535"))?;
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::usage(
        format_args!("bad address '{text}': {why}"),
        "use PORT, HOST:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME",
    )
}

fn unix(text: &str, path: &str) -> Result<Address, Error> {
    // sockaddr_un has 108 bytes, one of them the zero byte after a path or before an abstract name.
    if path.is_empty() || path == "@" || path.len() > 107 || path.contains('\0') {
        return Err(invalid(text, "after 'unix:' comes a path or @NAME of 1 to 107 bytes"));
    }
    Ok(match path.strip_prefix('@') {
        Some(name) => Address::Abstract(name.to_owned()),
        None => Address::Unix(PathBuf::from(OsStr::from_bytes(path.as_bytes()))),
    })
}

fn bare_host<'a>(text: &str, host: &'a str) -> Result<&'a str, Error> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(inner),
            Err(_) => Err(invalid(text, "not an IPv6 address in the brackets")),
        };
    }
    match host {
        "" => Err(invalid(text, "the host before the colon is missing")),
        _ if host.contains(':') => Err(invalid(text, "an IPv6 address needs brackets")),
        _ => Ok(host),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// The socket addresses of a host and port, in the order in which to try them. Numeric addresses
/// need no lookup; names go through the name service switch of the system.
///
/// # Errors
/// [`Error`], exit code 111, if the name does not resolve.
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        Err(_) => dns::look_up(host, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn valid_addresses() {
        for (text, address) in [
            ("9999", tcp("::", 9999)),
            ("0", tcp("::", 0)),
            ("localhost:9999", tcp("localhost", 9999)),
            ("127.0.0.1:80", tcp("127.0.0.1", 80)),
            ("[::1]:9999", tcp("::1", 9999)),
            ("[::]:65535", tcp("::", 65535)),
            ("unix:/run/echo", Address::Unix("/run/echo".into())),
            ("unix:relative", Address::Unix("relative".into())),
            ("unix:@echo", Address::Abstract("echo".into())),
        ] {
            assert_eq!(text.parse::<Address>().expect(text), address);
        }
    }

    #[test]
    fn invalid_addresses() {
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:65536",
            "host:-1",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[host]:80",
            "unix:",
            "unix:@",
            "unix:a\0b",
            &long,
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn display_can_be_parsed_again() {
        for text in ["localhost:9999", "[::1]:9999", "unix:/run/echo", "unix:@echo"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn numeric_addresses_need_no_lookup() {
        let found = resolve("127.0.0.1", 7).expect("a numeric address");
        assert_eq!(found, ["127.0.0.1:7".parse().expect("an address")]);
    }
}
