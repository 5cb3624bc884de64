//! Addresses of listeners and servers, as text: `HOST:PORT`, `unix:PATH`, `vsock:CID:PORT`,
//! `fd:NAME`.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;
use crate::net::{dns, misspelt, zone};
use crate::system::users::service_port;
use tine_sys::vsock::VsockAddress;

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host and a TCP port.
    Tcp {
        /// Host name or numeric address, without brackets. A link-local IPv6 address has its zone
        /// after a percent sign.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// A Unix socket in the file system.
    Unix(PathBuf),
    /// A Unix socket in the abstract namespace of Linux (unix(7)).
    Abstract(String),
    /// A vsock socket, between virtual machines and their host (vsock(7)).
    Vsock {
        /// The context identifier of the machine. `u32::MAX` (`VMADDR_CID_ANY`) stands for none:
        /// all of this machine's to listen on, this machine to connect to.
        cid: u32,
        /// Port. To listen on, `u32::MAX` (`VMADDR_PORT_ANY`) lets the kernel choose.
        port: u32,
    },
    /// The inherited sockets of this name (`LISTEN_FDNAMES`, sd_listen_fds_with_names(3)).
    Inherited(String),
}

/// What an address of the family AF_VSOCK begins with.
const VSOCK: &str = "vsock:";

/// The ports of a range, at most: a server has no more listeners.
const MAX_RANGE: u16 = 64;

impl FromStr for Address {
    type Err = Error;

    /// Reads `9999` (all addresses), `localhost:9999`, `127.0.0.1:9999`, `[::1]:9999`,
    /// `[fe80::1%eth0]:9999`, `unix:PATH`, `unix:@NAME`, `vsock:PORT`, `vsock:CID:PORT` or
    /// `fd:NAME`. A TCP port can be given by the name of its service (services(5)).
    fn from_str(text: &str) -> Result<Address, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path);
        }
        if let Some(name) = text.strip_prefix("fd:") {
            return inherited(text, name);
        }
        if let Some(rest) = text.strip_prefix(VSOCK).filter(|rest| !rest.starts_with("//")) {
            return vsock(text, rest);
        }
        if let Some((why, next)) = misspelt::explain(text) {
            return Err(wrong(text, why, &next));
        }
        let (host, port) = host_and_port(text)?;
        Ok(Address::Tcp { host: host.to_owned(), port: one_port(text, port)? })
    }
}

impl Address {
    /// Reads what [`Address::from_str`] reads, or a range of ports as `HOST:FIRST-LAST`, which is
    /// an address for each port, at most 64.
    ///
    /// # Errors
    /// As of [`Address::from_str`].
    pub fn parse_range(text: &str) -> Result<Vec<Address>, Error> {
        let is_tcp = !["unix:", "fd:", VSOCK].iter().any(|prefix| text.starts_with(prefix));
        let Some((host, first, last)) = is_tcp.then(|| range(text)).flatten() else {
            return Ok(vec![text.parse()?]);
        };
        if let Some((why, next)) = misspelt::explain(text) {
            return Err(wrong(text, why, &next));
        }
        let host = match host.strip_suffix(':') {
            Some(host) => bare_host(text, host)?,
            None => "::",
        };
        let number = |digits: &str| digits.parse::<u16>().map_err(|_| invalid(text, NO_PORT));
        let (first, last) = (number(first)?, number(last)?);
        if first == 0 || last < first {
            return Err(invalid(text, "a range of ports is from a lower to a higher one"));
        }
        if last - first >= MAX_RANGE {
            return Err(invalid(text, "a range has at most 64 ports"));
        }
        Ok((first..=last).map(|port| Address::Tcp { host: host.to_owned(), port }).collect())
    }
}

const NO_PORT: &str = "the port is not a number from 0 to 65535";

/// Host with its colon, first and last port. A service can have a dash in its name.
fn range(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.rfind(':').map_or(0, |colon| colon + 1);
    let (first, last) = text[at..].split_once('-')?;
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (are_digits(first) && are_digits(last)).then_some((&text[..at], first, last))
}

