//! Listening sockets: bound here, or inherited from the process that started this one.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SocketType, sockopt};
use serde_json::{Value, json};
use tine_sys::vsock::VsockAddress;

use crate::error::Error;
use crate::net::handed::HandedSocket;
use crate::net::hints::next_of_listen;
use crate::net::option_table::set_on_bound;
use crate::net::options::{BindOptions, FreeBind, SocketOptions};
use crate::net::socket_file::SocketFile;
use crate::net::zone::WithZone;

/// Sockets that a service listens on, at most: a forker has a bit for each.
pub(crate) const MAX_LISTENERS: usize = 64;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    /// The address as logged.
    pub(crate) name: String,
    /// The address as it was asked for, with port 0 where the kernel chose one: by it the next
    /// generation of the server finds the socket.
    pub(crate) requested: String,
    /// The TCP port.
    pub(crate) port: Option<u16>,
    /// The port of a vsock socket.
    vsock_port: Option<u32>,
    /// An earlier listener of the same address has the same port, which is printed once.
    pub(crate) repeats: bool,
    /// How the TCP socket was bound; `None` for other sockets and for inherited ones.
    pub(crate) bound: Option<Bound>,
    /// Removes the file of a Unix socket when it is dropped.
    file: Option<SocketFile>,
    /// Another process has the socket, too: it was inherited.
    pub(crate) shared: bool,
    /// `accept` can block. The socket was inherited without `O_NONBLOCK`, and setting it would
    /// change the socket for every process that shares it.
    pub(crate) blocks: bool,
    /// An older generation of the server has bound it.
    is_handed: bool,
}

/// How a TCP socket was bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) local: SocketAddr,
    /// An IPv6 wildcard that accepts IPv4 clients, too.
    pub(crate) dual: bool,
    /// The machine did not have the address.
    pub(crate) waits: bool,
    pub(crate) options: BindOptions,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes a bound socket listen; a second call changes its backlog.
pub(crate) fn listen(socket: &OwnedFd, backlog: u32) -> Result<(), Errno> {
    rustix::net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))
}

impl Listener {
    pub(crate) fn new(socket: OwnedFd, name: String, port: Option<u16>) -> Listener {
        Listener {
            socket,
            requested: name.clone(),
            name,
            port,
            vsock_port: None,
            repeats: false,
            bound: None,
            file: None,
            shared: false,
            blocks: false,
            is_handed: false,
        }
    }

    /// The same listener, which was asked for by another name.
    pub(crate) fn requested_as(self, requested: String) -> Listener {
        Listener { requested, ..self }
    }

    /// A TCP socket that was bound here.
    pub(crate) fn bound(socket: OwnedFd, bound: Bound) -> Listener {
        let listener = Listener::new(socket, WithZone(&bound.local).to_string(), Some(bound.local.port()));
        Listener { bound: Some(bound), ..listener }
    }

    /// A vsock socket.
    pub(crate) fn vsock(socket: OwnedFd, local: VsockAddress) -> Listener {
        Listener { vsock_port: Some(local.port), ..Listener::new(socket, local.to_string(), None) }
    }

    /// A Unix socket that was bound here.
    pub(crate) fn at_path(socket: OwnedFd, name: String, file: SocketFile) -> Listener {
        Listener { file: Some(file), ..Listener::new(socket, name, None) }
    }

    /// A listening stream socket that the process that started this one opened.
    pub(crate) fn inherited(socket: OwnedFd, name: &str) -> Result<Listener, Error> {
        let next = "pass a listening stream socket, or bind an address instead";
        let unfit = |why: Errno| {
            Error::system(format_args!("cannot serve inherited socket '{name}'"), &why.into(), next)
        };
        if !sockopt::socket_acceptconn(&socket).map_err(unfit)?
            || sockopt::socket_type(&socket).map_err(unfit)? != SocketType::STREAM
        {
            return Err(Error::usage(
                format_args!("inherited socket '{name}' is not a listening stream socket"),
                next,
            ));
        }
        let local = rustix::net::getsockname(&socket).map_err(unfit)?;
        let vsock = VsockAddress::from_any(&local);
        let tcp = SocketAddr::try_from(local).ok();
        let shown = match (&tcp, vsock) {
            (Some(address), _) => WithZone(address).to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "unix".to_owned(),
        };
        let blocks = !rustix::fs::fcntl_getfl(&socket).map_err(unfit)?.contains(OFlags::NONBLOCK);
        let mut listener =
            Listener::new(socket, format!("{shown} ({name})"), tcp.map(|address| address.port()));
        listener.vsock_port = vsock.map(|address| address.port);
        listener.requested = format!("fd:{name}");
        listener.shared = true;
        listener.blocks = blocks;
        Ok(listener)
    }

