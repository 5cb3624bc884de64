//! The limits on the board that operators change while the server serves.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{Board, FLEET_NODES, LIMITS_CHANGED, SOURCE_LIMITS};
use crate::admission::limits::{LimitsMode, SourceLimits};

// Bits of LIMITS_CHANGED.
const REPORT: u64 = 1;
const CHANGED: u64 = 2;

impl Board {
    /// Sets whether limits are enforced or reported, for clients accepted from now on. Runs in the
    /// supervisor.
    pub(crate) fn set_limits_mode(&self, mode: LimitsMode) {
        match mode {
            LimitsMode::Enforce => self.word(LIMITS_CHANGED).fetch_and(!REPORT, SeqCst),
            LimitsMode::Report => self.word(LIMITS_CHANGED).fetch_or(REPORT, SeqCst),
        };
    }

    /// Whether limits are enforced or reported.
    #[inline]
    pub(crate) fn limits_mode(&self) -> LimitsMode {
        // Beside words that are in use: no other page is touched.
        match self.word(LIMITS_CHANGED).load(Relaxed) & REPORT {
            0 => LimitsMode::Enforce,
            _ => LimitsMode::Report,
        }
    }

    /// Sets the number of nodes that share the limits of a fleet. Runs in the supervisor.
    pub(crate) fn set_fleet_nodes(&self, nodes: u32) {
        self.word(FLEET_NODES).store(nodes.into(), Relaxed);
    }

    /// The number of nodes that share the limits of a fleet; 0 until any was heard.
    #[inline]
    pub(crate) fn fleet_nodes(&self) -> u32 {
        self.word(FLEET_NODES).load(Relaxed) as u32
    }

    /// Sets the limits per source and prefix, in place of those of the start, for clients accepted
    /// from now on. Runs in the supervisor. A client that is accepted meanwhile may be subject to a
    /// mixture of the two.
    pub(crate) fn set_source_limits(&self, limits: SourceLimits) {
        for (at, word) in limits.to_words().into_iter().enumerate() {
            self.word(SOURCE_LIMITS + at).store(word, SeqCst);
        }
        self.word(LIMITS_CHANGED).fetch_or(CHANGED, SeqCst);
    }

    /// The limits per source and prefix, if they are not those of the start.
    #[inline]
    pub(crate) fn changed_limits(&self) -> Option<SourceLimits> {
        (self.word(LIMITS_CHANGED).load(SeqCst) & CHANGED != 0).then(|| self.source_limits())
    }

    #[cold]
    fn source_limits(&self) -> SourceLimits {
        let word = |at: usize| self.word(SOURCE_LIMITS + at).load(Relaxed);
        SourceLimits::from_words(std::array::from_fn(word))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;

    #[test]
    fn limits_are_those_of_the_start_until_they_are_changed() {
        let board = board(1);
        assert_eq!((board.limits_mode(), board.changed_limits()), (LimitsMode::Enforce, None));
        board.set_limits_mode(LimitsMode::Report);
        assert_eq!((board.limits_mode(), board.changed_limits()), (LimitsMode::Report, None));
        let limits = SourceLimits { max_per_prefix: Some(3), ..SourceLimits::default() };
        board.set_source_limits(limits);
        assert_eq!((board.limits_mode(), board.changed_limits()), (LimitsMode::Report, Some(limits)));
        board.set_source_limits(SourceLimits::default());
        board.set_limits_mode(LimitsMode::Enforce);
        let none = Some(SourceLimits::default());
        assert_eq!((board.limits_mode(), board.changed_limits()), (LimitsMode::Enforce, none));
    }
}
