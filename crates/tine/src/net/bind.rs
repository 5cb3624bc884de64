//! Binding: from an address to the listeners of every socket address that it resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tine_sys::vsock::VsockAddress;

use crate::error::Error;
use crate::net::address::{Address, resolve};
use crate::net::handed;
use crate::net::hints::{BindTarget, cannot_listen};
use crate::net::listener::{Bound, Listener, listen};
use crate::net::option_table::{OptionFault, set_all};
use crate::net::options::{BindIpv6Only, FreeBind, SocketOptions};
use crate::net::socket_file::SocketFile;
use crate::net::zone::WithZone;

/// Binds every socket address that an address resolves to, and adds the listeners to those that the
/// server has: a host name can have several.
///
/// # Errors
/// As of socket(2), bind(2) and listen(2); or an option is refused.
pub(crate) fn bind(
    listeners: &mut Vec<Listener>,
    address: &Address,
    options: &SocketOptions,
) -> Result<(), Error> {
    match address {
        Address::Tcp { host, port } => return bind_host(listeners, host, *port, options),
        Address::Unix(path) => listeners.push(bind_path(path, options)?),
        Address::Abstract(name) => listeners.push(bind_name(name, options)?),
        Address::Vsock { cid, port } => {
            listeners.push(bind_vsock(VsockAddress { cid: *cid, port: *port }, options)?);
        }
        Address::Inherited(name) => {
            return Err(Error::usage(
                format_args!("the socket '{name}' is not to be bound, but inherited"),
                "take the inherited sockets (`Server::inherited`), or give an address",
            ));
        }
    }
    Ok(())
}

fn bind_host(
    listeners: &mut Vec<Listener>,
    host: &str,
    port: u16,
    options: &SocketOptions,
) -> Result<(), Error> {
    let first = listeners.len();
    let mut failed = None;
    for address in resolve(host, port)? {
        // With port 0, the other addresses of a name get the port that the first one got.
        let port = listeners.get(first).and_then(|first| first.port).unwrap_or(port);
        let address = with_port(address, port);
        match bind_beside(listeners, address, options) {
            Ok(()) => {}
            Err(fault) if fault.is_family_missing() => failed = failed.or(Some((address, fault))),
            Err(fault) => return Err(fault.error(address)),
        }
    }
    let Some((address, fault)) = failed.filter(|_| listeners.len() == first) else {
        listeners.iter_mut().skip(first + 1).for_each(|listener| listener.repeats = true);
        return Ok(());
    };
    if fault.is_absent() && options.at_bind.free_bind == FreeBind::IfAbsent {
        let mut free = options.clone();
        free.at_bind.free_bind = FreeBind::Always;
        bind_beside(listeners, address, &free).map_err(|fault| fault.error(address))?;
        listeners.iter_mut().skip(first).for_each(Listener::wait_for_address);
        return Ok(());
    }
    Err(fault.error(address))
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Binds a socket address. Where the wildcards of both families have the same port, the IPv6 one
/// accepts IPv6 clients only.
fn bind_beside(
    listeners: &mut Vec<Listener>,
    address: SocketAddr,
    options: &SocketOptions,
) -> Result<(), BindFault> {
    let may_share = options.bind_ipv6_only == BindIpv6Only::Default && address.port() != 0;
    let is = |listener: &Listener, ip: IpAddr| {
        listener.bound.as_ref().is_some_and(|bound| bound.local == SocketAddr::new(ip, address.port()))
    };
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let dual =
        |listener: &Listener| is(listener, v6) && listener.bound.as_ref().is_some_and(|bound| bound.dual);
    if may_share
        && address.ip() == v4
        && let Some(at) = listeners.iter().position(dual)
    {
        // The option cannot be changed once the socket is bound.
        drop(listeners.remove(at));
        let again = bind_tcp(SocketAddr::new(v6, address.port()), true, options)?;
        listeners.insert(at, again);
    }
    let beside_v4 = may_share && listeners.iter().any(|listener| is(listener, v4));
    let ipv6_only = beside_v4 || options.bind_ipv6_only == BindIpv6Only::Ipv6Only;
    listeners.push(bind_tcp(address, ipv6_only, options)?);
    Ok(())
}

/// Why a socket could not be bound.
enum BindFault {
    System(Errno),
    Option(OptionFault),
    /// The socket is handed over, and accepts clients of other families than asked for.
    Families,
}

impl From<Errno> for BindFault {
    fn from(why: Errno) -> BindFault {
        BindFault::System(why)
    }
}

impl BindFault {
    /// Whether the machine lacks the address or its family, so that another address of the host may
    /// work.
    fn is_family_missing(&self) -> bool {
        self.is_absent() || matches!(self, BindFault::System(Errno::AFNOSUPPORT))
    }

    fn is_absent(&self) -> bool {
        matches!(self, BindFault::System(Errno::ADDRNOTAVAIL))
    }

    fn error(&self, address: SocketAddr) -> Error {
        match self {
            BindFault::System(why) => cannot_listen(BindTarget::Tcp(address), *why),
            BindFault::Option(fault) => fault.error(BindTarget::Tcp(address)),
            BindFault::Families => Error::usage(
                format_args!("cannot change BindIPv6Only of {address} while the server runs"),
                "restart the server: the socket keeps what it was bound with",
            ),
        }
    }
}

/// Binds and listens. `[::]` accepts IPv4 clients, too, unless `ipv6_only`, and becomes `0.0.0.0`
/// on a machine without IPv6.
fn bind_tcp(address: SocketAddr, ipv6_only: bool, options: &SocketOptions) -> Result<Listener, BindFault> {
    let dual = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !ipv6_only;
    match bind_tcp_as(address, dual, options) {
        Err(why) if dual && why.is_family_missing() => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            bind_tcp_as(address, false, options)
        }
        result => result,
    }
}

