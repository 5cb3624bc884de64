//! Servers in an environment that lacks or denies something: whether they serve completely, say
//! what they do less, or do not start and say why.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use rustix::process::Signal;

use crate::client::Client;
use crate::folder::Folder;
use crate::names::outcome;
use crate::procfs::Process;
use crate::server::{Server, ServerCommand, kill, run, tine};
use crate::wait::wait_until;

/// What a server is in an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// As elsewhere.
    Complete,
    /// It logs one warning, which contains this.
    Less(&'static str),
    /// It ends with exit code 111 before it listens, and its log contains this.
    Refused(&'static str),
}

use Without::{Complete, Less, Refused};

/// The words before a command that is executed in the environment.
#[derive(Debug)]
pub struct Environment(Vec<OsString>);

impl Environment {
    /// The environment that these words make for the command after them.
    #[must_use]
    pub fn new<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Environment {
        Environment(words.into_iter().map(|word| word.as_ref().to_owned()).collect())
    }

    /// Starts a server; `None` where it is refused as expected. Checks its warnings.
    ///
    /// # Panics
    /// If it is not as expected.
    #[must_use]
    pub fn serve(&self, options: &[&str], program: &[&str], expected: Without) -> Option<Server> {
        let mut command = ServerCommand::wrapped(&self.0, options);
        if !program.is_empty() {
            command.command().arg("--").args(program);
        }
        self.start(command, expected)
    }

    fn start(&self, mut command: ServerCommand, expected: Without) -> Option<Server> {
        if let Refused(part) = expected {
            self.assert_refused(command.command(), part);
            return None;
        }
        let server = command.start();
        // Warnings come before it.
        server.log.wait_for("listen", 1);
        let texts = warnings(&server);
        match expected {
            Less(part) => assert!(texts.len() == 1 && texts[0].contains(part), "{self:?}: {texts:?}"),
            _ => assert!(texts.is_empty(), "{self:?}: {texts:?}"),
        }
        Some(server)
    }

    fn assert_refused(&self, command: &mut Command, part: &str) {
        let (code, out, log) = run(command);
        assert_eq!((code, out.as_str()), (111, ""), "{self:?}: {log}");
        assert!(!log.contains(r#""event":"listen""#), "{self:?}: {log}");
        assert!(log.contains(part), "{self:?}: no '{part}' in {log}");
    }

    /// Stops a server, which exits with 0 and leaves no process and no error behind.
    ///
    /// # Panics
    /// If it does otherwise.
    pub fn stop(&self, mut server: Server) {
        // The words before it may have become a process that waits for it.
        let mut named = server.processes();
        named.retain(|process| process.name == "tine");
        let is_child = |of: &Process| named.iter().any(|other| other.pid == of.parent);
        let first = named.iter().find(|process| !is_child(process));
        kill(first.expect("the server runs").pid, Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{self:?}");
        server.wait_until_gone();
        assert!(server.log.of("error").is_empty(), "{self:?}: {:?}", server.log.lines());
    }

    /// Checks handlers, spares and workers, rejected and delayed clients.
    ///
    /// # Panics
    /// If something is not as expected.
    pub fn check_handler(&self, expected: Without) {
        // With several forkers, one may have taken the slot that another needs.
        let full = ["--forkers", "1", "--max-connections", "2", "--when-full", "reject=full"];
        let Some(server) = self.serve(&full, &[], expected) else { return };
        let (mut first, mut second) = (server.connect(), server.connect());
        first.echo("one");
        second.echo("two");
        assert_eq!(server.connect().read_to_end(), b"full");
        assert_eq!(first.finish(), b"");
        server.log.wait_for("end", 1);
        // The other forker may have taken the slot, to accept the next client with it.
        wait_until("a client has the slot", || {
            let reply = server.connect().send("three").half_close().read_to_end();
            (reply == b"three").then_some(())
        });
        drop(second);
        self.stop(server);

        let limit = ["--max-connections-per-source", "1", "--when-limited", "delay"];
        let spares = ["--spares", "2", "--reuse", "2"];
        let Some(server) = self.serve(&[limit, spares].concat(), &[], expected) else { return };
        let mut first = server.connect();
        first.echo("one");
        let mut queued = server.connect();
        queued.send("two");
        first.finish();
        queued.expect("two").finish();
        self.stop(server);
    }

    /// Checks programs: their ends, their descendants, their standard error, terminals, spares.
    ///
    /// # Panics
    /// If something is not as expected.
    pub fn check_program(&self, expected: Without) {
        self.check_descendants(expected);
        self.check_many_ends(expected);
        self.check_terminal(expected);
    }

    /// With one slot, the second client is served when the descendants of the first are gone.
    fn check_descendants(&self, expected: Without) {
        // The program ends when its descendant has a session of its own.
        let script = "(setsid sh -c 'echo up; sleep 61; true' &) | (read -r up; echo error >&2; echo bye)";
        let options = ["--max-connections", "1", "--kill-mode", "all", "--stderr", "log"];
        let Some(server) = self.serve(&options, &["sh", "-c", script], expected) else { return };
        for _ in 0..2 {
            assert_eq!(server.connect().finish(), b"bye\n", "{self:?}");
        }
        assert_clean_ends(&server, 2);
        server.log.wait_for("stderr", 2);
        if expected == Complete {
            wait_until("no descendant is left", || server.named("sleep").is_empty().then_some(()));
            self.stop(server);
        }
    }

    /// Checks that no end is missed where many programs end at the same time, so that their signals
    /// are coalesced.
    ///
    /// # Panics
    /// If one is missed.
    pub fn check_many_ends(&self, expected: Without) {
        let Some(server) = self.serve(&["--max-connections", "20"], &["cat"], expected) else { return };
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| {
            client.echo("x");
        });
        clients.iter_mut().for_each(|client| {
            client.half_close();
        });
        assert_clean_ends(&server, 20);
        server.connect().echo("one more").finish();
        self.stop(server);
    }

    /// Checks programs on a terminal.
    ///
    /// # Panics
    /// If something is not as expected.
    pub fn check_terminal(&self, expected: Without) {
        for options in [&["--pty"][..], &["--pty", "--spares", "1"]] {
            let Some(server) = self.serve(options, &["cat"], expected) else { return };
            for _ in 0..2 {
                server.connect().echo("line\n").half_close().read_to_end();
            }
            assert_clean_ends(&server, 2);
            self.stop(server);
        }
    }

    /// Checks two services of one file, which the environment must show.
    ///
    /// # Panics
    /// If something is not as expected.
    pub fn check_services(&self, expected: Without) {
        let folder = Folder::new("services");
        let service = |name: &str| format!("[services.{name}]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\n");
        let file = folder.write("tine.toml", &(service("one") + &service("two")));
        let mut words: Vec<OsString> = self.0.clone();
        words.push(tine().into_os_string());
        let mut command = ServerCommand::program(&words[0], &[]);
        command.command().args(&words[1..]).args(["serve", "--log", "json", "-1", "--config"]).arg(file);
        if let Refused(part) = expected {
            return self.assert_refused(command.command(), part);
        }
        let server = command.start();
        server.connect().echo("x").finish();
        assert_clean_ends(&server, 1);
        let warnings = warnings(&server);
        assert_eq!(
            warnings.len(),
            if expected == Complete { 0 } else { 2 },
            "{self:?}: one for each service"
        );
        self.stop(server);
    }
}

/// The warnings of a server. Whether there is a place for a control socket has a test of its own.
pub fn warnings(server: &Server) -> Vec<String> {
    let lines = server.log.of("warning").into_iter();
    let texts = lines.filter_map(|line| line["text"].as_str().map(str::to_owned));
    texts.filter(|text| !text.starts_with("no control socket: ")).collect()
}

/// Waits for this number of ends, each with exit code 0.
fn assert_clean_ends(server: &Server, number: usize) {
    let ends = server.log.wait_for("end", number);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
}
