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
mod tests;
