//! Errors of a listener: the next move for each error number of socket(2), bind(2) and listen(2).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use tine_sys::socket::{UnixName, unix_name};
use tine_sys::vsock::VsockAddress;

use crate::error::Error;
use crate::net::zone::{WithZone, needs_zone};

/// What could not be bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BindTarget<'a> {
    Tcp(SocketAddr),
    Path(&'a Path),
    Abstract(&'a str),
    Vsock(VsockAddress),
}

impl fmt::Display for BindTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindTarget::Tcp(address) => WithZone(address).fmt(f),
            BindTarget::Path(path) => write!(f, "unix:{}", path.display()),
            BindTarget::Abstract(name) => write!(f, "unix:@{name}"),
            BindTarget::Vsock(address) => address.fmt(f),
        }
    }
}

/// The error of a listener, with the next move for its cause.
pub(crate) fn cannot_listen(target: BindTarget, why: Errno) -> Error {
    let next = next_move(target, why, &Surroundings::look(target, why));
    Error::system(format_args!("cannot listen on {target}"), &why.into(), next)
}

/// What the machine says about a target that could not be bound.
#[derive(Debug, Default)]
struct Surroundings {
    /// The listener of this process that has the address.
    own: Option<String>,
    /// What is in the way of a Unix socket.
    in_the_way: Option<&'static str>,
    /// The first port that takes no privilege.
    first_free_port: Option<u16>,
}

impl Surroundings {
    fn look(target: BindTarget, why: Errno) -> Surroundings {
        match (target, why) {
            (_, Errno::ADDRINUSE) => Surroundings {
                own: tine_sys::socket::own_listeners().iter().find_map(|own| overlap(target, own)),
                in_the_way: match target {
                    BindTarget::Path(path) => kind_of_file(path),
                    _ => None,
                },
                first_free_port: None,
            },
            (BindTarget::Tcp(_), Errno::ACCESS) => {
                let file = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
                let port = file.ok().and_then(|text| text.trim().parse().ok());
                Surroundings { first_free_port: port, ..Surroundings::default() }
            }
            _ => Surroundings::default(),
        }
    }
}

/// The name of a listener that takes the target's address.
fn overlap(target: BindTarget, own: &SocketAddrAny) -> Option<String> {
    match target {
        BindTarget::Tcp(wanted) => {
            let own = SocketAddr::try_from(own.clone()).ok()?;
            is_overlap(wanted, own).then(|| WithZone(&own).to_string())
        }
        BindTarget::Path(path) => {
            let same = unix_name(own)? == UnixName::Path(path.as_os_str().as_encoded_bytes().to_vec());
            same.then(|| target.to_string())
        }
        BindTarget::Abstract(name) => {
            let same = unix_name(own)? == UnixName::Abstract(name.as_bytes().to_vec());
            same.then(|| target.to_string())
        }
        BindTarget::Vsock(wanted) => {
            let own = VsockAddress::from_any(own)?;
            wanted.overlaps(own).then(|| own.to_string())
        }
    }
}

/// Whether two TCP listeners can be in each other's way: same port, and the same address or a
/// wildcard that includes it.
#[must_use]
pub fn is_overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let includes = |wide: IpAddr, narrow: IpAddr| {
        // `[::]` accepts IPv4 clients, too.
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    a.port() == b.port() && (a.ip() == b.ip() || includes(a.ip(), b.ip()) || includes(b.ip(), a.ip()))
}

const SOCKET: &str = "socket";

fn kind_of_file(path: &Path) -> Option<&'static str> {
    let kind = std::fs::symlink_metadata(path).ok()?.file_type();
    Some(match kind {
        kind if kind.is_socket() => SOCKET,
        kind if kind.is_dir() => "directory",
        kind if kind.is_symlink() => "symbolic link",
        kind if kind.is_file() => "regular file",
        _ => "special file",
    })
}

/// The next move. What the machine says is an argument, so that every case can be tested.
fn next_move(target: BindTarget, why: Errno, around: &Surroundings) -> String {
    let is_file = matches!(around.in_the_way, Some(kind) if kind != SOCKET);
    if let (Errno::ADDRINUSE, Some(own), false) = (why, &around.own, is_file) {
        return format!("this server listens on {own} already: leave one of the two out");
    }
    match target {
        BindTarget::Tcp(address) => next_of_tcp(address, why, around),
        BindTarget::Path(path) => next_of_path(path, why, around),
        BindTarget::Vsock(address) => next_of_vsock(address, why).into(),
        BindTarget::Abstract(_) => match why {
            Errno::ADDRINUSE => {
                "stop the process that listens there (`ss -lxp` shows it), or choose another name".into()
            }
            _ => next_of_any(why).unwrap_or("choose another name").into(),
        },
    }
}