fn bind_tcp_as(address: SocketAddr, dual: bool, options: &SocketOptions) -> Result<Listener, BindFault> {
    let requested = WithZone(&address).to_string();
    if let Some(handed) = handed::take(&requested) {
        let listener = Listener::handed_tcp(handed)?.requested_as(requested);
        let is_same = listener.bound.as_ref().is_none_or(|bound| bound.dual == dual);
        return if is_same { Ok(listener) } else { Err(BindFault::Families) };
    }
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = stream_socket(family)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual)?;
    }
    set_all(options, &socket, address.is_ipv6()).map_err(BindFault::Option)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, options.backlog)?;
    let local = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    let bound = Bound { local, dual, waits: false, options: options.at_bind.clone() };
    Ok(Listener::bound(socket, bound).requested_as(requested))
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

fn bind_path(path: &Path, options: &SocketOptions) -> Result<Listener, Error> {
    let target = BindTarget::Path(path);
    if let Some(handed) = handed::take(&target.to_string()) {
        let listener = Listener::handed_path(handed, target.to_string(), path);
        return Ok(listener);
    }
    let socket = stream_socket(AddressFamily::UNIX).map_err(|why| cannot_listen(target, why))?;
    let file = SocketFile::bind(&socket, path).map_err(|why| cannot_listen(target, why))?;
    file.apply(&options.file)?;
    listen(&socket, options.backlog).map_err(|why| cannot_listen(target, why))?;
    Ok(Listener::at_path(socket, target.to_string(), file))
}

fn bind_name(name: &str, options: &SocketOptions) -> Result<Listener, Error> {
    let target = BindTarget::Abstract(name);
    if let Some(handed) = handed::take(&target.to_string()) {
        return Ok(Listener::new(handed.socket, target.to_string(), None));
    }
    let bound = stream_socket(AddressFamily::UNIX).and_then(|socket| {
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        listen(&socket, options.backlog)?;
        Ok(socket)
    });
    let socket = bound.map_err(|why| cannot_listen(target, why))?;
    Ok(Listener::new(socket, target.to_string(), None))
}

