//! A controller with a control process, as its supervisor or master knows it; and how many there
//! can be.

use std::time::Instant;

use crate::ipc::steering::OrderReceiver;
use crate::net::operator::{Operator, Rank};

/// Controllers that may only read, and of the observer, at most, of those that are served and of
/// those that follow the log: they cannot keep out the ones that may steer.
const MAX_READERS: usize = 12;

/// Of these, those of the observer, at most: one that is taken over cannot keep out other readers.
const MAX_OBSERVING: usize = 4;

/// A controller that has a control process.
pub(crate) struct ServedController {
    /// The control process.
    pub(crate) pid: i32,
    pub(crate) operator: Operator,
    pub(crate) orders: OrderReceiver,
    /// Connections whose end this controller waits for.
    pub(crate) killing: usize,
    /// Connections that have ended for it.
    pub(crate) killed: u64,
    /// Whether one of them has not, though it was killed.
    pub(crate) is_one_left: bool,
    /// It waits for the ends of connections.
    pub(crate) awaits_killed: bool,
    /// It waits until no process accepts.
    pub(crate) awaits_pause: bool,
    /// It waits for the end of a hand-over.
    pub(super) awaits_handover: bool,
    /// It follows the log, until the controller or the server ends.
    pub(super) follows: bool,
    /// It waits until the server, or a service, has stopped.
    pub(crate) awaits_stop: bool,
    pub(super) started: Instant,
}

impl ServedController {
    /// A controller whose control process was just forked.
    pub(super) fn new(pid: i32, operator: Operator, orders: OrderReceiver) -> ServedController {
        ServedController {
            pid,
            operator,
            orders,
            killing: 0,
            killed: 0,
            is_one_left: false,
            awaits_killed: false,
            awaits_pause: false,
            awaits_handover: false,
            follows: false,
            awaits_stop: false,
            started: Instant::now(),
        }
    }

    /// Whether it may stay: it waits for the supervisor, or follows the log.
    pub(super) fn stays(&self) -> bool {
        let awaits = self.awaits_killed || self.awaits_pause || self.awaits_stop || self.awaits_handover;
        awaits || self.follows
    }
}

/// Whether there is a place for an operator of this rank beside these, of `most` places.
pub(super) fn has_place(rank: Rank, others: impl Iterator<Item = Rank>, most: usize) -> bool {
    let (mut all, mut reading, mut observing) = (0, 0, 0);
    for other in others {
        all += 1;
        reading += usize::from(other != Rank::Owner);
        observing += usize::from(other.is_observer());
    }
    all < most
        && (rank == Rank::Owner || reading < MAX_READERS)
        && (!rank.is_observer() || observing < MAX_OBSERVING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_leave_places_to_owners_and_observers_to_readers() {
        use Rank::{Observer, Owner, Reader, Steward};
        for (owners, readers, observers, rank, has) in [
            (0, 0, 0, Reader, true),
            (0, 11, 0, Reader, true),
            (0, 12, 0, Reader, false),
            (0, 12, 0, Owner, true),
            (3, 12, 0, Owner, true),
            (4, 12, 0, Owner, false),
            (16, 0, 0, Reader, false),
            (15, 0, 0, Reader, true),
            (0, 0, 3, Observer, true),
            (0, 0, 4, Observer, false),
            (0, 0, 3, Steward, true),
            (0, 0, 4, Steward, false),
            (0, 7, 4, Reader, true),
            (0, 8, 4, Reader, false),
            (0, 12, 0, Steward, false),
            (4, 8, 4, Owner, false),
            (3, 8, 4, Owner, true),
        ] {
            let ranks = [(Owner, owners), (Reader, readers), (Steward, observers)];
            let others = ranks.into_iter().flat_map(|(rank, number)| std::iter::repeat_n(rank, number));
            assert_eq!(has_place(rank, others, 16), has, "{owners} {readers} {observers} {rank:?}");
        }
    }
}
