//! Binds the sockets of super-servers that name one address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tine::Identity;

/// A listening TCP socket. One for `::` takes IPv4 clients, too, unless `only_ipv6`.
///
/// # Errors
/// As bind(2) and listen(2).
pub(super) fn tcp(address: SocketAddr, backlog: u32, reuses: bool, only_ipv6: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, reuses)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, only_ipv6)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// A listening Unix socket with these permissions. With `replaces`, what is at the path is deleted
/// first.
///
/// # Errors
/// As unlink(2), bind(2) and listen(2).
pub(super) fn unix(path: &Path, mode: u32, backlog: u32, replaces: bool) -> io::Result<OwnedFd> {
    if replaces
        && let Err(why) = std::fs::remove_file(path)
        && why.kind() != io::ErrorKind::NotFound
    {
        return Err(why);
    }
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The permissions count from bind(2) on.
    let before = rustix::process::umask(Mode::from_raw_mode(!mode & 0o777));
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// The first address of a host, IPv4 before IPv6.
pub(super) fn address_of(host: &str) -> Option<IpAddr> {
    let found = tine::cli::resolve(host, 0).ok()?;
    let best = found.iter().find(|address| address.is_ipv4()).or(found.first());
    best.map(SocketAddr::ip)
}

/// A port by number or name.
pub(super) fn port(text: &str) -> Option<u16> {
    text.parse().ok().or_else(|| tine::cli::service_port(text))
}

/// The user and groups of programs, from ids that are 0 or absent for no change.
///
/// # Errors
/// Which of `uid` and `gid` this process may not set.
pub(super) fn identity(
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
) -> Result<Option<Identity>, &'static str> {
    let is_root = rustix::process::geteuid().is_root();
    let own = rustix::process::getegid().as_raw();
    if gid.is_some_and(|gid| gid != own) && !is_root {
        return Err("gid");
    }
    if uid.is_some_and(|uid| uid != rustix::process::geteuid().as_raw()) && !is_root {
        return Err("uid");
    }
    if uid.is_none() && gid.is_none() && groups.is_none() {
        return Ok(None);
    }
    // The supplementary groups are dropped, as setgroups(1, &gid) does.
    let groups = groups.unwrap_or_else(|| gid.into_iter().collect());
    Ok(Some(Identity::from_ids(uid, gid.unwrap_or(own), groups)))
}

/// An error of the system in the words of D. J. Bernstein's library.
pub(super) fn reason(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => "address already used".into(),
        io::ErrorKind::AddrNotAvailable => "address not available".into(),
        io::ErrorKind::PermissionDenied => "access denied".into(),
        io::ErrorKind::NotFound => "file does not exist".into(),
        _ => tine::cli::reason(why),
    }
}
