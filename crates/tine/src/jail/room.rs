//! How the process of a connection gets into its room: the namespaces of one connection.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use tine_sys::fd::Floor;
use tine_sys::identity::Ids;
use tine_sys::namespaces::{Kinds, Password, join};

use super::full::FullJail;
use super::step::step;
use super::users::JailUsers;

/// A room that waits for its process, held by the forker.
#[derive(Debug)]
pub(crate) struct Room {
    /// The first process of its pid namespace (pidfd_open(2)).
    init: OwnedFd,
    /// Tells that process, by a byte, that the process of a connection was created; by its end,
    /// that there will be none.
    start: OwnedFd,
}

impl Room {
    /// A room of these descriptors, which are moved to where a forker has its own.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn new(init: OwnedFd, start: OwnedFd, place: Floor) -> io::Result<Room> {
        Ok(Room { init: place.duplicate(init)?, start: place.duplicate(start)? })
    }

    /// Tells the room that its process was created.
    fn begin(self) {
        // Its first process has ended: so has the other.
        let _ = rustix::net::send(&self.start, b".", rustix::net::SendFlags::NOSIGNAL);
    }
}

/// Rooms that are told together that their processes were created, at most.
const BEGUN: usize = 3;

/// The way of a forker's connections into their rooms, one after the other.
#[derive(Debug)]
pub(super) struct Doorway {
    kinds: Kinds,
    users: JailUsers,
    password: Option<Password>,
    directory: Option<PathBuf>,
    next: Option<(Room, usize)>,
    /// Rooms whose process was created, and whose first process does not know it yet.
    begun: [Option<Room>; BEGUN],
    /// Whether this process is in its room.
    has_joined: Cell<bool>,
}

impl Doorway {
    pub(super) fn new(full: &FullJail, password: Option<Password>, directory: Option<PathBuf>) -> Doorway {
        Doorway {
            kinds: full.to_join(),
            users: full.users.clone(),
            password,
            directory,
            next: None,
            begun: [const { None }; BEGUN],
            has_joined: Cell::new(false),
        }
    }

    pub(super) fn open(&mut self, room: Room, slot: usize) -> io::Result<()> {
        join(room.init.as_fd(), Kinds::PID, self.password.as_ref()).map_err(|why| step("setns", &why))?;
        self.has_joined.set(false);
        self.next = Some((room, slot));
        Ok(())
    }

    pub(super) fn close(&mut self, created: bool) {
        let Some((room, _)) = self.next.take() else { return };
        if created {
            room.begin();
        }
    }

    /// As `close(true)`, but the room is told by [`Doorway::settle`]: its first process would compete
    /// with the new one for the processors. True if that is due, as it has to be for as many rooms.
    pub(super) fn close_later(&mut self) -> bool {
        let Some((room, _)) = self.next.take() else { return false };
        match self.begun.iter_mut().find(|begun| begun.is_none()) {
            Some(begun) => *begun = Some(room),
            None => room.begin(),
        }
        self.begun.iter().all(Option::is_some)
    }

    pub(super) fn settle(&mut self) {
        self.begun.iter_mut().filter_map(Option::take).for_each(Room::begin);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.begun.iter().all(Option::is_none)
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.next.iter().flat_map(|(room, _)| [room.init.as_fd(), room.start.as_fd()])
    }

    pub(super) fn ids(&self) -> Option<Ids<'_>> {
        self.next.as_ref().and_then(|(_, slot)| self.users.of_slot(*slot))
    }

    /// Joins the room, once.
    pub(super) fn join(&self) -> io::Result<()> {
        let Some((room, _)) = self.next.as_ref().filter(|_| !self.has_joined.get()) else { return Ok(()) };
        join(room.init.as_fd(), self.kinds, self.password.as_ref()).map_err(|why| step("setns", &why))?;
        self.has_joined.set(true);
        match &self.directory {
            Some(directory) => rustix::process::chdir(directory)
                .map_err(|why| step(format_args!("chdir {}", directory.display()), &why.into())),
            None => Ok(()),
        }
    }
}
