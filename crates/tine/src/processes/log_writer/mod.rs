//! The log writer: writes the lines of all processes of the server to the log file, to syslog or to
//! the journal. One process for the whole server, a child of the master or of a single supervisor.
//!
//! It alone has the target open, so SIGHUP concerns one process, a disk or a daemon that does not
//! answer holds up no other, and processes that are confined or have another user can log, too. It
//! keeps the privileges of the server, to open the file again; it interprets no line. It ends when
//! no process is left that could send a line, so the last one is written however the server ends.

mod destination;
mod run;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tine_sys::process::{Alone, Fresh, Side, fork, reap};

use crate::error::{Error, ErrorKind, next_move, reason};
use crate::lifecycle::startup::{self, StartEvent, StartSender};
use crate::lifecycle::timing::KILL_WAIT;
use crate::log::channel::{LineReceiver, LineSender, channel};
use crate::log::writer_lines::WriterLines;
use crate::log::{Format, Log, LogSettings, LogTarget};
use crate::processes::companion::Companion;
use crate::system::wakeup::Wakeup;

/// The value of `role=` in the log.
const ROLE: &str = "log writer";

/// Time to wait for a log writer that was killed.
const KILLED_WAIT: Duration = Duration::from_millis(200);

/// The log writer, as the process that starts it knows it, and all that it keeps itself.
pub(crate) struct LogWriter {
    target: LogTarget,
    lines: WriterLines,
    receiver: LineReceiver,
    /// Tells it to open the log file again.
    reopen: Wakeup,
    pub(crate) companion: Companion,
}

/// The result of a start, in this process.
pub(crate) enum WriterStart {
    /// The server has no log writer.
    None,
    /// It runs; these are its lines.
    Started(LogWriter, LineSender),
    /// This is the log writer.
    New(NewWriter),
}

/// In a process that was just forked: the log writer.
pub(crate) struct NewWriter {
    fresh: Fresh,
    writer: LogWriter,
    /// Where it reports that the target can be written, if a process waits for that.
    report: Option<StartSender>,
}

impl LogWriter {
    /// Starts the log writer of a server, if its target needs one, before anything else is made: it
    /// keeps nothing of the server.
    ///
    /// # Errors
    /// The target cannot be used.
    pub(crate) fn start(settings: &LogSettings, alone: &Alone) -> Result<WriterStart, Error> {
        let LogSettings { format, level, ref target } = *settings;
        if *target == LogTarget::Stderr || format == Format::Off {
            return Ok(WriterStart::None);
        }
        let failed =
            |why: io::Error| Error::system("cannot start the log writer", &why, next_move::of_call(&why));
        let (sender, receiver) = channel(target).map_err(failed)?;
        let mut writer = LogWriter {
            target: target.clone(),
            lines: WriterLines::new(format, level, &sender),
            receiver,
            reopen: Wakeup::new(&Ok::<OwnedFd, rustix::io::Errno>).map_err(|why| failed(why.into()))?,
            companion: Companion::new(ROLE),
        };
        let (report, reports) = startup::channel().map_err(failed)?;
        match writer.fork(alone).map_err(failed)? {
            Some(fresh) => Ok(WriterStart::New(NewWriter { fresh, writer, report: Some(report) })),
            None => {
                drop(report);
                // A wakeup that nothing wakes yet: only a report ends the wait.
                match reports.wait(writer.reopen.as_fd()).map_err(failed)? {
                    StartEvent::Entered => Ok(WriterStart::Started(writer, sender)),
                    StartEvent::Failed(error) => {
                        drop(sender);
                        writer.finish();
                        Err(error)
                    }
                    StartEvent::Ended | StartEvent::StopRequested => {
                        let what = "cannot start the log writer: it has ended";
                        let next = "look for its cause in the kernel's log (dmesg)";
                        Err(Error::new(ErrorKind::System, what, next))
                    }
                }
            }
        }
    }

    /// Forks the log writer. Returns in both: `Some` in the new process. Its exit sends SIGCHLD.
    fn fork(&mut self, alone: &Alone) -> io::Result<Option<Fresh>> {
        match fork(alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => {
                self.companion.started(pid);
                Ok(None)
            }
            Side::Child(fresh) => Ok(Some(fresh)),
        }
    }

    /// Moves the descriptors to this number or a higher one.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn move_above(&mut self, lowest: i32) -> io::Result<()> {
        self.receiver.move_above(lowest)?;
        Ok(self.reopen.move_above(lowest)?)
    }

    /// Has the log file opened again. False if the target is no file.
    pub(crate) fn reopen(&self) -> bool {
        let is_file = matches!(self.target, LogTarget::File(_));
        if is_file {
            self.reopen.wake();
        }
        is_file
    }

    /// Restarts it where that is due. Returns in both: `Some` in the new process.
    fn restart(&mut self, alone: &Alone, log: &mut Log) -> Option<Fresh> {
        if !self.companion.take_restart() {
            return None;
        }
        self.fork(alone).unwrap_or_else(|why| {
            let next = format!("it is tried again; {}", next_move::of_call(&why));
            log.error("cannot start the log writer", &reason(&why), &next);
            self.companion.not_started();
            None
        })
    }

    /// Waits until the log writer has written what is left and has ended; it is killed if that
    /// takes too long. The caller has closed its sending end of the channel.
    pub(crate) fn finish(self) {
        // What was to be restarted has left its lines in the channel, which ends with this process.
        let Some(pid) = self.companion.pid() else { return };
        if !is_reaped_by(pid, Instant::now() + KILL_WAIT) {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            // In a write to a disk that does not answer, it may not die.
            is_reaped_by(pid, Instant::now() + KILLED_WAIT);
        }
    }
}

/// Waits until a child has ended, and reaps it. False at the deadline.
fn is_reaped_by(pid: i32, deadline: Instant) -> bool {
    while matches!(reap(pid), Ok(None)) {
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        // No descriptor tells of its exit.
        let _ = tine_sys::wait::until(&mut [], Some(now + Duration::from_millis(2)));
    }
    true
}

/// Restarts the log writer of a server where that is due. In the new process, returns what it is:
/// it is taken from the server, the rest of which is to be dropped.
pub(crate) fn restart(writer: &mut Option<LogWriter>, alone: &Alone, log: &mut Log) -> Option<NewWriter> {
    let fresh = writer.as_mut()?.restart(alone, log)?;
    let writer = writer.take()?;
    Some(NewWriter { fresh, writer, report: None })
}