    // A hand-over: the next generation of the server gets the socket, with a description.

    /// What the next generation has to know of a listener.
    pub(crate) fn describe(&self) -> Value {
        let Some(bound) = &self.bound else { return Value::Null };
        let BindOptions { free_bind, transparent, reuse_port, device } = &bound.options;
        json!({
            "dual": bound.dual,
            "waits": bound.waits,
            "free_bind": *free_bind == FreeBind::Always,
            "transparent": transparent,
            "reuse_port": reuse_port,
            "device": device,
        })
    }

    /// A TCP socket that was handed over.
    ///
    /// # Errors
    /// It has no address.
    pub(crate) fn handed_tcp(handed: HandedSocket) -> Result<Listener, Errno> {
        let HandedSocket { socket, about } = handed;
        let is = |key: &str| about.get(key).and_then(Value::as_bool).unwrap_or(false);
        let local = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
        let free_bind = match (is("free_bind"), is("waits")) {
            (true, _) => FreeBind::Always,
            (false, true) => FreeBind::IfAbsent,
            (false, false) => FreeBind::Never,
        };
        let options = BindOptions {
            free_bind,
            transparent: is("transparent"),
            reuse_port: is("reuse_port"),
            device: about.get("device").and_then(Value::as_str).map(str::to_owned),
        };
        let bound = Bound { local, dual: is("dual"), waits: is("waits"), options };
        Ok(Listener { is_handed: true, ..Listener::bound(socket, bound) })
    }

    /// A Unix socket with a file that was handed over.
    pub(crate) fn handed_path(handed: HandedSocket, name: String, path: &Path) -> Listener {
        let file = SocketFile::handed(path);
        Listener { file, is_handed: true, ..Listener::new(handed.socket, name, None) }
    }

    /// The next generation has taken over: the file of the socket is its.
    pub(crate) fn hand_over(&mut self) {
        self.file.iter_mut().for_each(SocketFile::hand_over);
    }

    /// This process has taken over: it removes the file of the socket when it ends.
    pub(crate) fn take_over(&mut self) {
        self.file.iter_mut().for_each(SocketFile::take_over);
    }

