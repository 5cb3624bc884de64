//! From an address as typed to the endpoints that the client and the load connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, netdevice, socket};
use tine::Address;
use tine_load::plan::endpoint::Endpoint;
use tine_sys::vsock::VsockAddress;

use crate::error::Error;

/// An address with its endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The address, as messages and results name it.
    pub name: String,
    /// The endpoints, in the order in which to try them.
    pub endpoints: Vec<Endpoint>,
}

impl Target {
    /// Parses and resolves an address: `PORT` (of this host), `HOST:PORT`, `[IPV6]:PORT`,
    /// `[IPV6%ZONE]:PORT`, `unix:PATH`, `unix:@NAME`, `vsock:PORT` (of this machine) or
    /// `vsock:CID:PORT`.
    ///
    /// # Errors
    /// A usage error if it is not such an address; a system error if the name does not resolve.
    pub(crate) fn resolve(text: &str) -> Result<Target, Error> {
        if text.starts_with("vsock:") {
            return vsock(text);
        }
        if text.starts_with("unix:") {
            return unix(text);
        }
        let (host, port) = host_and_port(text)?;
        let addresses = look_up(host, port)?;
        Ok(Target { name: name(host, port), endpoints: addresses.into_iter().map(Endpoint::Tcp).collect() })
    }

    /// Parses an address over TCP, and does not resolve it: other machines will. A path, or a
    /// machine by its number, is another one on each of them.
    ///
    /// # Errors
    /// A usage error if it is not such an address.
    pub(crate) fn name_over_tcp(text: &str) -> Result<String, Error> {
        if text.starts_with("unix:") || text.starts_with("vsock:") {
            return Err(invalid(text, "agents connect over TCP only", "write HOST:PORT or [IPV6]:PORT"));
        }
        let (host, port) = host_and_port(text)?;
        Ok(name(host, port))
    }

    /// Makes each endpoint a target of its own, named by its address.
    pub(crate) fn split(self) -> Vec<Target> {
        let name = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(_) | Endpoint::Vsock(_) => self.name.clone(),
        };
        let one = |endpoint: Endpoint| Target { name: name(&endpoint), endpoints: vec![endpoint] };
        self.endpoints.iter().cloned().map(one).collect()
    }
}

/// Parses `PORT` (of this host), `HOST:PORT` or `[IPV6]:PORT`.
fn host_and_port(text: &str) -> Result<(&str, u16), Error> {
    let (host, port) = match text.parse::<u16>() {
        Ok(port) => ("localhost", port),
        Err(_) => split(text)?,
    };
    match port {
        0 => Err(Error::usage("cannot connect to port 0", "give the port on which the server listens")),
        port => Ok((host, port)),
    }
}

fn name(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn unix(text: &str) -> Result<Target, Error> {
    let unfit = |why: Errno| {
        Error::system(format_args!("cannot connect to {text}"), &why.into(), "use a shorter path")
    };
    let socket = match text.parse()? {
        Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        Address::Unix(path) => SocketAddrUnix::new(path),
        _ => Err(Errno::INVAL),
    };
    Ok(Target { name: text.to_owned(), endpoints: vec![Endpoint::Unix(socket.map_err(unfit)?)] })
}

/// An empty CID stands for this machine, on which a server of the same address listens.
fn vsock(text: &str) -> Result<Target, Error> {
    let address = match text.parse()? {
        Address::Vsock { cid: VsockAddress::CID_ANY, port } => {
            VsockAddress { cid: VsockAddress::CID_LOCAL, port }
        }
        Address::Vsock { cid, port } => VsockAddress { cid, port },
        _ => return Err(invalid(text, "it is no vsock address", "write vsock:CID:PORT")),
    };
    if address.port == VsockAddress::PORT_ANY {
        return Err(Error::usage(
            format_args!("cannot connect to port {}", address.port),
            "give the port on which the server listens",
        ));
    }
    Ok(Target { name: text.to_owned(), endpoints: vec![Endpoint::Vsock(address)] })
}

fn invalid(text: &str, why: &str, next: impl std::fmt::Display) -> Error {
    Error::usage(format_args!("bad address '{text}': {why}"), next)
}

/// Splits an address into host, without brackets, and port.
fn split(text: &str) -> Result<(&str, u16), Error> {
    if let Some((why, next)) = tine::cli::explain_misspelt(text) {
        return Err(invalid(text, why, next));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            Ok((bare.unwrap_or(host), number(text, port)?))
        }
        None if text.starts_with('-') || text.bytes().all(|byte| byte.is_ascii_digit()) => {
            number(text, text).map(|port| ("", port))
        }
        None => Err(invalid(text, "the port is missing", format_args!("write {text}:PORT"))),
    }
}

