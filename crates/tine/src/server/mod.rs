//! A server with one service: binding its addresses and running it. `settings/` has [`Server`]
//! itself, and the other methods of the builder.

pub(crate) mod services;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use tine_sys::process::Alone;

use crate::connection::Connection;
#[cfg(feature = "async")]
use crate::connection::asynchronous::{AsyncConnection, async_handler};
use crate::connection::handler::Handler;
use crate::error::{Error, ErrorKind, HandlerError, reason};
use crate::ipc::members::Members;
use crate::lifecycle::stop_handle::StopHandle;
use crate::net::address::Address;
use crate::net::bind::bind;
use crate::net::inherit::InheritedSockets;
use crate::net::listener::Listener;
use crate::processes::supervisor::run;
use crate::processes::supervisor::setup::Setup;
use crate::program::Program;
use crate::settings::check::check_listeners;
use crate::settings::{Server, Settings};

/// Addresses.
impl Server {
    /// A server that listens on an address when this returns; clients that connect before
    /// [`Server::run`] wait in the backlog. [`Address`] describes the forms of addresses:
    /// `"[::]:9999"`, `"9999"`, `"localhost:0"`, `"unix:/run/echo"`, `"vsock:5000"`.
    ///
    /// # Errors
    /// The address is invalid, or cannot be bound.
    pub fn bind(address: &str) -> Result<Server, Error> {
        Server::new().bind_also(address)
    }

    /// A server without an address. It needs one to run: [`Server::bind_also`].
    #[must_use]
    pub fn new() -> Server {
        Server::default()
    }

    /// A server on the sockets that a service manager passed (`LISTEN_FDS`, sd_listen_fds(3));
    /// `None` if it passed none. The variables are removed from the environment.
    ///
    /// # Errors
    /// A descriptor is not a listening stream socket.
    pub fn inherited() -> Result<Option<Server>, Error> {
        let listeners = InheritedSockets::receive()?.take(None)?;
        Ok((!listeners.is_empty()).then(|| Server { listeners, ..Server::new() }))
    }

    /// A server on a listening stream socket, such as a [`TcpListener`](std::net::TcpListener) or a
    /// [`UnixListener`](std::os::unix::net::UnixListener). The socket becomes non-blocking.
    ///
    /// # Errors
    /// The socket does not listen for streams.
    pub fn from_listener(socket: impl Into<OwnedFd>) -> Result<Server, Error> {
        let socket = socket.into();
        rustix::io::ioctl_fionbio(&socket, true).map_err(|why| {
            Error::system("cannot serve a socket", &why.into(), "pass a listening stream socket")
        })?;
        let mut listener = Listener::inherited(socket, "given")?;
        listener.shared = false;
        Ok(Server { listeners: vec![listener], ..Server::new() })
    }

    /// Listens on one more address, for the same service, or on a range of ports (`"8000-8003"`). A
    /// server has at most 64 listening sockets.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_also(mut self, address: &str) -> Result<Server, Error> {
        for address in Address::parse_range(address)? {
            bind(&mut self.listeners, &address, &self.settings.socket)?;
        }
        Ok(self)
    }

    /// The TCP addresses that the server listens on, in the order in which they were bound.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let name = |listener| rustix::net::getsockname(listener).ok();
        self.listeners.iter().filter_map(name).filter_map(|name| SocketAddr::try_from(name).ok()).collect()
    }
}

/// Running.
impl Server {
    /// Validates the settings, except that there is an address.
    ///
    /// # Errors
    /// A value is out of range, or some settings cannot be combined.
    pub fn check(&self) -> Result<(), Error> {
        self.log.target.check()?;
        self.settings.check().map(drop)
    }

    /// Validates the settings for a server that executes this program.
    ///
    /// # Errors
    /// As [`Server::check`]; or the program cannot be executed.
    pub fn check_program(&self, program: &Program) -> Result<(), Error> {
        Settings { program: Some(program.clone()), ..self.settings.clone() }.check().map(drop)
    }

