//! Penalties: a source is rejected for a time after faults of its connections. The names, defaults
//! and limits are those of `PerSourcePenalties`, sshd_config(5).

use std::str::FromStr;
use std::time::Duration;

use tine_sys::process::How;

use crate::admission::block::Block;
use crate::admission::sources::Sources;
use crate::error::Error;
use crate::lifecycle::outcome::{EndReason, Outcome, PANICKED, SILENT};

/// The penalty for each kind of fault. Penalties of a source add up, to `max` at most. A source is
/// rejected once the sum has reached `min`, until it has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Penalties {
    crash: Duration,
    grace_exceeded: Duration,
    no_auth: Duration,
    refuse_connection: Duration,
    min: Duration,
    max: Duration,
}

/// A fault of a connection or client, for which its source gets a penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection process crashed.
    Crash,
    /// The client sent nothing until the idle or first-byte timeout.
    GraceExceeded,
    /// The client disconnected without sending a byte. Not detected for programs: they have the
    /// socket for themselves.
    NoAuth,
    /// An access rule denies the client.
    RefuseConnection,
}

impl Default for Penalties {
    fn default() -> Penalties {
        Penalties {
            crash: Duration::from_secs(90),
            grace_exceeded: Duration::from_secs(10),
            no_auth: Duration::from_secs(1),
            refuse_connection: Duration::from_secs(10),
            min: Duration::from_secs(15),
            max: Duration::from_secs(600),
        }
    }
}

impl Penalties {
    /// Adds the penalty for a fault to a source's word; returns the new word. A word is the time at
    /// which the sum of the penalties expires; bit 0 is set if the source is rejected until then.
    fn add(&self, word: u64, now: u64, fault: Fault) -> u64 {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let remaining = (word & !1).saturating_sub(now);
        let sum = remaining.saturating_add(nanos(self.of(fault))).min(nanos(self.max));
        let holds = holds(word, now) || sum >= nanos(self.min);
        now.saturating_add(sum).next_multiple_of(2) | u64::from(holds)
    }

    fn of(&self, fault: Fault) -> Duration {
        match fault {
            Fault::Crash => self.crash,
            Fault::GraceExceeded => self.grace_exceeded,
            Fault::NoAuth => self.no_auth,
            Fault::RefuseConnection => self.refuse_connection,
        }
    }

    /// Rejects a source for a time, `max` at most, if it is not rejected for longer. Returns for
    /// how long, if it was not rejected before.
    pub(crate) fn punish(
        &self,
        table: &Sources,
        source: Block,
        now: u64,
        time: Duration,
    ) -> Option<Duration> {
        let time = u64::try_from(time.min(self.max).as_nanos()).unwrap_or(u64::MAX);
        let until = now.saturating_add(time).next_multiple_of(2) | 1;
        let before = table.find(&source).is_some_and(|word| holds(word, now));
        let is_longer = |word: u64| !holds(word, now) || word < until;
        table.change(&source, now, |word| is_longer(word).then_some(until))?;
        (!before && holds(until, now)).then(|| Duration::from_nanos((until & !1).saturating_sub(now)))
    }

    /// Charges a source in the shared table. Returns for how long the source is rejected, if it was
    /// not before.
    pub(crate) fn charge(&self, table: &Sources, source: Block, now: u64, fault: Fault) -> Option<Duration> {
        let before = table.find(&source).is_some_and(|word| holds(word, now));
        let word = table.change(&source, now, |word| Some(self.add(word, now, fault)))?;
        (!before && holds(word, now)).then(|| Duration::from_nanos((word & !1).saturating_sub(now)))
    }
}

/// Whether a source with this word is rejected.
pub(crate) fn holds(word: u64, now: u64) -> bool {
    word & 1 == 1 && word & !1 > now
}

impl Fault {
    /// The fault that the end of a connection indicates, if any. It rests on the signal or exit
    /// code of the process and on the server's own verdict, never on the exit report, which every
    /// connection process can overwrite. The exit code of a program is its own, and no fault.
    pub(crate) fn of(how: How, outcome: &Outcome, is_program: bool) -> Option<Fault> {
        match (outcome, how) {
            (Outcome::Ended(EndReason::Idle | EndReason::FirstByte), _) => Some(Fault::GraceExceeded),
            (Outcome::Ended(_), _) => None,
            (Outcome::Limit(..), _) => Some(Fault::Crash),
            (_, How::Signaled(number)) if is_crash_signal(number) => Some(Fault::Crash),
            (_, How::Exited(PANICKED)) if !is_program => Some(Fault::Crash),
            (_, How::Exited(SILENT)) if !is_program => Some(Fault::NoAuth),
            _ => None,
        }
    }