fn number(text: &str, port: &str) -> Result<u16, Error> {
    let next = "use PORT, HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME or vsock:CID:PORT";
    port.parse().map_err(|_| invalid(text, "the port is not a number from 0 to 65535", next))
}

/// Resolves a host. The addresses are those of localhost (RFC 6761) for localhost and for the
/// unspecified address, on which servers of this host listen; the name service knows the others.
fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let loopback = |ips: [IpAddr; 2]| ips.map(|ip| SocketAddr::new(ip, port)).to_vec();
    let (four, six) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    match host {
        "localhost" | "::" => return Ok(loopback([six, four])),
        "0.0.0.0" => return Ok(loopback([four, six])),
        _ => {}
    }
    let (bare, zone) = host.split_once('%').map_or((host, None), |(ip, zone)| (ip, Some(zone)));
    let Ok(ip) = bare.parse::<Ipv6Addr>() else {
        return Ok(alternate(&tine::cli::resolve(host, port)?));
    };
    let scope = match zone {
        Some(zone) => interface(host, zone)?,
        None if ip.is_unicast_link_local() => {
            return Err(Error::usage(
                format_args!("the link-local address {ip} needs its interface"),
                format_args!("write [{ip}%INTERFACE]:{port}; `ip -6 address` lists them"),
            ));
        }
        None => 0,
    };
    Ok(vec![SocketAddrV6::new(ip, port, 0, scope).into()])
}

/// Returns the index of an interface, by its name or number.
fn interface(host: &str, zone: &str) -> Result<u32, Error> {
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None);
    let named = any.and_then(|socket| netdevice::name_to_index(socket, zone));
    let number = || zone.parse().ok().filter(|number| *number > 0);
    named.ok().or_else(number).ok_or_else(|| {
        Error::usage(
            format_args!("bad address '{host}': there is no interface '{zone}'"),
            "`ip link` lists the interfaces",
        )
    })
}

