//! Decides from what the kernel says about acknowledgements whether a client still answers. No
//! system call here.
//!
//! Keep-alive finds a client that vanishes from an idle connection. While data is in flight, the
//! kernel sends no keep-alive probes but repeats the data, for a quarter of an hour
//! (`tcp_retries2`, tcp(7)). `TCP_USER_TIMEOUT` would end that sooner, and with it each client
//! whose receive window is closed, although such a client answers every probe (RFC 9293, 3.8.6.1).
//! The time of the last acknowledgement tells the two apart.

use std::time::{Duration, Instant};

/// What the kernel says about the answers of a client (`struct tcp_info`, linux/tcp.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerInfo {
    /// Segments that the client has not acknowledged.
    pub(crate) unacked: u32,
    /// Probes that the client has not answered: of a closed receive window, or of keep-alive.
    pub(crate) probes: u8,
    /// Time since data was last sent, for the first time or again.
    pub(crate) data_sent_ago: Duration,
    /// Time since the client last acknowledged anything, new or old.
    pub(crate) answered_ago: Duration,
}

/// When a client that does not answer counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerLimits {
    /// The time without an answer, while data or a probe waits for one.
    pub(crate) silence: Duration,
    /// The time that the newest segment or probe has to be answered. The kernel repeats them at
    /// growing intervals, up to two minutes: one lost probe must not end a client whose window is
    /// closed.
    pub(crate) newest: Duration,
}

/// The longest time from one look at the answers to the next.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

impl AnswerLimits {
    /// The limits of a server with this keep-alive: the time that it takes to end an idle
    /// connection, two minutes by default.
    #[inline]
    pub(crate) fn for_keep_alive(time: Duration, interval: Duration, probes: u32) -> AnswerLimits {
        AnswerLimits { silence: time + interval * probes, newest: interval }
    }

    /// The time from one look at the answers to the next.
    pub(crate) fn interval(&self) -> Duration {
        self.newest.min(LONGEST_INTERVAL)
    }
}

/// Data or a probe that waits for an answer, as of the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PendingAnswer(Option<Unanswered>);

#[derive(Clone, Copy, Debug)]
struct Unanswered {
    /// The last answer; the first look that found something pending, if that was later.
    since: Instant,
    probes: u8,
    /// The first look that found this number of probes.
    probed: Instant,
}