fn host_and_port(text: &str) -> Result<(&str, &str), Error> {
    Ok(match text.rsplit_once(':') {
        None => ("::", text),
        Some((host, port)) => (bare_host(text, host)?, port),
    })
}

fn one_port(text: &str, port: &str) -> Result<u16, Error> {
    if port.is_empty() || port.starts_with(|first: char| !first.is_ascii_alphabetic()) {
        return port.parse().map_err(|_| invalid(text, NO_PORT));
    }
    service_port(port)
        .ok_or_else(|| invalid(text, &format!("there is no TCP service '{port}' (`getent services`)")))
}

fn inherited(text: &str, name: &str) -> Result<Address, Error> {
    // A name has at most 255 characters, none of them a colon (sd_pid_notify_with_fds(3)).
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || name.len() > 255 || !name.bytes().all(fits) {
        return Err(invalid(text, "after 'fd:' comes a name in LISTEN_FDNAMES"));
    }
    Ok(Address::Inherited(name.to_owned()))
}

fn invalid(text: &str, why: &str) -> Error {
    let next = "use PORT, HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME, vsock:CID:PORT or fd:NAME";
    wrong(text, why, next)
}

fn wrong(text: &str, why: &str, next: &str) -> Error {
    Error::usage(format_args!("bad address '{text}': {why}"), next)
}

/// Reads the port, and the CID before it. systemd.socket(5) writes a colon for an empty CID
/// (`vsock::PORT`); here it may be left out.
fn vsock(text: &str, rest: &str) -> Result<Address, Error> {
    let next = "write vsock:PORT or vsock:CID:PORT, each a number from 0 to 4294967295";
    let number = |digits: &str, what: &str| {
        let number = digits.parse().ok().filter(|_| digits.starts_with(|first: char| first.is_ascii_digit()));
        number.ok_or_else(|| wrong(text, what, next))
    };
    let (cid, port) = rest.split_once(':').unwrap_or(("", rest));
    let cid = match cid {
        "" => VsockAddress::CID_ANY,
        cid => number(cid, "the CID is not a number from 0 to 4294967295")?,
    };
    Ok(Address::Vsock { cid, port: number(port, "the port is not a number from 0 to 4294967295")? })
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
        let (address, zone) = zone::divide(inner);
        let address = address.parse::<Ipv6Addr>();
        return match (address, zone) {
            (Ok(_), None) => Ok(inner),
            (Ok(address), Some(zone)) if zone::needs_zone(address) && !zone.is_empty() => Ok(inner),
            (Ok(_), Some(_)) => {
                Err(invalid(text, "a zone follows a link-local address, as in [fe80::1%eth0]:80"))
            }
            (Err(_), _) => Err(invalid(text, "not an IPv6 address in the brackets")),
        };
    }
    // Text between the brackets and the last colon is no port, as in `[::1]:2:80`.
    match host.contains(['[', ']', ':']) {
        true => Err(invalid(text, "a host has brackets and colons only as [IPV6]")),
        false => Ok(host),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "unix:@{name}"),
            Address::Vsock { cid, port } => VsockAddress { cid: *cid, port: *port }.fmt(f),
            Address::Inherited(name) => write!(f, "fd:{name}"),
        }
    }
}