/// Orders addresses as RFC 8305, section 4, has it: the families alternate, so that a family
/// without a connection to the network delays the other one once only.
fn alternate(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_six = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let of = |six| addresses.iter().filter(move |one| one.is_ipv6() == six).copied();
    let (mut first, mut second) = (of(is_six), of(!is_six));
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next().into_iter().chain(second.next()));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> (String, Vec<String>) {
        let target = Target::resolve(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let shown = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(_) => "unix".to_owned(),
            Endpoint::Vsock(address) => address.to_string(),
        };
        let endpoints = target.endpoints.iter().map(shown).collect();
        (target.name, endpoints)
    }

    #[test]
    fn addresses_have_the_endpoints_that_a_server_of_them_listens_on() {
        for (text, name, endpoints) in [
            ("7001", "localhost:7001", &["[::1]:7001", "127.0.0.1:7001"][..]),
            ("localhost:7001", "localhost:7001", &["[::1]:7001", "127.0.0.1:7001"]),
            ("[::]:7001", "[::]:7001", &["[::1]:7001", "127.0.0.1:7001"]),
            ("0.0.0.0:7001", "0.0.0.0:7001", &["127.0.0.1:7001", "[::1]:7001"]),
            ("127.0.0.1:80", "127.0.0.1:80", &["127.0.0.1:80"]),
            ("[::1]:65535", "[::1]:65535", &["[::1]:65535"]),
            ("[fe80::1%lo]:7001", "[fe80::1%lo]:7001", &["[fe80::1%1]:7001"]),
            ("[fe80::1%1]:7001", "[fe80::1%1]:7001", &["[fe80::1%1]:7001"]),
            ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", &["[::ffff:127.0.0.1]:1"]),
            ("unix:/run/x", "unix:/run/x", &["unix"]),
            ("unix:@x", "unix:@x", &["unix"]),
            ("vsock:5000", "vsock:5000", &["vsock:1:5000"]),
            ("vsock::5000", "vsock::5000", &["vsock:1:5000"]),
            ("vsock:2:4000000000", "vsock:2:4000000000", &["vsock:2:4000000000"]),
        ] {
            let expected = endpoints.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(resolved(text), (name.to_owned(), expected));
        }
    }

    #[test]
    fn a_wrong_address_is_described_and_corrected() {
        for (text, why, next) in [
            ("[::1]", "the port is missing", "write [::1]:PORT"),
            ("[fe80::1%eth0]", "the port is missing", "write [fe80::1%eth0]:PORT"),
            ("[::1]80", "the port is missing", "write [::1]:PORT"),
            ("[::1", "the port is missing", "write [::1]:PORT"),
            ("[host]:80", "not an IPv6 address in the brackets", "write [IPV6]:PORT"),
            ("::1", "needs brackets", "[::1]:9999"),
            ("fe80::1:80", "needs brackets", "[::1]:9999"),
            ("http://", "this is a URL", "write HOST:PORT"),
            ("http://example.org", "this is a URL", "write example.org:80"),
            ("https://me@example.org/a?b", "this is a URL", "write example.org:443"),
            ("http://[::1]:8080/", "this is a URL", "write [::1]:8080"),
            ("http://[::1]/", "this is a URL", "write [::1]:80"),
            ("tcp://example.org", "this is a URL", "write example.org:PORT"),
            ("tcp://127.0.0.1:7001", "this is a URL", "write 127.0.0.1:7001"),
            ("example.org", "the port is missing", "write example.org:PORT"),
            ("host", "the port is missing", "write host:PORT"),
            ("127.0.0.1", "the port is missing", "write 127.0.0.1:PORT"),
            ("", "it is empty", "write HOST:PORT"),
            (":80", "the host before the colon is missing", "write HOST:PORT"),
            ("example.org:http", "not a number", "HOST:PORT"),
            ("example.org:", "not a number", "HOST:PORT"),
            ("65536", "not a number", "HOST:PORT"),
            ("-1", "not a number", "HOST:PORT"),
            ("0", "port 0", "the port on which the server listens"),
            ("[::1]:0", "port 0", "the port on which the server listens"),
            ("vsock:2:", "port is not a number", "vsock:CID:PORT"),
            ("vsock:host:1", "CID is not a number", "vsock:CID:PORT"),
            ("vsock://2:5000", "this is a URL", "write vsock:2:5000"),
            ("vsock:2:4294967295", "port 4294967295", "the port on which the server listens"),
            ("unix:", "1 to 107 bytes", "unix:PATH"),
            ("[fe80::1]:80", "needs its interface", "write [fe80::1%INTERFACE]:80"),
            ("[fe80::1%nowhere]:80", "no interface 'nowhere'", "ip link"),
            ("[fe80::1%0]:80", "no interface '0'", "ip link"),
        ] {
            let error = Target::resolve(text).expect_err(text);
            let line = error.to_string();
            let (what, move_) = line.split_once("; ").expect("a next move");
            assert!(what.contains(why) && move_.contains(next), "{text}: {line}");
            assert_eq!(error.exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn families_alternate() {
        let addresses =
            |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect::<Vec<SocketAddr>>();
        for (found, ordered) in [
            (&[][..], &[][..]),
            (&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]),
        ] {
            assert_eq!(alternate(&addresses(found)), addresses(ordered));
        }
    }

    #[test]
    fn each_endpoint_can_be_a_target() {
        let targets = Target::resolve("7001").expect("an address").split();
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["[::1]:7001", "127.0.0.1:7001"]);
        assert!(targets.iter().all(|target| target.endpoints.len() == 1));
    }
}
