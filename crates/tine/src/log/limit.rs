//! Which of many events get a line of their own: a flood is summed up.

use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(1);

/// How an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emit {
    /// In a line of its own.
    Line,
    /// In the sum at the end of the period.
    Sum,
}

/// Counts events by periods of a second that begin with an event.
#[derive(Debug)]
pub(crate) struct LineLimit {
    /// Lines in a period before the rest is summed up.
    lines: u64,
    period_ends: Option<Instant>,
    events: u64,
}

impl LineLimit {
    /// One that gives so many events of a period lines of their own.
    pub(crate) fn of(lines: u64) -> LineLimit {
        LineLimit { lines, period_ends: None, events: 0 }
    }

    /// One more.
    pub(crate) fn event(&mut self, now: Instant) -> Emit {
        self.period_ends.get_or_insert(now + PERIOD);
        self.events += 1;
        if self.events <= self.lines { Emit::Line } else { Emit::Sum }
    }

    /// When the period ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.period_ends
    }

    /// The sum to be told, if the period has ended with one.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        self.period_ends.filter(|ends| *ends <= now)?;
        self.rest()
    }

    /// Ends the period; the sum to be told, if there is one.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        self.period_ends = None;
        std::mem::take(&mut self.events).checked_sub(self.lines).filter(|more| *more > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_are_summed_up() {
        let start = Instant::now();
        let mut tally = LineLimit::of(10);
        let told: Vec<Emit> = (0..200).map(|_| tally.event(start)).collect();
        assert_eq!(told.iter().filter(|told| **told == Emit::Line).count(), 10);
        assert_eq!(tally.due(start), None);
        assert_eq!(tally.due(start + PERIOD), Some(190));
        assert_eq!(tally.due(start + PERIOD), None);
        assert_eq!(tally.deadline(), None);
        assert_eq!(tally.event(start + PERIOD), Emit::Line);
        assert_eq!(tally.due(start + PERIOD * 2), None, "each had its line");
    }
}