    /// Whether it may have addresses, and clients, of other machines.
    pub(crate) fn is_transparent(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.options.transparent)
    }

    /// The port that a ready server prints: each port of an address once.
    pub(crate) fn port_to_print(&self) -> Option<u32> {
        self.port.filter(|_| !self.repeats).map(u32::from).or(self.vsock_port)
    }

    /// Applies the options that the builder stored, before clients are accepted. An inherited
    /// socket keeps its backlog: it belongs to the process that made the socket (`Backlog=`,
    /// systemd.socket(5)), and a security policy may permit listen(2) to that process only.
    ///
    /// # Errors
    /// The kernel refuses an option; or one is stored that the socket should have been bound with.
    pub(crate) fn apply(&self, options: &SocketOptions) -> Result<(), Error> {
        if !self.shared {
            listen(&self.socket, options.backlog).map_err(|why| {
                let what = format_args!("cannot listen on {}", self.name);
                Error::system(what, &why.into(), next_of_listen(why))
            })?;
        }
        self.file.as_ref().map_or(Ok(()), |file| file.apply(&options.file))?;
        let Some((is_ipv6, _)) = self.family_and_port() else { return Ok(()) };
        self.check_bound_with(&options.at_bind)?;
        set_on_bound(options, &self.socket, is_ipv6).map_err(|fault| fault.error(&self.name))
    }

    fn check_bound_with(&self, options: &BindOptions) -> Result<(), Error> {
        let none = BindOptions::default();
        let (own, next) = match &self.bound {
            Some(bound) if self.is_handed => (
                &bound.options,
                "restart the server to change them: the socket keeps those it was bound with",
            ),
            Some(bound) => (&bound.options, "set these options before the address is bound"),
            None => (&none, "set these options where the inherited socket is made"),
        };
        let free = |options: &BindOptions| options.free_bind == FreeBind::Always;
        let same = free(own) == free(options)
            && (own.transparent, own.reuse_port, &own.device)
                == (options.transparent, options.reuse_port, &options.device);
        if same {
            return Ok(());
        }
        Err(Error::usage(
            format_args!(
                "the listener on {} was bound with another FreeBind, Transparent, ReusePort or BindToDevice",
                self.name
            ),
            next,
        ))
    }

    /// Marks a listener whose address the machine did not have when it was bound.
    pub(crate) fn wait_for_address(&mut self) {
        if let Some(bound) = &mut self.bound {
            bound.options.free_bind = FreeBind::IfAbsent;
            bound.waits = true;
        }
    }

    /// Whether the machine did not have the address when it was bound, and does not have it yet.
    pub(crate) fn is_waiting(&self) -> bool {
        let Some(bound) = self.bound.as_ref().filter(|bound| bound.waits) else { return false };
        let mut any_port = bound.local;
        any_port.set_port(0);
        UdpSocket::bind(any_port).is_err_and(|why| why.kind() == std::io::ErrorKind::AddrNotAvailable)
    }

    /// The backlog in force, of these many clients requested. The kernel reports that of a TCP
    /// socket; that of any other socket is cut to the same limit.
    pub(crate) fn backlog(&self, requested: u32) -> u32 {
        if self.port.is_some()
            && let Ok(queue) = tine_sys::socket::accept_queue(self.as_fd())
        {
            return queue.backlog;
        }
        let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let limit = limit.ok().and_then(|text| text.trim().parse().ok());
        limit.unwrap_or(requested).min(requested)
    }

    /// Ends the listening in every process that has the socket: on Linux, shutdown(2) closes the
    /// connections in the backlog and refuses later ones. Not for an inherited socket, which
    /// another process may use.
    pub(crate) fn shut_down(&self) {
        if !self.shared {
            // It fails only for a socket that does not listen any more.
            let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Both);
        }
    }

    /// Moves the descriptor to this number or a higher one.
    pub(crate) fn move_above(&mut self, lowest: i32) -> Result<(), Errno> {
        // The number itself is beyond the limit on open files (fcntl(2)).
        let beyond = |why| if why == Errno::INVAL { Errno::MFILE } else { why };
        self.socket = fcntl_dupfd_cloexec(&self.socket, lowest).map_err(beyond)?;
        Ok(())
    }

    /// Whether it is an IPv6 socket, and its port; `None` where it is not a TCP socket.
    pub(crate) fn family_and_port(&self) -> Option<(bool, u16)> {
        let local = SocketAddr::try_from(rustix::net::getsockname(self).ok()?).ok()?;
        Some((local.is_ipv6(), local.port()))
    }

    /// The backlog as the kernel has it; `None` for other sockets than those of TCP.
    pub(crate) fn accept_queue(&self) -> Option<tine_sys::socket::AcceptQueue> {
        self.port.and_then(|_| tine_sys::socket::accept_queue(self.as_fd()).ok())
    }

    /// The number of clients in the backlog. For TCP the kernel reports it (`ss -l`); for other
    /// sockets only whether there is one, and then the number is taken as unlimited.
    pub(crate) fn queued(&self) -> u64 {
        if let Some(queue) = self.accept_queue() {
            return u64::from(queue.length);
        }
        let mut poll = [PollFd::new(self, PollFlags::IN)];
        if matches!(tine_sys::wait::now(&mut poll), Ok(0)) { 0 } else { u64::MAX }
    }
}
