//! Starts a program on a connection without a client, watches it, looks at it, and ends it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tine_sys::fd::Floor;
use tine_sys::process::Alone;
use tine_sys::trace::{StartFailure, TraceEvent, TraceStop, Tracer};

use super::census::{Census, Shown};
use super::gather::{StoppedTask, shown};
use super::options::{WarmCheckSettings, WarmReport};
use super::placeholder::Placeholder;
use super::report::report;
use super::watch::{Reached, Watch, WatchStep};
use crate::error::{Error, ErrorKind, next_move};
use crate::ipc::board::Entry;
use crate::lifecycle::outcome::ExitReport;
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;
use crate::program::Program;
use crate::program::launch::{LaunchContext, Launcher, ProgramConnection};

/// Says whether a program can be started warm. Executes it in a new process as for a connection,
/// with the variables of a client that does not exist, and kills it and all that it has started
/// before it returns.
///
/// # Errors
/// The program cannot be executed; this process has several threads; the kernel refuses to trace
/// ([`ErrorKind::System`]).
pub fn check_warm(program: &Program, settings: &WarmCheckSettings) -> Result<WarmReport, Error> {
    let alone = Alone::check()
        .map_err(|why| Error::new(ErrorKind::Threads, why, "ask before other threads are started"))?;
    let path = program.find(None, None)?;
    let placeholder = placeholder().map_err(|why| cannot("get random bytes", &why))?;
    let (socket, _client) =
        loopback_connection().map_err(|why| cannot("make a connection over loopback", &why))?;
    let connection = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .map_err(|why| Error::system("cannot read /proc/self/fd", &why, "mount /proc"))?;
    let own = rustix::process::getpid();
    let mut launcher = Launcher::new(program, path, None, Some(own), None, Floor::above_open(&[]))?;
    let mut tracer = Tracer::new(&alone).map_err(|why| cannot("wait for the program", &why))?;
    let (main, failure) = tracer
        .start(|_| execute(&mut launcher, &socket, &placeholder))
        .map_err(|why| cannot("trace the program", &why))?;
    let subject = Subject { main, connection: &connection.display().to_string() };
    let census = subject
        .take_census(&mut tracer, &placeholder, settings)
        .map_err(|why| cannot("look at the program", &why))?;
    match &census.reached {
        Reached::Ended(_) if census.programs.is_empty() => Err(not_executed(failure)),
        _ => Ok(report(&census, &settings.allowed)),
    }
}

fn cannot(what: &str, why: &io::Error) -> Error {
    let next = match next_move::errno(why) {
        Errno::PERM | Errno::ACCESS => {
            "permit ptrace(2) in the filter of the container, and with kernel.yama.ptrace_scope below 2"
        }
        // Of the request for the system call.
        Errno::IO => "use Linux 5.3 or later",
        _ => next_move::of_call(why),
    };
    Error::system(format_args!("cannot {what}"), why, next)
}

fn placeholder() -> io::Result<Placeholder> {
    let mut random = [0; 40];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(Placeholder::of(random))
}

/// The server's end of a real connection, so that what is asked about it is as for a client, and
/// the other end.
fn loopback_connection() -> io::Result<(OwnedFd, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    Ok((server.into(), client))
}

/// Executes the program, in its process. Returns only on failure, with the report.
fn execute(launcher: &mut Launcher, socket: &OwnedFd, placeholder: &Placeholder) -> Vec<u8> {
    let &Placeholder { local, remote, id } = placeholder;
    let peer = Peer::Tcp(remote);
    let connection = ProgramConnection {
        socket,
        entry: Entry { id, peer, start: 0 },
        proxied: Some(&Proxied { proxy: peer, local: Some(local), header: 1 }),
        launch_context: &LaunchContext::default(),
    };
    match launcher.execute(&connection) {
        ExitReport::Error(text) => text.into_bytes(),
        _ => b"cannot execute the program".to_vec(),
    }
}

fn not_executed(failure: StartFailure) -> Error {
    let text = failure.read();
    let next = "check that it is a program for this machine, or a script that begins with `#!`";
    match text.is_empty() {
        true => Error::new(ErrorKind::System, "the process ended before it executed the program", next),
        false => Error::new(ErrorKind::Program, String::from_utf8_lossy(&text), next),
    }
}

