//! Endpoints that servers in full jails connect to (`--network-allow`), and scripts that do.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::{Client, Server};

/// A listener that greets each client.
#[derive(Debug)]
pub struct Greeter {
    address: SocketAddr,
}

impl Greeter {
    /// Starts it.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(host: &str) -> Greeter {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"hello\n"));
            }
        });
        Greeter { address }
    }

    /// Its port.
    ///
    /// # Panics
    /// If it has no address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address, as an endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

/// A listener whose backlog is full: a connection to it is not established.
#[derive(Debug)]
pub struct FullListener {
    listener: TcpListener,
    _streams: Vec<TcpStream>,
}

impl FullListener {
    /// Starts it.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start() -> FullListener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        rustix::net::listen(&listener, 0).expect("a backlog");
        let address = listener.local_addr().expect("an address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let streams = std::iter::from_fn(|| connect().ok()).collect();
        FullListener { listener, _streams: streams }
    }

    /// Its port.
    ///
    /// # Panics
    /// If it has no address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }
}

/// The begin of each script: a line for each attempt, with what it comes to.
pub const BEGIN: &str = "import asyncio, ctypes, os, socket, sys, threading\n\
    def tries(name, job):\n\
    \x20   try: print(name, job(), flush=True)\n\
    \x20   except OSError as why: print(name, why.strerror, flush=True)\n\
    def greeting(stream):\n\
    \x20   return stream.makefile().readline().strip()\n\
    def connected(host, port, timeout=None):\n\
    \x20   return greeting(socket.create_connection((host, port), timeout))\n";

/// A server whose program is this script, with these endpoints.
#[must_use]
pub fn server(options: &[&str], endpoints: &[String], script: &str) -> Server {
    let allowed = endpoints.iter().flat_map(|endpoint| ["--network-allow", endpoint]);
    let options: Vec<&str> =
        options.iter().copied().chain(["--jail", "--stderr", "client"]).chain(allowed).collect();
    let script = format!("{BEGIN}{script}");
    Server::program(&options, &["/usr/bin/python3", "-c", &script])
}

/// What a script prints.
pub fn lines(client: &mut Client) -> Vec<String> {
    client.half_close().read_text().lines().map(str::to_owned).collect()
}
