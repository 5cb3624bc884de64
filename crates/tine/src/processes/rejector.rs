//! The rejector: sends rejected clients their text and a proper end of the stream.
//!
//! A client may have sent data that no process will read. Closing its socket at once would send a
//! reset, which can destroy the text on its way (RFC 1122, 4.2.2.13). So each socket is kept for a
//! while and its input discarded in the kernel. Forkers pass the sockets to this process, so that
//! rejected clients hold up no other. It also logs the clients that are only reported.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;
use rustix::process::Pid;
use tine_sys::process::{Alone, exit_now};

use crate::admission::limits::Limits;
use crate::admission::reason::Reason;
use crate::connection::{Discarded, discard_now};
use crate::ipc::messages::{Receiver, Rejection, Treatment};
use crate::lifecycle::timing::REJECT_LINGER;
use crate::log::Log;
use crate::log::limit::{Emit, LineLimit};
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{StartReport, start_helper};
use crate::system::users::Identity;

/// Sockets that are kept at a time; beyond that, the oldest is closed.
const MAX_KEPT: usize = 500;

/// Lines of the log for rejections a second, for each reason; the rest is counted.
const LINES_PER_SECOND: u64 = 10;

/// What the supervisor hands to the rejector: everything that it keeps.
pub(crate) struct RejectorStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    pub(crate) limits: Limits,
    pub(crate) rejections: Receiver<Rejection>,
    pub(crate) log: Log,
    pub(crate) report: StartReport,
}

/// A rejected client, until it has closed or its time is over.
struct RejectedClient {
    socket: OwnedFd,
    until: Instant,
}

struct Rejector {
    limits: Limits,
    rejections: Receiver<Rejection>,
    log: Log,
    line_limits: [LineLimit; Reason::ALL.len()],
    /// The same for reports.
    report_limits: [LineLimit; Reason::ALL.len()],
    kept: VecDeque<RejectedClient>,
    /// A process exists that can send rejections.
    open: bool,
}

/// Runs as the rejector until no process is left that could send it clients.
pub(crate) fn run(start: RejectorStart) -> ! {
    let role = ConfinedRole::Rejector;
    let entered = start_helper(start.alone, start.identity.as_ref(), start.supervisor, c"tine: rejector");
    start.report.finish(entered, &role);
    let mut rejector = Rejector {
        limits: start.limits,
        rejections: start.rejections,
        log: start.log,
        line_limits: Reason::ALL.map(|_| LineLimit::of(LINES_PER_SECOND)),
        report_limits: Reason::ALL.map(|_| LineLimit::of(LINES_PER_SECOND)),
        kept: VecDeque::new(),
        open: true,
    };
    while rejector.open || !rejector.kept.is_empty() {
        let (has_rejection, has_input) = rejector.wait();
        if has_rejection {
            rejector.receive();
        }
        rejector.close_finished(&has_input);
        rejector.log_suppressed();
    }
    exit_now(0)
}

impl Rejector {
    /// Waits for a rejection, input from a kept client, or the next deadline. Returns whether there
    /// is a rejection, and which kept clients have input.
    fn wait(&self) -> (bool, Vec<bool>) {
        let limits = self.line_limits.iter().chain(&self.report_limits);
        let summary = limits.filter_map(LineLimit::deadline).min();
        let oldest = self.kept.front().map(|client| client.until);
        let deadline = oldest.into_iter().chain(summary).min();
        let mut poll: Vec<PollFd> =
            self.kept.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)).collect();
        if self.open {
            poll.push(PollFd::new(&self.rejections, PollFlags::IN));
        }
        if tine_sys::wait::until(&mut poll, deadline).is_err() {
            return (false, Vec::new());
        }
        let ready: Vec<bool> = poll.iter().map(|entry| !entry.revents().is_empty()).collect();
        (self.open && ready.last() == Some(&true), ready[..self.kept.len()].to_vec())
    }

    /// Receives all rejections that are there.
    fn receive(&mut self) {
        loop {
            match self.rejections.receive() {
                Ok(Some((socket, rejection))) => match rejection.treatment {
                    Treatment::Reject => self.reject(socket, rejection),
                    Treatment::ReportReject => self.report(rejection, "reject"),
                    Treatment::ReportDelay => self.report(rejection, "delay"),
                },
                Ok(None) => {
                    self.open = false;
                    return;
                }
                Err(rustix::io::Errno::AGAIN) => return,
                // Out of descriptors: the message is lost, and its client closed.
                Err(_) => {}
            }
        }
    }

    /// Logs a client that is served. `would`: what would be done with it.
    fn report(&mut self, Rejection { peer, reason, proxied, .. }: Rejection, would: &str) {
        if let Emit::Line = self.report_limits[reason.index()].event(Instant::now()) {
            self.log.report(&peer, proxied.as_ref(), reason.name(), would, None);
        }
    }

    fn reject(&mut self, socket: OwnedFd, Rejection { peer, reason, proxied, .. }: Rejection) {
        let now = Instant::now();
        if let Emit::Line = self.line_limits[reason.index()].event(now) {
            self.log.reject(&peer, proxied.as_ref(), reason.name());
        }
        send_text(&socket, self.limits.rejection_text(reason));
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(RejectedClient { socket, until: now + REJECT_LINGER });
    }

    /// Closes the clients that have closed, and those whose time is over.
    fn close_finished(&mut self, has_input: &[bool]) {
        let now = Instant::now();
        let mut has_input = has_input.iter();
        self.kept.retain(|client| {
            let input = has_input.next() == Some(&true);
            let ended = input && discard_now(&client.socket) == Discarded::Ended;
            !ended && client.until > now
        });
    }

    /// Logs the numbers of rejections and reports that had no line of their own.
    fn log_suppressed(&mut self) {
        for reason in Reason::ALL {
            if let Some(count) = self.line_limits[reason.index()].due(Instant::now()) {
                self.log.rejects_suppressed(count, reason.name());
            }
            if let Some(count) = self.report_limits[reason.index()].due(Instant::now()) {
                self.log.reports_suppressed(count, reason.name());
            }
        }
    }
}

/// Sends the text and the end of the stream. A new socket has room for the text; if it has not, or
/// if the client has disconnected, nothing can be done.
fn send_text(socket: &OwnedFd, text: &[u8]) {
    let _ = rustix::net::send(socket, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}
