//! The processes of a server in a test. The test executes its own file once more, for the same test
//! alone: there, one thread runs the test, and the other one waits for its end. So the thread of
//! the test may fork. The forked process has one thread and becomes the server; the other one ends
//! it when the test says so, or has ended, and leaves no process behind.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open};
use tine_sys::beside::fork_beside_sleepers;
use tine_sys::process::{Fresh, How, Side, exit_now, wait_for};

use super::report::Report;
use crate::error::{Error, reason};
use crate::lifecycle::outcome::{ExitReport, signal_name};
use crate::system::parent::kill_with;
use crate::system::procfs::{children, own_id};

/// The byte that asks for a drain, on standard input. Its end asks for an end at once.
pub(super) const STOP: u8 = b's';

/// The time in which the main thread of the harness has to wait for the end of the test.
const HARNESS_WAIT: Duration = Duration::from_secs(10);

/// What can be served in a test: a server with its handler, or services.
pub(super) trait Serves {
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Serves until stopped, and writes a newline to a descriptor when it is ready.
    fn serve(self, ready: i32) -> Result<(), Error>;
}

/// Becomes the process that a test has executed for its server: serves in a child, watches over it,
/// and exits.
pub(super) fn become_server<S: Serves>(test: Pid, build: impl FnOnce() -> Result<S, Error>) -> ! {
    // With the test, and with whatever is left of the server.
    let prepared = kill_with(test).and_then(|()| rustix::process::set_child_subreaper(Some(getpid())));
    let watched = prepared.map_err(io::Error::from).and_then(|()| fork_and_watch(build));
    if let Err(why) = watched {
        tell(rustix::stdio::stdout(), &Report::Ended(format!("before it began: {}", reason(&why))));
    }
    exit_now(0)
}

fn fork_and_watch<S: Serves>(build: impl FnOnce() -> Result<S, Error>) -> io::Result<()> {
    let (ready, ready_writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let parent = getpid();
    match fork_beside_sleepers(Instant::now() + HARNESS_WAIT)? {
        Side::Child(fresh) => serve(&fresh, parent, build, ready_writer),
        Side::Parent(pid) => {
            drop(ready_writer);
            let watched = watch(pid, &ready);
            end_rest();
            watched
        }
    }
}

/// The server: a process with one thread.
fn serve<S: Serves>(
    _fresh: &Fresh,
    parent: Pid,
    build: impl FnOnce() -> Result<S, Error>,
    ready: OwnedFd,
) -> ! {
    let report = match prepare(parent) {
        Ok(report) => report,
        Err(_) => exit_now(1),
    };
    let served = catch_unwind(AssertUnwindSafe(|| {
        let server = build()?;
        tell(&report, &Report::Addresses(server.addresses()));
        tell(&report, &Report::Pid(std::process::id()));
        // Without close-on-exec it is taken for one that was inherited.
        let number = rustix::io::dup(&ready).map_or(-1, IntoRawFd::into_raw_fd);
        drop(ready);
        server.serve(number)
    }));
    tell(
        &report,
        &match served {
            Ok(Ok(())) => Report::Stopped,
            Ok(Err(error)) => Report::Failed(error),
            Err(thrown) => Report::Ended(format!("by a {}", ExitReport::panic_text(&*thrown))),
        },
    );
    exit_now(0)
}

/// Makes this process die with its parent, and standard output what standard error is. Returns the
/// original standard output, for reports.
fn prepare(parent: Pid) -> io::Result<File> {
    kill_with(parent)?;
    let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    Ok(File::from(report))
}

/// Waits until the server has ended, and passes on that it is ready and that it is to stop.
fn watch(pid: i32, ready: &OwnedFd) -> io::Result<()> {
    let server = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    let ended = pidfd_open(server, PidfdFlags::empty())?;
    let stdin = rustix::stdio::stdin();
    let (mut asks, mut is_ready) = (true, false);
    loop {
        // In the place of what has told all, the end of the server a second time.
        let input = if asks { stdin.as_fd() } else { ended.as_fd() };
        let notice = if is_ready { ended.as_fd() } else { ready.as_fd() };
        let mut poll = [ended.as_fd(), input, notice].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // Interrupted: none is ready.
        if tine_sys::wait::until(&mut poll, None).is_err() {
            continue;
        }
        let [has_ended, has_input, has_notice] = poll.map(|fd| !fd.revents().is_empty());
        if has_notice && !is_ready {
            is_ready = true;
            if rustix::io::read(ready, &mut [0; 1]) == Ok(1) {
                tell(rustix::stdio::stdout(), &Report::Ready);
            }
        }
        if has_ended {
            match wait_for(pid)? {
                How::Exited(0) => {}
                How::Exited(code) => tell(rustix::stdio::stdout(), &Report::Ended(format!("exit {code}"))),
                How::Signaled(signal) => {
                    let how = format!("signal {}", signal_name(signal));
                    tell(rustix::stdio::stdout(), &Report::Ended(how));
                }
            }
            return Ok(());
        }
        if has_input && asks {
            let mut byte = [0; 1];
            let stops = rustix::io::read(stdin, &mut byte) == Ok(1) && byte[0] == STOP;
            asks = stops;
            // It is not reaped yet: the number is its own.
            let _ = kill_process(server, if stops { Signal::TERM } else { Signal::KILL });
        }
    }
}

/// Ends the processes that the server has left, which are children of this process now. One that
/// ends others itself is awaited.
fn end_rest() {
    loop {
        for child in children(own_id()) {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm"));
            if let Some(child) = Pid::from_raw(child)
                && name.is_ok_and(|name| name.trim_end() != "tine: cleaner")
            {
                let _ = kill_process(child, Signal::KILL);
            }
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Writes a report. Without a reader, the test has ended.
fn tell(to: impl AsFd, report: &Report) {
    let line = report.to_line();
    let mut left = line.as_bytes();
    while !left.is_empty() {
        match rustix::io::write(&to, left) {
            Ok(written) => left = &left[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
