//! What to do about a connection, decided from what is seen of it. No system call here.

use std::time::{Duration, Instant};

use super::Timeouts;
use crate::lifecycle::outcome::EndReason;
use crate::lifecycle::timing::{CLIENT_GONE_GRACE, KILL_AFTER};

/// The least and the most time from one look to the next.
const OFTEN: Duration = Duration::from_millis(25);
const SELDOM: Duration = Duration::from_secs(1);

/// The rules for all connections of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchRules {
    pub(crate) timeouts: Timeouts,
    /// Whether a connection whose client has gone is to end.
    pub(crate) clients_matter: bool,
}

impl WatchRules {
    /// Whether there is anything to look at.
    pub(crate) fn are_any(&self) -> bool {
        self.clients_matter || self.timeouts.all().next().is_some()
    }

    /// The time from one look to the next: a quarter of the shortest time to be kept.
    pub(crate) fn interval(&self) -> Duration {
        let shortest = self.timeouts.all().min().map_or(SELDOM, |time| time / 4);
        shortest.clamp(OFTEN, SELDOM)
    }
}

/// What was seen of a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It is there. Bytes in and out together, and whether any came from the client, where they are counted.
    There { bytes: u64, spoke: bool },
    /// It has gone, and the process still has it: the client reset it, or stopped answering.
    Gone,
    /// Nothing can be said: a Unix socket, or the process has closed its end.
    Nothing,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escalation {
    Term,
    Kill,
}

/// What is remembered of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackedConnection {
    pub(crate) id: u64,
    started: Instant,
    bytes: u64,
    moved: Instant,
    spoke: bool,
    phase: EndPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndPhase {
    Running,
    /// The client has gone; the program may end by itself until then.
    Grace(Instant),
    /// It was told to end, and is killed then.
    Terminating(EndReason, Instant),
    Killed(EndReason),
}

impl TrackedConnection {
    /// A connection that began at `started` and is seen for the first time.
    pub(crate) fn new(id: u64, started: Instant) -> TrackedConnection {
        TrackedConnection { id, started, bytes: 0, moved: started, spoke: false, phase: EndPhase::Running }
    }

    /// Takes note of a look at the connection, and decides.
    pub(crate) fn look(&mut self, seen: Observation, rules: &WatchRules, now: Instant) -> Option<Escalation> {
        if let Observation::There { bytes, spoke } = seen {
            if matches!(self.phase, EndPhase::Grace(_)) {
                self.phase = EndPhase::Running;
            }
            if bytes != self.bytes {
                self.bytes = bytes;
                self.moved = now;
            }
            self.spoke |= spoke;
        }
        if seen == Observation::Gone && rules.clients_matter && self.phase == EndPhase::Running {
            self.phase = EndPhase::Grace(now + CLIENT_GONE_GRACE);
        }
        self.at(seen, rules, now)
    }

    fn at(&mut self, seen: Observation, rules: &WatchRules, now: Instant) -> Option<Escalation> {
        match self.phase {
            EndPhase::Running => {
                self.overdue(seen, &rules.timeouts, now).map(|reason| self.tell(reason, now))
            }
            EndPhase::Grace(until) if until <= now => Some(self.tell(EndReason::ClientGone, now)),
            EndPhase::Terminating(reason, until) if until <= now => {
                self.phase = EndPhase::Killed(reason);
                Some(Escalation::Kill)
            }
            _ => None,
        }
    }

    fn overdue(&self, seen: Observation, timeouts: &Timeouts, now: Instant) -> Option<EndReason> {
        let over = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        let counted = matches!(seen, Observation::There { .. });
        if over(self.started, timeouts.lifetime) {
            Some(EndReason::Lifetime)
        } else if counted && !self.spoke && over(self.started, timeouts.first_byte) {
            Some(EndReason::FirstByte)
        } else if counted && over(self.moved, timeouts.idle) {
            Some(EndReason::Idle)
        } else {
            None
        }
    }

    fn tell(&mut self, reason: EndReason, now: Instant) -> Escalation {
        self.phase = EndPhase::Terminating(reason, now + KILL_AFTER);
        Escalation::Term
    }

