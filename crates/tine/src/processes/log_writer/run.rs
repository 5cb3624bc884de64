//! The log writer's loop: takes lines from the channel, and writes them.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use tine_sys::process::exit_now;

use super::destination::{Destination, Written};
use super::{LogWriter, NewWriter, ROLE};
use crate::error::{next_move, reason};
use crate::log::Log;
use crate::log::channel::{LineReceiver, Peeked};
use crate::log::writer_lines::WriterLines;
use crate::processes::start::start_detached;
use crate::system::wakeup::Wakeup;

/// Longer than any line.
const LONGEST: usize = 64 << 10;

/// Lines that are written before the wakeup is looked at.
const BATCH: usize = 256;

/// Time after which a target that takes no line is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Time that the target has to take the last lines of a server that has ended.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// Signals that do not end it. Beyond the limit on the size of files, or without a reader, lines
/// are lost. The others reach it if a service manager signals every process, or if it is stopped
/// while the server ends (setpgid(2)): the last lines are still to be written.
const IGNORED: [Signal; 6] =
    [Signal::XFSZ, Signal::PIPE, Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

struct Writing {
    receiver: LineReceiver,
    reopen: Wakeup,
    destination: Destination,
    lines: WriterLines,
    /// Lines that the target did not take, and that it was not told of yet.
    lost: u64,
    /// Standard error, which is told why lines are lost.
    stderr: Log,
    /// Until when the target may take the last lines.
    give_up_at: Option<Instant>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    WaitForLines,
    WaitForTarget,
    Continue,
    End,
}

impl NewWriter {
    /// Runs as the log writer until no process is left that could send a line. The caller has
    /// dropped everything of the server.
    pub(crate) fn run(self) -> ! {
        let NewWriter { fresh, writer, report } = self;
        tine_sys::signal::defaults(&fresh);
        IGNORED.iter().for_each(|signal| tine_sys::signal::ignore(signal.as_raw()));
        start_detached(c"tine: writer");
        close_standard_streams();
        let LogWriter { target, lines, receiver, reopen, .. } = writer;
        let mut destination = Destination::new(&target);
        let opened = destination.open();
        if let (Some(report), Err(why)) = (&report, opened) {
            report.failed(&destination.cannot_open(why));
            exit_now(111);
        }
        let mut stderr = lines.on_stderr();
        // After a restart, lines wait until the target can be opened, wherever that will be.
        destination.confine(&mut stderr);
        if let Some(report) = report {
            report.entered();
        }
        let mut writing = Writing { receiver, reopen, destination, lines, lost: 0, stderr, give_up_at: None };
        writing.run();
        exit_now(0)
    }
}

/// Leaves standard input and output to the server: the reader of the latter waits for its end.
fn close_standard_streams() {
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

impl Writing {
    fn run(&mut self) {
        let mut buffer = vec![0; LONGEST];
        loop {
            if is_readable(self.reopen.as_fd()) {
                self.reopen.clear();
                self.open_again();
            }
            let next = self.write_lines(&mut buffer);
            // It may have opened the target only now.
            self.destination.confine(&mut self.stderr);
            match next {
                Next::Continue => {}
                Next::WaitForLines => self.wait_for_lines(),
                Next::WaitForTarget if self.gives_up() => return self.report_last_lines(&mut buffer),
                Next::WaitForTarget => self.wait_for_target(),
                Next::End => return,
            }
        }
    }

    fn write_lines(&mut self, buffer: &mut [u8]) -> Next {
        for _ in 0..BATCH {
            let length = match self.receiver.peek(buffer) {
                Peeked::Line(length) => length,
                Peeked::TooLong => {
                    self.receiver.remove();
                    self.lost += 1;
                    continue;
                }
                Peeked::Nothing => return Next::WaitForLines,
                Peeked::End if self.has_ended() => return Next::End,
                // An empty line, which no process of the server sends.
                Peeked::End => {
                    self.receiver.remove();
                    continue;
                }
            };
            match self.write(&buffer[..length]) {
                Written::Yes => {}
                Written::Lost(why) => self.count_lost(why),
                Written::NotNow => return Next::WaitForTarget,
            }
            // Not before: it is written again if this process is killed meanwhile.
            self.receiver.remove();
        }
        Next::Continue
    }

    /// Writes a line, after one with the number of lines that were lost before it.
    fn write(&mut self, line: &[u8]) -> Written {
        if self.lost > 0 {
            match self.destination.write(self.lines.dropped(self.lost)) {
                Written::Yes => {
                    self.stderr.recovered(&format!("{} can be written again", self.destination.name()));
                    self.lost = 0;
                }
                other => return other,
            }
        }
        self.destination.write(line)
    }

    fn count_lost(&mut self, why: Errno) {
        if self.lost == 0 {
            let what = format!("cannot write to {}", self.destination.name());
            let why = why.into();
            let next = format!("lines are counted until it can be written; {}", next_move::of_file(&why));
            self.stderr.error(&what, &reason(&why), &next);
        }
        self.lost += 1;
    }

    /// Opens the log file again. After an error, lines go to the one that is open.
    fn open_again(&mut self) {
        match self.destination.open() {
            Ok(()) => {
                if let Some(line) = self.lines.reload(self.destination.path()) {
                    self.destination.write(line);
                }
            }
            // The next log writer may open the new one.
            Err(Errno::ACCESS) if self.destination.was_moved() => exit_now(0),
            Err(why) => {
                let why = why.into();
                let what = format!("cannot open {} again, keeping the open one", self.destination.name());
                let (why, next) = (reason(&why), next_move::of_file(&why));
                self.destination.write(self.lines.error(&what, &why, next));
                self.stderr.error(&what, &why, next);
            }
        }
    }

    fn wait_for_lines(&self) {
        let mut poll =
            [PollFd::new(&self.receiver.socket, PollFlags::IN), PollFd::new(&self.reopen, PollFlags::IN)];
        // Interrupted: everything is checked in any case.
        let _ = tine_sys::wait::until(&mut poll, None);
    }

    /// Waits until the target may take lines again. The channel is not watched: it has some.
    fn wait_for_target(&self) {
        let wakeup = PollFd::new(&self.reopen, PollFlags::IN);
        let target = match self.destination.descriptor() {
            Some(open) => PollFd::from_borrowed_fd(open, PollFlags::OUT),
            None => wakeup.clone(),
        };
        let _ = tine_sys::wait::until(&mut [wakeup, target], Some(Instant::now() + RETRY));
    }

    /// Whether no process is left that could send a line.
    fn has_ended(&self) -> bool {
        let mut poll = [PollFd::new(&self.receiver.socket, PollFlags::IN)];
        matches!(tine_sys::wait::now(&mut poll), Ok(1)) && poll[0].revents().contains(PollFlags::HUP)
    }

    /// Whether the server has ended, and the target had its time to take the last lines.
    fn gives_up(&mut self) -> bool {
        if !self.has_ended() {
            return false;
        }
        let now = Instant::now();
        *self.give_up_at.get_or_insert(now + LAST_LINES_WAIT) <= now
    }

    /// Counts the lines that the target did not take in the end.
    fn report_last_lines(&mut self, buffer: &mut [u8]) {
        while matches!(self.receiver.peek(buffer), Peeked::Line(_) | Peeked::TooLong) {
            self.receiver.remove();
            self.lost += 1;
        }
        let what = format!("the {ROLE} ends without {} lines", self.lost);
        let why = format!("{} takes none", self.destination.name());
        self.stderr.error(&what, &why, "look at the daemon or reader there");
    }
}

fn is_readable(descriptor: BorrowedFd) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    matches!(tine_sys::wait::now(&mut poll), Ok(1))
}
