//! Outcome of a connection: one table of exit codes, exit reports and the texts in the log.
//!
//! A connection process writes an exit report into stats for what its exit code cannot express. Any
//! connection process can write there, so a report that contradicts the exit code is ignored.

use std::fmt;
use std::io;

use tine_sys::process::How;

use crate::error::{HandlerError, chain};

/// Exit code of a process whose handler succeeded although the client never sent a byte. Logged as
/// 0.
pub(crate) const SILENT: i32 = 64;

/// Exit code of the supervisor of a service that has served all of its connections
/// (`Server::exit_after`): the master does not restart it.
pub(crate) const COMPLETED: i32 = 65;

/// The exit code of a process whose handler panicked, as that of every Rust program.
pub(crate) const PANICKED: i32 = 101;

/// A deadline that a handler has set for its connection: the cause of an [`io::Error`] of the kind
/// `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedDeadline {
    Idle,
    Lifetime,
}

impl PassedDeadline {
    /// The name in the log, as that of the timeout which the supervisor keeps.
    fn name(self) -> &'static str {
        match self {
            PassedDeadline::Idle => "idle",
            PassedDeadline::Lifetime => "lifetime",
        }
    }
}

impl fmt::Display for PassedDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PassedDeadline::Idle => "no byte was read or written for the idle timeout",
            PassedDeadline::Lifetime => "the connection has reached its maximum lifetime",
        })
    }
}

impl std::error::Error for PassedDeadline {}

/// How the handler or the start of the program ended, as the connection process reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExitReport {
    /// The handler returned.
    Done,
    /// The client reset the connection: no failure.
    Reset,
    /// The client stopped answering, or a deadline of the handler has passed.
    Timeout(String),
    /// The handler returned this error.
    Error(String),
    /// The handler panicked with this message.
    Panic(String),
}

impl ExitReport {
    /// The report of a handler that returned this error.
    pub(crate) fn from_error(error: &HandlerError) -> ExitReport {
        let error_of_io = error.downcast_ref::<io::Error>();
        let cause = error_of_io.and_then(io::Error::get_ref);
        if let Some(passed) = cause.and_then(|cause| cause.downcast_ref::<PassedDeadline>()) {
            return ExitReport::Timeout(passed.name().into());
        }
        match error_of_io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => ExitReport::Reset,
            Some(io::ErrorKind::TimedOut) => ExitReport::Timeout("keep-alive".into()),
            _ => ExitReport::Error(chain(&**error)),
        }
    }

    /// The report of a handler that panicked with this payload.
    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> ExitReport {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        ExitReport::Panic(text.unwrap_or_default())
    }

    /// The text of a panic with this payload.
    pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
        match ExitReport::from_panic(payload).to_parts().1 {
            "" => "panic".to_owned(),
            text => format!("panic: {text}"),
        }
    }

    /// The exit code of a process with this report.
    #[inline]
    pub(crate) fn exit_code(&self) -> i32 {
        // Two comparisons: a table of all kinds is a page of constants that each process touches.
        match self {
            ExitReport::Error(_) => 1,
            // The code of a panicking Rust program.
            ExitReport::Panic(_) => PANICKED,
            _ => 0,
        }
    }

    /// Number and text, for stats. 0 stands for no report.
    #[inline]
    pub(crate) fn to_parts(&self) -> (u8, &str) {
        match self {
            ExitReport::Done => (1, ""),
            ExitReport::Reset => (2, ""),
            ExitReport::Timeout(which) => (3, which),
            ExitReport::Error(text) => (4, text),
            ExitReport::Panic(text) => (5, text),
        }
    }

    /// The reverse of [`ExitReport::to_parts`].
    pub(crate) fn from_parts(number: u8, text: String) -> Option<ExitReport> {
        Some(match number {
            1 => ExitReport::Done,
            2 => ExitReport::Reset,
            3 => ExitReport::Timeout(text),
            4 => ExitReport::Error(text),
            5 => ExitReport::Panic(text),
            _ => return None,
        })
    }
}