/// The socket addresses of a host and port, in the order in which to try them. Numeric addresses
/// need no lookup; names go through the name service switch of the system. An IPv4-mapped IPv6
/// address is that of IPv4 (RFC 4291, 2.5.5.2).
///
/// # Errors
/// [`Error`], exit code 111, if the name does not resolve, or there is no such zone.
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let (bare, zone) = zone::divide(host);
    match (bare.parse::<IpAddr>(), zone) {
        (Ok(ip), None) => Ok(vec![SocketAddr::new(ip.to_canonical(), port)]),
        (Ok(IpAddr::V6(ip)), Some(zone)) => {
            let index = zone::index(zone).map_err(|why| {
                let next = "choose a network interface of this machine (`ip link` lists them)";
                Error::system(format_args!("cannot resolve '{host}': zone '{zone}'"), &why.into(), next)
            })?;
            Ok(vec![SocketAddrV6::new(ip, port, 0, index).into()])
        }
        _ => dns::look_up(host, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn vsock(cid: u32, port: u32) -> Address {
        Address::Vsock { cid, port }
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
            ("[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80)),
            ("http", tcp("::", 80)),
            ("[::1]:domain", tcp("::1", 53)),
            ("fd:web", Address::Inherited("web".into())),
            ("vsock:5000", vsock(u32::MAX, 5000)),
            ("vsock::5000", vsock(u32::MAX, 5000)),
            ("vsock:4294967295:5000", vsock(u32::MAX, 5000)),
            ("vsock:2:0", vsock(2, 0)),
            ("vsock:0:4294967295", vsock(0, u32::MAX)),
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
            "[::1]::80",
            "[::1]:2:80",
            "[::1]x:80",
            "host]:80",
            "ho[st:80",
            "unix:",
            "unix:@",
            "unix:a\0b",
            "[::1%eth0]:80",
            "[fe80::1%]:80",
            "no-such-service",
            "localhost:no-such-service",
            "8000-8001",
            "fd:",
            "fd:a:b",
            "vsock:",
            "vsock::",
            "vsock:2:",
            "vsock:4294967296",
            "vsock:4294967296:1",
            "vsock:-1:1",
            "vsock:+1:1",
            "vsock:1:+1",
            "vsock:1:2:3",
            "vsock:http",
            "vsock:1-2",
            "vsock:host:1",
            "vsock://2:5000",
            &long,
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn display_can_be_parsed_again() {
        for text in [
            "localhost:9999",
            "[::1]:9999",
            "[fe80::1%lo]:1",
            "unix:/run/echo",
            "unix:@echo",
            "fd:web",
            "vsock::5000",
            "vsock:2:5000",
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn ranges_of_ports() {
        let ports = |text| {
            let all = Address::parse_range(text).map_err(|error| error.exit_code())?;
            Ok::<_, u8>(all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (text, expected) in [
            ("8000-8002", Ok("[::]:8000 [::]:8001 [::]:8002")),
            ("127.0.0.1:7-7", Ok("127.0.0.1:7")),
            ("[::1]:7-8", Ok("[::1]:7 [::1]:8")),
            ("9999", Ok("[::]:9999")),
            ("unix:/run/1-2", Ok("unix:/run/1-2")),
            ("fd:1-2", Ok("fd:1-2")),
            ("vsock:5000", Ok("vsock::5000")),
            ("vsock:1-2", Err(100)),
            ("8002-8000", Err(100)),
            ("0-5", Err(100)),
            ("1-65", Err(100)),
            ("65530-65536", Err(100)),
            (":7-8", Err(100)),
            ("::1:7-8", Err(100)),
            ("[::1]::7-8", Err(100)),
            ("8000-", Err(100)),
        ] {
            assert_eq!(ports(text), expected.map(str::to_owned), "{text}");
        }
        assert_eq!(Address::parse_range("1-64").map(|all| all.len()).ok(), Some(64));
    }

    #[test]
    fn numeric_addresses_need_no_lookup() {
        for (host, address) in [("127.0.0.1", "127.0.0.1:7"), ("::ffff:192.0.2.1", "192.0.2.1:7")] {
            let found = resolve(host, 7).expect("a numeric address");
            assert_eq!(found, [address.parse().expect("an address")]);
        }
        let found = resolve("fe80::1%1", 7).expect("a numeric address and zone");
        assert!(matches!(found[0], SocketAddr::V6(address) if address.scope_id() == 1));
        assert_eq!(resolve("fe80::1%no-such-one", 7).expect_err("no such zone").exit_code(), 111);
    }
}
