//! The clocks of a link, and what it does at most once in a while.

use std::collections::BTreeMap;

/// Both clocks at one moment, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The monotonic clock.
    pub(super) now: u64,
    /// The time of day, since 1970.
    pub(super) day: u64,
}

impl Clock {
    /// Reads the clocks.
    pub(super) fn read() -> Clock {
        const MILLISECOND: u64 = 1_000_000;
        Clock { now: tine_load::run::clock::now() / MILLISECOND, day: crate::events::day() / MILLISECOND }
    }
}

/// The time for which a complaint is not repeated, in milliseconds.
const REPEATED_AFTER: u64 = 60_000;

/// Subjects of complaints, at most: those of each node, and a few others.
const MOST: usize = 1_000;

/// What was complained about lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<String, u64>);

impl Complaints {
    /// Whether to complain about this now.
    pub(super) fn is_due(&mut self, about: &str, now: u64) -> bool {
        if self.0.get(about).is_some_and(|until| now < *until) {
            return false;
        }
        self.0.retain(|_, until| now < *until);
        let has_room = self.0.len() < MOST;
        if has_room {
            self.0.insert(about.to_owned(), now + REPEATED_AFTER);
        }
        has_room
    }
}

/// Times in a second at most.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    since: u64,
    taken: u64,
}

impl Allowance {
    /// Takes an amount, unless that would be more than `most` in this second.
    pub(super) fn take(&mut self, amount: u64, most: u64, now: u64) -> bool {
        if now.saturating_sub(self.since) >= 1_000 {
            *self = Allowance { since: now, taken: 0 };
        }
        let is_within = self.taken + amount <= most;
        if is_within {
            self.taken += amount;
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_repeated_after_a_minute() {
        let mut complaints = Complaints::default();
        assert!(complaints.is_due("a", 0) && complaints.is_due("b", 1));
        assert!(!complaints.is_due("a", 59_999) && complaints.is_due("a", 60_000));
        (0..2 * MOST).for_each(|number| _ = complaints.is_due(&number.to_string(), 60_000));
        assert_eq!(complaints.0.len(), MOST);
    }

    #[test]
    fn an_allowance_is_of_a_second() {
        let mut allowance = Allowance::default();
        assert!(allowance.take(3, 5, 0) && !allowance.take(3, 5, 1) && allowance.take(2, 5, 999));
        assert!(!allowance.take(1, 5, 999) && allowance.take(5, 5, 1_000));
    }
}