/// A program that was started.
struct Subject<'a> {
    main: i32,
    /// Its connection, as the kernel names it.
    connection: &'a str,
}

/// The next event, if it comes before the deadline: a program that is busy has one at any time.
fn next_before(tracer: &mut Tracer, deadline: Option<Instant>) -> io::Result<Option<TraceStop>> {
    match deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        true => Ok(None),
        false => tracer.next(deadline),
    }
}

/// Much more than a thread needs to end that has nothing left to do.
const THREAD_END: Duration = Duration::from_secs(1);

impl Subject<'_> {
    /// Watches the program until it stops, and looks at it there.
    fn take_census(
        &self,
        tracer: &mut Tracer,
        placeholder: &Placeholder,
        settings: &WarmCheckSettings,
    ) -> io::Result<Census> {
        let begin = Instant::now();
        let mut watch = Watch::new(self.main, settings.until);
        let deadline = begin.checked_add(settings.timeout);
        let mut reached = loop {
            let reached = self.watch(tracer, &mut watch, deadline)?;
            if let Some(reached) = self.let_threads_end(tracer, &mut watch, reached)? {
                break reached;
            }
        };
        let elapsed = begin.elapsed();
        let mut found = Ok(Shown::default());
        if reached.is_point() {
            let (others, created) = (watch.others(), watch.timers_created);
            found = shown(self.main, self.connection, &others, created, &placeholder.tokens());
            if found.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::PermissionDenied) {
                (reached, found) = (Reached::Hidden, Ok(Shown::default()));
            }
            // Where it was killed meanwhile, there was nothing to look at.
            while let Some(TraceStop { task, event }) = tracer.next(Some(Instant::now()))? {
                if let (true, TraceEvent::Ended(how)) = (task == self.main, event) {
                    (reached, found) = (Reached::Ended(how), Ok(Shown::default()));
                }
            }
        }
        Ok(Census {
            reached,
            timeout: settings.timeout,
            programs: watch.executed,
            calls: watch.calls,
            elapsed,
            threads_started: watch.threads,
            interval_timers: watch.interval_timers.armed(),
            shown: found?,
        })
    }

    /// Lets the other threads of a program that has reached a point run on, for a moment: the C
    /// library and interpreters say that a thread has ended before the kernel does. `None` if one
    /// of them has executed a program, which is at no point.
    fn let_threads_end(
        &self,
        tracer: &mut Tracer,
        watch: &mut Watch,
        reached: Reached,
    ) -> io::Result<Option<Reached>> {
        let deadline = Instant::now().checked_add(THREAD_END);
        while reached.is_point() && watch.has_threads() {
            let Some(TraceStop { task, event }) = next_before(tracer, deadline)? else { break };
            let look = StoppedTask { id: task, connection: self.connection };
            match (event, watch.on(task, &event, &look)) {
                (_, WatchStep::Over(Reached::Ended(how))) => return Ok(Some(Reached::Ended(how))),
                // It stays stopped, as the first one does.
                (_, WatchStep::Over(_)) | (TraceEvent::Ended(_), _) => {}
                (event, WatchStep::Resume(signal)) => {
                    tracer.resume(task, signal)?;
                    if task == self.main && matches!(event, TraceEvent::Executed(_)) {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(reached))
    }

    /// Lets the program run until it stops. Without a deadline, the time is too long for the clock.
    fn watch(
        &self,
        tracer: &mut Tracer,
        watch: &mut Watch,
        deadline: Option<Instant>,
    ) -> io::Result<Reached> {
        loop {
            let Some(TraceStop { task, event }) = next_before(tracer, deadline)? else {
                return Ok(watch.time_out());
            };
            let look = StoppedTask { id: task, connection: self.connection };
            match watch.on(task, &event, &look) {
                WatchStep::Resume(_) if matches!(event, TraceEvent::Ended(_)) => {}
                WatchStep::Resume(signal) => tracer.resume(task, signal)?,
                WatchStep::Over(reached) => return Ok(reached),
            }
        }
    }
}
