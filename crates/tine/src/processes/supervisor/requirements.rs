//! What a server requires of the system, checked before its first fork: system calls that old
//! kernels lack and that the filters of containers and sandboxes deny, `/proc`, and device files.
//!
//! What is missing ends the start, or the server does less without it and a line in the log says
//! what. Calls that have a full replacement are not checked here: pidfd_open(2) and
//! pidfd_send_signal(2) in `system/descendants.rs`, `pidfds.rs` and `program/relay.rs`,
//! close_range(2) in `tine_sys::fd`, sock_diag(7) in `watch/watcher.rs`.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tine_sys::available;
use tine_sys::process::Alone;
use tine_sys::socket_filter::hold_to_port;

use crate::error::{Error, next_move, reason};
use crate::log::Log;
use crate::net::listener::Listener;
use crate::processes::own_confinement::warn_of_refused_layers;
use crate::processes::start::cannot;
use crate::program::relay;
use crate::program::{KillMode, Program, Terminal};
use crate::settings::Settings;
use crate::system::orphans::become_subreaper;
use crate::system::procfs;

/// What a server requires, or does less without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requirement {
    Accept,
    Siblings,
    ParentDeathSignal,
    NullDevice,
    PseudoTerminal,
    ProcFs,
    Subreaper,
    Titles,
    SealedMemory,
    QuickClose,
}

/// What a server is to do, as far as requirements depend on it.
#[derive(Clone, Copy, Debug, Default)]
struct Purpose {
    /// A program serves the connections.
    has_program: bool,
    /// Descendants of a program are to be ended with it (`--kill-mode`).
    ends_descendants: bool,
    /// The descendants of each connection are in a cgroup.
    has_cgroups: bool,
}

/// The next move for an error.
type NextMove = fn(&io::Error) -> &'static str;

/// What follows where a requirement is not met.
#[derive(Clone, Copy, Debug)]
enum Consequence {
    /// The server does not start. What fails, and the next move for each cause.
    Refused(&'static str, NextMove),
    /// The server starts. What is missing, and what it does less.
    Less(&'static str, &'static str),
    /// Nothing that concerns this server.
    None,
}

use Consequence::{Less, Refused};

impl Requirement {
    /// What follows for a server without it.
    fn consequence(self, purpose: Purpose) -> Consequence {
        match self {
            Requirement::Accept => Refused("clients cannot be accepted (accept4)", next_move::of_call),
            Requirement::Siblings => {
                Refused("processes cannot create siblings (clone, CLONE_PARENT)", next_move::of_call)
            }
            Requirement::ParentDeathSignal => Refused(
                "processes cannot be made to end with the server (prctl, PR_SET_PDEATHSIG)",
                next_move::of_call,
            ),
            Requirement::NullDevice => Refused("/dev/null cannot be opened", next_move::of_null_device),
            Requirement::PseudoTerminal => {
                Refused("no pseudoterminal can be opened for the program", next_move::of_terminal)
            }
            Requirement::ProcFs if purpose.ends_descendants || purpose.has_cgroups => Refused(
                "/proc cannot be used to find the descendants of programs",
                |_| "mount it for this pid namespace, or use no cgroups and the kill mode `process`",
            ),
            Requirement::ProcFs => Less(
                "/proc cannot be used",
                "processes that a connection starts in another process group or leaves behind are not found, and outlive it",
            ),
            Requirement::Subreaper if purpose.has_cgroups => Consequence::None,
            Requirement::Subreaper if purpose.ends_descendants => Refused(
                "the descendants of programs cannot be adopted (prctl, PR_SET_CHILD_SUBREAPER)",
                |_| "permit the system call (seccomp), or use cgroups or the kill mode `process`",
            ),
            Requirement::Subreaper => Less(
                "orphans cannot be adopted (prctl, PR_SET_CHILD_SUBREAPER)",
                "processes that a connection leaves behind are not found once their parent has exited, and outlive the server",
            ),
            Requirement::Titles => Less(
                "titles cannot be set (prctl, PR_SET_MM_MAP)",
                "`ps` shows the command line of the server",
            ),
            // Executing a program removes the memory in question.
            Requirement::SealedMemory if purpose.has_program => Consequence::None,
            Requirement::SealedMemory => Less(
                "memory cannot be sealed (memfd_create)",
                "a connection process that an attacker controls could stop the server from accepting",
            ),
            Requirement::QuickClose => Less(
                "descriptors cannot be listed or closed together (/proc, close_range)",
                "each connection starts milliseconds later where the limit on open files is high",
            ),
        }
    }
}

/// Checks the requirements of this server. Titles that cannot be set are switched off. `weakness`
/// is why its memory is not sealed, if so.
///
/// # Errors
/// The server cannot serve on this system as its settings say.
pub(super) fn check(
    settings: &mut Settings,
    alone: &Alone,
    weakness: Option<&io::Error>,
    log: &mut Log,
) -> Result<(), Error> {
    let program = settings.program.as_ref();
    let purpose = Purpose {
        has_program: program.is_some(),
        ends_descendants: program.is_some_and(|program| program.kill_mode != KillMode::Process),
        has_cgroups: settings.has_cgroups(),
    };
    let missing = missing(settings, alone, weakness);
    for (requirement, why) in &missing {
        if let Refused(what, next) = requirement.consequence(purpose) {
            return Err(Error::system(format_args!("cannot start the server: {what}"), why, next(why)));
        }
    }
    for (requirement, why) in &missing {
        settings.titles &= *requirement != Requirement::Titles;
        if let Less(what, less) = requirement.consequence(purpose) {
            log.warning(&format!("{what}: {}: {less}", reason(why)));
        }
    }
    // A master has done so.
    if settings.master.is_none() {
        warn_of_refused_layers(log);
    }
    Ok(())
}

/// The requirements that are not met, and why.
fn missing(
    settings: &Settings,
    alone: &Alone,
    weakness: Option<&io::Error>,
) -> Vec<(Requirement, io::Error)> {
    let procfs = procfs::unavailable();
    let copy =
        |why: &io::Error| why.raw_os_error().map_or_else(|| why.kind().into(), io::Error::from_raw_os_error);
    let checks = [
        (Requirement::Accept, available::accept()),
        (Requirement::Siblings, available::siblings(alone)),
        (Requirement::ParentDeathSignal, available::parent_death_signal()),
        (Requirement::NullDevice, open_null()),
        (Requirement::PseudoTerminal, settings.program.as_ref().map_or(Ok(()), open_terminal)),
        (Requirement::ProcFs, procfs.map_or(Ok(()), |why| Err(explain(why)))),
        (Requirement::Subreaper, become_subreaper().map_err(io::Error::from)),
        (Requirement::Titles, if settings.titles { tine_sys::cmdline::check() } else { Ok(()) }),
        (Requirement::SealedMemory, weakness.map_or(Ok(()), |why| Err(copy(why)))),
        (Requirement::QuickClose, if procfs.is_some() { available::close_range() } else { Ok(()) }),
    ];
    checks.into_iter().filter_map(|(requirement, check)| Some((requirement, check.err()?))).collect()
}

fn open_null() -> io::Result<()> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(())
}

