//! When a forker has a template copied, and when it needs a new one, decided from plain values.

use std::time::{Duration, Instant};

use crate::lifecycle::backoff::RestartBackoff;

/// After this many crashes of copies within [`CRASH_TIME`], there are no more copies until an
/// operator has looked.
const CRASHES: usize = 3;

/// The time in which crashes are counted.
const CRASH_TIME: Duration = Duration::from_secs(60);

/// Files that change again and again have new templates made no more often than this, and one that
/// could not be made is tried again after it.
const CHANGE_TIME: Duration = Duration::from_secs(5);

/// When a template is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) connections: u64,
    pub(super) time: Duration,
    /// Whether clients cannot be served without one.
    pub(super) is_only_way: bool,
}

/// Why there are no copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarmOff {
    /// The program cannot be started warm.
    Refused,
    /// Copies have crashed, one after the other.
    Crashes,
}

/// What a forker knows of its template.
#[derive(Debug)]
pub(super) struct TemplateState {
    renewal: Renewal,
    /// When the present one was made, and how many copies there were of it.
    present: Option<(Instant, u64)>,
    /// One was made before, the present one or another.
    was_made: bool,
    /// A new one is being made.
    is_asked: bool,
    /// One is needed at once.
    is_due: bool,
    /// One is needed from this time on: its files have changed, or none could be made.
    due_from: Option<Instant>,
    /// The last such time.
    changed: Option<Instant>,
    /// The delay before one is asked for after one has ended by itself.
    backoff: RestartBackoff,
    crashes: Vec<Instant>,
    off: Option<WarmOff>,
}

impl TemplateState {
    pub(super) fn new(renewal: Renewal, now: Instant) -> TemplateState {
        TemplateState {
            renewal,
            present: None,
            was_made: false,
            is_asked: false,
            is_due: true,
            due_from: None,
            changed: None,
            backoff: RestartBackoff::running(now),
            crashes: Vec::new(),
            off: None,
        }
    }

    /// Whether the next connection is served by a copy.
    pub(super) fn copies(&self) -> bool {
        self.present.is_some() && self.off.is_none()
    }

    /// Why there are no copies, and will be none.
    pub(super) fn off(&self) -> Option<WarmOff> {
        self.off
    }

    /// Whether a template has to be asked for now. It then counts as asked for.
    pub(super) fn take_need(&mut self, now: Instant) -> bool {
        if self.off == Some(WarmOff::Crashes) || self.is_asked {
            return false;
        }
        let is_from_now = self.due_from.take_if(|from| *from <= now).is_some();
        let is_needed = match self.present {
            _ if self.off.is_some() => is_from_now,
            Some((made, copies)) => {
                let age = now.saturating_duration_since(made);
                let is_old = copies >= self.renewal.connections || age >= self.renewal.time;
                std::mem::take(&mut self.is_due) || is_old || is_from_now
            }
            None => std::mem::take(&mut self.is_due) || self.backoff.take_due(Some(now), now),
        };
        self.is_asked = is_needed;
        is_needed
    }

    /// A template was made.
    pub(super) fn made(&mut self, now: Instant) {
        self.is_asked = false;
        self.was_made = true;
        self.off.take_if(|off| *off == WarmOff::Refused);
        self.present = Some((now, 0));
    }

    /// A copy was made.
    pub(super) fn copied(&mut self) {
        if let Some((_, copies)) = &mut self.present {
            *copies += 1;
        }
    }

    /// The program cannot be started warm, or not any more: the present template is of what it was.
    /// Files may be in the middle of an update, so that it is tried again when the next one would
    /// have been made, unless there never was one.
    pub(super) fn refused(&mut self, now: Instant) {
        self.is_asked = false;
        self.present = None;
        self.off = Some(WarmOff::Refused);
        let time = if self.renewal.is_only_way { CHANGE_TIME } else { self.renewal.time };
        self.due_from = self.was_made.then(|| now + time);
    }

    /// The template has ended, or does not answer.
    pub(super) fn lost(&mut self, now: Instant) {
        self.present = None;
        self.backoff.exited(now);
    }

    /// A copy has died of a signal: what it may have told its client of the template is of no use
    /// with the next one.
    pub(super) fn crashed(&mut self, now: Instant) {
        self.crashes.retain(|crash| now.saturating_duration_since(*crash) < CRASH_TIME);
        self.crashes.push(now);
        if self.crashes.len() >= CRASHES && !self.renewal.is_only_way {
            self.off = Some(WarmOff::Crashes);
        }
        self.is_due |= self.present.take().is_some();
    }

    /// None could be made, for a reason that may pass: the maker has ended, or a step was refused.
    /// It is tried again later; the present one serves until then.
    pub(super) fn postponed(&mut self, now: Instant) {
        self.is_asked = false;
        match self.present.is_some() || self.off.is_some() {
            true => self.due_from = Some(now + CHANGE_TIME),
            false => self.backoff.exited(now),
        }
    }

    /// A file of the template has changed: a new one is needed.
    pub(super) fn files_changed(&mut self, now: Instant) {
        let from = self.changed.map_or(now, |last| now.max(last + CHANGE_TIME));
        (self.changed, self.due_from) = (Some(from), Some(from));
    }

