//! The connections that operators end, and for whom. No system call here.

use std::collections::HashMap;
use std::time::Instant;

use crate::lifecycle::outcome::EndReason;

/// A connection that an operator ends.
#[derive(Clone, Copy, Debug)]
struct Killing {
    id: u64,
    /// The control process of the operator.
    by: i32,
    /// When it gets KILL; `None` once it has.
    kill_at: Option<Instant>,
}

/// The connections that operators end, by slot.
#[derive(Debug, Default)]
pub(super) struct Killings {
    by_slot: HashMap<usize, Killing>,
    /// Slots whose connection gets its first signal.
    new: Vec<usize>,
    /// The control process for which each connection has ended.
    ended_for: Vec<i32>,
}

impl Killings {
    /// Begins to end a connection for the operator of a control process.
    pub(super) fn begin(&mut self, slot: usize, id: u64, by: i32, kill_at: Instant) {
        self.by_slot.insert(slot, Killing { id, by, kill_at: Some(kill_at) });
        self.new.push(slot);
    }

    /// Takes the slots whose connection gets its first signal.
    pub(super) fn take_new(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.new)
    }

    /// Takes the control process for which each connection has ended.
    pub(super) fn take_ended(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.ended_for)
    }

    /// When the next one gets KILL.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_slot.values().filter_map(|killing| killing.kill_at).min()
    }

    /// Why the connection in a slot is being ended, if an operator ends it.
    pub(super) fn reason(&self, slot: usize, id: u64) -> Option<EndReason> {
        self.by_slot.get(&slot).filter(|killing| killing.id == id).map(|_| EndReason::Killed)
    }

    /// The slots and ids of all of them.
    pub(super) fn all(&self) -> HashMap<usize, u64> {
        self.by_slot.iter().map(|(slot, killing)| (*slot, killing.id)).collect()
    }

    /// Takes those that are due to get KILL.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<usize> {
        let due = self.by_slot.iter_mut().filter(|(_, killing)| killing.kill_at.is_some_and(|at| at <= now));
        due.map(|(slot, killing)| {
            killing.kill_at = None;
            *slot
        })
        .collect()
    }

    /// A connection has ended: why, if an operator ended it.
    pub(super) fn take(&mut self, slot: usize, id: u64) -> Option<EndReason> {
        let killing = self.by_slot.remove(&slot)?;
        self.ended_for.push(killing.by);
        (killing.id == id).then_some(EndReason::Killed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_connection_gets_term_then_kill_and_its_operator_is_told() {
        let mut killings = Killings::default();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        killings.begin(3, 70, 900, start + second);
        killings.begin(4, 71, 901, start + 2 * second);
        assert_eq!((killings.take_new(), killings.take_new()), (vec![3, 4], vec![]));
        assert_eq!(killings.deadline(), Some(start + second));
        assert_eq!(killings.take_due(start), [] as [usize; 0]);
        assert_eq!(killings.take_due(start + second), [3]);
        assert_eq!(killings.deadline(), Some(start + 2 * second));
        assert_eq!((killings.reason(3, 70), killings.reason(3, 99)), (Some(EndReason::Killed), None));
        assert_eq!(killings.all(), HashMap::from([(3, 70), (4, 71)]));
        assert_eq!((killings.take(3, 70), killings.take(3, 70)), (Some(EndReason::Killed), None));
        // The slot has another connection by now.
        assert_eq!(killings.take(4, 72), None);
        assert_eq!(killings.take_ended(), [900, 901]);
        assert_eq!(killings.deadline(), None);
    }
}
