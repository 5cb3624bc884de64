//! The connections that operators end: TERM, KILL after the usual time, and who waits for it. No
//! system call here.

use std::collections::HashMap;
use std::time::Instant;

use crate::lifecycle::outcome::EndReason;
use crate::lifecycle::timing::{KILL_AFTER, KILL_WAIT};

/// A connection that operators end.
#[derive(Clone, Debug)]
pub(super) struct Killing {
    pub(super) id: u64,
    /// The control processes of the operators.
    by: Vec<i32>,
    next: Option<KillingStep>,
}

/// What happens if a connection has not ended by a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KillingStep {
    Term,
    Kill(Instant),
    /// The operators are told that it has not ended.
    GiveUp(Instant),
}

/// The connections that operators end, by slot.
#[derive(Debug, Default)]
pub(super) struct Killings {
    pub(super) by_slot: HashMap<usize, Killing>,
    /// Whether there are connections that get their first signal.
    pub(super) has_new: bool,
    /// Control processes, each with whether a connection has ended for it, or will not.
    pub(super) ended_for: Vec<(i32, bool)>,
}

impl Killings {
    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let steps = self.by_slot.values().filter_map(|killing| match killing.next? {
            KillingStep::Term => None,
            KillingStep::Kill(at) | KillingStep::GiveUp(at) => Some(at),
        });
        steps.min()
    }

    /// Adds a connection that a control process ends. False if it does so already.
    pub(super) fn add(&mut self, slot: usize, id: u64, by: i32) -> bool {
        if self.by_slot.get(&slot).is_some_and(|killing| killing.id != id) {
            self.take(slot, id);
        }
        let new = || Killing { id, by: Vec::new(), next: None };
        let killing = self.by_slot.entry(slot).or_insert_with(new);
        if killing.by.contains(&by) {
            return false;
        }
        // Also for one that was given up.
        killing.next.get_or_insert(KillingStep::Term);
        self.has_new |= killing.next == Some(KillingStep::Term);
        killing.by.push(by);
        true
    }

    /// A control process has ended: it waits for nothing.
    pub(super) fn forget(&mut self, by: i32) {
        self.by_slot.values_mut().for_each(|killing| killing.by.retain(|pid| *pid != by));
        self.ended_for.retain(|(pid, _)| *pid != by);
    }

    /// Why the connection in a slot is being ended, if an operator ends it.
    pub(super) fn reason(&self, slot: usize, id: u64) -> Option<EndReason> {
        self.by_slot.get(&slot).filter(|killing| killing.id == id).map(|_| EndReason::Killed)
    }

    /// The slots and ids of all of them.
    pub(super) fn all(&self) -> HashMap<usize, u64> {
        self.by_slot.iter().map(|(slot, killing)| (*slot, killing.id)).collect()
    }

    /// Takes those that are due to get TERM, and those that are due to get KILL. Gives up those
    /// that had both.
    pub(super) fn take_due(&mut self, now: Instant) -> [Vec<usize>; 2] {
        let [mut term, mut kill] = [Vec::new(), Vec::new()];
        self.has_new = false;
        for (slot, killing) in &mut self.by_slot {
            killing.next = match killing.next {
                Some(KillingStep::Term) => {
                    term.push(*slot);
                    Some(KillingStep::Kill(now + KILL_AFTER))
                }
                Some(KillingStep::Kill(at)) if at <= now => {
                    kill.push(*slot);
                    Some(KillingStep::GiveUp(now + KILL_WAIT))
                }
                Some(KillingStep::GiveUp(at)) if at <= now => {
                    self.ended_for.extend(killing.by.drain(..).map(|pid| (pid, false)));
                    None
                }
                next => next,
            };
        }
        [term, kill]
    }

    /// A connection has ended: why, if an operator ended it.
    pub(super) fn take(&mut self, slot: usize, id: u64) -> Option<EndReason> {
        let killing = self.by_slot.remove(&slot)?;
        self.ended_for.extend(killing.by.into_iter().map(|pid| (pid, true)));
        (killing.id == id).then_some(EndReason::Killed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_killing_has_its_steps_and_each_operator_its_answer() {
        let mut killings = Killings::default();
        let start = Instant::now();
        let after = |time: Duration| start + time;
        assert!(killings.add(1, 10, 100) && killings.add(2, 20, 100) && killings.add(1, 10, 101));
        assert!(!killings.add(1, 10, 100), "it is known");
        assert!(killings.has_new && killings.deadline().is_none());
        let [mut term, kill] = killings.take_due(start);
        term.sort_unstable();
        assert_eq!((term, kill), (vec![1, 2], vec![]));
        assert_eq!((killings.has_new, killings.deadline()), (false, Some(after(KILL_AFTER))));
        // Another connection has the slot by now.
        assert_eq!((killings.reason(2, 20), killings.reason(2, 21)), (Some(EndReason::Killed), None));
        assert_eq!(killings.take(2, 20), Some(EndReason::Killed));
        assert_eq!(killings.take_due(after(KILL_AFTER)), [vec![], vec![1]]);
        killings.forget(101);
        assert_eq!(killings.take_due(after(KILL_AFTER + KILL_WAIT)), [const { Vec::<usize>::new() }; 2]);
        assert_eq!(killings.ended_for, [(100, true), (100, false)]);
        // One that was given up can be ended once more; one of another connection makes room.
        assert!(killings.add(1, 10, 102) && killings.has_new);
        assert!(killings.add(1, 11, 102));
        assert_eq!(killings.ended_for.pop(), Some((102, true)));
        assert_eq!(killings.take(1, 12), None);
    }
}
