//! The steps: each does something to a real server, and looks at what comes of it. What is not as
//! it should be ends the demo with an error.

use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;

use rustix::process::Signal;
use tine::cli::next_move;

use super::client::{Client, End};
use super::log::Event;
use super::processes::{Descriptor, Process, TcpSocket, family, open_in, tcp_sockets};
use super::screen::Screen;
use super::screens::{Open, ServerIds};
use super::server::{DemoServer, FORKERS, signal};
use super::wait::{Stop, Waiter, missing};
use crate::error::Error;

/// The message of the first client. Later ones have one of their own.
const MESSAGE: &str = "hello, tine\n";

/// A client and the process that serves it.
#[derive(Debug)]
struct Connection {
    client: Client,
    pid: u64,
}

/// A server and its clients, between two steps.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) waiter: Waiter,
    server: DemoServer,
    /// The inode of the listener.
    listener: u64,
    /// Those that are open, the oldest first.
    connections: Vec<Connection>,
    /// The process that was killed.
    victim: u64,
}

/// A step, of a server that runs.
type Action = fn(&mut Running) -> Result<Screen, Stop>;

/// The steps after the first.
pub(super) const ACTIONS: [Action; 8] = [
    Running::accept,
    Running::exchange,
    Running::clients,
    Running::descriptors,
    Running::kill,
    Running::reap,
    Running::drain,
    Running::end,
];

impl Running {
    /// The first step: starts the server.
    pub(super) fn start(waiter: Waiter) -> Result<(Running, Screen), Stop> {
        let server = DemoServer::start(&waiter)?;
        let mut running = Running { waiter, server, listener: 0, connections: Vec::new(), victim: 0 };
        running.listener = running.socket("the listener", |socket| socket.is_listener)?;
        let listen = running.event("the line `listen` of the log", |event| event.is("listen"))?;
        let screen = running.ids().start(&listen, &running.family(FORKERS)?);
        Ok((running, screen))
    }

    /// A client connects.
    fn accept(&mut self) -> Result<Screen, Stop> {
        let (pid, accept) = self.connect()?;
        Ok(self.ids().accept(&accept, pid, &self.family(FORKERS)?))
    }

    /// The client sends a message, and receives it back.
    fn exchange(&mut self) -> Result<Screen, Stop> {
        let ids = self.ids();
        let Connection { client, pid } = first(&mut self.connections)?;
        let returned = client.echo(&self.waiter, MESSAGE)?;
        let what = "the connection process sleeps after it has replied";
        let process = self.waiter.until(what, || Process::of(*pid).filter(Process::sleeps))?;
        Ok(ids.exchange(client.address, MESSAGE, returned, &process))
    }

    /// Two more clients connect, and each exchanges a message of its own.
    fn clients(&mut self) -> Result<Screen, Stop> {
        for _ in 0..2 {
            self.connect()?;
        }
        let clients = self.exchange_with_all()?.len();
        Ok(self.ids().clients(clients, &self.family(FORKERS)?))
    }

    /// What the first connection process has open.
    fn descriptors(&mut self) -> Result<Screen, Stop> {
        let Connection { client, pid } = first(&mut self.connections)?;
        let (client, pid, listener) = (client.address, *pid, self.listener);
        let peers: Vec<_> = self.connections.iter().map(|other| other.client.address).collect();
        let inode = |peer| self.socket("the socket of a connection", |socket| socket.peer == peer);
        let own = inode(client)?;
        let others = peers.into_iter().filter(|peer| *peer != client).map(inode);
        let others = others.collect::<Result<Vec<_>, _>>()?;
        let descriptors = open_in(pid).map_err(|why| cannot_read(&why))?;
        let held: Vec<u64> = descriptors.iter().filter_map(Descriptor::socket).collect();
        if held != [own] {
            return Err(missing("a process with one socket, that of its client"));
        }
        let forker = self.family(FORKERS)?.into_iter().find(Process::is_forker);
        let forker = forker.ok_or_else(|| missing("a forker"))?.pid;
        let of_forker = open_in(forker).map_err(|why| cannot_read(&why))?;
        if !of_forker.iter().any(|descriptor| descriptor.socket() == Some(listener)) {
            return Err(missing("the listener among the descriptors of a forker"));
        }
        let open = Open { pid, forker, client, descriptors, own, listener, others };
        Ok(self.ids().descriptors(&open))
    }