/// How a connection ended, as logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process exited with this code.
    Exit(i32),
    /// This signal ended the process.
    Signal(i32),
    /// The supervisor ended the connection.
    Ended(EndReason),
    /// The process exited, and its report is more precise than its exit code.
    Reported(ExitReport),
    /// The process failed at a limit of its jail.
    Limit(ReachedLimit, How),
    /// An older generation of the server has said so.
    Told { text: String, is_failure: bool },
}

impl Outcome {
    /// Combines the exit status (from the kernel) and the exit report (from the process).
    pub(crate) fn new(how: How, report: Option<ExitReport>) -> Outcome {
        match (how, report) {
            (How::Signaled(signal), _) => Outcome::Signal(signal),
            (How::Exited(0), Some(ExitReport::Done)) => Outcome::Exit(0),
            (How::Exited(code), Some(report)) if report.exit_code() == code => Outcome::Reported(report),
            (How::Exited(SILENT), Some(report @ (ExitReport::Done | ExitReport::Reset))) => {
                Outcome::Reported(report)
            }
            (How::Exited(code), _) => Outcome::Exit(code),
        }
    }

    /// Whether the connection has failed. A client that resets it or disconnects is no failure.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Outcome::Exit(code) => *code != 0,
            Outcome::Ended(reason) => *reason != EndReason::ClientGone,
            Outcome::Reported(report) => !matches!(report, ExitReport::Done | ExitReport::Reset),
            Outcome::Signal(_) | Outcome::Limit(..) => true,
            Outcome::Told { is_failure, .. } => *is_failure,
        }
    }

    /// The status as wait(2) encodes it.
    pub(crate) fn wait_status(&self) -> i32 {
        match self {
            Outcome::Exit(code) | Outcome::Limit(_, How::Exited(code)) => code << 8,
            Outcome::Signal(number) | Outcome::Limit(_, How::Signaled(number)) => *number,
            Outcome::Ended(_) => rustix::process::Signal::TERM.as_raw(),
            Outcome::Reported(report) => report.exit_code() << 8,
            // It is asked for at the end of a process of this generation only.
            Outcome::Told { is_failure, .. } => i32::from(*is_failure) << 8,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exit(code) => write!(f, "exit {code}"),
            Outcome::Signal(number) => write!(f, "signal {}", signal_name(*number)),
            Outcome::Ended(reason) => reason.fmt(f),
            Outcome::Told { text, .. } => f.write_str(text),
            Outcome::Limit(limit, _) => limit.fmt(f),
            Outcome::Reported(ExitReport::Done) => f.write_str("exit 0"),
            Outcome::Reported(ExitReport::Reset) => f.write_str("reset"),
            Outcome::Reported(ExitReport::Timeout(which)) => write!(f, "timeout {which}"),
            Outcome::Reported(ExitReport::Error(text)) => write!(f, "error {text}"),
            Outcome::Reported(ExitReport::Panic(text)) if text.is_empty() => f.write_str("panic"),
            Outcome::Reported(ExitReport::Panic(text)) => write!(f, "panic {text}"),
        }
    }
}

/// A limit of a jail at which a process has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReachedLimit {
    /// There was no memory left for its cgroup, and the kernel ended a process of it.
    Memory,
    /// A process could not be made.
    Tasks,
    /// The filter ended it at this system call.
    SystemCall(String),
}

impl fmt::Display for ReachedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReachedLimit::Memory => f.write_str("memory limit"),
            ReachedLimit::Tasks => f.write_str("process limit"),
            ReachedLimit::SystemCall(name) => write!(f, "seccomp: {name}"),
        }
    }
}

/// Why the supervisor ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The client had disconnected, and the program did not exit within the grace period.
    ClientGone,
    /// No byte in either direction for the idle timeout.
    Idle,
    /// The connection reached its maximum lifetime.
    Lifetime,
    /// The client sent nothing within the first-byte timeout.
    FirstByte,
    /// The client did not answer data or probes.
    KeepAlive,
    /// The client received more than it may.
    Output,
    /// An operator ended it.
    Killed,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndReason::ClientGone => "client gone",
            EndReason::Idle => "timeout idle",
            EndReason::Lifetime => "timeout lifetime",
            EndReason::FirstByte => "timeout first-byte",
            EndReason::KeepAlive => "timeout keep-alive",
            EndReason::Output => "output limit",
            EndReason::Killed => "killed",
        })
    }
}