    /// Serves until SIGTERM or SIGINT and the drain that follows, or until the connections of
    /// [`Server::exit_after`] have ended; then returns. The handler runs in a process of its own
    /// for each connection: it may block, crash, leak, and start threads. Its error or panic ends
    /// that connection and is logged.
    ///
    /// # Errors
    /// The settings are invalid, the process has several threads or is one of a server, or the
    /// system lacks a resource; or the server has stopped, and processes are left that it could
    /// not end.
    pub fn run<H>(self, handler: H) -> Result<(), Error>
    where
        H: FnMut(Connection) -> Result<(), HandlerError>,
    {
        self.run_handler(handler)
    }

    /// Serves like [`Server::run`], with a handler of any type. A closure needs the type of its
    /// argument here: `|connection: tine::Connection|`.
    ///
    /// # Errors
    /// As [`Server::run`]; or the handler's own start failed.
    pub fn run_handler<H: Handler>(mut self, mut handler: H) -> Result<(), Error> {
        let alone = alone()?;
        self.prepare().inspect_err(|error| {
            self.takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
        })?;
        run_once(|| {
            let members = Members::begin(&[self.members()])?;
            let mut setup = self.into_setup();
            setup.members = members.first().copied().unwrap_or_default();
            run::run(setup, &alone, &mut handler).map(drop)
        })
    }

    /// Serves like [`Server::run`], with an async handler: see
    /// [`async_handler`](crate::async_handler). The calling process has no runtime.
    ///
    /// # Errors
    /// As [`Server::run`].
    #[cfg(feature = "async")]
    pub fn run_async<H, F>(self, handler: H) -> Result<(), Error>
    where
        H: FnMut(AsyncConnection) -> F,
        F: Future<Output = Result<(), HandlerError>>,
    {
        self.run(async_handler(handler))
    }

    /// Serves like [`Server::run`], and executes a program for each connection. With
    /// [`Server::spares`], processes wait for a client before they execute it; [`Server::reuse`] is
    /// not possible.
    ///
    /// # Errors
    /// As [`Server::run`]; or the program cannot be executed.
    pub fn run_program(mut self, program: Program) -> Result<(), Error> {
        self.settings.program = Some(program);
        self.run(|_| unreachable!("a program is executed instead"))
    }

    /// A handle that stops this server, for a handler. Each call returns the same one.
    ///
    /// # Errors
    /// The system is out of memory or descriptors.
    pub fn stop_handle(&mut self) -> Result<StopHandle, Error> {
        let handle = self.stop_handle.take().map_or_else(StopHandle::new, Ok)?;
        Ok(self.stop_handle.insert(handle).clone())
    }

    /// Validates what the builder stored, and applies the options of the listening sockets.
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        self.check()?;
        check_listeners(self.listeners.len())?;
        self.listeners.iter().try_for_each(|listener| listener.apply(&self.settings.socket))?;
        let number = self.settings.ready_descriptor.take();
        if let Some(number) = number.filter(|_| self.takeover.is_none()) {
            self.ready.descriptor = Some(ready_descriptor(number, &self.listeners)?);
        }
        Ok(())
    }
}

impl Server {
    /// What the supervisor takes over.
    pub(crate) fn into_setup(self) -> Setup {
        let Server {
            listeners,
            settings,
            log,
            mut ready,
            stop_handle,
            replacement,
            takeover,
            observation,
            link,
            jobs,
        } = self;
        if takeover.is_some() {
            ready.takes_over();
        }
        let (lines, controllers, predecessor, master) = (None, None, None, None);
        Setup {
            listeners,
            settings,
            members: Members::default(),
            jobs,
            log,
            lines,
            ready,
            controllers,
            observation,
            link,
            is_observed: false,
            replacement,
            takeover,
            predecessor,
            takes_over: false,
            master,
            stop_handles: stop_handle.into_iter().collect(),
        }
    }
}

/// Whether a server runs or has run in this process. The processes that it forks have a copy.
static HAS_RUN: AtomicBool = AtomicBool::new(false);

