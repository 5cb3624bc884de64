//! The delayer: keeps clients that are beyond a limit until they may come, and hands them back to the forkers.
//!
//! Forkers keep no client's descriptor, so this process does. While somebody waits here, later clients of the same source
//! come behind: who sends the first marks their bucket, so that the forkers send them here, too.

mod queue;
mod quota;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;
use tine_sys::process::exit_now;
use tine_sys::wait;

use crate::admission::Admission;
use crate::admission::block::Block;
use crate::lifecycle::timing::LAST_CLIENTS_WAIT;
use crate::net::peer::Peer;
use crate::processes::rejector::{self, Reason};
use crate::processes::start::enter;
use crate::settings::Settings;
use crate::shared::board::{Board, Orders};
use crate::shared::fd_passing::{self, Wait};
use crate::system::clock::now;
use crate::system::open_files::raise_limit;
use queue::{Queue, Waiting};
use quota::Places;

/// How often it is looked whether clients have hung up, in nanoseconds.
const LOOK: u64 = 1_000_000_000;

/// Clients taken in before others get their chance to go.
const TURN: usize = 64;

/// Sends a client to the delayer, or back from it. False where the other side is far behind.
pub(crate) fn hand_over(channel: &OwnedFd, client: &OwnedFd, peer: Peer, reason: Reason, until: u64) -> bool {
    let [a, b, c] = peer.to_words();
    fd_passing::send(channel, client.as_fd(), [a, b, c, reason as u64, until], Wait::No)
}

/// A client from the channel; see [`fd_passing::receive`] for the rest.
pub(crate) fn receive(channel: &OwnedFd) -> Result<Option<(OwnedFd, Peer, Reason, u64)>, rustix::io::Errno> {
    let received = fd_passing::receive(channel)?;
    Ok(received.map(|(socket, [a, b, c, reason, until])| {
        (socket, Peer::from_words([a, b, c]), Reason::of(reason), until)
    }))
}

/// The channels to the delayer and back, as the supervisor has them: for the next forker, and the next delayer.
#[derive(Debug)]
pub(crate) struct Channels {
    /// The sending end, which forkers have, and the receiving one.
    pub(crate) come: (OwnedFd, OwnedFd),
    /// The sending end, which the delayer has until the server drains, and the receiving one.
    pub(crate) back: (Option<OwnedFd>, OwnedFd),
    /// Wakes the delayer.
    pub(crate) bell: OwnedFd,
}

/// One side's ends.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Where clients come who are to wait.
    pub(crate) come: OwnedFd,
    /// Where they go back.
    pub(crate) back: OwnedFd,
    /// Wakes the delayer.
    pub(crate) bell: OwnedFd,
}

impl Channels {
    /// What a forker needs of it.
    pub(crate) fn for_forker(self) -> Ends {
        Ends { come: self.come.0, back: self.back.1, bell: self.bell }
    }

    /// What the delayer needs of it; `None` where the server drains.
    pub(crate) fn for_delayer(self) -> Option<Ends> {
        Some(Ends { come: self.come.1, back: self.back.0?, bell: self.bell })
    }
}

/// Wakes the delayer: a connection has ended, or a drain begins.
pub(crate) fn ring(bell: &OwnedFd) {
    // Full means that it has been told.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// What the delayer was given at its fork.
pub(crate) struct Delayer<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) supervisor: Pid,
    pub(crate) board: Board,
    pub(crate) door: &'a Admission,
    pub(crate) ends: Ends,
    pub(crate) rejector: OwnedFd,
}

/// What is known of those who have been asked whether they go.
#[derive(Default)]
struct Pass {
    /// Somebody waits for the end of a connection.
    wants_slot: bool,
    /// When the next one may go, as far as that is a matter of time.
    next: Option<u64>,
    /// The forkers were far behind.
    held_up: bool,
}

