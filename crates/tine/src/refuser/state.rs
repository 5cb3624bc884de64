//! Which refusals get a line of their own: a flood is summed up.

use std::time::{Duration, Instant};

/// Lines in a row before the rest of a period is summed up.
const LINES: u64 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// How a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// In a line of its own.
    Line,
    /// In the sum at the end of the period.
    Sum,
}

/// Counts refusals by periods that begin with a refusal.
#[derive(Debug, Default)]
pub(super) struct Tally {
    period_ends: Option<Instant>,
    refused: u64,
}

impl Tally {
    /// One more.
    pub(super) fn refused(&mut self, now: Instant) -> Told {
        self.period_ends.get_or_insert(now + PERIOD);
        self.refused += 1;
        if self.refused <= LINES { Told::Line } else { Told::Sum }
    }

    /// When the period ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.period_ends
    }

    /// The sum to be told, if the period has ended with one.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        self.period_ends.filter(|ends| *ends <= now)?;
        self.period_ends = None;
        let refused = std::mem::take(&mut self.refused);
        refused.checked_sub(LINES).filter(|more| *more > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_are_summed_up() {
        let start = Instant::now();
        let mut tally = Tally::default();
        let told: Vec<Told> = (0..200).map(|_| tally.refused(start)).collect();
        assert_eq!(told.iter().filter(|told| **told == Told::Line).count(), 10);
        assert_eq!(tally.due(start), None);
        assert_eq!(tally.due(start + PERIOD), Some(190));
        assert_eq!(tally.due(start + PERIOD), None);
        assert_eq!(tally.deadline(), None);
        assert_eq!(tally.refused(start + PERIOD), Told::Line);
        assert_eq!(tally.due(start + PERIOD * 2), None, "each had its line");
    }
}