fn bind_vsock(address: VsockAddress, options: &SocketOptions) -> Result<Listener, Error> {
    let target = BindTarget::Vsock(address);
    let socket = match handed::take(&target.to_string()) {
        Some(handed) => Ok(handed.socket),
        None => stream_socket(AddressFamily::VSOCK).and_then(|socket| {
            rustix::net::bind(&socket, &address)?;
            listen(&socket, options.backlog)?;
            Ok(socket)
        }),
    };
    let named = socket.and_then(|socket| Ok((rustix::net::getsockname(&socket)?, socket)));
    let (name, socket) = named.map_err(|why| cannot_listen(target, why))?;
    let local = VsockAddress::from_any(&name).unwrap_or(address);
    Ok(Listener::vsock(socket, local).requested_as(target.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(addresses: &[&str], options: &SocketOptions) -> Result<Vec<Listener>, Error> {
        let mut listeners = Vec::new();
        for address in addresses {
            bind(&mut listeners, &address.parse().expect(address), options)?;
        }
        Ok(listeners)
    }

    /// A port that is free in both families now.
    fn free_port() -> u16 {
        let listeners = bound(&["[::]:0"], &SocketOptions::default()).expect("bound");
        listeners[0].port.expect("TCP")
    }

    #[test]
    fn all_addresses_of_a_host_name_share_one_port() {
        let found = bound(&["localhost:0"], &SocketOptions::default()).expect("bound");
        assert!(found.iter().all(|listener| listener.port == found[0].port));
        assert_eq!(found.iter().filter(|listener| !listener.repeats).count(), 1);
    }

    #[test]
    fn the_wildcards_of_both_families_share_a_port_in_either_order() {
        let port = free_port();
        let (v4, v6) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
        for order in [[&*v4, &*v6], [&*v6, &*v4]] {
            let found = bound(&order, &SocketOptions::default()).expect("bound");
            assert_eq!(found.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>(), order);
            for listener in &found {
                let is_ipv6 = listener.name.starts_with('[');
                assert!(!is_ipv6 || sockopt::ipv6_v6only(listener) == Ok(true), "{}", listener.name);
            }
        }
        let both = SocketOptions { bind_ipv6_only: BindIpv6Only::Both, ..SocketOptions::default() };
        for order in [[&*v4, &*v6], [&*v6, &*v4]] {
            let error = bound(&order, &both).expect_err("the IPv6 wildcard includes the other");
            assert!(error.to_string().contains("this server listens on"), "{error}");
        }
        let alone = SocketOptions { bind_ipv6_only: BindIpv6Only::Ipv6Only, ..SocketOptions::default() };
        let found = bound(&[&v6], &alone).expect("bound");
        assert_eq!(sockopt::ipv6_v6only(&found[0]), Ok(true));
        let _beside = std::net::TcpListener::bind(&v4).expect("the port is free for IPv4");
    }

    #[test]
    fn an_absent_address_is_bound_on_request() {
        let absent = "192.0.2.1:0";
        let with = |free_bind| {
            let mut options = SocketOptions::default();
            options.at_bind.free_bind = free_bind;
            bound(&[absent], &options)
        };
        let error = with(FreeBind::Never).expect_err("no address of this machine");
        assert!(error.to_string().contains("FreeBind"), "{error}");
        assert!(!with(FreeBind::Always).expect("bound")[0].is_waiting());
        assert!(with(FreeBind::IfAbsent).expect("bound")[0].is_waiting());
        let mut options = SocketOptions::default();
        options.at_bind.free_bind = FreeBind::IfAbsent;
        assert!(!bound(&["127.0.0.1:0"], &options).expect("bound")[0].is_waiting());
    }

    #[test]
    fn a_mapped_address_is_that_of_ipv4() {
        let found = bound(&["[::ffff:127.0.0.1]:0"], &SocketOptions::default()).expect("bound");
        assert!(found[0].name.starts_with("127.0.0.1:"), "{}", found[0].name);
    }

    #[test]
    fn a_socket_file_is_replaced_when_abandoned_and_removed_by_its_owner() {
        let path = std::env::temp_dir().join(format!("tine-listener-{}", std::process::id()));
        let address = format!("unix:{}", path.display());
        let bound = || bound(&[&address], &SocketOptions::default());
        let first = bound().expect("bound");
        let taken = bound().expect_err("a process listens");
        assert_eq!(taken.exit_code(), 111, "{taken}");
        assert!(taken.to_string().contains("this server listens on unix:"), "{taken}");
        drop(first);
        let second = bound().expect("no process listens any more");
        drop(second);
        assert!(!path.exists());
        let third = bound().expect("the file is gone");
        std::fs::remove_file(&path).expect("exists");
        std::fs::write(&path, "mine").expect("a file");
        let error = bound().expect_err("not a socket");
        assert!(error.to_string().contains("a regular file is in the way"), "{error}");
        drop(third);
        assert!(path.exists(), "not ours");
        std::fs::remove_file(&path).expect("exists");
    }
}
