//! Time: timers and deadlines of slots, the timeout of the loop, and the publication of live
//! numbers.

use std::cmp::Reverse;

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};

use super::recorder::Start;
use super::slot::Stage;
use super::{EVIDENCE, Worker, now};
use crate::units::SECOND;

/// Shortest time between two checks of all deadlines.
const SWEEP: u64 = SECOND / 10;
/// Time between two publications of the live numbers.
const PUBLICATION: u64 = SECOND / 20;

fn timespec(nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as _ }
}

impl Worker<'_> {
    /// Sets the timer for the next timer or arrival, and returns the timeout of epoll_wait(2). The
    /// timer is needed because that timeout counts milliseconds, too coarse for an open loop.
    pub(super) fn timeout(&mut self) -> Result<Timespec, Errno> {
        let now = now();
        let timer = self.timers.peek().map(|Reverse((time, ..))| *time);
        let arrival = self.next_arrival().filter(|_| !self.waiting.is_empty());
        let next = [timer, arrival].into_iter().flatten().min();
        let is_due = !self.fresh.is_empty() || self.may_open() || !self.again.is_empty();
        if is_due || next.is_some_and(|next| next <= now) {
            return Ok(timespec(0));
        }
        if let Some(next) = next.filter(|next| *next != self.timer_at) {
            let setting = Itimerspec { it_interval: timespec(0), it_value: timespec(next) };
            timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting)?;
            self.timer_at = next;
        }
        Ok(timespec(self.recorder.end().min(self.next_sweep).saturating_sub(now)))
    }

    /// Handles timers, deadlines, and the publication of the live numbers.
    pub(super) fn on_time(&mut self) {
        let now = now();
        while let Some(Reverse((time, at, generation))) = self.timers.peek().copied() {
            if time > now {
                break;
            }
            self.timers.pop();
            if self.slots[at].generation == generation {
                self.on_timer(at);
            }
        }
        if now >= self.next_sweep {
            self.sweep(now);
        }
        if now >= self.published + PUBLICATION {
            self.published = now;
            self.recorder.account_for_bytes(now);
            self.publish();
        }
        self.publish_unmeasured();
    }

    pub(super) fn publish(&self) {
        self.work.live.publish(self.work.at, &self.recorder.numbers);
    }

    /// Publishes the live numbers of a run that does not measure: at each step that a server or a
    /// user can see, before they see it. So they are right also if the worker is killed.
    pub(super) fn publish_unmeasured(&self) {
        if !self.work.purpose.measures() {
            self.publish();
        }
    }

    /// Ends connections that have timed out. A deadline that is set later is at least [`EVIDENCE`],
    /// or an endpoint's share of the plan's timeout, away, so the next sweep need not be before.
    fn sweep(&mut self, now: u64) {
        let endpoints = self.work.load.targets.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let timeout = self.work.load.plan.timeout_ns / endpoints as u64;
        let shortest = if self.collects_evidence() { timeout.min(EVIDENCE) } else { timeout };
        let mut earliest = now + shortest;
        for at in 0..self.slots.len() {
            if self.slots[at].deadline <= now {
                self.on_timeout(at);
            } else {
                earliest = earliest.min(self.slots[at].deadline);
            }
        }
        self.next_sweep = earliest.max(now + SWEEP);
    }

    /// Handles the timer of a slot.
    fn on_timer(&mut self, at: usize) {
        match self.slots[at].stage {
            Stage::Free => self.queue(at),
            Stage::Idle | Stage::Staying => self.opened(at),
            Stage::Connecting => {
                self.check_connecting(at);
                self.run_exchanges(at);
            }
            Stage::Thinking => {
                let now = now();
                self.begin_exchange(at, Start { planned: now, actual: now });
                self.run_exchanges(at);
            }
            Stage::Exchanging => {
                self.send(at);
                if self.script(at).pace.is_some() {
                    self.receive(at, 1, false);
                }
                self.run_exchanges(at);
            }
            _ => {}
        }
    }

    /// Sets the timer of a slot, in place of the one set before.
    pub(super) fn set_timer(&mut self, at: usize, time: u64) {
        let slot = &mut self.slots[at];
        slot.generation = slot.generation.wrapping_add(1);
        self.timers.push(Reverse((time, at, slot.generation)));
    }
}