    /// An operator has looked: a new one is needed at once. The present one serves until then.
    pub(super) fn want(&mut self) {
        self.is_due = true;
        self.off = None;
        self.crashes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEWAL: Renewal = Renewal { connections: 3, time: Duration::from_secs(600), is_only_way: false };

    fn made(now: Instant) -> TemplateState {
        let mut state = TemplateState::new(RENEWAL, now);
        assert!(state.take_need(now) && !state.copies());
        assert!(!state.take_need(now), "asked for");
        state.made(now);
        assert!(state.copies() && !state.take_need(now));
        state
    }

    #[test]
    fn where_there_is_no_other_way_crashes_and_refusals_end_nothing() {
        let now = Instant::now();
        let mut state = TemplateState::new(Renewal { is_only_way: true, ..RENEWAL }, now);
        for _ in 0..2 * CRASHES {
            assert!(state.take_need(now));
            state.made(now);
            state.crashed(now);
        }
        assert!(state.take_need(now) && state.off().is_none());
        state.refused(now);
        assert!(!state.take_need(now) && state.take_need(now + CHANGE_TIME));
    }

    #[test]
    fn a_template_is_renewed_after_connections_and_after_a_time() {
        let now = Instant::now();
        let mut state = made(now);
        (0..2).for_each(|_| state.copied());
        assert!(!state.take_need(now));
        state.copied();
        assert!(state.take_need(now) && state.copies(), "the old one serves");
        state.made(now);
        assert!(!state.take_need(now + RENEWAL.time - Duration::from_secs(1)));
        assert!(state.take_need(now + RENEWAL.time));
        let later = now + RENEWAL.time + CHANGE_TIME;
        state.postponed(now + RENEWAL.time);
        assert!(state.copies() && state.take_need(later), "for a reason that may pass");
        for number in 0..2 {
            let refused = later + RENEWAL.time * number;
            state.refused(refused);
            assert_eq!(
                (state.off(), state.copies()),
                (Some(WarmOff::Refused), false),
                "it is another program"
            );
            assert!(!state.take_need(refused + RENEWAL.time / 2) && state.take_need(refused + RENEWAL.time));
        }
        state.postponed(later);
        assert!(!state.take_need(later) && state.take_need(later + CHANGE_TIME));
        state.made(later);
        assert!(state.copies() && state.off().is_none());
    }

    #[test]
    fn files_that_change_often_do_not_keep_the_maker_busy() {
        let now = Instant::now();
        let mut state = made(now);
        state.files_changed(now);
        assert!(state.take_need(now) && state.copies(), "at once, and the old one serves");
        state.made(now);
        state.files_changed(now);
        assert!(!state.take_need(now + CHANGE_TIME - Duration::from_millis(1)));
        assert!(state.take_need(now + CHANGE_TIME));
    }

    #[test]
    fn the_first_one_decides_whether_there_are_copies() {
        let now = Instant::now();
        let mut state = TemplateState::new(RENEWAL, now);
        assert!(state.take_need(now));
        state.refused(now);
        assert_eq!((state.off(), state.copies()), (Some(WarmOff::Refused), false));
        assert!(!state.take_need(now + RENEWAL.time));
    }

    #[test]
    fn one_that_ends_is_made_again_after_a_delay_that_grows() {
        let mut now = Instant::now();
        let mut state = made(now);
        for delay in [0, 100, 200, 400] {
            state.lost(now);
            let due = now + Duration::from_millis(delay);
            assert!(!state.copies() && (delay == 0 || !state.take_need(due - Duration::from_millis(1))));
            assert!(state.take_need(due), "{delay}");
            now = due;
            state.made(now);
        }
    }

    #[test]
    fn a_maker_that_ends_is_started_again_with_a_growing_delay() {
        let now = Instant::now();
        let mut state = TemplateState::new(RENEWAL, now);
        assert!(state.take_need(now));
        state.postponed(now);
        assert!(state.take_need(now) && state.off().is_none());
        state.postponed(now);
        assert!(!state.take_need(now) && state.take_need(now + Duration::from_millis(100)));
        let mut state = made(now);
        state.postponed(now);
        assert!(state.copies() && state.take_need(now + CHANGE_TIME));
    }

    #[test]
    fn three_crashes_in_a_minute_end_the_copies() {
        let mut now = Instant::now();
        let mut state = made(now);
        for _ in 0..2 {
            state.crashed(now);
            assert!(!state.copies() && state.off().is_none());
            assert!(state.take_need(now), "at once");
            state.made(now);
        }
        now += CRASH_TIME;
        state.crashed(now);
        assert_eq!(state.off(), None, "the others are long ago");
        (0..2).for_each(|_| state.crashed(now));
        assert_eq!(state.off(), Some(WarmOff::Crashes));
        assert!(!state.take_need(now + CRASH_TIME));
        state.want();
        assert!(state.off().is_none() && state.take_need(now));
        state.made(now);
        state.want();
        assert!(state.copies() && state.take_need(now), "the old one serves");
    }
}
