//! Decides from the observations of a connection when to end it. No system call here.

use std::time::{Duration, Instant};

use super::Timeouts;
use super::answers::{AnswerInfo, AnswerLimits, PendingAnswer};
use crate::lifecycle::outcome::EndReason;
use crate::lifecycle::timing::{CLIENT_GONE_GRACE, KILL_AFTER};

/// The shortest and the longest time from one look to the next.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(25);
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// The time between looks at what clients have received.
const OUTPUT_INTERVAL: Duration = Duration::from_millis(50);

/// The rules for all connections of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchRules {
    pub(crate) timeouts: Timeouts,
    /// Whether a connection ends when its client disconnects: so with programs. Handlers notice by
    /// themselves.
    pub(crate) ends_without_client: bool,
    /// The bytes that a client may receive.
    pub(crate) max_output: Option<u64>,
    /// When a client that does not answer counts as gone; `None` if it never does.
    pub(crate) answers: Option<AnswerLimits>,
}

impl WatchRules {
    /// Whether any rule needs observations.
    pub(crate) fn are_any(&self) -> bool {
        self.need_sockets() || self.answers.is_some()
    }

    /// Whether a rule concerns connections from their first second on, so that each one's socket is
    /// noted when it is accepted. The others find it by the address of the client.
    #[inline]
    pub(crate) fn need_sockets(&self) -> bool {
        self.ends_without_client || self.timeouts.are_any() || self.max_output.is_some()
    }

    /// Whether a rule depends on the byte counts of sockets.
    pub(crate) fn need_byte_counts(&self) -> bool {
        self.timeouts.need_byte_counts() || self.max_output.is_some()
    }

    /// The time from one look to the next: a quarter of the shortest timeout; short where the bytes
    /// of clients are limited.
    pub(crate) fn interval(&self) -> Duration {
        match self.answers {
            Some(answers) if !self.need_sockets() => answers.interval(),
            _ => {
                let of_output = self.max_output.map(|_| OUTPUT_INTERVAL);
                let quarters = self.timeouts.all().map(|time| time / 4).chain(of_output);
                let shortest = quarters.min().unwrap_or(LONGEST_INTERVAL);
                shortest.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
            }
        }
    }
}

/// An observation of a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// The socket is connected. The sum of the bytes in both directions, and whether the client
    /// sent any; both only where bytes are counted. What is unanswered, at some looks.
    Connected { bytes: u64, received_any: bool, answers: Option<AnswerInfo> },
    /// The kernel has closed the connection while the process has the socket open: the client reset
    /// it, or stopped answering.
    Disconnected,
    /// Not observable: a Unix socket, or a socket that the process has closed.
    Unknown,
}

/// How to signal the processes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escalation {
    Term,
    Kill,
}

/// A connection as of its last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackedConnection {
    pub(crate) id: u64,
    started: Instant,
    bytes: u64,
    /// Time of the last change of `bytes`.
    last_traffic: Instant,
    received_any: bool,
    /// From the start to the first look that found a byte of the client.
    first_byte: Option<Duration>,
    /// Bytes received and acknowledged, as of the last look that had them.
    sample: Option<(u64, u64)>,
    pending: PendingAnswer,
    phase: EndPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndPhase {
    Running,
    /// The client has disconnected; the program may exit by itself until this time.
    Grace(Instant),
    /// TERM was sent; KILL follows at this time.
    Terminating(EndReason, Instant),
    Killed(EndReason),
}

impl TrackedConnection {
    /// A connection that was accepted at `started`, before its first look.
    pub(crate) fn new(id: u64, started: Instant) -> TrackedConnection {
        TrackedConnection {
            id,
            started,
            bytes: 0,
            last_traffic: started,
            received_any: false,
            first_byte: None,
            sample: None,
            pending: PendingAnswer::default(),
            phase: EndPhase::Running,
        }
    }

    /// Records an observation, and decides how to signal the connection now.
    pub(crate) fn look(
        &mut self,
        observation: Observation,
        rules: &WatchRules,
        now: Instant,
    ) -> Option<Escalation> {
        if let Observation::Connected { bytes, received_any, .. } = observation {
            if matches!(self.phase, EndPhase::Grace(_)) {
                self.phase = EndPhase::Running;
            }
            if bytes != self.bytes {
                self.bytes = bytes;
                self.last_traffic = now;
            }
            // Other rules look rarely.
            if received_any && !self.received_any && rules.need_byte_counts() {
                self.first_byte = Some(now.saturating_duration_since(self.started));
            }
            self.received_any |= received_any;
        }
        if observation == Observation::Disconnected
            && rules.ends_without_client
            && self.phase == EndPhase::Running
        {
            self.phase = EndPhase::Grace(now + CLIENT_GONE_GRACE);
        }
        let is_gone = self.is_gone(observation, rules, now);
        self.escalate(observation, is_gone, rules, now)
    }

