//! The interval timers that a program has armed (setitimer(2), alarm(2)). The kernel does not list
//! them, so the calls are followed.

use super::call::{Look, NamedCall};

/// The timers of a process, by their numbers: each armed once, or again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IntervalTimers([Option<Repeats>; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repeats(bool);

/// The signals of the timers, by their numbers: SIGALRM, SIGVTALRM, SIGPROF.
const SIGNALS: [i32; 3] = [14, 26, 27];

impl IntervalTimers {
    /// The number of armed timers.
    pub(super) fn armed(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// Follows a call that the process is about to make. One that fails counts as well: then there
    /// may be a timer too many here, never one too few.
    pub(super) fn follow(&mut self, call: &NamedCall, look: &dyn Look) {
        match call.name {
            "alarm" => self.0[0] = (call.arguments[0] & 0xffff_ffff != 0).then_some(Repeats(false)),
            "setitimer" => {
                let at = usize::try_from(call.arguments[0] & 0xffff_ffff).unwrap_or(usize::MAX);
                let place = call.arguments[1];
                let word = |number: u64| look.word(place.wrapping_add(number * 8)).unwrap_or(1);
                let [repeats, is_armed] =
                    [0, 2].map(|first| place != 0 && word(first) | word(first + 1) != 0);
                if let Some(timer) = self.0.get_mut(at) {
                    *timer = is_armed.then_some(Repeats(repeats));
                }
            }
            _ => {}
        }
    }

    /// Notes a signal that the process gets: a timer without repetition has expired.
    pub(super) fn note_signal(&mut self, signal: i32) {
        for (timer, own) in self.0.iter_mut().zip(SIGNALS) {
            if own == signal && *timer == Some(Repeats(false)) {
                *timer = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::fake::{FakeTask, call};
    use super::*;

    #[test]
    fn armed_timers_are_counted() {
        let values = |words: [u64; 4]| words.map(u64::to_ne_bytes).concat();
        let memory =
            vec![(4096, values([0, 0, 1, 0])), (8192, values([0, 5, 0, 5])), (12288, values([0; 4]))];
        let task = FakeTask { memory, ..FakeTask::default() };
        let mut timers = IntervalTimers::default();
        for (name, arguments, armed) in [
            ("alarm", &[5][..], 1),
            ("alarm", &[0], 0),
            ("setitimer", &[0, 4096], 1),
            ("setitimer", &[2, 8192], 2),
            ("setitimer", &[0, 12288], 1),
            ("setitimer", &[9, 4096], 1),
            ("setitimer", &[2, 0], 0),
            ("read", &[0], 0),
            ("setitimer", &[1, 8192], 1),
            ("alarm", &[1], 2),
        ] {
            timers.follow(&call(name, arguments), &task);
            assert_eq!(timers.armed(), armed, "{name} {arguments:?}");
        }
        timers.note_signal(26);
        assert_eq!(timers.armed(), 2, "it repeats");
        timers.note_signal(14);
        assert_eq!(timers.armed(), 1);
    }
}
