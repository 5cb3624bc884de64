//! From the fork to the handler to the exit: what the process of a connection does, step by step.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, Signal};
use tine_sys::cmdline::Title;
use tine_sys::process::{Fresh, exit_now};

use crate::admission::Admission;
use crate::connection::{self, Connection};
use crate::error::HandlerError;
use crate::lifecycle::outcome::{Report, SILENT};
use crate::processes::forker::Forker;
use crate::program::launch::{Client, LaunchContext};
use crate::shared::board::{Board, Entry};

/// The first steps of every process that a forker makes, before it has anything of a client: it dies
/// with the supervisor, and a terminal's Ctrl-C or a signal to a group reaches it alone. Signals have
/// their default actions and none is blocked: the forker has it so.
#[inline]
pub(crate) fn init_child(supervisor: Option<Pid>) {
    supervisor.into_iter().for_each(kill_on_exit_of);
    // Fails only for a session leader, which a process this young is not.
    let _ = rustix::process::setpgid(None, None);
}

/// Asks the kernel to kill this process when its parent, the supervisor, dies.
#[inline]
pub(crate) fn kill_on_exit_of(supervisor: Pid) {
    signal_on_exit_of(supervisor, Signal::KILL);
}

/// Asks the kernel for a signal when this process's parent dies.
#[inline]
pub(crate) fn signal_on_exit_of(parent: Pid, signal: Signal) {
    let asked = rustix::process::set_parent_process_death_signal(Some(signal));
    // It may have died before the kernel was asked.
    if asked.is_err() || rustix::process::getppid() != Some(parent) {
        exit_now(111);
    }
}

/// Serves one connection and ends the process. What is known of its surroundings comes along: the tables
/// in which that stands need not be here.
pub(crate) fn serve<H>(
    forker: &mut Forker<'_, H>,
    fresh: &Fresh,
    socket: OwnedFd,
    slot: usize,
    entry: Entry,
    launch_context: &LaunchContext,
) -> !
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    if forker.board_is_inherited() {
        give_up_tables(&forker.board, forker.door);
    }
    if let Some(launcher) = &mut forker.launcher {
        let mut client = Client { socket: &socket, entry, launch_context };
        let prepared;
        if launcher.prepares() {
            show_name(entry, forker.title.as_mut());
            let variables =
                launcher.prepare(fresh, &client, forker.first_server_fd).unwrap_or_else(|report| {
                    forker.board.display().report(slot, &report);
                    exit_now(report.exit_code())
                });
            prepared =
                LaunchContext { cgroup: launch_context.cgroup.clone(), variables, pending_name_rules: None };
            client.launch_context = &prepared;
        }
        let report = match launcher.relays() {
            true => {
                show_name(entry, forker.title.as_mut());
                launcher.relay(fresh, &client, forker.first_server_fd)
            }
            false => launcher.execute(&client),
        };
        forker.board.display().report(slot, &report);
        exit_now(report.exit_code());
    }
    // The listener, the other descriptors of the server, a socket that another forker may have left.
    tine_sys::fd::close_from(fresh, forker.first_server_fd);
    show_name(entry, forker.title.as_mut());
    let report = handle(forker, socket, slot, entry);
    exit_now(exit_code(&report, forker.door))
}

/// Takes what decides about other connections away from this process.
fn give_up_tables(board: &Board, door: &Admission) {
    if board.unmap().and_then(|()| door.unmap()).is_err() {
        exit_now(111);
    }
}

/// The code that says how it went, in a way that no other process can.
pub(crate) fn exit_code(report: &Report, door: &Admission) -> i32 {
    match report.exit_code() {
        0 if door.charges() && !connection::take_received_any() => SILENT,
        code => code,
    }
}

/// Runs the handler on a connection and says how it went. The process may go on afterwards.
pub(crate) fn handle<H>(forker: &mut Forker<'_, H>, socket: OwnedFd, slot: usize, entry: Entry) -> Report
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let display = forker.board.display();
    let trace = forker.log.logs_bytes().then(|| Box::new(forker.log.for_connection()));
    let who = (entry.id, entry.peer);
    let connection = Connection::new(socket, who, slot, display, forker.board.drain_flag(), trace);
    let handler = &mut *forker.handler;
    let report = match catch_unwind(AssertUnwindSafe(|| handler(connection))) {
        // What became of the client's side counts, also where the handler took no notice.
        Ok(Ok(())) if display.was_reset(slot) => Report::Reset,
        Ok(Ok(())) => Report::Done,
        Ok(Err(error)) => Report::from_error(&error),
        Err(thrown) => Report::from_panic(&*thrown),
    };
    if forker.settings.handler_prints {
        // What it printed without a newline is still in the buffer, and `_exit` would lose it.
        let _ = std::io::Write::flush(&mut std::io::stdout());
    }
    display.report(slot, &report);
    report
}

fn show_name(entry: Entry, title: Option<&mut Title>) {
    let mut buffer = [0; 16];
    let _ = rustix::thread::set_name(short_name(entry.id, &mut buffer));
    if let Some(title) = title {
        title.set(&format!("tine: conn {} {}", entry.id, entry.peer));
    }
}

/// `tine: conn 4711`, in the 15 characters that the kernel keeps; shorter before a long number.
/// Without the formatting machinery: each page of code that a fresh process touches costs a fault.
#[inline]
fn short_name(id: u64, buffer: &mut [u8; 16]) -> &std::ffi::CStr {
    *buffer = match id {
        0..=9999 => *b"tine: conn \0\0\0\0\0",
        10_000..=9_999_999 => *b"tine: c \0\0\0\0\0\0\0\0",
        _ => *b"tine: \0\0\0\0\0\0\0\0\0\0",
    };
    let first = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
    let room = 15 - first;
    let digits = (1 + id.checked_ilog10().unwrap_or(0) as usize).min(room);
    let mut left = id;
    for at in (first..first + digits).rev() {
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    std::ffi::CStr::from_bytes_until_nul(buffer).unwrap_or(c"tine: conn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        for (id, name) in [
            (1, c"tine: conn 1"),
            (4711, c"tine: conn 4711"),
            (47110, c"tine: c 47110"),
            (1_234_567, c"tine: c 1234567"),
            (123_456_789, c"tine: 123456789"),
            (9_123_456_789, c"tine: 123456789"),
        ] {
            assert_eq!(short_name(id, &mut [0; 16]), name);
        }
    }
}