    /// Whether the client has not answered for too long.
    fn is_gone(&mut self, observation: Observation, rules: &WatchRules, now: Instant) -> bool {
        match (observation, rules.answers) {
            (Observation::Connected { answers: Some(info), .. }, Some(limits)) => {
                self.pending.look(&info, &limits, now)
            }
            _ => false,
        }
    }

    fn escalate(
        &mut self,
        observation: Observation,
        is_gone: bool,
        rules: &WatchRules,
        now: Instant,
    ) -> Option<Escalation> {
        match self.phase {
            EndPhase::Running => {
                let expired = self.expired(observation, &rules.timeouts, now);
                let received = self.sample.map_or(0, |(_, sent)| sent);
                let is_full = rules.max_output.is_some_and(|limit| received > limit);
                let expired = expired.or(is_full.then_some(EndReason::Output));
                let reason = expired.or(is_gone.then_some(EndReason::KeepAlive));
                reason.map(|reason| self.terminate(reason, now))
            }
            EndPhase::Grace(until) if until <= now => Some(self.terminate(EndReason::ClientGone, now)),
            EndPhase::Terminating(reason, until) if until <= now => {
                self.phase = EndPhase::Killed(reason);
                Some(Escalation::Kill)
            }
            _ => None,
        }
    }

    /// The timeout that has expired, if any.
    fn expired(&self, observation: Observation, timeouts: &Timeouts, now: Instant) -> Option<EndReason> {
        let over = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        let counted = matches!(observation, Observation::Connected { .. });
        if over(self.started, timeouts.lifetime) {
            Some(EndReason::Lifetime)
        } else if counted && !self.received_any && over(self.started, timeouts.first_byte) {
            Some(EndReason::FirstByte)
        } else if counted && over(self.last_traffic, timeouts.idle) {
            Some(EndReason::Idle)
        } else {
            None
        }
    }

    fn terminate(&mut self, reason: EndReason, now: Instant) -> Escalation {
        self.phase = EndPhase::Terminating(reason, now + KILL_AFTER);
        Escalation::Term
    }

    /// From the start to the first look that found a byte of the client, if one has.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// Notes the bytes received from the client and acknowledged by it.
    pub(super) fn note_sample(&mut self, sample: (u64, u64)) {
        self.sample = Some(sample);
    }

    /// The bytes of the last look that had them.
    pub(crate) fn sample(&self) -> Option<(u64, u64)> {
        self.sample
    }

