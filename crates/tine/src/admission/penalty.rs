//! Penalties: a source that behaves badly may not come for a while. The names, the defaults and the caps are those of
//! `PerSourcePenalties`, sshd_config(5).

use std::str::FromStr;
use std::time::Duration;

use tine_sys::process::How;

use crate::admission::block::Block;
use crate::admission::sources::Sources;
use crate::error::Error;
use crate::lifecycle::outcome::{EndReason, ExitReport, Outcome, SILENT};

/// How long a source may not come after what it did. Penalties add up, and hold from a least sum on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Penalties {
    crash: Duration,
    grace_exceeded: Duration,
    no_auth: Duration,
    refuse_connection: Duration,
    min: Duration,
    max: Duration,
}

/// What a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process that served it crashed.
    Crash,
    /// It said nothing for as long as it may.
    GraceExceeded,
    /// It came and went without a word. Not known of programs, which have the socket for themselves.
    NoAuth,
    /// The rules deny it.
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
    /// What becomes of a source's word, which is the time until which it is to pay, and in the lowest bit whether it may not
    /// come until then.
    fn add(&self, word: u64, now: u64, fault: Fault) -> u64 {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let owed = (word & !1).saturating_sub(now);
        let sum = owed.saturating_add(nanos(self.of(fault))).min(nanos(self.max));
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

    /// Charges a source in the table of all forkers. Returns for how long it may not come, if that is new.
    pub(crate) fn charge(&self, owed: &Sources, source: Block, now: u64, fault: Fault) -> Option<Duration> {
        let before = owed.find(&source).is_some_and(|word| holds(word, now));
        let word = owed.change(&source, now, |word| Some(self.add(word, now, fault)))?;
        (!before && holds(word, now)).then(|| Duration::from_nanos((word & !1).saturating_sub(now)))
    }
}

/// Whether a source with this word may not come.
pub(crate) fn holds(word: u64, now: u64) -> bool {
    word & 1 == 1 && word & !1 > now
}

impl Fault {
    /// What the end of a connection says against its source.
    pub(crate) fn of(how: How, outcome: &Outcome) -> Option<Fault> {
        match outcome {
            Outcome::Signal(number) if is_crash(*number) => Some(Fault::Crash),
            Outcome::Reported(ExitReport::Panic(_)) => Some(Fault::Crash),
            Outcome::Ended(EndReason::Idle | EndReason::FirstByte) => Some(Fault::GraceExceeded),
            // What it reports of itself can be written by others; its exit code cannot.
            Outcome::Reported(ExitReport::Done | ExitReport::Reset) if how == How::Exited(SILENT) => {
                Some(Fault::NoAuth)
            }
            _ => None,
        }
    }

    /// As sshd_config(5) calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Fault::Crash => "crash",
            Fault::GraceExceeded => "grace-exceeded",
            Fault::NoAuth => "noauth",
            Fault::RefuseConnection => "refuseconnection",
        }
    }
}

/// The signals that mean a fault in the program: those that leave a core file (signal(7)), but for the two that come from
/// a terminal or a limit.
fn is_crash(number: i32) -> bool {
    use rustix::process::Signal;
    [Signal::ILL, Signal::TRAP, Signal::ABORT, Signal::BUS, Signal::FPE, Signal::SEGV, Signal::SYS]
        .iter()
        .any(|signal| signal.as_raw() == number)
}

/// Reads `crash:90s noauth:1s max:10m`; what is not named keeps its default.
impl FromStr for Penalties {
    type Err = Error;

