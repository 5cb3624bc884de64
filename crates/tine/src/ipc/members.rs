//! The processes of a server as members of those that share state (`tine::shared`).

use std::io;

use tine_shared::server::{self, Lives, ObjectView};

use crate::error::Error;

/// The numbers of the processes of a service: that of each is its slot, behind those of the
/// services before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Members {
    /// `None` if the program shares no state.
    lives: Option<&'static Lives>,
    first: usize,
}

impl Members {
    /// Begins to serve with services of these numbers of members. No more shared state can be made
    /// from now on. Runs in the first process of the server.
    ///
    /// # Errors
    /// There are too many of them, or no memory.
    pub(crate) fn begin(members: &[usize]) -> Result<Vec<Members>, Error> {
        let lives = server::begin(members.iter().sum())?;
        let first = members.iter().scan(0, |next, members| Some(std::mem::replace(next, *next + members)));
        Ok(first.map(|first| Members { lives, first }).collect())
    }

    /// Leaves the right to end lives out of processes forked from now on, and ends those that an
    /// earlier supervisor of this service has left. Runs in the supervisor.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn take_over(self, members: usize) -> io::Result<()> {
        (0..members).for_each(|slot| self.end(slot));
        self.lives.map_or(Ok(()), Lives::keep_to_this_process)
    }

    /// Ends the life of the process in a slot, which has been reaped. Runs in the supervisor.
    #[inline]
    pub(crate) fn end(self, slot: usize) {
        if let Some(lives) = self.lives {
            lives.end(self.first + slot);
            server::refresh();
        }
    }

    /// Lets go of old versions of large state (`tine::shared::Frozen`), and maps the new ones for
    /// the processes forked from now on.
    pub(crate) fn refresh(self) {
        if self.lives.is_some() {
            server::refresh();
        }
    }

    /// Makes this process the member in a slot. Runs in connection processes.
    #[inline]
    pub(crate) fn enter(self, slot: usize) {
        if self.lives.is_some() {
            server::enter(self.first + slot);
        }
    }

    /// Makes this process the member in a slot, which does the jobs of this name. Runs in workers.
    pub(crate) fn enter_worker(self, slot: usize, jobs: &str) {
        if self.lives.is_some() {
            server::enter_worker(self.first + slot, jobs);
        }
    }

    /// Lets the workers end when no job waits. Runs in the supervisor.
    pub(crate) fn close_jobs(self) {
        if self.lives.is_some() {
            server::close_jobs();
        }
    }

    /// Makes this process a forker, which must not wait for others.
    pub(crate) fn enter_forker(self) {
        if self.lives.is_some() {
            server::enter_forker();
        }
    }

    /// Takes the shared state away from a helper.
    ///
    /// # Errors
    /// ENOMEM: the kernel has no memory for another mapping.
    pub(crate) fn leave(self) -> io::Result<()> {
        self.lives.map_or(Ok(()), |_| server::leave())
    }

    /// Takes the right to change the shared state away from this process.
    ///
    /// # Errors
    /// ENOMEM: the kernel has no memory for another mapping.
    pub(crate) fn make_read_only(self) -> io::Result<()> {
        self.lives.map_or(Ok(()), |_| server::make_read_only())
    }

    /// What the program shares.
    pub(crate) fn objects(self) -> Vec<ObjectView> {
        self.lives.map(|_| server::objects()).unwrap_or_default()
    }

    /// The names of what the process in a slot holds or waits for.
    pub(crate) fn held_by(self, slot: usize) -> Vec<String> {
        self.lives.map(|_| server::held_by(self.first + slot)).unwrap_or_default()
    }
}