    /// The time of the next signal that needs no further observation.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            EndPhase::Grace(until) | EndPhase::Terminating(_, until) => Some(until),
            EndPhase::Running | EndPhase::Killed(_) => None,
        }
    }

    /// Why the connection is being ended, if so.
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

    fn connected(bytes: u64) -> Observation {
        Observation::Connected { bytes, received_any: bytes > 0, answers: None }
    }

    /// Makes observations at times in milliseconds, and compares the escalations.
    fn play(rules: WatchRules, script: &[(u64, Observation, Option<Escalation>)]) -> Option<EndReason> {
        let start = Instant::now();
        let mut connection = TrackedConnection::new(1, start);
        for (at, observation, escalation) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(connection.look(*observation, &rules, now), *escalation, "{observation:?} at {at}");
        }
        connection.reason()
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    const PROGRAM: WatchRules = WatchRules {
        timeouts: Timeouts { idle: None, lifetime: None, first_byte: None },
        ends_without_client: true,
        max_output: None,
        answers: None,
    };

    /// The rules of a handler without timeouts.
    const HANDLER: WatchRules = WatchRules {
        timeouts: Timeouts { idle: None, lifetime: None, first_byte: None },
        ends_without_client: false,
        max_output: None,
        answers: Some(AnswerLimits { silence: Duration::from_secs(120), newest: Duration::from_secs(10) }),
    };

    #[test]
    fn a_disconnected_client_ends_its_program_with_term_after_5_s_and_kill_after_7_s() {
        let script = [
            (0, connected(0), None),
            (1_000, Observation::Disconnected, None),
            (5_999, Observation::Disconnected, None),
            (6_000, Observation::Disconnected, Some(Escalation::Term)),
            (7_999, Observation::Disconnected, None),
            (8_000, Observation::Disconnected, Some(Escalation::Kill)),
            (20_000, Observation::Disconnected, None),
        ];
        assert_eq!(play(PROGRAM, &script), Some(EndReason::ClientGone));
    }

    #[test]
    fn a_program_that_closed_its_socket_is_not_ended() {
        assert_eq!(play(PROGRAM, &[(0, connected(0), None), (99_000, Observation::Unknown, None)]), None);
    }

    #[test]
    fn handlers_are_not_ended_when_the_client_disconnects() {
        let rules = WatchRules { ends_without_client: false, ..PROGRAM };
        assert_eq!(
            play(rules, &[(0, Observation::Disconnected, None), (99_000, Observation::Disconnected, None)]),
            None
        );
    }

    #[test]
    fn the_idle_timeout_starts_at_the_last_byte() {
        let rules = WatchRules { timeouts: Timeouts { idle: seconds(3), ..Timeouts::default() }, ..PROGRAM };
        let script = [
            (2_000, connected(1), None),
            (4_900, connected(1), None),
            (4_950, connected(9), None),
            (7_949, connected(9), None),
            (7_950, connected(9), Some(Escalation::Term)),
            (9_950, connected(9), Some(Escalation::Kill)),
        ];
        assert_eq!(play(rules, &script), Some(EndReason::Idle));
    }

    #[test]
    fn the_idle_timeout_needs_an_observable_socket() {
        let rules = WatchRules { timeouts: Timeouts { idle: seconds(3), ..Timeouts::default() }, ..PROGRAM };
        assert_eq!(play(rules, &[(3_000, connected(0), Some(Escalation::Term))]), Some(EndReason::Idle));
        assert_eq!(play(rules, &[(3_000, Observation::Unknown, None)]), None);
    }

    #[test]
    fn the_lifetime_needs_no_observable_socket() {
        let rules =
            WatchRules { timeouts: Timeouts { lifetime: seconds(2), ..Timeouts::default() }, ..PROGRAM };
        for observation in [connected(5), Observation::Unknown] {
            let script = [(1_999, observation, None), (2_000, observation, Some(Escalation::Term))];
            assert_eq!(play(rules, &script), Some(EndReason::Lifetime));
        }
    }

    #[test]
    fn the_first_byte_timeout_ends_with_the_first_byte_of_the_client() {
        let rules =
            WatchRules { timeouts: Timeouts { first_byte: seconds(1), ..Timeouts::default() }, ..PROGRAM };
        assert_eq!(play(rules, &[(1_000, connected(0), Some(Escalation::Term))]), Some(EndReason::FirstByte));
        assert_eq!(play(rules, &[(900, connected(1), None), (9_000, connected(1), None)]), None);
        let start = Instant::now();
        let mut connection = TrackedConnection::new(1, start);
        for (at, bytes, first_byte) in [(300, 0, None), (600, 3, Some(600)), (900, 9, Some(600))] {
            connection.look(connected(bytes), &rules, start + Duration::from_millis(at));
            assert_eq!(connection.first_byte(), first_byte.map(Duration::from_millis), "{at}");
        }
        // A byte that the server sends is not the client's first byte.
        let sent = Observation::Connected { bytes: 7, received_any: false, answers: None };
        assert_eq!(play(rules, &[(1_000, sent, Some(Escalation::Term))]), Some(EndReason::FirstByte));
    }

    #[test]
    fn a_client_that_does_not_answer_ends_its_handler_or_program_with_term_and_kill() {
        let unanswered = |seconds: u64| {
            let ago = Duration::from_secs(seconds);
            let answers = AnswerInfo { unacked: 9, probes: 0, data_sent_ago: ago / 2, answered_ago: ago };
            Observation::Connected { bytes: 0, received_any: false, answers: Some(answers) }
        };
        let script = [
            (0, unanswered(5), None),
            (115_000, unanswered(119), None),
            (116_000, connected(0), None),
            (121_000, unanswered(126), Some(Escalation::Term)),
            (123_000, unanswered(128), Some(Escalation::Kill)),
        ];
        for rules in [HANDLER, WatchRules { answers: HANDLER.answers, ..PROGRAM }] {
            assert_eq!(play(rules, &script), Some(EndReason::KeepAlive));
        }
        assert_eq!(play(WatchRules { answers: None, ..HANDLER }, &script[..2]), None);
    }

    #[test]
    fn without_other_rules_the_answers_are_looked_at_rarely_and_no_socket_is_noted() {
        assert_eq!(HANDLER.interval(), Duration::from_secs(10));
        assert!(HANDLER.are_any() && !HANDLER.need_sockets());
        assert!(!WatchRules { answers: None, ..HANDLER }.are_any());
        let program = WatchRules { answers: HANDLER.answers, ..PROGRAM };
        assert_eq!((program.interval(), program.need_sockets()), (Duration::from_secs(1), true));
    }

    #[test]
    fn the_interval_is_a_quarter_of_the_shortest_timeout() {
        for (idle, millis) in [(None, 1_000), (Some(60_000), 1_000), (Some(2_000), 500), (Some(1), 25)] {
            let idle = idle.map(Duration::from_millis);
            let rules = WatchRules { timeouts: Timeouts { idle, ..Timeouts::default() }, ..PROGRAM };
            assert_eq!(rules.interval(), Duration::from_millis(millis));
        }
    }

    #[test]
    fn a_connection_ends_when_its_client_has_received_more_than_it_may() {
        let rules = WatchRules { max_output: Some(1000), ..HANDLER };
        assert!(rules.need_sockets() && rules.need_byte_counts());
        assert_eq!(rules.interval(), OUTPUT_INTERVAL);
        let now = Instant::now();
        let mut connection = TrackedConnection::new(1, now);
        for (sent, escalation) in [(0, None), (1000, None), (1001, Some(Escalation::Term))] {
            connection.note_sample((7, sent));
            assert_eq!(connection.look(connected(sent), &rules, now), escalation, "{sent}");
        }
        assert_eq!(connection.reason(), Some(EndReason::Output));
    }
}
