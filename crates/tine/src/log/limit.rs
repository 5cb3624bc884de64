//! Rate limit of log lines: a flood of equal events is logged as a sum.

use std::time::{Duration, Instant};

/// The length of a period.
const PERIOD: Duration = Duration::from_secs(1);

/// How an event is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emit {
    /// As a line of its own.
    Line,
    /// As part of the sum at the end of the period.
    Summary,
}

/// Counts events in periods of one second, each of which starts with an event.
#[derive(Debug)]
pub(crate) struct LineLimit {
    /// Lines in a period; the events beyond are logged as a sum.
    lines: u64,
    period_ends: Option<Instant>,
    events: u64,
}

impl LineLimit {
    /// A limit of this number of lines in a period.
    pub(crate) fn of(lines: u64) -> LineLimit {
        LineLimit { lines, period_ends: None, events: 0 }
    }

    /// Counts an event.
    pub(crate) fn event(&mut self, now: Instant) -> Emit {
        self.period_ends.get_or_insert(now + PERIOD);
        self.events += 1;
        if self.events <= self.lines { Emit::Line } else { Emit::Summary }
    }

    /// The end of the current period.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.period_ends
    }

    /// The sum to log, if the period has ended with events beyond the limit.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        self.period_ends.filter(|ends| *ends <= now)?;
        self.rest()
    }

    /// Ends the period; the sum to log, if there were events beyond the limit.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        self.period_ends = None;
        std::mem::take(&mut self.events).checked_sub(self.lines).filter(|suppressed| *suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_limit_are_logged_as_a_sum() {
        let start = Instant::now();
        let mut limit = LineLimit::of(10);
        let emitted: Vec<Emit> = (0..200).map(|_| limit.event(start)).collect();
        assert_eq!(emitted.iter().filter(|emit| **emit == Emit::Line).count(), 10);
        assert_eq!(limit.due(start), None);
        assert_eq!(limit.due(start + PERIOD), Some(190));
        assert_eq!(limit.due(start + PERIOD), None);
        assert_eq!(limit.deadline(), None);
        assert_eq!(limit.event(start + PERIOD), Emit::Line);
        assert_eq!(limit.due(start + PERIOD * 2), None, "each event had its line");
    }
}
