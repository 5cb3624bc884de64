//! Signals to processes and process groups.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Signals a child that has not been reaped, so that its number cannot be another process's.
pub(crate) fn signal_one(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have exited; then it is reaped soon.
        let _ = kill_process(pid, signal);
    }
}

/// Signals the process group of a connection, or its process alone while that has not made the
/// group yet.
pub(crate) fn signal_group(pid: i32, signal: Signal) {
    let Some(id) = Pid::from_raw(pid) else { return };
    if kill_process_group(id, signal).is_err() {
        signal_one(pid, signal);
    }
}
