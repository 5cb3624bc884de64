//! Waiting for an event, and the descriptors that only the supervisor has.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tine_sys::signal::{Set, first_real_time};

use super::pidfds::PidFds;
use crate::lifecycle::signals;
use crate::lifecycle::stop_handle::{ArmedHandles, StopHandle};

/// The signals of a supervisor, and descriptors that are readable when they are pending.
pub(super) struct SupervisorFds {
    pub(super) commands: Set,
    /// The signal that children of this process send when they exit.
    pub(super) exits: Set,
    pub(super) exit_signal: i32,
    stop_handles: ArmedHandles,
    /// The signal mask of the program before it became a supervisor.
    original_mask: Set,
    command_fd: OwnedFd,
    exit_fd: OwnedFd,
    /// The exits of processes that execute a program.
    pub(super) pidfds: PidFds,
}

impl SupervisorFds {
    /// Blocks the signals that are waited for; `place` moves descriptors to where the server's are.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(super) fn new(
        place: &impl Fn(OwnedFd) -> std::io::Result<OwnedFd>,
        stop_handles: Vec<StopHandle>,
    ) -> std::io::Result<SupervisorFds> {
        let exit_signal = first_real_time();
        let (commands, exits) = (Set::of(&signals::numbers()), Set::of(&[exit_signal]));
        let original_mask = take_signals(&commands, &exits, exit_signal)?;
        Ok(SupervisorFds {
            command_fd: place(commands.descriptor()?)?,
            exit_fd: place(exits.descriptor()?)?,
            pidfds: PidFds::new(place(PidFds::queue()?)?),
            commands,
            exits,
            exit_signal,
            stop_handles: ArmedHandles::arm(stop_handles)?,
            original_mask,
        })
    }

    /// Waits for a signal, an exit, or another of these descriptors; at most until the deadline.
    /// With `only_first`, of all only the first of `others` wakes: exits and commands can wait.
    pub(super) fn wait<'a>(
        &'a self,
        others: [PollFd<'a>; 4],
        links: Vec<PollFd<'a>>,
        only_first: bool,
        deadline: Option<Instant>,
    ) {
        let [first, second, third, fourth] = others;
        let own = [
            first,
            PollFd::new(&self.command_fd, PollFlags::IN),
            PollFd::new(&self.exit_fd, PollFlags::IN),
            PollFd::new(self.pidfds.descriptor(), PollFlags::IN),
            second,
            third,
            fourth,
        ];
        // Interrupted: everything is checked in any case.
        let _ = match (only_first, links.is_empty()) {
            (true, _) => tine_sys::wait::until(&mut own.clone()[..1], deadline),
            (false, true) => tine_sys::wait::until(&mut own.clone(), deadline),
            (false, false) => {
                let mut all: Vec<PollFd> = own.into_iter().chain(links).collect();
                tine_sys::wait::until(&mut all, deadline)
            }
        };
    }

    /// Gives the program that has called the server its signal mask back. A child may have been
    /// reaped before the signal of its exit was taken: it would end the program, and is taken
    /// first.
    pub(super) fn restore_mask(&self) {
        while self.exits.take().is_some() {}
        self.stop_handles.disarm();
        signals::restore_mask(&self.original_mask);
    }

    /// Readable while a signal is pending.
    pub(super) fn command_descriptor(&self) -> &OwnedFd {
        &self.command_fd
    }

    /// Waits until a child exits, for a few milliseconds at most: the caller checks its children in
    /// any case.
    pub(super) fn wait_for_exit(&self) {
        while self.exits.take().is_some() {}
        let deadline = Instant::now() + Duration::from_millis(5);
        let _ = tine_sys::wait::until(&mut [PollFd::new(&self.exit_fd, PollFlags::IN)], Some(deadline));
    }
}

/// Blocks the signals that are waited for in one place, and undoes settings that would hide the
/// exit of a child. Returns the mask before.
fn take_signals(commands: &Set, exits: &Set, exit_signal: i32) -> std::io::Result<Set> {
    use rustix::process::Signal;
    tine_sys::signal::default(exit_signal);
    tine_sys::signal::default(Signal::CHILD.as_raw());
    tine_sys::signal::ignore(Signal::PIPE.as_raw());
    let before = commands.block()?;
    exits.block()?;
    Ok(before)
}
