//! A controller with a control process, as its supervisor or master knows it; and how many there
//! can be.

use std::time::Instant;

use crate::net::control_socket::Operator;
use crate::shared::steering::OrderReceiver;

/// Controllers that may only read, at most, of those that are served and of those that follow the
/// log: they cannot keep out the ones that may steer.
const MAX_READERS: usize = 12;

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

/// Whether there is a place for an operator beside these, of `most` places.
pub(super) fn has_place(operator: Operator, others: impl Iterator<Item = Operator>, most: usize) -> bool {
    let (steering, reading): (Vec<Operator>, Vec<Operator>) = others.partition(|other| other.may_steer);
    steering.len() + reading.len() < most && (operator.may_steer || reading.len() < MAX_READERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_leave_places_to_those_who_may_steer() {
        let operator = |may_steer| Operator { uid: 0, pid: 1, may_steer };
        for (steering, reading, steers, has) in [
            (0, 0, false, true),
            (0, 11, false, true),
            (0, 12, false, false),
            (0, 12, true, true),
            (3, 12, true, true),
            (4, 12, true, false),
            (16, 0, false, false),
            (15, 0, false, true),
        ] {
            let others = std::iter::repeat_n(operator(true), steering);
            let others = others.chain(std::iter::repeat_n(operator(false), reading));
            assert_eq!(has_place(operator(steers), others, 16), has, "{steering} {reading} {steers}");
        }
    }
}
