//! The stderr logger: it reads the standard error of handlers and programs, with the id of the
//! connection. With `--stderr log` it writes the lines into the log. With crash reports it
//! remembers the last ones, and writes the reports.
//!
//! The text comes from programs that are not trusted, so a process of its own reads it. Forkers and
//! connection processes pass it the reading end of each connection's pipe.

mod crashes;
mod pipe;
mod reports;

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::process::{Alone, exit_now};

use crate::error::{Error, next_move};
use crate::ipc::messages::{CrashMessage, Receiver, StderrPipe};
use crate::log::Log;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{StartReport, cannot, start_helper};
use crate::system::kernel_log::KernelLog;
use crate::system::users::Identity;
use crashes::CrashReporter;
use pipe::{LineDestination, PipeReader, PipeState};
use reports::ReportDirectory;

/// The number of the event of a new pipe; other numbers are pipes.
const NEW_PIPE_EVENT: u64 = u64::MAX;

/// The number of the event of a crash, or of a question for reports.
const CRASH_EVENT: u64 = u64::MAX - 1;

/// What the supervisor hands to the stderr logger: everything that it keeps.
pub(crate) struct LoggerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    /// `None` where standard error is not read.
    pub(crate) pipes: Option<Receiver<StderrPipe>>,
    /// Whether lines go into the log.
    pub(crate) logs_lines: bool,
    pub(crate) reports: Option<ReportsStart>,
    pub(crate) log: Log,
    pub(crate) report: StartReport,
}

/// What crash reports need.
pub(crate) struct ReportsStart {
    pub(crate) directory: std::path::PathBuf,
    pub(crate) messages: Receiver<CrashMessage>,
    pub(crate) kernel_log: Option<KernelLog>,
}

struct StderrLogger {
    queue: OwnedFd,
    /// `None` once no process is left that can pass pipes.
    channel: Option<Receiver<StderrPipe>>,
    destination: LineDestination,
    log: Log,
    readers: HashMap<u64, PipeReader>,
    last_number: u64,
    crashes: Option<CrashReporter>,
}

/// Runs as the stderr logger until no process is left that could write to it.
pub(crate) fn run(start: LoggerStart) -> ! {
    let role = ConfinedRole::StderrLogger(start.reports.as_ref().map(|reports| reports.directory.clone()));
    let entered = start_helper(start.alone, start.identity.as_ref(), start.supervisor, c"tine: logger");
    let crashes = start.reports.map(|ReportsStart { directory, messages, kernel_log }| {
        CrashReporter::new(ReportDirectory::at(directory), messages, kernel_log)
    });
    let entered = entered
        .and_then(|()| crashes.as_ref().map_or(Ok(()), CrashReporter::check))
        .and_then(|()| event_queue(start.pipes.as_ref(), crashes.as_ref()));
    let queue = start.report.finish(entered, &role);
    let destination = if start.logs_lines { LineDestination::Log } else { LineDestination::Server };
    let (channel, readers) = (start.pipes, HashMap::new());
    let mut logger =
        StderrLogger { queue, channel, destination, log: start.log, readers, last_number: 0, crashes };
    while logger.channel.is_some()
        || logger.crashes.as_ref().is_some_and(CrashReporter::is_open)
        || !logger.readers.is_empty()
    {
        logger.turn();
    }
    exit_now(0)
}

fn event_queue(
    pipes: Option<&Receiver<StderrPipe>>,
    crashes: Option<&CrashReporter>,
) -> Result<OwnedFd, Error> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC).and_then(|queue| {
        if let Some(pipes) = pipes {
            add(&queue, pipes, NEW_PIPE_EVENT)?;
        }
        if let Some(messages) = crashes.and_then(CrashReporter::messages) {
            add(&queue, messages, CRASH_EVENT)?;
        }
        Ok(queue)
    });
    queue.map_err(cannot("wait for lines", next_move::of_call))
}

fn add(queue: &OwnedFd, source: impl AsFd, number: u64) -> Result<(), Errno> {
    epoll::add(queue, source, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
}

impl StderrLogger {
    /// Waits, and reads once from each pipe that has data, so that no connection holds up the
    /// others.
    fn turn(&mut self) {
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        // Interrupted: no event, and the loop waits again.
        let Ok((events, _)) = epoll::wait(&self.queue, &mut buffer, None) else { return };
        let numbers: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        for number in numbers {
            match number {
                NEW_PIPE_EVENT => self.receive_pipes(),
                CRASH_EVENT => self.on_crash_event(),
                number => self.read(number),
            }
        }
    }

    fn receive_pipes(&mut self) {
        while let Some(channel) = &self.channel {
            match channel.receive() {
                Ok(Some((pipe, StderrPipe { connection }))) => self.add(pipe, connection),
                Ok(None) => {
                    let _ = epoll::delete(&self.queue, channel);
                    self.channel = None;
                }
                Err(Errno::AGAIN) => return,
                // Out of descriptors: that pipe is closed, and its program gets SIGPIPE.
                Err(_) => {}
            }
        }
    }

    fn add(&mut self, pipe: OwnedFd, connection: u64) {
        self.last_number += 1;
        // If the pipe cannot be watched, it is closed, and its program gets SIGPIPE.
        if add(&self.queue, &pipe, self.last_number).is_ok() {
            let reader = PipeReader::new(pipe, connection, self.crashes.is_some());
            self.readers.insert(self.last_number, reader);
        }
    }

    fn read(&mut self, number: u64) {
        let Some(reader) = self.readers.get_mut(&number) else { return };
        if reader.read(&self.destination, &mut self.log) == PipeState::Ended {
            self.end(number);
        }
    }

    /// Handles the end of a pipe.
    fn end(&mut self, number: u64) {
        let Some(reader) = self.readers.get_mut(&number) else { return };
        reader.end(&self.destination, &mut self.log);
        // Closing the pipe removes it from the queue.
        if let Some((reader, crashes)) = self.readers.remove(&number).zip(self.crashes.as_mut()) {
            crashes.remember(reader.connection, reader.last_lines());
        }
    }

    fn on_crash_event(&mut self) {
        while let Some(message) = self.crashes.as_mut().and_then(|crashes| crashes.receive(&self.queue)) {
            match message {
                (socket, CrashMessage::Query) => {
                    if let Some(crashes) = &self.crashes {
                        crashes.answer(socket);
                    }
                }
                (facts, CrashMessage::Crash { connection, pid }) => {
                    let lines = self.lines_of(connection);
                    if let Some(crashes) = &mut self.crashes {
                        crashes.write(facts, connection, pid, lines, &mut self.log);
                    }
                }
            }
        }
    }

    /// The last lines of a connection whose process has ended: whatever it has written is in its
    /// pipe by now. `None` if that has ended, too, or there is none.
    fn lines_of(&mut self, connection: u64) -> Option<Vec<String>> {
        // It was passed before its process could end.
        self.receive_pipes();
        let (number, reader) = self.readers.iter_mut().find(|(_, reader)| reader.connection == connection)?;
        let (number, state) = (*number, reader.drain(&self.destination, &mut self.log));
        let lines = reader.last_lines();
        // A process that a program has left may have it open for long.
        if state == PipeState::Ended {
            self.end(number);
        }
        Some(lines)
    }
}