/// Lives as the delayer until the server drains.
pub(crate) fn run(delayer: &Delayer) -> ! {
    enter(delayer.settings, delayer.supervisor, c"tine: delayer");
    let mut queue = Queue::new(room_for(delayer.settings.max_delayed()));
    // Whoever the last one of this role had has gone with it.
    delayer.door.clear_all_queued();
    let mut pass = Pass::default();
    let mut look_at = now() + LOOK;
    while delayer.board.orders() == Orders::Serve {
        let look = (!queue.is_empty()).then_some(look_at);
        let deadline = [queue.soonest(), pass.next, look].into_iter().flatten().min();
        let woken = delayer.wait(deadline, pass.held_up);
        delayer.take_in(&mut queue);
        let late = queue.take_late(now());
        delayer.mark(&mut queue);
        late.iter().for_each(|waiting| delayer.reject(waiting));
        let looks = look_at <= now();
        if looks {
            look_at = now() + LOOK;
            delayer.forget_gone(&mut queue);
        }
        // Those who are first in their lines have been asked; they are asked again when there is a reason.
        let is_time = pass.next.is_some_and(|next| next <= now());
        if woken || is_time || looks || !late.is_empty() {
            pass = delayer.ask_all(&mut queue);
        } else {
            delayer.ask_new(&mut queue, &mut pass);
        }
        delayer.mark(&mut queue);
    }
    delayer.take_in_the_last(&mut queue);
    delayer.let_all_go(&mut queue);
    exit_now(0)
}

/// Makes room for a descriptor for each who waits, and says for how many there is. Who is beyond is refused, with a word; without a
/// descriptor it could only be closed, and nobody would know who it was.
fn room_for(most: usize) -> usize {
    const OWN: u64 = 64;
    let (_, room) = raise_limit(most as u64 + OWN);
    usize::try_from(room.saturating_sub(OWN)).map_or(most, |room| room.clamp(1, most))
}

