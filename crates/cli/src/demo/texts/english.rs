//! English.

use std::time::Duration;

use super::{Texts, shown};
use crate::demo::client::End;
use crate::demo::screen::{Fact, Step};

/// English.
pub(super) struct English;

impl Texts for English {
    fn title(&self, step: Step) -> &'static str {
        match step {
            Step::Start => "Start: a supervisor and its forkers",
            Step::Accept => "Accept and fork",
            Step::Exchange => "Exchange bytes",
            Step::Clients => "More clients: a process for each",
            Step::Descriptors => "What a connection process has open",
            Step::Kill => "Kill one of them",
            Step::Reap => "Reap the killed process",
            Step::Drain => "Drain: stop gracefully",
            Step::End => "The end",
        }
    }

    fn explanation(&self, step: Step) -> &'static str {
        match step {
            Step::Start => {
                "`tine serve` runs as a child of this demo. Its first process is the supervisor: it \
                 binds the address, starts the forkers, reaps its children and writes the log. It \
                 never reads what clients send. The forkers wait for clients; no connection process \
                 exists yet."
            }
            Step::Accept => {
                "A client connects. The kernel completes the handshake and puts the connection into \
                 the backlog of the listener. A forker takes it out (accept) and forks. The new \
                 process serves this client alone. Its parent is the supervisor, not the forker \
                 (CLONE_PARENT): it outlives its forker, and the supervisor gets its exit status."
            }
            Step::Exchange => {
                "The connection process reads from its socket and writes the same bytes back (echo, \
                 RFC 862). It may block: no other client waits for it. Between two messages it \
                 sleeps in the kernel, and uses no processor time."
            }
            Step::Clients => {
                "Each client gets a process of its own. There is no thread pool and no event loop: \
                 the kernel schedules the processes, and each has an address space of its own. A \
                 crash, a memory leak or an endless loop stays in one of them."
            }
            Step::Descriptors => {
                "A process can use what it has open. A fork copies every descriptor of the forker, \
                 so the new process first closes what is not its own, such as the listener. A copy \
                 of a client's socket in another process would keep the connection open after its \
                 own process has closed it."
            }
            Step::Kill => {
                "The supervisor is stopped for this step, so that the next one can be seen. Then a \
                 connection process is killed (kill -9). The kernel closes its descriptors, so its \
                 client sees the end. The others have memory and descriptors of their own, and go on: \
                 they do not even need the supervisor for that."
            }
            Step::Reap => {
                "A process that has ended stays in the process table as a zombie, with its exit \
                 status, until its parent calls waitpid. A parent that never does so fills the \
                 table. The supervisor runs again (CONT): it reaps the child, frees its slot for the \
                 next client, and logs how it ended."
            }
            Step::Drain => {
                "TERM asks the server to stop gracefully. It serves its backlog and closes the \
                 listener: the kernel refuses new clients. Open connections are served until they \
                 end, or until the drain timeout. The forkers have nothing left to do, and exit."
            }
            Step::End => {
                "The clients half-close: each sends a FIN, and can still read. The connection \
                 processes see the end of the stream, close and exit, and the supervisor reaps them. \
                 With the last one it exits, too."
            }
        }
    }

    fn fact(&self, fact: &Fact) -> String {
        match fact {
            Fact::Logged { line } => format!("Log: {line}"),
            Fact::Forked { pid, supervisor } => {
                format!("Process {pid} is new. Its parent is {supervisor}, the supervisor.")
            }
            Fact::Sent { client, message, bytes } => {
                format!("Client {client} has sent {bytes} bytes: {message:?}.")
            }
            Fact::Returned { pid, bytes } => {
                format!("Process {pid} has sent {bytes} bytes back, and they are the same.")
            }
            Fact::Sleeps { pid, state } => {
                format!("Process {pid} sleeps again (state {state}), until more bytes come.")
            }
            Fact::AllReturned { clients } => {
                format!("Each of the {clients} clients has sent a message of its own, and got it back.")
            }
            Fact::OwnSocket { inode, client } => {
                format!("socket:[{inode}] is the connection to client {client}: its only socket.")
            }
            Fact::NoListener { inode } => {
                format!("The listener, socket:[{inode}], is open in the forkers, but not here.")
            }
            Fact::NoOthers { inodes } => {
                format!("Those of the other connections are not here: {}.", self.sockets(inodes))
            }
            Fact::Stopped { pid, state } => {
                format!("Supervisor {pid} is stopped (SIGSTOP, state {state}).")
            }
            Fact::Killed { pid, client, end } => {
                format!("Process {pid} has got SIGKILL. Its client {client} sees {}.", sees(*end))
            }
            Fact::StillServed { clients } => {
                format!("Still served, each with a message of its own: {}.", self.clients(clients))
            }
            Fact::Zombie { pid, state } => {
                format!("Process {pid} is a zombie (state {state}): nobody has waited for it yet.")
            }
            Fact::Reaped { supervisor, pid } => {
                format!("Supervisor {supervisor} runs again. Process {pid} is no zombie: it is gone.")
            }
            Fact::Terminated { supervisor } => format!("Supervisor {supervisor} has got SIGTERM."),
            Fact::Refused { port } => {
                format!("A new client gets \"connection refused\" (ECONNREFUSED) from port {port}.")
            }
            Fact::Closed { client } => {
                format!("Client {client} has half-closed, and has read the end of the stream.")
            }
            Fact::Exited { supervisor, code } => {
                format!("Supervisor {supervisor} has exited. Its exit code is {code}.")
            }
            Fact::NothingLeft { processes, port } => {
                format!("Its last {processes} processes are gone, and the listener on port {port} is closed.")
            }
        }
    }

    fn outside(&self) -> &'static str {
        "See it from outside, in another terminal:"
    }

    fn waits_for_key(&self) -> &'static str {
        "Enter: next step   q: quit"
    }

    fn waits_for(&self, time: Duration) -> String {
        format!("Next step in {}   Enter: now   q: quit", shown(time))
    }

    fn over(&self) -> &'static str {
        "That was the demo. Start a server of your own: tine serve"
    }

    fn list(&self, items: &[String]) -> String {
        items.join(", ")
    }
}

fn sees(end: End) -> &'static str {
    match end {
        End::Fin => "the end of the stream (FIN)",
        End::Reset => "a reset (RST)",
    }
}
