//! Writes the report of a crash, and passes all reports to those who ask.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::reports::{MAX_REPORT, ReportDirectory};
use crate::error::{Error, next_move, reason};
use crate::ipc::messages::{CrashMessage, Receiver, ReportsFile, Sender};
use crate::log::Log;
use crate::processes::start::cannot;
use crate::system::kernel_log::{KernelLog, fault_in};
use crate::watch::crash::cause;

/// Connections whose pipes have ended of which the last lines are remembered: the message of a
/// crash comes a moment later.
const REMEMBERED: usize = 256;

/// What writes crash reports.
pub(super) struct CrashReporter {
    directory: ReportDirectory,
    /// `None` once no process is left that can send.
    messages: Option<Receiver<CrashMessage>>,
    kernel_log: Option<KernelLog>,
    ended: VecDeque<(u64, Vec<String>)>,
}

impl CrashReporter {
    pub(super) fn new(
        directory: ReportDirectory,
        messages: Receiver<CrashMessage>,
        kernel_log: Option<KernelLog>,
    ) -> CrashReporter {
        CrashReporter { directory, messages: Some(messages), kernel_log, ended: VecDeque::new() }
    }

    /// Checks that reports can be written.
    pub(super) fn check(&self) -> Result<(), Error> {
        let path = self.directory.path().display();
        self.directory
            .check()
            .map_err(cannot(format_args!("write crash reports in {path}"), next_move::of_file))
    }

    /// Whether a process is left that can send.
    pub(super) fn is_open(&self) -> bool {
        self.messages.is_some()
    }

    pub(super) fn messages(&self) -> Option<BorrowedFd<'_>> {
        self.messages.as_ref().map(AsFd::as_fd)
    }

    /// The next message with its descriptor; `None` if there is none now.
    pub(super) fn receive(&mut self, queue: &OwnedFd) -> Option<(OwnedFd, CrashMessage)> {
        loop {
            match self.messages.as_ref()?.receive() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {
                    self.messages.iter().for_each(|messages| _ = epoll::delete(queue, messages));
                    self.messages = None;
                }
                Err(Errno::AGAIN) => return None,
                // Out of descriptors: that message is lost.
                Err(_) => {}
            }
        }
    }

    /// Remembers the last lines of a connection whose pipe has ended.
    pub(super) fn remember(&mut self, connection: u64, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((connection, lines));
    }

    /// Writes the report of a crash.
    pub(super) fn write(
        &mut self,
        facts: OwnedFd,
        connection: u64,
        pid: i32,
        lines: Option<Vec<String>>,
        log: &mut Log,
    ) {
        let Some(mut report) = read_facts(facts) else { return };
        let found = self.ended.iter().rev().find(|(id, _)| *id == connection);
        let lines = lines.or_else(|| found.map(|(_, lines)| lines.clone())).unwrap_or_default();
        if let Some(line) = self.kernel_log.as_mut().and_then(|kernel_log| kernel_log.about(pid)) {
            add_kernel_line(&mut report, line);
        }
        report.insert("stderr".to_owned(), json!(lines));
        let cause = cause(&report);
        match self.directory.write(&report, &cause) {
            Ok(name) => log.crash(connection, &cause, &name),
            Err(why) => {
                let path = self.directory.path().display();
                let what = format!("cannot write a crash report in {path}");
                log.error(&what, &reason(&why), next_move::of_file(&why));
            }
        }
    }

    /// Sends all reports to a control process, as a file in memory, so that one that does not read
    /// holds up nothing.
    pub(super) fn answer(&self, socket: OwnedFd) {
        let Ok(reports) = self.directory.read_all() else { return };
        // It has gone, if it does not take them.
        Sender::of(socket).send(reports.as_fd(), &ReportsFile);
    }
}

/// The facts of a crash, from a file in memory.
fn read_facts(facts: OwnedFd) -> Option<Map<String, Value>> {
    let mut file = File::from(facts);
    file.rewind().ok()?;
    let mut text = Vec::new();
    file.take(MAX_REPORT as u64).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Adds what the kernel says, which is all that is known about a program, and more than a process
/// can note itself.
fn add_kernel_line(report: &mut Map<String, Value>, line: String) {
    let (address, place) = fault_in(&line);
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|_| report.get(key).is_none_or(Value::is_null)) {
            report.insert(key.to_owned(), value.into());
        }
    };
    set("address", address);
    set("place", place);
    set("kernel", Some(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_adds_what_is_not_known() {
        let line = "x[7]: segfault at 10 ip 1 sp 2 error 4 in x[c,0+1]";
        for (facts, address, cause_text) in [
            (json!({ "signal": "SEGV" }), "0x10", "signal SEGV at x+0xc"),
            (json!({ "signal": "SEGV", "address": null }), "0x10", "signal SEGV at x+0xc"),
            (json!({ "signal": "SEGV", "address": "0x1", "place": "y" }), "0x1", "signal SEGV at y"),
        ] {
            let Value::Object(mut report) = facts else { unreachable!("an object") };
            add_kernel_line(&mut report, line.to_owned());
            assert_eq!((&report["address"], &report["kernel"]), (&json!(address), &json!(line)));
            assert_eq!(cause(&report), cause_text);
        }
    }
}
