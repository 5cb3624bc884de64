//! What each step has shown: facts and lines, without the words of a language.

use std::net::SocketAddrV4;

use super::client::End;
use super::processes::Process;

/// A step of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The server starts.
    Start,
    /// A client connects.
    Accept,
    /// It exchanges a message.
    Exchange,
    /// More clients connect.
    Clients,
    /// What a connection process has open.
    Descriptors,
    /// One of them is killed.
    Kill,
    /// It is reaped.
    Reap,
    /// The server drains.
    Drain,
    /// The server ends.
    End,
}

impl Step {
    /// All steps, in their order.
    pub(super) const ALL: [Step; 9] = [
        Step::Start,
        Step::Accept,
        Step::Exchange,
        Step::Clients,
        Step::Descriptors,
        Step::Kill,
        Step::Reap,
        Step::Drain,
        Step::End,
    ];

    /// Its number, from 1.
    pub(super) fn number(self) -> usize {
        self as usize + 1
    }
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The log has a line.
    Logged { line: String },
    /// A process is new, and its parent is the supervisor.
    Forked { pid: u64, supervisor: u64 },
    /// A client has sent a message.
    Sent { client: SocketAddrV4, message: String, bytes: usize },
    /// The same bytes have come back.
    Returned { pid: u64, bytes: usize },
    /// A process sleeps until more bytes come.
    Sleeps { pid: u64, state: char },
    /// Each client has received its own message.
    AllReturned { clients: usize },
    /// The only socket of a process is that of its client.
    OwnSocket { inode: u64, client: SocketAddrV4 },
    /// The process does not have the listener.
    NoListener { inode: u64 },
    /// The process does not have the sockets of the other connections.
    NoOthers { inodes: Vec<u64> },
    /// The supervisor is stopped.
    Stopped { pid: u64, state: char },
    /// A connection process was killed, and its client has seen the end.
    Killed { pid: u64, client: SocketAddrV4, end: End },
    /// The other clients still exchange messages.
    StillServed { clients: Vec<SocketAddrV4> },
    /// A process has ended and is not reaped.
    Zombie { pid: u64, state: char },
    /// The supervisor runs again, and has reaped the process.
    Reaped { supervisor: u64, pid: u64 },
    /// The supervisor has got TERM.
    Terminated { supervisor: u64 },
    /// A new client is refused.
    Refused { port: u16 },
    /// A client has half-closed, and has received the end of the stream.
    Closed { client: SocketAddrV4 },
    /// The supervisor has exited.
    Exited { supervisor: u64, code: i32 },
    /// No process and no listener is left.
    NothingLeft { processes: usize, port: u16 },
}

/// A part of what a step has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A fact, which each language says in its own words.
    Said(Fact),
    /// A line that is the same in each language: of processes, or of descriptors.
    Line(String),
}

/// What a step has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) step: Step,
    pub(super) items: Vec<Item>,
    /// Commands that show the same from outside.
    pub(super) commands: Vec<String>,
}

impl Screen {
    /// A step that has shown nothing yet.
    pub(super) fn of(step: Step) -> Screen {
        Screen { step, items: Vec::new(), commands: Vec::new() }
    }

    /// The same, with a fact.
    pub(super) fn fact(mut self, fact: Fact) -> Screen {
        self.items.push(Item::Said(fact));
        self
    }

    /// The same, with a line of the log.
    pub(super) fn log(self, line: String) -> Screen {
        self.fact(Fact::Logged { line })
    }

    /// The same, with a line.
    pub(super) fn line(mut self, line: impl Into<String>) -> Screen {
        self.items.push(Item::Line(line.into()));
        self
    }

    /// The same, with processes as `ps --forest` shows them: children below the first.
    pub(super) fn tree(self, family: &[Process]) -> Screen {
        let first = family.first().map_or(0, |process| process.pid);
        let screen = self.line("    PID    PPID S COMMAND");
        family.iter().fold(screen, |screen, process| {
            let Process { pid, parent, state, name } = process;
            let branch = if *pid == first { "" } else { " \\_ " };
            screen.line(format!("{pid:>7} {parent:>7} {state} {branch}{name}"))
        })
    }

    /// The same, with a command.
    pub(super) fn command(mut self, command: impl Into<String>) -> Screen {
        self.commands.push(command.into());
        self
    }

    /// The same, with the command that shows a supervisor and its children.
    pub(super) fn ps(self, supervisor: u64) -> Screen {
        self.command(format!("ps --forest -o pid,ppid,s,comm -p {supervisor} --ppid {supervisor}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_in_their_order() {
        for (step, number) in Step::ALL.into_iter().zip(1..) {
            assert_eq!(step.number(), number, "{step:?}");
        }
    }

    #[test]
    fn a_tree_is_as_ps_shows_it() {
        let process = |pid, parent, name: &str| Process { pid, parent, state: 'S', name: name.into() };
        let family = [process(42, 7, "tine"), process(1_234_567, 42, "tine: conn 1")];
        let lines = Screen::of(Step::Start).tree(&family).items;
        let expected =
            ["    PID    PPID S COMMAND", "     42       7 S tine", "1234567      42 S  \\_ tine: conn 1"];
        assert_eq!(lines, expected.map(|line| Item::Line(line.into())));
    }
}
