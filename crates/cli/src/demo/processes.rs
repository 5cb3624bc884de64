//! Processes and sockets, as the kernel shows them in `/proc` (proc(5)).

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::control::proc::open_in as open_files;

/// A process when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u64,
    pub(super) parent: u64,
    /// Its state, as in the column S of ps(1).
    pub(super) state: char,
    /// Its name, as in the column COMMAND.
    pub(super) name: String,
}

impl Process {
    /// The process of this id, if there is one.
    pub(super) fn of(pid: u64) -> Option<Process> {
        Process::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// A line of `/proc/PID/stat`. The name is in parentheses, and can have any character.
    fn parse(stat: &str) -> Option<Process> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some(Process {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
        })
    }

    /// Whether it is a forker, by its name.
    pub(super) fn is_forker(&self) -> bool {
        self.name.starts_with("tine: forker")
    }

    /// Whether it is a connection process, by its name.
    pub(super) fn is_connection(&self) -> bool {
        self.name.starts_with("tine: c")
    }

    /// Whether it waits, and does nothing else.
    pub(super) fn sleeps(&self) -> bool {
        self.state == 'S'
    }

    /// Whether it is stopped, by a signal or by a tracer.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Whether it has ended and is not reaped yet.
    pub(super) fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

/// A process and its children, by their ids. Empty if there is no such process.
pub(super) fn family(pid: u64) -> Vec<Process> {
    let Some(first) = Process::of(pid) else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> =
        pids.filter_map(Process::of).filter(|process| process.parent == pid).collect();
    found.sort_by_key(|process| process.pid);
    found.insert(0, first);
    found
}

/// An open file of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) number: u64,
    /// What it refers to, such as `socket:[4711]`.
    pub(super) target: String,
}

impl Descriptor {
    /// The inode of the socket that it refers to, if it refers to one.
    pub(super) fn socket(&self) -> Option<u64> {
        self.target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    }
}

/// The open files of a process.
///
/// # Errors
/// They may not be read, or the process has ended.
pub(super) fn open_in(pid: u64) -> std::io::Result<Vec<Descriptor>> {
    let found = open_files(pid)?.into_iter();
    Ok(found.map(|(number, target)| Descriptor { number, target }).collect())
}

/// A TCP socket over IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcpSocket {
    pub(super) local: SocketAddrV4,
    pub(super) peer: SocketAddrV4,
    pub(super) is_listener: bool,
    pub(super) inode: u64,
}

impl TcpSocket {
    /// Whether it is that of a process, at this port of 127.0.0.1.
    pub(super) fn is_at(&self, port: u16) -> bool {
        self.local == SocketAddrV4::new(Ipv4Addr::LOCALHOST, port) && self.inode > 0
    }

    /// A line of the table.
    fn parse(line: &str) -> Option<TcpSocket> {
        const LISTEN: &str = "0A";
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some(TcpSocket {
            local: address(fields.get(1)?)?,
            peer: address(fields.get(2)?)?,
            is_listener: *fields.get(3)? == LISTEN,
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// An address of the table: the bytes of its IPv4 address as a number of this machine, and its
/// port.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address.to_ne_bytes()), port))
}

/// All TCP sockets over IPv4 (proc_net(5)).
///
/// # Errors
/// The table may not be read.
pub(super) fn tcp_sockets() -> std::io::Result<Vec<TcpSocket>> {
    let table = fs::read_to_string("/proc/self/net/tcp")?;
    Ok(table.lines().skip(1).filter_map(TcpSocket::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_process_is_read_whatever_its_name_is() {
        for (stat, expected) in [
            ("4711 (tine: conn 1) S 4710 4711 0 0", Some((4711, 4710, 'S', "tine: conn 1"))),
            ("1 (a) (b) Z) T 0 1", Some((1, 0, 'T', "a) (b) Z"))),
            ("", None),
            ("4711 (tine) S", None),
        ] {
            let found = Process::parse(stat);
            let found = found.as_ref().map(|one| (one.pid, one.parent, one.state, one.name.as_str()));
            assert_eq!(found, expected, "{stat}");
        }
    }

    #[test]
    fn own_process_and_own_sockets_are_found() {
        let own = u64::from(std::process::id());
        assert_eq!(Process::of(own).map(|process| process.pid), Some(own));
        assert_eq!(family(own)[0].pid, own);
        assert!(Process::of(u64::MAX).is_none() && family(u64::MAX).is_empty());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("bound");
        let sockets = tcp_sockets().expect("/proc is mounted");
        let found = sockets.iter().find(|socket| local == socket.local.into()).expect("the listener");
        assert!(found.is_listener && found.peer.port() == 0, "{found:?}");
        let open = open_in(own).expect("own descriptors");
        assert!(open.iter().any(|descriptor| descriptor.socket() == Some(found.inode)), "{open:?}");
    }
}
