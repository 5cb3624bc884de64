//! Servers in tests: each in a process of its own, on a port of its own, gone when the test is.
//!
//! ```no_run
//! # // In a #[test]:
//! use std::io::{Read, Write};
//! use tine::testing::TestServer;
//!
//! fn the_server_greets() -> Result<(), tine::Error> {
//!     let server = TestServer::start(
//!         || Ok(tine::Server::bind("127.0.0.1:0")?.max_connections(5)),
//!         |mut connection| Ok(connection.write_all(b"welcome")?),
//!     )?;
//!     let mut text = String::new();
//!     server.connect().read_to_string(&mut text).expect("a greeting");
//!     assert_eq!(text, "welcome");
//!     server.wait_for_line(|line| line.contains("exit 0"));
//!     server.stop()
//! }
//! ```
//!
//! A server forks, which a process with the threads of a test harness must not do. So
//! [`TestServer::start`] executes the file of the test once more, with the arguments for this test
//! alone, and becomes the server there:
//!
//! * What the test does before it starts its server, it does in both processes.
//! * A test starts one server. Several services are one server, too
//!   ([`TestServer::start_services`]).
//! * It is for the harness of the standard library (`#[test]`), under `cargo test` and under
//!   cargo-nextest, and is called in the thread of the test.
//! * What the handler changes in memory, the test does not see: they are different processes.
//!
//! This module is there with the feature `testing`.

mod output;
mod process;
mod report;

use std::cell::Cell;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, getpid};

use crate::connection::Connection;
use crate::connection::handler::Handler;
use crate::error::{Error, HandlerError};
use crate::server::services::Services;
use crate::settings::Server;
use output::Output;
use process::{STOP, Serves, become_server};

/// The environment variable of the process that becomes the server: the process id of its test.
const ROLE: &str = "TINE_TESTING_SERVER_OF";

/// How long a client of a test waits for the server.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills every process of it, and waits until they are gone; so does
/// the end of the test.
#[derive(Debug)]
pub struct TestServer {
    process: Child,
    /// `None` when it is being dropped.
    control: Option<ChildStdin>,
    output: Output,
    addresses: Vec<SocketAddr>,
    pid: u32,
}

impl TestServer {
    /// Builds a server in a process of its own, runs it with a handler, and returns when it is
    /// ready. [`Server::ready_descriptor`] of the server is replaced.
    ///
    /// # Errors
    /// Those of building and starting the server.
    ///
    /// # Panics
    /// This is not the thread of a test; this test has started a server before; the server can not
    /// be built or started in time, or panics meanwhile.
    pub fn start<H>(build: impl FnOnce() -> Result<Server, Error>, handler: H) -> Result<TestServer, Error>
    where
        H: FnMut(Connection) -> Result<(), HandlerError>,
    {
        TestServer::start_any(|| Ok((build()?, handler)))
    }

    /// As [`TestServer::start`], with a handler of any type, which is built with the server: with
    /// its [`StopHandle`](crate::StopHandle), for one.
    ///
    /// # Errors
    /// As [`TestServer::start`].
    ///
    /// # Panics
    /// As [`TestServer::start`].
    pub fn start_handler<H: Handler>(
        build: impl FnOnce() -> Result<(Server, H), Error>,
    ) -> Result<TestServer, Error> {
        TestServer::start_any(build)
    }

    /// As [`TestServer::start`], with several services.
    ///
    /// # Errors
    /// As [`TestServer::start`].
    ///
    /// # Panics
    /// As [`TestServer::start`].
    pub fn start_services(build: impl FnOnce() -> Result<Services, Error>) -> Result<TestServer, Error> {
        TestServer::start_any(|| Ok((build()?,)))
    }

    fn start_any<S: Serves>(build: impl FnOnce() -> Result<S, Error>) -> Result<TestServer, Error> {
        if let Some(test) = std::env::var(ROLE).ok().and_then(|test| Pid::from_raw(test.parse().ok()?)) {
            become_server(test, build);
        }
        let name = name_of_test();
        let mut process =
            command(&name).spawn().unwrap_or_else(|why| panic!("cannot execute the test: {why}"));
        let output = Output::read(process.stdout.take(), process.stderr.take());
        let control = process.stdin.take();
        let mut server = TestServer { process, control, output, addresses: Vec::new(), pid: 0 };
        (server.addresses, server.pid) = server.output.wait_until_ready()?;
        Ok(server)
    }

    /// The TCP addresses of the server, in the order in which they were bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The process id of the supervisor, or of the master of several services.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A client of the first address. Its reads and writes fail after 30 seconds.
    ///
    /// # Panics
    /// The server has no TCP address, or cannot be reached.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let address = self.addresses.first().unwrap_or_else(|| panic!("the server has no TCP address"));
        let client = TcpStream::connect_timeout(address, CLIENT_TIMEOUT).and_then(|client| {
            client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
            client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
            Ok(client)
        });
        client.unwrap_or_else(|why| panic!("cannot connect to {address}: {why}"))
    }

    /// The lines that the server has written until now: its log, unless that goes elsewhere, and
    /// what handlers print.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.lines()
    }

    /// The first of these lines that matches, also if it is yet to come.
    ///
    /// # Panics
    /// None comes in a minute, or the server has ended without one; with all lines.
    pub fn wait_for_line(&self, matches: impl Fn(&str) -> bool) -> String {
        self.output.wait_for_line(matches)
    }

    /// Stops the server as SIGTERM does, and returns when it has drained, with the result of
    /// [`Server::run`].
    ///
    /// # Errors
    /// As [`Server::run`].
    ///
    /// # Panics
    /// The server has crashed, or does not end in time.
    pub fn stop(mut self) -> Result<(), Error> {
        if let Some(control) = &mut self.control {
            // It may have stopped by itself.
            let _ = control.write_all(&[STOP]);
        }
        self.output.wait_for_result()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // The end of its input: it ends what is left.
        self.control.take();
        let _ = self.process.wait();
    }
}

impl<H: Handler> Serves for (Server, H) {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.local_addresses()
    }

    fn serve(self, ready: i32) -> Result<(), Error> {
        self.0.ready_descriptor(ready).run_handler(self.1)
    }
}

impl Serves for (Services,) {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.local_addresses()
    }

    fn serve(self, ready: i32) -> Result<(), Error> {
        self.0.ready_descriptor(ready).run()
    }
}

/// The name of the test that this thread runs, by which the harness finds it.
fn name_of_test() -> String {
    thread_local!(static HAS_STARTED: Cell<bool> = const { Cell::new(false) });
    let name = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    let name = name.unwrap_or_else(|| {
        panic!("a TestServer can only be started in the thread of a #[test], by its harness")
    });
    let again = HAS_STARTED.replace(true);
    assert!(!again, "the test {name} starts a second server; several services are one (start_services)");
    name
}

/// Executes this file for this test alone.
fn command(test: &str) -> Command {
    let path = std::env::current_exe().unwrap_or_else(|why| panic!("the test has no path: {why}"));
    let mut command = Command::new(path);
    command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, getpid().as_raw_nonzero().to_string());
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "RUST_TEST_SHUFFLE"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
