//! Each step as a screen: which facts and lines, in which order, and which commands show the same.

use std::net::SocketAddrV4;

use super::client::End;
use super::log::Event;
use super::processes::{Descriptor, Process};
use super::screen::{Fact, Screen, Step};

/// What is shown of a line `accept`.
const OF_ACCEPT: [&str; 5] = ["id", "peer", "pid", "count", "limit"];
/// What is shown of a line `end`.
const OF_END: [&str; 4] = ["id", "peer", "pid", "outcome"];

/// What names the server in commands: its supervisor and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerIds {
    /// The process id of the supervisor.
    pub(super) supervisor: u64,
    /// The port of 127.0.0.1 on which it listens.
    pub(super) port: u16,
}

impl ServerIds {
    /// The command that shows sockets of the server.
    fn ss(self, options: &str) -> String {
        format!("ss {options} 'sport = :{}'", self.port)
    }

    /// The server has started.
    pub(super) fn start(self, listen: &Event, family: &[Process]) -> Screen {
        Screen::of(Step::Start)
            .log(listen.shown(&["address", "backlog"]))
            .tree(family)
            .ps(self.supervisor)
            .command(self.ss("-tlnp"))
    }

    /// A client was accepted.
    pub(super) fn accept(self, accept: &Event, pid: u64, family: &[Process]) -> Screen {
        Screen::of(Step::Accept)
            .log(accept.shown(&OF_ACCEPT))
            .tree(family)
            .fact(Fact::Forked { pid, supervisor: self.supervisor })
            .ps(self.supervisor)
            .command(self.ss("-tnp"))
    }

    /// A message has come back.
    pub(super) fn exchange(
        self,
        client: SocketAddrV4,
        message: &str,
        returned: usize,
        process: &Process,
    ) -> Screen {
        let Process { pid, state, .. } = *process;
        Screen::of(Step::Exchange)
            .fact(Fact::Sent { client, message: message.to_owned(), bytes: message.len() })
            .fact(Fact::Returned { pid, bytes: returned })
            .fact(Fact::Sleeps { pid, state })
            .command(format!("strace -p {pid}"))
            .command(self.ss("-tni"))
    }

    /// More clients were accepted.
    pub(super) fn clients(self, clients: usize, family: &[Process]) -> Screen {
        Screen::of(Step::Clients)
            .tree(family)
            .fact(Fact::AllReturned { clients })
            .command(format!("pstree -p {}", self.supervisor))
            .command(self.ss("-tnp"))
    }

    /// What a connection process has open.
    pub(super) fn descriptors(self, open: &Open) -> Screen {
        let Open { pid, forker, client, descriptors, own, listener, others } = open;
        let screen = Screen::of(Step::Descriptors).line(format!("/proc/{pid}/fd"));
        descriptors
            .iter()
            .fold(screen, |screen, one| screen.line(format!("  {} -> {}", one.number, one.target)))
            .fact(Fact::OwnSocket { inode: *own, client: *client })
            .fact(Fact::NoListener { inode: *listener })
            .fact(Fact::NoOthers { inodes: others.clone() })
            .command(format!("ls -l /proc/{pid}/fd /proc/{forker}/fd"))
            .command(self.ss("-tnpea"))
    }

    /// A connection process was killed; the supervisor is stopped.
    pub(super) fn kill(
        self,
        supervisor: &Process,
        zombie: Process,
        (client, end): (SocketAddrV4, End),
        others: Vec<SocketAddrV4>,
    ) -> Screen {
        Screen::of(Step::Kill)
            .fact(Fact::Stopped { pid: self.supervisor, state: supervisor.state })
            .fact(Fact::Killed { pid: zombie.pid, client, end })
            .fact(Fact::StillServed { clients: others })
            .fact(Fact::Zombie { pid: zombie.pid, state: zombie.state })
            .tree(&[zombie])
            .ps(self.supervisor)
            .command(self.ss("-tnp"))
    }

    /// It was reaped.
    pub(super) fn reap(self, end: &Event, pid: u64, family: &[Process]) -> Screen {
        Screen::of(Step::Reap)
            .log(end.shown(&OF_END))
            .fact(Fact::Reaped { supervisor: self.supervisor, pid })
            .tree(family)
            .ps(self.supervisor)
            .command(format!("ls /proc/{pid}"))
    }

    /// The server drains.
    pub(super) fn drain(self, drain: &Event, clients: Vec<SocketAddrV4>, family: &[Process]) -> Screen {
        Screen::of(Step::Drain)
            .fact(Fact::Terminated { supervisor: self.supervisor })
            .log(drain.shown(&["connections", "timeout_seconds"]))
            .fact(Fact::Refused { port: self.port })
            .fact(Fact::StillServed { clients })
            .tree(family)
            .ps(self.supervisor)
            .command(format!("nc -v 127.0.0.1 {}", self.port))
    }