impl Delayer<'_> {
    /// Waits for clients, and for a reason to ask those who wait: true if a connection has ended, or the forkers, who were far
    /// behind, are not any more.
    fn wait(&self, deadline: Option<u64>, held_up: bool) -> bool {
        let mut ask =
            vec![PollFd::new(&self.ends.come, PollFlags::IN), PollFd::new(&self.ends.bell, PollFlags::IN)];
        if held_up {
            ask.push(PollFd::new(&self.ends.back, PollFlags::OUT));
        }
        // Interrupted: everything is looked at in any case.
        let _ = wait::until(&mut ask, deadline.map(instant));
        let _ = rustix::io::read(&self.ends.bell, &mut [0; 8]);
        ask[1..].iter().any(|asked| !asked.revents().is_empty())
    }

    /// Whether the forkers take clients, instead of being far behind.
    fn has_room_to_go(&self) -> bool {
        let mut ask = [PollFd::new(&self.ends.back, PollFlags::OUT)];
        matches!(wait::now(&mut ask), Ok(1))
    }

    /// Takes in those whom forkers have sent; false if more may be there.
    fn take_in(&self, queue: &mut Queue<OwnedFd>) -> bool {
        for _ in 0..TURN {
            match receive(&self.ends.come) {
                Ok(Some((client, peer, reason, until))) => {
                    if let Some(leaves) = queue.put(self.waiting(client, peer, reason, until)) {
                        // Before the client knows: its next one must not find that it waits.
                        self.mark(queue);
                        self.reject(&leaves);
                    }
                }
                // The end, which comes only when the supervisor has gone; or nobody.
                Ok(None) | Err(rustix::io::Errno::AGAIN) => return true,
                // The system is out of files: that one is closed.
                Err(_) => {}
            }
        }
        false
    }

    /// Takes in those whom forkers were just sending when the drain began.
    fn take_in_the_last(&self, queue: &mut Queue<OwnedFd>) {
        let deadline = Instant::now() + LAST_CLIENTS_WAIT;
        loop {
            // Asked before it is looked: who is not sending by now sends nobody any more.
            let somebody_sends = self.board.is_passing();
            while !self.take_in(queue) {}
            if !somebody_sends || deadline <= Instant::now() {
                return;
            }
            let mut ask = [PollFd::new(&self.ends.come, PollFlags::IN)];
            let _ = wait::until(&mut ask, Some(deadline.min(Instant::now() + Duration::from_millis(1))));
        }
    }

    /// Marks those of whom somebody waits by now, and no more those of whom nobody does.
    fn mark(&self, queue: &mut Queue<OwnedFd>) {
        queue.take_changes().iter().for_each(|(block, waits)| _ = self.door.hold(block, *waits));
    }

    fn waiting(&self, client: OwnedFd, peer: Peer, reason: Reason, until: u64) -> Waiting<OwnedFd> {
        let mut lines = self.door.lines(peer);
        Waiting { client, peer, blocks: [lines.next(), lines.next()], reason, until }
    }

    /// Lets everyone go who may.
    fn ask_all(&self, queue: &mut Queue<OwnedFd>) -> Pass {
        // Said before it is looked: an end between the look and the wait rings the bell.
        self.board.set_delayer_wants_slot(!queue.is_empty());
        let mut places = Places::default();
        for (_, aggregation, _) in self.settings.connection_limits() {
            places.take(self.board.serving_blocks(aggregation));
        }
        let mut pass = Pass::default();
        queue.go(|waiting| self.goes(waiting, &mut pass, &mut places, |_| 0));
        self.board.set_delayer_wants_slot(pass.wants_slot);
        pass
    }

    /// Lets those go who may of lines that have just begun.
    fn ask_new(&self, queue: &mut Queue<OwnedFd>, pass: &mut Pass) {
        self.board.set_delayer_wants_slot(!queue.is_empty());
        let mut places = Places::default();
        let count = |block| self.board.serving_slots_in(block).count();
        queue.go_of_new(|waiting| self.goes(waiting, pass, &mut places, count));
        self.board.set_delayer_wants_slot(pass.wants_slot);
    }

    /// Lets a client go, if it may. `count` counts connections that are not in `places`.
    fn goes(
        &self,
        waiting: &Waiting<OwnedFd>,
        pass: &mut Pass,
        places: &mut Places,
        count: impl Fn(Block) -> usize,
    ) -> bool {
        if !places.are_free(self.limits(waiting.peer), count) {
            pass.wants_slot = true;
            return false;
        }
        if !self.is_time(waiting, pass) {
            return false;
        }
        pass.held_up |= !self.has_room_to_go();
        if pass.held_up {
            return false;
        }
        if !self.door.admit(waiting.peer) {
            // Another was quicker: there is a next chance.
            self.is_time(waiting, pass);
            return false;
        }
        let sent = self.let_go(waiting);
        if sent {
            places.take(self.limits(waiting.peer).map(|(_, block)| block));
        }
        pass.held_up |= !sent;
        sent
    }

    /// Whether a client may come now, as far as that is a matter of time; if not, when.
    fn is_time(&self, waiting: &Waiting<OwnedFd>, pass: &mut Pass) -> bool {
        let chance = self.door.earliest_admission(waiting.peer);
        let is_time = chance <= now();
        if !is_time {
            pass.next = Some(pass.next.map_or(chance, |next| next.min(chance)));
        }
        is_time
    }

    /// How many there may be of a client's source and prefix, where that is limited.
    fn limits(&self, peer: Peer) -> impl Iterator<Item = (usize, Block)> + '_ {
        let limits = self.settings.connection_limits();
        limits.filter_map(move |(most, aggregation, _)| Some((most, peer.block(aggregation)?)))
    }

    fn let_go(&self, waiting: &Waiting<OwnedFd>) -> bool {
        hand_over(&self.ends.back, &waiting.client, waiting.peer, waiting.reason, waiting.until)
    }

    /// Everyone, one after the other, whatever the limits: the server drains, and nobody who was accepted is lost.
    fn let_all_go(&self, queue: &mut Queue<OwnedFd>) {
        while !queue.is_empty() {
            let mut ask = [PollFd::new(&self.ends.back, PollFlags::OUT)];
            let _ = wait::until(&mut ask, None);
            queue.go(|waiting| self.has_room_to_go() && self.let_go(waiting));
        }
        self.door.clear_all_queued();
    }

    fn reject(&self, waiting: &Waiting<OwnedFd>) {
        rejector::hand_over(&self.rejector, &waiting.client, waiting.peer, waiting.reason);
    }

    /// Closes those who have hung up: reset, or closed for both directions. Who has only ended its own side waits for an answer.
    fn forget_gone(&self, queue: &mut Queue<OwnedFd>) {
        queue.take_out(|waiting| {
            let mut ask = [PollFd::new(&waiting.client, PollFlags::empty())];
            matches!(wait::now(&mut ask), Ok(1))
        });
    }
}

/// A time of the monotonic clock, which is the one of [`Instant`].
fn instant(time: u64) -> Instant {
    Instant::now() + Duration::from_nanos(time.saturating_sub(now()))
}