    fn from_str(text: &str) -> Result<Penalties, Error> {
        let mut penalties = Penalties::default();
        for word in text.split_ascii_whitespace() {
            let bad = |why: &str| {
                let next = "write yes, no, or some of crash:90s grace-exceeded:10s refuseconnection:10s noauth:1s min:15s max:10m";
                Error::usage(format_args!("'{word}' is no penalty: {why}"), next)
            };
            let (name, time) =
                word.split_once(':').ok_or_else(|| bad("after its name come a colon and a time"))?;
            let place = match name {
                "crash" => &mut penalties.crash,
                "grace-exceeded" => &mut penalties.grace_exceeded,
                "refuseconnection" => &mut penalties.refuse_connection,
                "noauth" => &mut penalties.no_auth,
                "min" => &mut penalties.min,
                "max" => &mut penalties.max,
                "authfail" | "invaliduser" => return Err(bad("who logs in is not seen from outside")),
                "max-sources4" | "max-sources6" | "overflow" | "overflow6" => {
                    return Err(bad("100,000 sources are remembered, and the first to be free gives way"));
                }
                _ => return Err(bad("there is none of this name")),
            };
            // sshd takes seconds without a unit, too.
            *place = match time.parse() {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => humantime::parse_duration(time).map_err(|why| bad(&why.to_string()))?,
            };
        }
        if penalties.min > penalties.max {
            return Err(Error::usage(
                "penalties hold from a sum (min) above the greatest (max)",
                "lower min",
            ));
        }
        Ok(penalties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_may_be_typed() {
        let default = Penalties::default();
        for (text, meant) in [
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
            assert_eq!(text.parse::<Penalties>().expect(text), meant);
        }
        for text in
            ["crash", "crash:", "crash:x", "authfail:5s", "overflow:permissive", "min:11m", "x:1s", "yes"]
        {
            assert_eq!(text.parse::<Penalties>().expect_err(text).exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn penalties_add_up_and_hold_from_a_least_sum_on() {
        let penalties = Penalties::default();
        let start = 1000 * SECOND;
        // One crash holds at once; fourteen silent visits do not, the fifteenth does.
        assert!(holds(penalties.add(start, start, Fault::Crash), start + 89 * SECOND));
        let mut word = start;
        for visit in 1..=15 {
            word = penalties.add(word, start, Fault::NoAuth);
            assert_eq!(holds(word, start), visit == 15, "{visit}");
        }
        // It holds until all is paid, not only down to the least sum.
        assert!(holds(word, start + 14 * SECOND) && !holds(word, start + 15 * SECOND));
        // Afterwards it begins anew.
        assert!(!holds(penalties.add(word, start + 15 * SECOND, Fault::NoAuth), start + 15 * SECOND));
        // There is a most.
        let all = (0..100).fold(start, |word, _| penalties.add(word, start, Fault::Crash));
        assert!(holds(all, start + 599 * SECOND) && !holds(all, start + 600 * SECOND));
    }

    #[test]
    fn faults_are_told_from_ends() {
        let told = Outcome::Reported;
        for (how, outcome, fault) in [
            (How::Signaled(11), Outcome::Signal(11), Some(Fault::Crash)),
            (How::Signaled(6), Outcome::Signal(6), Some(Fault::Crash)),
            (How::Exited(101), told(ExitReport::Panic("x".into())), Some(Fault::Crash)),
            (How::Signaled(15), Outcome::Ended(EndReason::FirstByte), Some(Fault::GraceExceeded)),
            (How::Signaled(15), Outcome::Ended(EndReason::Idle), Some(Fault::GraceExceeded)),
            (How::Exited(SILENT), told(ExitReport::Done), Some(Fault::NoAuth)),
            (How::Exited(SILENT), told(ExitReport::Reset), Some(Fault::NoAuth)),
            // A handler's own exit, or the operator's doing, or time that was agreed on.
            (How::Exited(SILENT), Outcome::Exit(SILENT), None),
            (How::Exited(0), told(ExitReport::Done), None),
            (How::Exited(1), told(ExitReport::Error("x".into())), None),
            (How::Signaled(9), Outcome::Signal(9), None),
            (How::Signaled(15), Outcome::Signal(15), None),
            (How::Signaled(15), Outcome::Ended(EndReason::Lifetime), None),
            (How::Signaled(15), Outcome::Ended(EndReason::ClientGone), None),
        ] {
            assert_eq!(Fault::of(how, &outcome), fault, "{how:?} {outcome:?}");
        }
    }
}