fn open_terminal(program: &Program) -> io::Result<()> {
    match program.terminal {
        Terminal::None => Ok(()),
        kind => relay::open(kind, program.terminal_size).map(drop),
    }
}

/// The reason in words where the error number has others.
fn explain(why: Errno) -> io::Error {
    match why {
        Errno::XDEV => io::Error::other("it is that of another pid namespace"),
        why => why.into(),
    }
}

/// Holds what the listeners accept to their ports, if the jail wants it: here are the privileges
/// that it takes.
pub(super) fn hold_clients(settings: &Settings, listeners: &[Listener]) -> Result<(), Error> {
    // The kernel can have a transparent listener accept what other ports are sent.
    let held = listeners.iter().filter(|listener| !listener.is_transparent());
    let is_wanted = settings.jail_plan.holds_clients;
    let mut held = held.filter(|_| is_wanted).map(AsFd::as_fd);
    held.try_for_each(hold_to_port).map_err(cannot("hold the sockets of clients", next_move::of_call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_cannot_do_without_ends_its_start() {
        use Requirement::{
            Accept, NullDevice, ParentDeathSignal, ProcFs, PseudoTerminal, QuickClose, SealedMemory,
            Siblings, Subreaper, Titles,
        };

        let handler = Purpose::default();
        let program = Purpose { has_program: true, ..handler };
        let ending = Purpose { ends_descendants: true, ..program };
        let cgroups = Purpose { has_cgroups: true, ..ending };
        for (requirement, expected) in [
            (Accept, "RRRR"),
            (Siblings, "RRRR"),
            (ParentDeathSignal, "RRRR"),
            (NullDevice, "RRRR"),
            (PseudoTerminal, "RRRR"),
            (ProcFs, "LLRR"),
            (Subreaper, "LLR "),
            (Titles, "LLLL"),
            (SealedMemory, "L   "),
            (QuickClose, "LLLL"),
        ] {
            let letters =
                [handler, program, ending, cgroups].map(|purpose| match requirement.consequence(purpose) {
                    Refused(..) => 'R',
                    Less(..) => 'L',
                    Consequence::None => ' ',
                });
            assert_eq!(letters.iter().collect::<String>(), expected, "{requirement:?}");
        }
    }

    #[test]
    fn proc_of_another_namespace_is_explained() {
        assert_eq!(reason(&explain(Errno::XDEV)), "it is that of another pid namespace");
        assert_eq!(reason(&explain(Errno::NOENT)), "no such file or directory");
    }
}