    /// The fault with this name.
    pub(crate) fn named(name: &str) -> Option<Fault> {
        let all = [Fault::Crash, Fault::GraceExceeded, Fault::NoAuth, Fault::RefuseConnection];
        all.into_iter().find(|fault| fault.name() == name)
    }

    /// The name of the fault in sshd_config(5), in lower case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Crash => "crash",
            Fault::GraceExceeded => "grace-exceeded",
            Fault::NoAuth => "noauth",
            Fault::RefuseConnection => "refuseconnection",
        }
    }
}

/// Whether a signal indicates a crash: it leaves a core file (signal(7)), and is not SIGQUIT from a
/// terminal or SIGXCPU, SIGXFSZ from a resource limit.
pub(crate) fn is_crash_signal(number: i32) -> bool {
    use rustix::process::Signal;
    [Signal::ILL, Signal::TRAP, Signal::ABORT, Signal::BUS, Signal::FPE, Signal::SEGV, Signal::SYS]
        .iter()
        .any(|signal| signal.as_raw() == number)
}

/// Parses `crash:90s noauth:1s max:10m`; penalties that are not given keep their default.
impl FromStr for Penalties {
    type Err = Error;

    fn from_str(text: &str) -> Result<Penalties, Error> {
        let mut penalties = Penalties::default();
        for entry in text.split_ascii_whitespace() {
            let bad = |why: &str| {
                let next = "write yes, no, or some of crash:90s grace-exceeded:10s \
                            refuseconnection:10s noauth:1s min:15s max:10m";
                Error::usage(format_args!("invalid penalty '{entry}': {why}"), next)
            };
            let (name, time) = entry
                .split_once(':')
                .ok_or_else(|| bad("the name must be followed by a colon and a time"))?;
            let penalty = match name {
                "crash" => &mut penalties.crash,
                "grace-exceeded" => &mut penalties.grace_exceeded,
                "refuseconnection" => &mut penalties.refuse_connection,
                "noauth" => &mut penalties.no_auth,
                "min" => &mut penalties.min,
                "max" => &mut penalties.max,
                "authfail" | "invaliduser" => return Err(bad("not supported: tine does not see logins")),
                "max-sources4" | "max-sources6" | "overflow" | "overflow6" => {
                    return Err(bad("not supported: the number of sources is fixed at 100,000"));
                }
                _ => return Err(bad("unknown name")),
            };
            // As in sshd, a number without a unit is in seconds.
            *penalty = match time.parse() {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => humantime::parse_duration(time).map_err(|why| bad(&why.to_string()))?,
            };
        }
        if penalties.min > penalties.max {
            return Err(Error::usage("the penalty min exceeds max", "lower min or raise max"));
        }
        Ok(penalties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::outcome::{ExitReport, ReachedLimit};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_penalty_of_another_node_is_the_longer_one_and_bounded() {
        use crate::admission::block::Aggregations;
        use crate::admission::sources::{Eviction, SourceSecret};
        use crate::net::peer::Peer;
        let table = Sources::new(Eviction::Expired, SourceSecret::random()).expect("memory");
        let peer = Peer::Tcp("192.0.2.1:1".parse().expect("an address"));
        let source = peer.block(Aggregations::default().source).expect("an address");
        let penalties = Penalties::default();
        let punish = |now, seconds| penalties.punish(&table, source, now, Duration::from_secs(seconds));
        assert_eq!(punish(0, 0), None);
        assert_eq!(punish(0, 20), Some(Duration::from_secs(20)));
        assert_eq!((punish(0, 30), punish(0, 10)), (None, None), "it is rejected already");
        assert_eq!(table.find(&source), Some((30 * SECOND) | 1));
        assert_eq!(punish(40 * SECOND, u64::MAX), Some(penalties.max));
        // The next fault here adds up.
        penalties.charge(&table, source, 41 * SECOND, Fault::NoAuth);
        assert_eq!(table.find(&source), Some((641 * SECOND) | 1));
    }

    #[test]
    fn penalties_are_parsed_and_invalid_ones_rejected() {
        let default = Penalties::default();
        for (text, expected) in [
            ("", default),
            ("crash:90s  grace-exceeded:10s refuseconnection:10s noauth:1s min:15s max:10m", default),
            (
                "crash:1h max:7200",
                Penalties { crash: Duration::from_secs(3600), max: Duration::from_secs(7200), ..default },
            ),
            (
                "noauth:0 min:500ms",
                Penalties { no_auth: Duration::ZERO, min: Duration::from_millis(500), ..default },
            ),
        ] {
            assert_eq!(text.parse::<Penalties>().expect(text), expected);
        }
        for text in
            ["crash", "crash:", "crash:x", "authfail:5s", "overflow:permissive", "min:11m", "x:1s", "yes"]
        {
            assert_eq!(text.parse::<Penalties>().expect_err(text).exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn penalties_add_up_and_hold_from_the_minimum_on() {
        let penalties = Penalties::default();
        let start = 1000 * SECOND;
        // One crash reaches the minimum; connections without a byte reach it at the 15th.
        assert!(holds(penalties.add(start, start, Fault::Crash), start + 89 * SECOND));
        let mut word = start;
        for count in 1..=15 {
            word = penalties.add(word, start, Fault::NoAuth);
            assert_eq!(holds(word, start), count == 15, "{count}");
        }
        // The penalty holds until the whole sum has expired, also below the minimum.
        assert!(holds(word, start + 14 * SECOND) && !holds(word, start + 15 * SECOND));
        // After that, the sum starts from 0.
        assert!(!holds(penalties.add(word, start + 15 * SECOND, Fault::NoAuth), start + 15 * SECOND));
        // The sum does not exceed the maximum.
        let max = (0..100).fold(start, |word, _| penalties.add(word, start, Fault::Crash));
        assert!(holds(max, start + 599 * SECOND) && !holds(max, start + 600 * SECOND));
    }

    #[test]
    fn ends_of_connections_indicate_faults() {
        let reported = Outcome::Reported;
        for (how, outcome, fault) in [
            (How::Signaled(11), Outcome::Signal(11), Some(Fault::Crash)),
            (How::Signaled(6), Outcome::Signal(6), Some(Fault::Crash)),
            (How::Exited(101), reported(ExitReport::Panic("x".into())), Some(Fault::Crash)),
            (How::Signaled(15), Outcome::Ended(EndReason::FirstByte), Some(Fault::GraceExceeded)),
            (How::Signaled(15), Outcome::Ended(EndReason::Idle), Some(Fault::GraceExceeded)),
            (How::Exited(SILENT), reported(ExitReport::Done), Some(Fault::NoAuth)),
            (How::Exited(SILENT), reported(ExitReport::Reset), Some(Fault::NoAuth)),
            // A report that is missing or forged changes nothing.
            (How::Exited(SILENT), Outcome::Exit(SILENT), Some(Fault::NoAuth)),
            (How::Exited(101), Outcome::Exit(101), Some(Fault::Crash)),
            (How::Exited(0), reported(ExitReport::Panic("x".into())), None),
            (How::Signaled(9), Outcome::Limit(ReachedLimit::Memory, How::Signaled(9)), Some(Fault::Crash)),
            (How::Exited(2), Outcome::Limit(ReachedLimit::Tasks, How::Exited(2)), Some(Fault::Crash)),
            // A handler's own exit, a signal of the operator, a lifetime.
            (How::Exited(7), Outcome::Exit(7), None),
            (How::Exited(0), reported(ExitReport::Done), None),
            (How::Exited(1), reported(ExitReport::Error("x".into())), None),
            (How::Signaled(9), Outcome::Signal(9), None),
            (How::Signaled(15), Outcome::Signal(15), None),
            (How::Signaled(15), Outcome::Ended(EndReason::Lifetime), None),
            (How::Signaled(15), Outcome::Ended(EndReason::ClientGone), None),
        ] {
            assert_eq!(Fault::of(how, &outcome, false), fault, "{how:?} {outcome:?}");
        }
        for code in [PANICKED, SILENT] {
            assert_eq!(Fault::of(How::Exited(code), &Outcome::Exit(code), true), None, "of a program");
        }
    }
}