fn next_of_tcp(address: SocketAddr, why: Errno, around: &Surroundings) -> String {
    let link_local = matches!(address, SocketAddr::V6(address)
        if needs_zone(*address.ip()) && address.scope_id() == 0);
    match why {
        Errno::ADDRINUSE => {
            "stop the process that listens there (`ss -ltnp` shows it), or choose another address".into()
        }
        Errno::ACCESS => {
            let first = around.first_free_port.unwrap_or(1024);
            format!(
                "choose a port from {first} up, give the server CAP_NET_BIND_SERVICE, or let the service manager \
                 pass the socket"
            )
        }
        Errno::INVAL | Errno::ADDRNOTAVAIL if link_local => {
            format!("write its zone, as [{}%eth0]:{} (`ip -6 address` lists them)", address.ip(), address.port())
        }
        Errno::ADDRNOTAVAIL => {
            "choose an address of this machine (`ip address` lists them), or bind it before it exists (FreeBind)".into()
        }
        Errno::NODEV => "choose a zone of this machine (`ip link` lists the network interfaces)".into(),
        Errno::AFNOSUPPORT if address.is_ipv6() => {
            "this kernel has no IPv6: choose an IPv4 address, such as 0.0.0.0".into()
        }
        Errno::AFNOSUPPORT => "this kernel has no IPv4: choose an IPv6 address".into(),
        _ => next_of_any(why).unwrap_or("choose another address").into(),
    }
}

fn next_of_path(path: &Path, why: Errno, around: &Surroundings) -> String {
    match why {
        Errno::ADDRINUSE => match around.in_the_way {
            Some(SOCKET) | None => {
                "stop the process that listens there (`ss -lxp` shows it), or choose another path".into()
            }
            Some(kind) => format!("a {kind} is in the way: remove it, or choose another path"),
        },
        Errno::NOENT => match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => format!("create the directory {} first", folder.display()),
            None => "start the server in a directory that exists".into(),
        },
        Errno::NOTDIR => "a part of the path is a file: choose another path".into(),
        Errno::ACCESS | Errno::PERM => {
            "choose a directory that the server's user may write to, such as one below /run".into()
        }
        Errno::ROFS => "the file system is read-only: choose a path below /run or /tmp".into(),
        Errno::NAMETOOLONG | Errno::INVAL => {
            "choose a path of at most 107 bytes, each part of at most 255".into()
        }
        Errno::LOOP => "its symbolic links lead in a circle: choose another path".into(),
        Errno::NOSPC | Errno::DQUOT => "make room on the file system, or choose a path on another one".into(),
        Errno::AFNOSUPPORT => "this kernel has no Unix sockets: choose a TCP address".into(),
        _ => next_of_any(why).unwrap_or("choose another path").into(),
    }
}

fn next_of_vsock(address: VsockAddress, why: Errno) -> &'static str {
    match why {
        Errno::ADDRINUSE => {
            "stop the process that listens there (`ss --vsock -lp` shows it), or choose another port"
        }
        Errno::ACCESS => {
            "choose a port from 1024 up, give the server CAP_NET_BIND_SERVICE, or let the service manager pass the \
             socket"
        }
        Errno::ADDRNOTAVAIL if address.cid == VsockAddress::CID_LOCAL => {
            "load the module for connections within this machine (`modprobe vsock_loopback`), or leave the CID out"
        }
        Errno::ADDRNOTAVAIL => "leave the CID out, or choose the one of this machine",
        Errno::AFNOSUPPORT => {
            "this kernel has no vsock: load its module (`modprobe vsock`), or choose a TCP address"
        }
        _ => next_of_any(why).unwrap_or("choose another address"),
    }
}

/// The next move after listen(2) of a socket that is bound already.
pub(crate) fn next_of_listen(why: Errno) -> &'static str {
    match why {
        Errno::ADDRINUSE => {
            "stop the process that listens there (`ss -ltnp`, `ss -lxp`), or choose another address"
        }
        why => next_of_any(why).unwrap_or("choose another address"),
    }
}