impl PendingAnswer {
    /// Records what the kernel says. True if the client counts as gone.
    pub(crate) fn look(&mut self, info: &AnswerInfo, limits: &AnswerLimits, now: Instant) -> bool {
        // An answer to the newest segment that acknowledges nothing new is that of a client whose
        // window is closed.
        let data = info.unacked > 0 && info.data_sent_ago < info.answered_ago;
        if !data && info.probes == 0 {
            self.0 = None;
            return false;
        }
        let before = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        let pending = match self.0 {
            None => Unanswered { since: now, probes: info.probes, probed: now },
            Some(last) => Unanswered {
                since: last.since.max(before(info.answered_ago)),
                probes: info.probes,
                probed: if last.probes == info.probes { last.probed } else { now },
            },
        };
        self.0 = Some(pending);
        let sent = data.then(|| before(info.data_sent_ago));
        let newest = sent.into_iter().chain((info.probes > 0).then_some(pending.probed)).max();
        now.saturating_duration_since(pending.since) >= limits.silence
            && newest.is_some_and(|newest| now.saturating_duration_since(newest) >= limits.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AnswerLimits =
        AnswerLimits { silence: Duration::from_secs(120), newest: Duration::from_secs(10) };

    #[test]
    fn the_limits_are_those_of_keep_alive() {
        let second = Duration::from_secs(1);
        let limits = AnswerLimits::for_keep_alive(60 * second, 10 * second, 6);
        assert_eq!((limits, limits.interval()), (LIMITS, 10 * second));
        for (interval, looks) in [(1, 1), (75, 10)] {
            let limits = AnswerLimits::for_keep_alive(7200 * second, interval * second, 9);
            assert_eq!(limits.interval(), looks * second);
        }
    }

    /// Seconds, unacknowledged segments, probes, seconds since data was sent, seconds since the
    /// last answer.
    type Look = (u64, u32, u8, u64, u64);

    /// The time of the look at which the client counts as gone.
    fn gone(looks: impl IntoIterator<Item = Look>) -> Option<u64> {
        let start = Instant::now();
        let mut pending = PendingAnswer::default();
        looks.into_iter().find_map(|(at, unacked, probes, sent, answered)| {
            let [data_sent_ago, answered_ago] = [sent, answered].map(Duration::from_secs);
            let info = AnswerInfo { unacked, probes, data_sent_ago, answered_ago };
            pending.look(&info, &LIMITS, start + Duration::from_secs(at)).then_some(at)
        })
    }

    /// Looks every ten seconds, up to twenty minutes.
    fn every_ten_seconds(look: impl Fn(u64) -> Look) -> impl Iterator<Item = Look> {
        (1..120).map(move |number| look(number * 10))
    }

    #[test]
    fn a_client_that_vanishes_while_it_receives_is_gone_after_the_silence() {
        // The last answer comes at 5 s; repeated segments follow at 25, 51 and 102 s.
        let sent = |at: u64| [102, 51, 25, 12, 6].into_iter().find(|sent| *sent <= at).unwrap_or(0);
        let script = every_ten_seconds(|at| (at, 10, 0, at - sent(at), at - 5));
        assert_eq!(gone(script), Some(130));
    }

    #[test]
    fn the_newest_segment_has_time_to_be_answered() {
        for (repeated, at) in [(60, 125), (121, 135)] {
            let sent = |at: u64| [repeated, 20, 4].into_iter().find(|sent| *sent <= at).unwrap_or(0);
            let script = (1..40).map(|number| number * 5).map(|at| (at, 10, 0, at - sent(at), at - 1));
            assert_eq!(gone(script), Some(at), "{repeated}");
        }
    }

    #[test]
    fn a_client_that_reads_slowly_and_answers_probes_lives() {
        // The window is closed: nothing is unacknowledged, a probe is sent every 120 s, and some
        // looks come before its answer.
        let script = every_ten_seconds(|at| match at % 120 {
            0 => (at, 0, 1, at, 120),
            since => (at, 0, 0, at, since),
        });
        assert_eq!(gone(script), None);
    }

    #[test]
    fn one_lost_probe_ends_no_client() {
        // Probes at 120 s, which is lost, and at 240 s, which the look finds before its answer.
        let script = every_ten_seconds(|at| match at {
            0..120 => (at, 0, 0, at, at),
            120..240 => (at, 0, 1, at, at),
            240 => (at, 0, 2, at, at),
            _ => (at, 0, 0, at, (at - 240) % 120),
        });
        assert_eq!(gone(script), None);
    }

    #[test]
    fn a_client_that_vanishes_with_a_closed_window_is_gone() {
        let probes = |at: u64| 1 + u8::try_from(at / 60).expect("few");
        assert_eq!(gone(every_ten_seconds(|at| (at, 0, probes(at), at, at))), Some(130));
    }

    #[test]
    fn a_client_that_shrinks_its_window_and_answers_repeated_segments_lives() {
        // Data is unacknowledged for ever; each repetition is answered within the same look.
        let script = every_ten_seconds(|at| (at, 3, 0, at % 120, at % 120));
        assert_eq!(gone(script), None);
    }

    #[test]
    fn a_client_without_keep_alive_has_the_whole_time_for_its_first_answer() {
        // Nothing was sent for an hour.
        let script = (0..12).map(|number| 3600 + number * 10).map(|at| (at, 1, 0, at - 3600, at));
        assert_eq!(gone(script), None);
    }

    #[test]
    fn a_client_that_answers_again_or_has_nothing_to_answer_lives() {
        let away = every_ten_seconds(|at| match at {
            0..120 => (at, 5, 0, at % 50, at),
            _ => (at, 5, 0, 0, 1),
        });
        assert_eq!(gone(away), None);
        assert_eq!(gone(every_ten_seconds(|at| (at, 0, 0, at, at))), None);
    }
}
