//! How the process of a connection gets into its room: the namespaces of one connection.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tine_sys::fd::Floor;
use tine_sys::identity::Ids;
use tine_sys::namespaces::{Kinds, Password, PidNamespace, join};

use super::filter::Passwords;
use super::full::FullJail;
use super::step::{StepError, step};
use super::users::JailUsers;

/// A room that waits for its process, held by the forker.
#[derive(Debug)]
pub(crate) struct Room {
    /// The process that has its namespaces (pidfd_open(2)): the first of its pid namespace, if that
    /// is one of the server.
    init: OwnedFd,
    /// Tells that process that the process of a connection was created: by a byte; if that is the
    /// first of the pid namespace, by descriptors of both. By its end, that there will be none.
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
        self.begin_with(b".");
    }

    fn begin_with(self, message: &[u8; 1]) {
        // Its first process has ended: so has the other.
        let _ = rustix::net::send(&self.start, message, SendFlags::NOSIGNAL);
    }
}

/// The message to a room whose process is a template: it lasts as long as the copies do.
pub(crate) const WITH_TEMPLATE: &[u8; 1] = b"t";

/// Rooms that are taken before they, and the jailer, are told of it, at most.
pub(crate) const BEGUN: usize = 3;

/// The way of a forker's connections into their rooms, one after the other.
#[derive(Debug)]
pub(super) struct Doorway {
    kinds: Kinds,
    users: JailUsers,
    has_init: bool,
    passwords: Option<Passwords>,
    directory: Option<PathBuf>,
    next: Option<(Room, usize)>,
    /// Rooms whose process was created, and whose first process does not know it yet.
    begun: [Option<Room>; BEGUN],
    /// Whether this process is in its room.
    has_joined: Cell<bool>,
}

impl Doorway {
    pub(super) fn new(full: &FullJail, passwords: Option<Passwords>, directory: Option<PathBuf>) -> Doorway {
        Doorway {
            kinds: full.to_join(),
            users: full.users.clone(),
            has_init: full.has_init,
            passwords,
            directory,
            next: None,
            begun: [const { None }; BEGUN],
            has_joined: Cell::new(false),
        }
    }

    pub(super) fn open(&mut self, room: Room, slot: usize) -> io::Result<()> {
        match self.has_init {
            true => join(room.init.as_fd(), Kinds::PID, self.joining()).map_err(|why| step("setns", &why))?,
            false => check_running(&room.init)?,
        }
        self.has_joined.set(false);
        self.next = Some((room, slot));
        Ok(())
    }

    pub(super) fn close(&mut self, created: bool) {
        let Some((room, _)) = self.next.take() else { return };
        if created && self.has_init {
            room.begin();
        }
    }

    /// As `close(true)`, but the room is told by [`Doorway::settle`], or when there are several:
    /// its first process would compete with the new one for the processors.
    pub(super) fn close_later(&mut self) {
        let Some((room, _)) = self.next.take().filter(|_| self.has_init) else { return };
        match self.begun.iter_mut().find(|begun| begun.is_none()) {
            Some(begun) => *begun = Some(room),
            None => room.begin(),
        }
    }

    /// As `close`, where the process is a template.
    pub(super) fn close_for_template(&mut self) {
        self.next.take().into_iter().for_each(|(room, _)| room.begin_with(WITH_TEMPLATE));
    }

    /// Takes the place of another process's way into the same room.
    pub(super) fn take_room_of(&mut self, other: &mut Doorway) {
        self.next = other.next.take();
    }

    pub(super) fn settle(&mut self) {
        self.begun.iter_mut().filter_map(Option::take).for_each(Room::begin);
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.next.iter().flat_map(|(room, _)| [room.init.as_fd(), room.start.as_fd()])
    }

    fn joining(&self) -> Option<&Password> {
        self.passwords.as_ref().map(|passwords| &passwords.joining)
    }

    /// The pid namespace of the next process that is created.
    pub(super) fn pids(&self) -> PidNamespace {
        match self.has_init {
            true => PidNamespace::Inherited,
            false => PidNamespace::Own(self.passwords.and_then(|passwords| passwords.creating)),
        }
    }

    pub(super) fn ids(&self) -> Option<Ids<'_>> {
        self.next.as_ref().and_then(|(_, slot)| self.users.of_slot(*slot))
    }

    /// Joins the room, once.
    pub(super) fn join(&self) -> io::Result<()> {
        let Some((room, _)) = self.next.as_ref().filter(|_| !self.has_joined.get()) else { return Ok(()) };
        match self.has_init {
            true => self.join_kinds(room)?,
            false => {
                let own = OwnNamespace::open()?;
                self.join_kinds(room)?;
                own.have_proc_mounted(&room.start)?;
            }
        }
        self.has_joined.set(true);
        match &self.directory {
            Some(directory) => rustix::process::chdir(directory)
                .map_err(|why| step(format_args!("chdir {}", directory.display()), &why.into())),
            None => Ok(()),
        }
    }

    fn join_kinds(&self, room: &Room) -> io::Result<()> {
        join(room.init.as_fd(), self.kinds, self.joining()).map_err(|why| step("setns", &why))
    }
}

/// Fails if the process that has the namespaces of a room has ended.
fn check_running(process: &OwnedFd) -> io::Result<()> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)) {
        Ok(0) => Ok(()),
        Ok(_) => Err(step("setns", &Errno::SRCH.into())),
        Err(why) => Err(step("poll", &why.into())),
    }
}

/// What the first process of a pid namespace tells the process that has the rest of its room.
struct OwnNamespace {
    /// The namespace, for its `/proc`.
    pids: OwnedFd,
    /// The process itself, which has to end if the supervisor does before it can ask for that.
    process: OwnedFd,
}

impl OwnNamespace {
    /// Opens both, before the room is joined: its `/proc` is not mounted yet.
    fn open() -> io::Result<OwnNamespace> {
        const PIDS: &str = "/proc/self/ns/pid";
        let pids = open(PIDS, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let pids = pids.map_err(|why| step(PIDS, &why.into()))?;
        let process = pidfd_open(getpid(), PidfdFlags::empty());
        Ok(OwnNamespace { pids, process: process.map_err(|why| step("pidfd_open", &why.into()))? })
    }

    /// Returns when `/proc` is mounted.
    fn have_proc_mounted(&self, start: &OwnedFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let both = [self.pids.as_fd(), self.process.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&both));
        sendmsg(start, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL)
            .map_err(|why| step("sendmsg", &why.into()))?;
        let mut reply = [0; 256];
        let (length, _) = rustix::io::retry_on_intr(|| recv(start, &mut reply[..], RecvFlags::empty()))
            .map_err(|why| step("recv", &why.into()))?;
        match &reply[..length] {
            MOUNTED => Ok(()),
            refused => Err(StepError::from_message(&String::from_utf8_lossy(refused)).into()),
        }
    }
}

/// The reply of the process that has mounted `/proc`; another one is an error.
pub(crate) const MOUNTED: &[u8] = b"mounted";
