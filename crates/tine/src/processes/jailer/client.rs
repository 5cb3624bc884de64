//! The jailer, as its forker sees it: rooms come from it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use tine_sys::fd::Floor;
use tine_sys::process::{Side, fork};

use super::message::{ROOM, TAKEN, refusal_of};
use super::run::{JailerStart, ROOMS, run};
use crate::error::{Error, ErrorKind, next_move};
use crate::ipc::text_channel::{ReceivedText, TextChannel};
use crate::jail::room::{BEGUN, Room};
use crate::processes::start::cannot;

/// After this long without a room, one counts as lost: its first process was killed, as for a lack
/// of memory, before it could offer it. Another one is made then.
const LATE: Duration = Duration::from_secs(1);

/// The jailer, as its forker knows it.
#[derive(Debug)]
pub(crate) struct Jailer {
    channel: TextChannel,
    place: Floor,
    /// The first room, which shows that the jail can be had.
    first: Option<Room>,
    /// Rooms that were taken, and that the jailer does not know of yet.
    taken: usize,
    /// The process whose end ends all rooms (pidfd_open(2)).
    supervisor: Option<OwnedFd>,
}

impl Jailer {
    /// Forks a jailer from its forker, which is in the user namespace of the jail. Returns when the
    /// first room is ready.
    ///
    /// # Errors
    /// The kernel refuses a step of the jail, or the fork.
    pub(crate) fn start(start: &JailerStart) -> Result<Jailer, Error> {
        let place = start.first_server_fd;
        let (ours, theirs) =
            TextChannel::pair().map_err(cannot("make a channel for the jailer", next_move::of_call))?;
        let supervisor = start.supervisor.map(|pid| pidfd_open(pid, PidfdFlags::empty())).transpose();
        let supervisor =
            supervisor.map_err(cannot("watch the supervisor (pidfd_open)", next_move::of_call))?;
        let forker = rustix::process::getpid();
        let supervisor = supervisor.map(|supervisor| place.duplicate(supervisor)).transpose();
        let supervisor =
            supervisor.map_err(cannot("keep a descriptor of the supervisor", next_move::of_call))?;
        let keep = |end: TextChannel| place.duplicate(OwnedFd::from(end)).map(TextChannel::from);
        let keep = |end| keep(end).map_err(cannot("keep a channel for the jailer", next_move::of_call));
        let (ours, theirs) = (keep(ours)?, keep(theirs)?);
        match fork(start.alone, Signal::CHILD.as_raw())
            .map_err(cannot("fork the jailer", next_move::of_call))?
        {
            Side::Child(fresh) => {
                drop(ours);
                run(&fresh, start, forker, theirs, supervisor)
            }
            Side::Parent(_) => {
                drop(theirs);
                let mut jailer = Jailer { channel: ours, place, first: None, taken: 0, supervisor };
                let first = jailer.take().map_err(|why| {
                    Error::new(ErrorKind::Jail, "the jail cannot be built", next_move::of_call(&why))
                        .because(&why)
                })?;
                jailer.first = Some(first);
                jailer.taken = 0;
                Ok(jailer)
            }
        }
    }

    /// Takes a room. Waits where none is ready.
    ///
    /// # Errors
    /// The kernel refuses a step of the room, as at a limit; [`io::ErrorKind::BrokenPipe`] if the
    /// jailer has ended.
    pub(crate) fn take(&mut self) -> io::Result<Room> {
        if let Some(room) = self.first.take() {
            self.taken += 1;
            return Ok(room);
        }
        let mut refused = None;
        // What was refused before a limit was raised must not delay the rooms behind it; what is
        // refused all the time ends.
        for _ in 0..ROOMS {
            match self.next(refused.is_none())? {
                Some(message) => match self.room(message) {
                    Ok(room) => return Ok(room),
                    Err(why) => refused = Some(why),
                },
                None => break,
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }

    fn room(&self, ReceivedText { text, descriptors }: ReceivedText) -> io::Result<Room> {
        match (text == ROOM.as_bytes(), <[OwnedFd; 2]>::try_from(descriptors)) {
            (true, Ok([init, start])) => Room::new(init, start, self.place),
            _ => Err(refusal_of(&text)),
        }
    }

    /// The next message; `None` if there is none yet and this process is not to wait.
    fn next(&mut self, waits: bool) -> io::Result<Option<ReceivedText>> {
        let mut lost = 0;
        let message = loop {
            match self.channel.receive() {
                Ok(Some(message)) => break message,
                Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(Errno::AGAIN) if !waits => return Ok(None),
                Err(Errno::AGAIN) => {
                    self.settle();
                    let mut poll = [PollFd::new(&self.channel, PollFlags::IN)];
                    let until = (lost < ROOMS).then(|| Instant::now() + LATE);
                    if tine_sys::wait::until(&mut poll, until) == Ok(0) {
                        lost += 1;
                        let _ = self.channel.send(TAKEN, &[]);
                    }
                }
                Err(why) => return Err(why.into()),
            }
        };
        self.taken += 1;
        Ok(Some(message))
    }

    /// Whether the supervisor has ended. A process that is the first of its pid namespace cannot
    /// tell by its parent whether it asked too late to end with it.
    pub(crate) fn is_orphaned(&self) -> bool {
        let supervisor = self.supervisor.as_ref().map(|process| PollFd::new(process, PollFlags::IN));
        supervisor.is_some_and(|process| tine_sys::wait::now(&mut [process]) == Ok(1))
    }

    /// Whether the jailer does not know yet of a room that was taken.
    pub(crate) fn is_owed(&self) -> bool {
        self.taken > 0
    }

    /// Whether it has to know now, to have rooms ready for more clients.
    pub(crate) fn is_due(&self) -> bool {
        self.taken >= BEGUN
    }

    /// Tells the jailer how many rooms were taken.
    pub(crate) fn settle(&mut self) {
        for _ in 0..std::mem::take(&mut self.taken) {
            // If the jailer has ended, the next room does not come.
            let _ = self.channel.send(TAKEN, &[]);
        }
    }
}