    /// The server has ended.
    pub(super) fn end(
        self,
        ends: &[(SocketAddrV4, Event)],
        stop: &Event,
        code: i32,
        processes: usize,
    ) -> Screen {
        let closed = |screen: Screen, (client, end): &(SocketAddrV4, Event)| {
            screen.fact(Fact::Closed { client: *client }).log(end.shown(&OF_END))
        };
        ends.iter()
            .fold(Screen::of(Step::End), closed)
            .log(stop.shown(&["connections"]))
            .fact(Fact::Exited { supervisor: self.supervisor, code })
            .fact(Fact::NothingLeft { processes, port: self.port })
            .command(format!("ps -p {}", self.supervisor))
            .command(format!("ss -tan 'dport = :{}'", self.port))
    }
}

/// What a connection process has open, and what it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) pid: u64,
    /// A forker, to compare it with.
    pub(super) forker: u64,
    pub(super) client: SocketAddrV4,
    pub(super) descriptors: Vec<Descriptor>,
    /// The inode of its socket.
    pub(super) own: u64,
    /// The inode of the listener.
    pub(super) listener: u64,
    /// The inodes of the sockets of other connections.
    pub(super) others: Vec<u64>,
}

#[cfg(test)]
pub(super) mod longest {
    //! The longest that each step can be.

    use std::net::Ipv4Addr;

    use super::*;
    use crate::demo::log::event;

    /// The longest process id (proc(5), `pid_max`).
    const PID: u64 = 4_194_304;
    /// The longest port.
    const PORT: u16 = 65_535;
    /// An inode of a socket, as on a machine that runs for long.
    const INODE: u64 = 4_294_967_295;
    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);

    fn process(name: &str) -> Process {
        Process { pid: PID, parent: PID, state: 'S', name: name.into() }
    }

    fn family(forkers: usize, connections: usize) -> Vec<Process> {
        let mut family = vec![Process { pid: 1, ..process("tine") }];
        family.extend((1..=forkers).map(|number| process(&format!("tine: forker {number}"))));
        family.extend((1..=connections).map(|number| process(&format!("tine: conn {number}"))));
        family
    }

    fn end(outcome: &str) -> Event {
        let of = format!(r#""id":1,"peer":"{CLIENT}","pid":{PID},"outcome":"{outcome}""#);
        event(&format!(r#"{{"event":"end",{of}}}"#))
    }

    fn open() -> Open {
        let targets = ["/dev/null".to_owned(), format!("pipe:[{INODE}]"), format!("pipe:[{INODE}]")];
        let targets = targets.into_iter().chain([format!("socket:[{INODE}]")]);
        Open {
            pid: PID,
            forker: PID,
            client: CLIENT,
            descriptors: (0..).zip(targets).map(|(number, target)| Descriptor { number, target }).collect(),
            own: INODE,
            listener: INODE,
            others: vec![INODE; 2],
        }
    }

    /// All steps, in their order.
    pub(in crate::demo) fn screens() -> Vec<Screen> {
        let ids = ServerIds { supervisor: PID, port: PORT };
        let of_accept = format!(r#""id":1,"peer":"{CLIENT}","pid":{PID},"count":1,"limit":1024"#);
        let accept = event(&format!(r#"{{"event":"accept",{of_accept}}}"#));
        let listen = event(r#"{"event":"listen","address":"127.0.0.1:65535","backlog":4096}"#);
        let drain = event(r#"{"event":"drain","connections":2,"timeout_seconds":86400.0}"#);
        let stop = event(r#"{"event":"stop","connections":3}"#);
        let zombie = Process { state: 'Z', ..process("tine: conn 2") };
        vec![
            ids.start(&listen, &family(2, 0)),
            ids.accept(&accept, PID, &family(2, 1)),
            ids.exchange(CLIENT, "hello, tine\n", 12, &process("tine: conn 1")),
            ids.clients(3, &family(2, 3)),
            ids.descriptors(&open()),
            ids.kill(&process("tine"), zombie, (CLIENT, End::Fin), vec![CLIENT; 2]),
            ids.reap(&end("signal KILL"), PID, &family(2, 2)),
            ids.drain(&drain, vec![CLIENT; 2], &family(0, 2)),
            ids.end(&[(CLIENT, end("exit 0")), (CLIENT, end("exit 0"))], &stop, 0, 3),
        ]
    }
}
