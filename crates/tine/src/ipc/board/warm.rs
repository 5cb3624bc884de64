//! What the board says of a program that is started warm.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{Board, MAX_FORKERS, TEMPLATE, WARM, WARM_COPIES, WARM_CRASHES, WARM_RESETS, WARM_TEMPLATES};

/// The template of a forker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateStatus {
    /// There is none now: one is being made.
    Making,
    /// This process is copied.
    Ready(i32),
    /// The program cannot be started warm.
    Refused,
    /// Copies have crashed: there are none until an operator has looked.
    Crashes,
}

impl TemplateStatus {
    const OTHERS: [TemplateStatus; 3] =
        [TemplateStatus::Making, TemplateStatus::Refused, TemplateStatus::Crashes];

    /// Its name in the log, the status and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TemplateStatus::Making => "making",
            TemplateStatus::Ready(_) => "ready",
            TemplateStatus::Refused => "refused",
            TemplateStatus::Crashes => "crashes",
        }
    }

    /// The id of a process, or 0 and below for what is no process.
    fn to_word(self) -> u64 {
        let number = match self {
            TemplateStatus::Ready(pid) => i64::from(pid),
            other => -(TemplateStatus::OTHERS.iter().position(|one| *one == other).unwrap_or(0) as i64),
        };
        number.cast_unsigned()
    }

    fn from_word(word: u64) -> TemplateStatus {
        match i32::try_from(word.cast_signed()) {
            Ok(pid @ 1..) => TemplateStatus::Ready(pid),
            Ok(other) => {
                let other = TemplateStatus::OTHERS.get(other.unsigned_abs() as usize);
                other.copied().unwrap_or(TemplateStatus::Making)
            }
            Err(_) => TemplateStatus::Making,
        }
    }
}

impl Board {
    /// Notes whether the process in a slot is a copy of a template.
    #[inline]
    pub(crate) fn set_warm(&self, slot: usize, is_warm: bool) {
        self.record(slot).words[WARM].store(is_warm.into(), Relaxed);
    }

    /// Whether the process in a slot is a copy of a template.
    pub(crate) fn is_warm(&self, slot: usize) -> bool {
        self.record(slot).words[WARM].load(Relaxed) != 0
    }

    /// Whether a slot has no process yet, which a template may have made already: the forker that
    /// has asked for it is about to note its id.
    pub(crate) fn awaits_copy(&self) -> bool {
        let awaits = |slot| self.is_warm(slot) && self.owner(slot).is_some() && self.pid(slot) == 0;
        (0..self.slot_count()).any(awaits)
    }

    /// Counts a copy.
    #[inline]
    pub(crate) fn count_copy(&self) {
        self.word(WARM_COPIES).fetch_add(1, Relaxed);
    }

    /// The number of connections that copies have served, or serve.
    pub(crate) fn copies(&self) -> u64 {
        self.word(WARM_COPIES).load(Relaxed)
    }

    /// The number of templates that were made.
    pub(crate) fn templates(&self) -> u64 {
        self.word(WARM_TEMPLATES).load(Relaxed)
    }

    /// Notes what a forker has. A template that is ready is counted.
    pub(crate) fn set_template(&self, forker: usize, status: TemplateStatus) {
        if matches!(status, TemplateStatus::Ready(_)) {
            self.word(WARM_TEMPLATES).fetch_add(1, Relaxed);
        }
        self.forker_word(forker, TEMPLATE).store(status.to_word(), SeqCst);
    }

    /// Notes that a process has exited. Where it was the template of a forker, there is none until
    /// that has another one. Runs in the supervisor.
    pub(crate) fn note_ended_template(&self, pid: i32) {
        let (ended, making) = (TemplateStatus::Ready(pid).to_word(), TemplateStatus::Making.to_word());
        for forker in 0..MAX_FORKERS {
            let word = self.forker_word(forker, TEMPLATE);
            let _ = word.compare_exchange(ended, making, SeqCst, SeqCst);
        }
    }

    /// The template of a forker.
    pub(crate) fn template(&self, forker: usize) -> TemplateStatus {
        TemplateStatus::from_word(self.forker_word(forker, TEMPLATE).load(SeqCst))
    }

    /// Notes that a copy has died of a signal. Runs in the supervisor, which wakes the forkers.
    pub(crate) fn note_copy_crash(&self) {
        self.word(WARM_CRASHES).fetch_add(1, SeqCst);
    }

    /// The number of copies that have died of a signal.
    pub(crate) fn copy_crashes(&self) -> u64 {
        self.word(WARM_CRASHES).load(SeqCst)
    }

    /// Has all forkers make new templates. Runs in the supervisor, which wakes the forkers.
    pub(crate) fn reset_templates(&self) {
        self.word(WARM_RESETS).fetch_add(1, SeqCst);
    }

    /// How often templates were to be made anew.
    pub(crate) fn template_resets(&self) -> u64 {
        self.word(WARM_RESETS).load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;

    #[test]
    fn a_template_is_a_process_or_the_reason_that_there_is_none() {
        let board = board(1);
        assert_eq!(board.template(0), TemplateStatus::Making);
        for status in TemplateStatus::OTHERS.into_iter().chain([TemplateStatus::Ready(1 << 22)]) {
            board.set_template(3, status);
            assert_eq!(board.template(3), status);
        }
        assert_eq!(board.templates(), 1);
        board.note_ended_template(7);
        assert_eq!(board.template(3), TemplateStatus::Ready(1 << 22));
        board.note_ended_template(1 << 22);
        assert_eq!(board.template(3), TemplateStatus::Making);
    }

    #[test]
    fn a_slot_awaits_its_copy_until_the_id_is_noted() {
        let board = board(2);
        let slot = board.claim(0).expect("free");
        assert!(!board.awaits_copy());
        board.set_warm(slot, true);
        assert!(board.awaits_copy() && board.is_warm(slot));
        board.pid_cell(slot).store(7, SeqCst);
        assert!(!board.awaits_copy());
        board.release(slot);
        assert!(!board.awaits_copy());
    }
}
