//! The limits of their jail that connections have reached.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_sys::process::{Ended, How};

use crate::jail::plan::Plan;
use crate::jail::system_calls;
use crate::lifecycle::outcome::{Outcome, ReachedLimit};
use crate::log::limit::{Emit, LineLimit};
use crate::system::cgroup::{Cgroup, LimitEvents};
use crate::system::kernel_log::{KernelLog, refused_call_in};

/// How long the supervisor waits for a line of the kernel's log.
const WAIT: Duration = Duration::from_millis(5);

/// The waits in a second: a flood of refused calls does not stop the supervisor.
const WAITS_PER_SECOND: u64 = 4;

/// What tells which limit a process has reached.
#[derive(Debug)]
pub(super) struct ReachedLimits {
    counts: bool,
    /// What the cgroup of a slot has counted before, with its generation.
    before: HashMap<usize, (u64, LimitEvents)>,
    /// Where the filter ends processes, and the kernel's log may be read.
    kernel_log: Option<KernelLog>,
    waits: LineLimit,
}

impl ReachedLimits {
    pub(super) fn new(plan: &Plan, place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>) -> ReachedLimits {
        let kernel_log = plan.ends_at_refused_calls().then(KernelLog::open).flatten();
        ReachedLimits {
            counts: plan.has_limits(),
            before: HashMap::new(),
            kernel_log: kernel_log.and_then(|kernel_log| kernel_log.place(place)),
            waits: LineLimit::of(WAITS_PER_SECOND),
        }
    }

    /// The outcome with the limit that has caused it. `cgroup`: that of the slot, with its
    /// generation.
    pub(super) fn explain(
        &mut self,
        outcome: Outcome,
        ended: &Ended,
        slot: usize,
        cgroup: Option<(Cgroup, u64)>,
    ) -> Outcome {
        let events =
            cgroup.filter(|_| self.counts).map_or_else(LimitEvents::default, |(cgroup, generation)| {
                self.count(slot, generation, cgroup.limit_events())
            });
        if !outcome.is_failure() || matches!(outcome, Outcome::Ended(_)) {
            return outcome;
        }
        let limit = match events {
            LimitEvents { memory: 1.., .. } => Some(ReachedLimit::Memory),
            LimitEvents { tasks: 1.., .. } => Some(ReachedLimit::Tasks),
            LimitEvents { .. } => self.refused_call(ended),
        };
        limit.map_or(outcome, |limit| Outcome::Limit(limit, ended.how))
    }

    /// What has happened in the cgroup of a slot since the last connection.
    fn count(&mut self, slot: usize, generation: u64, now: LimitEvents) -> LimitEvents {
        let before = self.before.insert(slot, (generation, now));
        let before = before.filter(|(of, _)| *of == generation).map(|(_, events)| events).unwrap_or_default();
        LimitEvents {
            memory: now.memory.saturating_sub(before.memory),
            tasks: now.tasks.saturating_sub(before.tasks),
        }
    }

    /// The system call at which the filter has ended a process.
    fn refused_call(&mut self, ended: &Ended) -> Option<ReachedLimit> {
        let log = self.kernel_log.as_mut()?;
        if ended.how != How::Signaled(Signal::SYS.as_raw()) {
            return None;
        }
        let now = Instant::now();
        let _ = self.waits.due(now);
        let until = if self.waits.event(now) == Emit::Line { now + WAIT } else { now };
        let (number, is_other) = refused_call_in(&log.about_by(ended.pid, until)?)?;
        Some(ReachedLimit::SystemCall(match system_calls::name_of(number).filter(|_| !is_other) {
            Some(name) => name.to_owned(),
            None if is_other => format!("call {number} of another architecture"),
            None => format!("call {number}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_connections_of_a_slot_did_does_not_count() {
        let mut limits = ReachedLimits::new(&Plan::default(), &|fd| Ok(fd));
        let events = |memory, tasks| LimitEvents { memory, tasks };
        for (slot, generation, now, since) in [
            (3, 0, events(0, 0), events(0, 0)),
            (3, 0, events(1, 4), events(1, 4)),
            (3, 0, events(1, 5), events(0, 1)),
            (4, 0, events(2, 0), events(2, 0)),
            (3, 1, events(1, 0), events(1, 0)),
            (3, 1, events(1, 0), events(0, 0)),
        ] {
            assert_eq!(limits.count(slot, generation, now), since, "{slot} {generation}");
        }
    }
}