    /// One connection process is killed, while the supervisor is stopped: so it stays a zombie.
    fn kill(&mut self) -> Result<Screen, Stop> {
        let ids = self.ids();
        if self.connections.len() < 2 {
            return Err(missing("several connections"));
        }
        let Connection { mut client, pid } = self.connections.remove(1);
        self.victim = pid;
        signal(ids.supervisor, Signal::STOP)?;
        let is_stopped = || Process::of(ids.supervisor).filter(Process::is_stopped);
        let supervisor = self.waiter.until("the supervisor is stopped", is_stopped)?;
        signal(pid, Signal::KILL)?;
        let end = client.end(&self.waiter)?;
        let is_zombie = || Process::of(pid).filter(Process::is_zombie);
        let zombie = self.waiter.until("the killed process is a zombie", is_zombie)?;
        let others = self.exchange_with_all()?;
        Ok(ids.kill(&supervisor, zombie, (client.address, end), others))
    }

    /// The supervisor goes on, and reaps.
    fn reap(&mut self) -> Result<Screen, Stop> {
        let (ids, victim) = (self.ids(), self.victim);
        signal(ids.supervisor, Signal::CONT)?;
        let end = self.end_of(victim, "signal KILL")?;
        let family = self.family(FORKERS)?;
        if family.iter().any(|process| process.pid == victim) {
            return Err(missing("the killed process is reaped"));
        }
        Ok(ids.reap(&end, victim, &family))
    }

    /// TERM: new clients are refused, and open connections are served.
    fn drain(&mut self) -> Result<Screen, Stop> {
        let ids = self.ids();
        signal(ids.supervisor, Signal::TERM)?;
        let drain = self.event("the line `drain` of the log", |event| event.is("drain"))?;
        self.waiter.until("the listener is closed", || self.is_closed().then_some(()))?;
        match Client::connect(ids.port) {
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => {}
            _ => return Err(missing("a client that is refused while the server drains")),
        }
        let clients = self.exchange_with_all()?;
        Ok(ids.drain(&drain, clients, &self.family(0)?))
    }

    /// The clients leave, and the server ends.
    fn end(&mut self) -> Result<Screen, Stop> {
        let ids = self.ids();
        let last = self.family(0)?;
        let mut ends = Vec::new();
        for Connection { mut client, pid } in std::mem::take(&mut self.connections) {
            client.half_close()?;
            if client.end(&self.waiter)? != End::Fin {
                return Err(missing("the end of the stream after a half-close"));
            }
            ends.push((client.address, self.end_of(pid, "exit 0")?));
        }
        let stop = self.event("the line `stop` of the log", |event| event.is("stop"))?;
        let Some(code @ 0) = self.server.exit_code(&self.waiter)? else {
            return Err(missing("exit code 0 of the server"));
        };
        let is_gone = |one: &Process| Process::of(one.pid).is_none_or(|now| now.name != one.name);
        if !last.iter().all(is_gone) || !self.is_closed() {
            return Err(missing("a server that has left nothing behind"));
        }
        Ok(ids.end(&ends, &stop, code, last.len()))
    }

    fn ids(&self) -> ServerIds {
        ServerIds { supervisor: self.server.pid(), port: self.server.port }
    }