/// The name of a signal without `SIG`, as in signal(7); the number of a real-time signal.
pub(crate) fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_contradicts_the_exit_status_is_ignored() {
        let error = |text: &str| Some(ExitReport::Error(text.into()));
        for (how, report, text) in [
            (How::Exited(0), Some(ExitReport::Done), "exit 0"),
            (How::Exited(0), None, "exit 0"),
            (How::Exited(0), Some(ExitReport::Reset), "reset"),
            (How::Exited(0), Some(ExitReport::Timeout("keep-alive".into())), "timeout keep-alive"),
            (How::Exited(1), error("no such page"), "error no such page"),
            (How::Exited(7), error("no such page"), "exit 7"),
            (How::Exited(101), Some(ExitReport::Panic("at 3".into())), "panic at 3"),
            (How::Exited(101), Some(ExitReport::Panic(String::new())), "panic"),
            (How::Exited(1), Some(ExitReport::Done), "exit 1"),
            (How::Exited(SILENT), Some(ExitReport::Done), "exit 0"),
            (How::Exited(SILENT), Some(ExitReport::Reset), "reset"),
            (How::Exited(SILENT), None, "exit 64"),
            (How::Signaled(11), Some(ExitReport::Done), "signal SEGV"),
            (How::Signaled(9), None, "signal KILL"),
            (How::Signaled(40), None, "signal 40"),
        ] {
            assert_eq!(Outcome::new(how, report).to_string(), text);
        }
    }

    #[test]
    fn a_client_that_disconnects_is_no_failure() {
        for (outcome, is_failure) in [
            (Outcome::Exit(0), false),
            (Outcome::Exit(1), true),
            (Outcome::Signal(13), true),
            (Outcome::Reported(ExitReport::Done), false),
            (Outcome::Reported(ExitReport::Reset), false),
            (Outcome::Reported(ExitReport::Timeout("keep-alive".into())), true),
            (Outcome::Reported(ExitReport::Error(String::new())), true),
            (Outcome::Reported(ExitReport::Panic(String::new())), true),
            (Outcome::Ended(EndReason::ClientGone), false),
            (Outcome::Ended(EndReason::Idle), true),
            (Outcome::Ended(EndReason::KeepAlive), true),
            (Outcome::Limit(ReachedLimit::Memory, How::Signaled(9)), true),
        ] {
            assert_eq!(outcome.is_failure(), is_failure, "{outcome}");
        }
    }

    #[test]
    fn network_errors_differ_from_the_errors_of_the_handler() {
        for (kind, report) in [
            (io::ErrorKind::ConnectionReset, ExitReport::Reset),
            (io::ErrorKind::BrokenPipe, ExitReport::Reset),
            (io::ErrorKind::TimedOut, ExitReport::Timeout("keep-alive".into())),
        ] {
            assert_eq!(ExitReport::from_error(&io::Error::from(kind).into()), report);
        }
        for (passed, name) in [(PassedDeadline::Idle, "idle"), (PassedDeadline::Lifetime, "lifetime")] {
            let error = io::Error::new(io::ErrorKind::TimedOut, passed);
            assert_eq!(ExitReport::from_error(&error.into()), ExitReport::Timeout(name.into()));
        }
        assert_eq!(ExitReport::from_error(&"mine".into()), ExitReport::Error("mine".into()));
    }

    #[test]
    fn reports_survive_shared_memory() {
        for report in [
            ExitReport::Done,
            ExitReport::Reset,
            ExitReport::Error("e".into()),
            ExitReport::Panic("p".into()),
        ] {
            let (number, text) = report.to_parts();
            assert_eq!(ExitReport::from_parts(number, text.to_owned()), Some(report.clone()));
        }
        assert_eq!(ExitReport::from_parts(0, String::new()), None);
    }
}
