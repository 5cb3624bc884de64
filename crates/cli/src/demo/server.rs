//! The server: `tine serve` of this executable, as a child that ends with this process.

use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tine::cli::next_move;
use tine_sys::helper_command::end_with_this_thread;

use super::log::Log;
use super::wait::{Stop, Waiter};
use crate::error::{Error, fewer};

/// The number of forkers, whatever the number of processors is.
pub(super) const FORKERS: usize = 2;

/// A port that the kernel chooses, a log to read, nothing outside its processes that it could leave
/// behind, and time for all that is said while it drains.
const ARGUMENTS: [&str; 11] = [
    "serve",
    "127.0.0.1:0",
    "--print-ports",
    "--log",
    "json",
    "--control",
    "none",
    "--state-directory",
    "none",
    "--drain-timeout",
    "1day",
];

/// Variables of service managers, which are not meant for this server.
const OF_SERVICE_MANAGERS: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];

/// A running server. Dropping it kills all of its processes.
#[derive(Debug)]
pub(super) struct DemoServer {
    process: Child,
    pub(super) port: u16,
    pub(super) log: Log,
}

impl DemoServer {
    /// Starts the server, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, or Ctrl-C.
    pub(super) fn start(waiter: &Waiter) -> Result<DemoServer, Stop> {
        let cannot_start = |why: io::Error| {
            Error::system("cannot start the server", &why, fewer("end other processes", &why))
        };
        let executable = std::env::current_exe().map_err(cannot_start)?;
        let mut command = Command::new(executable);
        // In a process group of its own: Ctrl-C on a terminal is for the demo.
        command.arg0("tine").args(ARGUMENTS).arg(format!("--forkers={FORKERS}")).process_group(0);
        OF_SERVICE_MANAGERS.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The kernel kills it with this process, whatever ends that, and with it all of its own.
        end_with_this_thread(&mut command);
        let mut process = command.spawn().map_err(cannot_start)?;
        let pipes = (process.stdout.take(), process.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(cannot_start(ErrorKind::BrokenPipe.into()).into());
        };
        let mut server = DemoServer { process, port: 0, log: Log::new(stderr) };
        match port(waiter, stdout)? {
            Some(port) => server.port = port,
            None => return Err(server.did_not_start(waiter)),
        }
        Ok(server)
    }

    fn did_not_start(&mut self, waiter: &Waiter) -> Stop {
        if let Err(stop) = self.log.read_to_end(waiter) {
            return stop;
        }
        let error = self.log.error().unwrap_or("it ended without an error");
        // An error of the server has its own next move.
        let alone = (error, "start it alone to see more (`tine serve 127.0.0.1:0`)");
        let (why, next) = error.rsplit_once("; ").unwrap_or(alone);
        Error::unavailable(format_args!("the server does not start: {why}"), next).into()
    }

    /// The supervisor.
    pub(super) fn pid(&self) -> u64 {
        self.process.id().into()
    }

    /// Waits until all of its processes have ended, and returns its exit code; `None` if a signal
    /// has ended it.
    ///
    /// # Errors
    /// One does not end, or Ctrl-C.
    pub(super) fn exit_code(&mut self, waiter: &Waiter) -> Result<Option<i32>, Stop> {
        self.log.read_to_end(waiter)?;
        let status = self.process.wait().map_err(|why| {
            Error::system("cannot wait for the server to end", &why, next_move::of_call(&why))
        })?;
        Ok(status.code())
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        // It may have ended already. The kernel kills its processes with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The port that the server prints when it is ready; `None` if it ends without one.
fn port(waiter: &Waiter, mut stdout: ChildStdout) -> Result<Option<u16>, Stop> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        waiter.readable(&stdout, "the port of the server")?;
        let mut part = [0; 64];
        match stdout.read(&mut part) {
            Ok(0) | Err(_) => return Ok(None),
            Ok(read) => line.extend_from_slice(&part[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim().parse().ok())
}

/// Sends a signal to a process of the server.
///
/// # Errors
/// As kill(2).
pub(super) fn signal(pid: u64, signal: Signal) -> Result<(), Error> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = known.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
    sent.map_err(|why| {
        let why = why.into();
        Error::system(format_args!("cannot send {signal:?} to process {pid}"), &why, next_move::of_call(&why))
    })
}