    /// When something falls due by time alone.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            EndPhase::Grace(until) | EndPhase::Terminating(_, until) => Some(until),
            EndPhase::Running | EndPhase::Killed(_) => None,
        }
    }

    /// Why it was told to end, if it was.
    pub(crate) fn reason(&self) -> Option<EndReason> {
        match self.phase {
            EndPhase::Terminating(reason, _) | EndPhase::Killed(reason) => Some(reason),
            EndPhase::Running | EndPhase::Grace(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(bytes: u64) -> Observation {
        Observation::There { bytes, spoke: bytes > 0 }
    }

    /// Plays looks at times in milliseconds, and compares the verdicts.
    fn play(rules: WatchRules, script: &[(u64, Observation, Option<Escalation>)]) -> Option<EndReason> {
        let start = Instant::now();
        let mut watched = TrackedConnection::new(1, start);
        for (at, seen, verdict) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(watched.look(*seen, &rules, now), *verdict, "{seen:?} at {at}");
        }
        watched.reason()
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    const PROGRAM: WatchRules = WatchRules {
        timeouts: Timeouts { idle: None, lifetime: None, first_byte: None },
        clients_matter: true,
    };

    #[test]
    fn a_client_that_has_gone_gives_five_seconds_then_two() {
        let script = [
            (0, there(0), None),
            (1_000, Observation::Gone, None),
            (5_999, Observation::Gone, None),
            (6_000, Observation::Gone, Some(Escalation::Term)),
            (7_999, Observation::Gone, None),
            (8_000, Observation::Gone, Some(Escalation::Kill)),
            (20_000, Observation::Gone, None),
        ];
        assert_eq!(play(PROGRAM, &script), Some(EndReason::ClientGone));
    }

    #[test]
    fn a_program_that_has_closed_its_end_goes_on() {
        assert_eq!(play(PROGRAM, &[(0, there(0), None), (99_000, Observation::Nothing, None)]), None);
    }

    #[test]
    fn for_handlers_a_client_that_has_gone_is_their_own_business() {
        let rules = WatchRules { clients_matter: false, ..PROGRAM };
        assert_eq!(play(rules, &[(0, Observation::Gone, None), (99_000, Observation::Gone, None)]), None);
    }

    #[test]
    fn idle_counts_from_the_last_byte() {
        let rules = WatchRules { timeouts: Timeouts { idle: seconds(3), ..Timeouts::default() }, ..PROGRAM };
        let script = [
            (2_000, there(1), None),
            (4_900, there(1), None),
            (4_950, there(9), None),
            (7_949, there(9), None),
            (7_950, there(9), Some(Escalation::Term)),
            (9_950, there(9), Some(Escalation::Kill)),
        ];
        assert_eq!(play(rules, &script), Some(EndReason::Idle));
    }

    #[test]
    fn idle_from_the_start_and_nothing_known() {
        let rules = WatchRules { timeouts: Timeouts { idle: seconds(3), ..Timeouts::default() }, ..PROGRAM };
        assert_eq!(play(rules, &[(3_000, there(0), Some(Escalation::Term))]), Some(EndReason::Idle));
        assert_eq!(play(rules, &[(3_000, Observation::Nothing, None)]), None);
    }

    #[test]
    fn lifetime_whatever_is_seen() {
        let rules =
            WatchRules { timeouts: Timeouts { lifetime: seconds(2), ..Timeouts::default() }, ..PROGRAM };
        for seen in [there(5), Observation::Nothing] {
            let script = [(1_999, seen, None), (2_000, seen, Some(Escalation::Term))];
            assert_eq!(play(rules, &script), Some(EndReason::Lifetime));
        }
    }

    #[test]
    fn the_first_byte_is_waited_for_once() {
        let rules =
            WatchRules { timeouts: Timeouts { first_byte: seconds(1), ..Timeouts::default() }, ..PROGRAM };
        assert_eq!(play(rules, &[(1_000, there(0), Some(Escalation::Term))]), Some(EndReason::FirstByte));
        assert_eq!(play(rules, &[(900, there(1), None), (9_000, there(1), None)]), None);
        // What the server sends is not the client's first byte.
        let sent = Observation::There { bytes: 7, spoke: false };
        assert_eq!(play(rules, &[(1_000, sent, Some(Escalation::Term))]), Some(EndReason::FirstByte));
    }

    #[test]
    fn how_often_to_look() {
        for (idle, millis) in [(None, 1_000), (Some(60_000), 1_000), (Some(2_000), 500), (Some(1), 25)] {
            let idle = idle.map(Duration::from_millis);
            let rules = WatchRules { timeouts: Timeouts { idle, ..Timeouts::default() }, ..PROGRAM };
            assert_eq!(rules.interval(), Duration::from_millis(millis));
        }
    }
}