/// The next move for errors that are not about the address.
fn next_of_any(why: Errno) -> Option<&'static str> {
    Some(match why {
        Errno::MFILE => "raise the limit of open files (`ulimit -n`)",
        Errno::NFILE => "raise fs.file-max, or close files of other processes",
        Errno::NOBUFS | Errno::NOMEM => "free memory, or raise the memory limit of the server",
        Errno::ACCESS | Errno::PERM => {
            "a security policy forbids it (seccomp, SELinux, AppArmor): allow sockets of this kind"
        }
        Errno::PROTONOSUPPORT | Errno::NOSYS | Errno::OPNOTSUPP => {
            "this kernel or sandbox has no such sockets: choose an address of another kind"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(target: BindTarget, why: Errno) -> String {
        next_move(target, why, &Surroundings::default())
    }

    #[test]
    fn every_error_number_has_its_next_move() {
        let tcp = |text: &str| BindTarget::Tcp(text.parse().expect(text));
        let (v4, v6) = (tcp("192.0.2.1:80"), tcp("[2001:db8::1]:80"));
        let path = BindTarget::Path(Path::new("/no/such/socket"));
        let name = BindTarget::Abstract("name");
        let vsock = |cid| BindTarget::Vsock(VsockAddress { cid, port: 80 });
        for (target, why, words) in [
            (v4, Errno::ADDRINUSE, "ss -ltnp"),
            (path, Errno::ADDRINUSE, "ss -lxp"),
            (name, Errno::ADDRINUSE, "ss -lxp"),
            (v4, Errno::ACCESS, "a port from 1024 up"),
            (path, Errno::ACCESS, "may write to"),
            (path, Errno::PERM, "may write to"),
            (name, Errno::ACCESS, "security policy"),
            (v4, Errno::PERM, "security policy"),
            (v4, Errno::ADDRNOTAVAIL, "FreeBind"),
            (v6, Errno::ADDRNOTAVAIL, "ip address"),
            (tcp("[fe80::1]:80"), Errno::ADDRNOTAVAIL, "[fe80::1%eth0]:80"),
            (tcp("[fe80::1]:80"), Errno::INVAL, "[fe80::1%eth0]:80"),
            (tcp("[fe80::1%7]:80"), Errno::ADDRNOTAVAIL, "ip address"),
            (tcp("[fe80::1%7]:80"), Errno::NODEV, "ip link"),
            (v4, Errno::INVAL, "choose another address"),
            (v6, Errno::AFNOSUPPORT, "no IPv6"),
            (v4, Errno::AFNOSUPPORT, "no IPv4"),
            (path, Errno::AFNOSUPPORT, "no Unix sockets"),
            (v4, Errno::PROTONOSUPPORT, "another kind"),
            (name, Errno::PROTONOSUPPORT, "another kind"),
            (path, Errno::OPNOTSUPP, "another kind"),
            (v6, Errno::NOSYS, "another kind"),
            (path, Errno::NOENT, "create the directory /no/such first"),
            (BindTarget::Path(Path::new("socket")), Errno::NOENT, "start the server in a directory"),
            (path, Errno::NOTDIR, "a part of the path is a file"),
            (path, Errno::ROFS, "read-only"),
            (path, Errno::NAMETOOLONG, "107 bytes"),
            (path, Errno::INVAL, "107 bytes"),
            (path, Errno::LOOP, "circle"),
            (path, Errno::NOSPC, "make room"),
            (path, Errno::DQUOT, "make room"),
            (v4, Errno::MFILE, "ulimit -n"),
            (path, Errno::MFILE, "ulimit -n"),
            (v4, Errno::NFILE, "fs.file-max"),
            (v6, Errno::NOBUFS, "free memory"),
            (path, Errno::NOMEM, "free memory"),
            (vsock(2), Errno::ADDRINUSE, "ss --vsock"),
            (vsock(2), Errno::ACCESS, "a port from 1024 up"),
            (vsock(2), Errno::ADDRNOTAVAIL, "leave the CID out"),
            (vsock(1), Errno::ADDRNOTAVAIL, "modprobe vsock_loopback"),
            (vsock(2), Errno::AFNOSUPPORT, "modprobe vsock"),
            (vsock(2), Errno::PERM, "security policy"),
            (vsock(2), Errno::PROTONOSUPPORT, "another kind"),
            (vsock(2), Errno::NOBUFS, "free memory"),
            (vsock(2), Errno::IO, "choose another address"),
            (name, Errno::IO, "choose another name"),
            (path, Errno::IO, "choose another path"),
        ] {
            let said = hint(target, why);
            assert!(said.contains(words), "{target} {why:?}: {said}");
        }
    }

    #[test]
    fn a_bound_socket_that_cannot_listen_has_its_next_move() {
        for (why, words) in [
            (Errno::ADDRINUSE, "ss -ltnp"),
            (Errno::OPNOTSUPP, "another kind"),
            (Errno::PERM, "security policy"),
            (Errno::NOBUFS, "free memory"),
            (Errno::NOTSOCK, "choose another address"),
        ] {
            assert!(next_of_listen(why).contains(words), "{why:?}");
        }
    }

    #[test]
    fn the_machine_decides_between_causes() {
        let tcp = BindTarget::Tcp("0.0.0.0:80".parse().expect("an address"));
        let path = BindTarget::Path(Path::new("/run/it"));
        for (target, why, around, words) in [
            (
                tcp,
                Errno::ADDRINUSE,
                Surroundings { own: Some("[::]:80".into()), ..Default::default() },
                "listens on [::]:80 already",
            ),
            (
                path,
                Errno::ADDRINUSE,
                Surroundings { in_the_way: Some("regular file"), ..Default::default() },
                "a regular file is in the way",
            ),
            (
                path,
                Errno::ADDRINUSE,
                Surroundings { in_the_way: Some("socket"), ..Default::default() },
                "ss -lxp",
            ),
            (
                tcp,
                Errno::ACCESS,
                Surroundings { first_free_port: Some(2000), ..Default::default() },
                "a port from 2000 up",
            ),
        ] {
            let said = next_move(target, why, &around);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn wildcards_overlap_with_every_address_of_their_families() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
        ] {
            let (a, b) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!((is_overlap(a, b), is_overlap(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