/// Runs the only server of this process. One that could not start is none.
fn run_once(run: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    HAS_RUN.store(true, Relaxed);
    run().inspect_err(|_| HAS_RUN.store(false, Relaxed))
}

/// Proof that this process may fork: it has one thread, and is no process of a server.
fn alone() -> Result<Alone, Error> {
    if HAS_RUN.load(Relaxed) {
        return Err(Error::new(
            ErrorKind::SecondRun,
            "a server runs or has run in this process already",
            "run another one in a process of its own, or both as Services",
        ));
    }
    Alone::check().map_err(|why| {
        Error::new(
            ErrorKind::Threads,
            format_args!("cannot fork for each connection: {why}"),
            "start the server before any thread, and threads in the handler",
        )
    })
}

/// The inherited descriptor that reports readiness. A number that a listener has was not inherited,
/// but free when the listener was bound.
pub(crate) fn ready_descriptor<'a>(
    number: i32,
    listeners: impl IntoIterator<Item = &'a Listener>,
) -> Result<OwnedFd, Error> {
    let is_own = listeners.into_iter().any(|listener| listener.as_fd().as_raw_fd() == number);
    let inherited = if is_own { Err(Errno::BADF.into()) } else { tine_sys::fd::inherited(number) };
    inherited.map_err(|why| {
        Error::new(
            ErrorKind::ReadyDescriptor,
            format_args!("cannot report readiness on descriptor {number}: {}", reason(&why)),
            "open the descriptor in the process that starts the server",
        )
    })
}

/// The addresses that the server listens on.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.listeners.iter().map(|listener| listener.name.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use rustix::net::sockopt::{socket_acceptconn, tcp_nodelay};

    use super::*;

    fn no_delay(server: &Server) -> Vec<bool> {
        server.listeners.iter().map(|listener| tcp_nodelay(listener).expect("a TCP socket")).collect()
    }

    #[test]
    fn the_order_of_calls_does_not_matter() {
        let bind = |server: Server| server.bind_also("127.0.0.1:0").expect("bound");
        let mut before = bind(bind(Server::new().no_delay(false).backlog(7)));
        let mut after = bind(bind(Server::new())).no_delay(false).backlog(7);
        let mut between = bind(bind(Server::new()).no_delay(false).backlog(7));
        for server in [&mut before, &mut after, &mut between] {
            server.prepare().expect("valid");
            assert_eq!(no_delay(server), [false, false]);
            assert_eq!(server.settings.socket.backlog, 7);
        }
    }

    #[test]
    fn a_server_without_an_address_is_refused() {
        let error = Server::new().max_connections(5).run(|_| Ok(())).expect_err("no address");
        assert!(matches!(error.kind(), ErrorKind::NoAddress | ErrorKind::Threads), "{error}");
        assert_eq!(Server::new().prepare().expect_err("no address").kind(), ErrorKind::NoAddress);
        Server::new().check().expect("addresses are bound later");
    }

    #[test]
    fn a_setter_never_fails_and_the_check_does() {
        let server = Server::new().max_connections(0).drain_timeout(Duration::ZERO);
        assert_eq!(server.check().expect_err("0").kind(), ErrorKind::InvalidValue);
        server.max_connections(1).check().expect("valid");
    }

    #[test]
    fn a_number_that_a_listener_got_was_not_inherited() {
        let mut server = Server::bind("127.0.0.1:0").expect("bound");
        let number = server.listeners[0].as_fd().as_raw_fd();
        server = server.ready_descriptor(number);
        assert_eq!(server.prepare().expect_err("its own").kind(), ErrorKind::ReadyDescriptor);
    }

    #[test]
    fn a_listener_of_the_standard_library_can_be_served() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = Server::from_listener(listener).expect("it listens");
        assert_eq!(server.local_addresses(), [address]);
        assert!(socket_acceptconn(&server.listeners[0]).expect("a socket"));
        let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        Server::from_listener(stream).expect_err("it does not listen");
    }
}
