//! What the connector looks at of a caller: the address, and the socket.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tine_sys::call_notices::{CallNotice, thread_descriptor};
use tine_sys::other_memory::read_memory;
use tine_sys::socket::{network_of, tcp_state};

use super::decide::{Asked, AskedSocket, MAX_ADDRESS, destination};
use crate::error::next_move::errno;

/// `IPPROTO_MPTCP` (linux/in.h): to a peer that has none, it is TCP.
const MULTIPATH: u32 = 262;

/// The socket of a caller.
#[derive(Debug)]
pub(super) struct CallerSocket {
    /// A copy: as long as it is open, the socket is the same.
    pub(super) copy: OwnedFd,
    /// Its number in the caller.
    pub(super) number: RawFd,
    pub(super) family: AddressFamily,
    pub(super) is_blocking: bool,
    pub(super) closes_on_exec: bool,
}

/// The view of processes that the connector has.
#[derive(Debug)]
pub(super) struct CallerView {
    /// `/proc`, where it is mounted.
    pub(super) proc: Option<OwnedFd>,
    /// The network of the connector, as the kernel numbers it.
    pub(super) network: Option<u64>,
}

impl CallerView {
    /// What a call is about, with the socket where it is one of TCP and the address is one of the
    /// internet protocols. The caller may have ended meanwhile.
    ///
    /// # Errors
    /// That of the call.
    pub(super) fn look(&self, notice: &CallNotice) -> Result<(Asked, Option<CallerSocket>), Errno> {
        let nothing = Asked { destination: None, socket: None };
        let [number, address, length, ..] = notice.arguments;
        // The kernel takes both as int.
        let (number, length) = (number as RawFd, length as u32 as usize);
        if length > MAX_ADDRESS {
            return Ok((nothing, None));
        }
        let mut bytes = [0; MAX_ADDRESS];
        let read = read_memory(notice.thread, address, &mut bytes[..length]).map_err(|why| refused(&why))?;
        if read < length {
            return Err(Errno::FAULT);
        }
        let Some(destination) = destination(&bytes[..length]) else { return Ok((nothing, None)) };
        let copy = self.copy(notice.thread, number)?;
        let asked = Asked { destination: Some(destination), socket: self.tcp_socket(&copy)? };
        if asked.socket.is_none() {
            return Ok((asked, None));
        }
        let flags = rustix::fs::fcntl_getfl(&copy)?;
        let socket = CallerSocket {
            number,
            family: sockopt::socket_domain(&copy)?,
            is_blocking: !flags.contains(OFlags::NONBLOCK),
            closes_on_exec: self.closes_on_exec(notice.thread, number),
            copy,
        };
        Ok((asked, Some(socket)))
    }

    /// A copy of a descriptor of a thread.
    fn copy(&self, thread: i32, number: RawFd) -> Result<OwnedFd, Errno> {
        let process = thread_descriptor(thread).or_else(|_| {
            let process = self.process_of(thread).unwrap_or(thread);
            let process = Pid::from_raw(process).ok_or(Errno::SRCH)?;
            pidfd_open(process, PidfdFlags::empty())
        })?;
        match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Err(Errno::PERM) => Err(Errno::ACCESS),
            copied => copied,
        }
    }

    /// The process of a thread, where the kernel has no descriptors of threads (Linux 6.9).
    fn process_of(&self, thread: i32) -> Option<i32> {
        let status = self.read(&format!("{thread}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        line.trim().parse().ok()
    }

    /// Whether the descriptor is closed by execve(2): that is one of the number, not of the copy.
    /// Where it cannot be known, as without the right to list the descriptors (Linux 5.14), it is
    /// taken for one that is.
    fn closes_on_exec(&self, thread: i32, number: RawFd) -> bool {
        let flags = self.read(&format!("{thread}/fdinfo/{number}")).and_then(|text| {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
            u32::from_str_radix(flags.trim(), 8).ok()
        });
        flags.is_none_or(|flags| flags & OFlags::CLOEXEC.bits() != 0)
    }

    /// The begin of a file below `/proc`.
    fn read(&self, path: &str) -> Option<String> {
        let proc = self.proc.as_ref()?;
        let file = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = [0; 1024];
        let length = rustix::io::read(&file, &mut text).ok()?;
        Some(String::from_utf8_lossy(text.get(..length)?).into_owned())
    }

    /// A socket of TCP, as far as it decides about a call; `None` for others.
    fn tcp_socket(&self, socket: &OwnedFd) -> Result<Option<AskedSocket>, Errno> {
        let is_tcp = |protocol: u32| protocol == ipproto::TCP.as_raw().get() || protocol == MULTIPATH;
        let family = sockopt::socket_domain(socket)?;
        if !matches!(family, AddressFamily::INET | AddressFamily::INET6)
            || sockopt::socket_type(socket)? != SocketType::STREAM
            || !sockopt::socket_protocol(socket)?.is_some_and(|protocol| is_tcp(protocol.as_raw().get()))
        {
            return Ok(None);
        }
        let state = tcp_state(socket.as_fd()).map_err(|why| errno(&why))?;
        let error = sockopt::socket_error(socket)?.err();
        let network = network_of(socket.as_fd()).ok();
        let is_of_machine = self.network.is_some() && network == self.network;
        Ok(Some(AskedSocket { state, error, is_of_machine }))
    }
}

/// The error of a call whose address cannot be read.
fn refused(why: &std::io::Error) -> Errno {
    match errno(why) {
        Errno::FAULT => Errno::FAULT,
        _ => Errno::ACCESS,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn view() -> CallerView {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        CallerView { proc: proc.ok(), network: None }
    }

    #[test]
    fn the_process_of_a_thread_is_found_without_its_descriptor() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let found = || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            (thread != own).then(|| view().process_of(thread))
        };
        let found = std::thread::scope(|scope| scope.spawn(found).join().expect("no panic"));
        assert_eq!(found, Some(Some(own)));
    }

    #[test]
    fn a_descriptor_is_closed_on_exec_or_not() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        let number = stream.as_raw_fd();
        assert!(view().closes_on_exec(own, number));
        rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::empty()).expect("flags");
        assert!(!view().closes_on_exec(own, number));
        assert!(CallerView { proc: None, network: None }.closes_on_exec(own, number));
    }
}
