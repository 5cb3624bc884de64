//! Servers under test: starting them, finding their processes, stopping them.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::client::Client;
use crate::log::Log;
use crate::names::FORKER;
use crate::procfs;
use crate::wait::{wait_for_one, wait_until};

/// An environment variable with a value of its own for each server. Every process of a server
/// inherits it, so none can be missed, whatever its parent is.
const MARK: &str = "TINE_TEST_MARK";

fn new_mark() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The path of the `tine` under test.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn tine() -> PathBuf {
    let path = built("tine");
    assert!(path.exists(), "{} is not built; run scripts/test, or cargo build", path.display());
    path
}

/// The path of a binary in the target directory that the tests were built in.
///
/// # Panics
/// If the running test has no such directory.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join(name)
}

/// Runs a command to its end with empty standard input. Returns its exit code (-1 if a signal ended
/// it), standard output and standard error.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Sends a signal to a process.
///
/// # Panics
/// If it does not exist.
pub fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("the process exists");
}

/// The command line of a server, before it is started.
pub struct ServerCommand {
    command: Command,
    mark: String,
}

impl ServerCommand {
    /// `tine serve` with these options, an address on a port that the kernel chooses, and the log
    /// in JSON.
    #[must_use]
    pub fn serve<S: AsRef<OsStr>>(options: impl IntoIterator<Item = S>) -> ServerCommand {
        ServerCommand::wrapped::<&str, S>([], options)
    }

    /// As [`ServerCommand::serve`], behind a command that executes it, such as `prlimit … --`.
    #[must_use]
    pub fn wrapped<W: AsRef<OsStr>, S: AsRef<OsStr>>(
        wrapper: impl IntoIterator<Item = W>,
        options: impl IntoIterator<Item = S>,
    ) -> ServerCommand {
        let mut words: Vec<OsString> = wrapper.into_iter().map(|word| word.as_ref().to_owned()).collect();
        words.push(tine().into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["serve", "--log", "json", "-1"]).args(options).arg("127.0.0.1:0");
        ServerCommand { command, mark: new_mark() }
    }

    /// Any program that prints its port when it is ready.
    #[must_use]
    pub fn program(path: impl AsRef<Path>, options: &[&str]) -> ServerCommand {
        let mut command = Command::new(path.as_ref());
        command.args(options);
        ServerCommand { command, mark: new_mark() }
    }

    /// The command, for more arguments or environment variables.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts the server and waits for the line with its port.
    ///
    /// # Panics
    /// If it ends without one.
    #[must_use]
    pub fn start(mut self) -> Server {
        self.command.env(MARK, &self.mark).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.process_group(0);
        let mut process = self.command.spawn().expect("the program starts");
        let log = Log::from_pipe(process.stderr.take().expect("piped"));
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("standard output can be read");
        let mut server = Server { process, port: 0, log, mark: self.mark, ended: false };
        server.port = line.trim().parse().unwrap_or_else(|_| {
            let _ = server.process.wait();
            server.log.wait_until_closed();
            panic!("{line:?} instead of a port; the log:\n{}", server.log.lines().join("\n"))
        });
        server
    }
}

/// A running server. Dropping it kills every process of it, and waits for their ends: the next one
/// may need its port, or its users' processes.
pub struct Server {
    process: Child,
    port: u16,
    /// Its standard error.
    pub log: Log,
    mark: String,
    ended: bool,
}

impl Server {
    /// Starts `tine serve` with these options.
    #[must_use]
    pub fn serve(options: &[&str]) -> Server {
        ServerCommand::serve(options).start()
    }

    /// Starts `tine serve` with these options and a program.
    #[must_use]
    pub fn program(options: &[&str], program: &[&str]) -> Server {
        let mut command = ServerCommand::serve(options);
        command.command().arg("--").args(program);
        command.start()
    }

    /// The TCP port of its first address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of its first process: the supervisor, or the master of several services.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).expect("a process id")
    }

    /// Every process of the server, found by its mark.
    #[must_use]
    pub fn processes(&self) -> Vec<procfs::Process> {
        procfs::all_with(&format!("{MARK}={}", self.mark))
    }

    /// The processes whose name in ps(1) starts with `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<procfs::Process> {
        self.processes().into_iter().filter(|process| process.name.starts_with(name)).collect()
    }

    /// The process ids of the forkers, once each of them waits for clients.
    #[must_use]
    pub fn forkers(&self) -> Vec<i32> {
        let supervisor = procfs::process(self.pid()).map(|process| process.name);
        wait_until("every forker waits", || {
            let children = procfs::children(self.pid());
            // A forker has the name of the supervisor until it has set its own.
            let all_have_names = !children.iter().any(|child| Some(&child.name) == supervisor.as_ref());
            let forkers = self.named(FORKER);
            // A process that was just forked has the name of its forker.
            let names: HashSet<&str> = forkers.iter().map(|process| process.name.as_str()).collect();
            let names_are_unique = names.len() == forkers.len();
            let forkers: Vec<i32> = forkers.iter().map(|process| process.pid).collect();
            // One that runs may still be opening its descriptors.
            let waits = |pid: &i32| {
                procfs::descriptors(*pid).iter().any(|(_, target)| target.contains("eventpoll"))
                    && procfs::process(*pid).is_some_and(|forker| forker.state != 'R')
            };
            (all_have_names && names_are_unique && forkers.iter().all(waits)).then_some(forkers)
        })
    }

    /// Connects a client.
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// Sends a signal to the first process of the server.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until the first process has ended and the log is complete.
    ///
    /// # Panics
    /// If that takes longer than [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.wait_for_exit();
        self.log.wait_until_closed();
        status
    }

    /// Waits until the first process has ended. Others may still write to the log.
    ///
    /// # Panics
    /// If that takes longer than [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let status = wait_until("the server ends", || self.process.try_wait().expect("our child"));
        self.ended = true;
        status
    }

    /// Waits until every client is accepted, and no process of the server runs.
    ///
    /// # Panics
    /// As [`Server::wait_until_gone`].
    pub fn wait_until_idle(&self) {
        wait_until("every client is accepted and every process waits", || {
            let waits = |process: &procfs::Process| process.state != 'R';
            (procfs::backlog(self.port) == 0 && self.processes().iter().all(waits)).then_some(())
        });
    }

    /// Waits until no process of the server is left.
    ///
    /// # Panics
    /// If one is left after [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
    pub fn wait_until_gone(&self) {
        wait_until("no process of the server is left", || {
            self.processes().iter().all(procfs::Process::is_zombie).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        let pids = self.processes().into_iter().filter_map(|process| Pid::from_raw(process.pid));
        // One that is not there any more has no descriptor.
        let killed: Vec<OwnedFd> = pids
            .filter_map(|pid| {
                let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
                pidfd_send_signal(&process, Signal::KILL).ok()?;
                Some(process)
            })
            .collect();
        for process in killed {
            // It is readable once the process has closed what it had, whoever reaps it.
            wait_for_one(&mut [PollFd::new(&process, PollFlags::IN)]);
        }
    }
}