    /// The inode of a socket of the server. While other sockets come and go, the kernel may leave
    /// one out of the table, or have it there twice.
    fn socket(&self, what: &str, is_wanted: impl Fn(&TcpSocket) -> bool) -> Result<u64, Stop> {
        let port = self.server.port;
        let is_it = |socket: &TcpSocket| socket.is_at(port) && is_wanted(socket);
        let look = || tcp_sockets().ok()?.into_iter().find(is_it);
        let what = format!("{what} in /proc/self/net/tcp");
        Ok(self.waiter.until(&what, look)?.inode)
    }

    /// Whether no process of the server has the listener open.
    fn is_closed(&self) -> bool {
        let has_it = |one: &Descriptor| one.socket() == Some(self.listener);
        let is_without = |process: &Process| open_in(process.pid).is_ok_and(|open| !open.iter().any(has_it));
        family(self.server.pid()).iter().all(is_without)
    }

    /// Waits for a line of the log.
    fn event(&mut self, what: &str, is_wanted: impl Fn(&Event) -> bool) -> Result<Event, Stop> {
        self.server.log.find(&self.waiter, what, is_wanted)
    }

    /// Waits for the line `end` of a connection process, which must have this outcome.
    fn end_of(&mut self, pid: u64, outcome: &str) -> Result<Event, Stop> {
        let what = format!("the line `end` of process {pid} in the log");
        let end = self.event(&what, |event| event.is("end") && event.number("pid") == Some(pid))?;
        match end.text("outcome") == outcome {
            true => Ok(end),
            false => Err(missing(format_args!("{what} with the outcome `{outcome}`"))),
        }
    }

    /// Connects a client. Returns its process, and the line of the log.
    fn connect(&mut self) -> Result<(u64, Event), Stop> {
        let client = Client::connect(self.server.port).map_err(|why| {
            let next = match why.kind() {
                ErrorKind::NetworkUnreachable => "bring the loopback interface up (`ip link set lo up`)",
                _ => next_move::of_call(&why),
            };
            Error::system("a client cannot connect to the server", &why, next)
        })?;
        let peer = client.address.to_string();
        let what = format!("the line `accept` of client {peer} in the log");
        let line = self.event(&what, |event| event.is("accept") && event.text("peer") == peer)?;
        let pid = line.number("pid").ok_or_else(|| missing(what))?;
        self.connections.push(Connection { client, pid });
        Ok((pid, line))
    }

    /// Each client exchanges a message of its own. Returns the clients.
    fn exchange_with_all(&mut self) -> Result<Vec<SocketAddrV4>, Stop> {
        let waiter = &self.waiter;
        let exchanged = self.connections.iter_mut().map(|Connection { client, .. }| {
            let message = format!("hello from {}\n", client.address);
            client.echo(waiter, &message).map(|_| client.address)
        });
        exchanged.collect()
    }

    /// Waits until the children of the supervisor are this number of forkers and the processes of
    /// all connections, and all of them wait. Then they stay as they are.
    fn family(&self, forkers: usize) -> Result<Vec<Process>, Stop> {
        let is_settled = |family: &Vec<Process>| {
            // A process has the name of its parent until it has set its own.
            let is_known = |process: &Process| process.is_forker() || process.is_connection();
            let serves = |Connection { pid, .. }: &Connection| {
                family.iter().any(|process| process.pid == *pid && process.is_connection())
            };
            family.iter().all(Process::sleeps)
                && family.iter().skip(1).all(is_known)
                && family.iter().filter(|process| process.is_forker()).count() == forkers
                && self.connections.iter().all(serves)
        };
        let look = || Some(family(self.server.pid())).filter(is_settled);
        let what = "the supervisor with its forkers and a process for each client, all waiting";
        self.waiter.until(what, look)
    }
}

/// The first connection.
fn first(connections: &mut [Connection]) -> Result<&mut Connection, Stop> {
    connections.first_mut().ok_or_else(|| missing("a connection"))
}

fn cannot_read(why: &io::Error) -> Error {
    Error::system("cannot read what /proc has about the server", why, next_move::of_file(why))
}
