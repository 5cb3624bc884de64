//! Ending: exchanges are recorded, connections closed and counted, each once.

use rustix::io::Errno;

use super::slot::{Interest, Stage};
use super::{PAUSE, Worker, now};
use crate::findings::Findings;
use crate::findings::record::Measure;
use crate::findings::state::State;
use crate::plan::Close;

impl Worker<'_> {
    /// An exchange is answered in full.
    pub(super) fn answered(&mut self, at: usize, now: u64) {
        self.done(at, now);
        let script = self.script(at);
        if script.exchanges.is_some_and(|exchanges| self.slots[at].done >= exchanges) {
            self.exchanged(at, now);
        } else if self.schedule.is_some() && !script.from_connect {
            self.wait_for_arrival(at, now);
        } else if script.think > 0 {
            self.set_stage(at, Stage::Thinking);
            self.slots[at].deadline = u64::MAX;
            self.arm(at, now + script.think);
        } else {
            self.set_stage(at, Stage::Ready);
        }
    }

    /// Counts and records an exchange that is done.
    pub(super) fn done(&mut self, at: usize, now: u64) {
        self.findings.exchanges.done += 1;
        self.slots[at].done += 1;
        self.took(at, now);
    }

    /// Records what has been done at a place since it was begun.
    pub(super) fn took(&mut self, at: usize, now: u64) {
        let slot = &self.slots[at];
        let (waited, took) = (now.saturating_sub(slot.planned), now - slot.begun);
        if slot.planned >= self.measured_from && now < self.end {
            self.findings.records.at(Measure::Exchange).add(waited);
            if self.schedule.is_some() {
                self.findings.records.at(Measure::Uncorrected).add(took);
            }
        }
        self.numbers.took(waited);
        self.count_done(now, waited);
    }

    fn count_done(&mut self, now: u64, waited: u64) {
        self.numbers.done += 1;
        self.findings.measured += u64::from(now >= self.measured_from && now < self.end);
        let second = self.findings.second(now - self.work.start);
        second.done += 1;
        second.longest_ns = second.longest_ns.max(waited);
        self.findings.last_done_ns = now - self.work.start;
    }

    /// All exchanges of a connection are done.
    pub(super) fn exchanged(&mut self, at: usize, now: u64) {
        let script = self.script(at);
        if script.exchanges == Some(0) && !script.counts_server_close {
            self.count_done(now, now - self.slots[at].planned);
        }
        if script.stays {
            self.set_stage(at, Stage::Staying);
            self.slots[at].deadline = u64::MAX;
            self.ask(at, Interest::Read);
        } else if script.checks_end && script.close == Close::FinClient {
            self.half_close(at);
            self.wait_for_the_end(at);
        } else {
            self.close_in_order(at);
        }
    }

    /// Closes as the plan says.
    pub(super) fn close_in_order(&mut self, at: usize) {
        match self.script(at).close {
            Close::FinClient => self.end(at, State::Ok),
            Close::FinServer => self.wait_for_the_end(at),
            Close::Rst => {
                self.abort(at);
                self.end(at, State::Ok);
            }
        }
    }

    fn wait_for_the_end(&mut self, at: usize) {
        self.set_stage(at, Stage::Closing);
        self.slots[at].deadline = now() + self.work.plan.timeout_ns;
        self.ask(at, Interest::Read);
    }

    /// Cuts a connection off, as planned.
    pub(super) fn cut(&mut self, at: usize) {
        let now = now();
        if self.slots[at].stage == Stage::Talking {
            self.findings.exchanges.cut += 1;
            self.set_stage(at, Stage::Closing);
        }
        self.count_done(now, now - self.slots[at].planned);
        self.abort(at);
        self.end(at, State::Ok);
    }

    /// Has closing reset the connection: no linger (socket(7)).
    fn abort(&self, at: usize) {
        if let Some(socket) = &self.slots[at].socket {
            // It can fail only where the connection has gone already.
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
        }
    }

    /// An error of the system ends a connection.
    pub(super) fn failed(&mut self, at: usize, errno: Errno) {
        if self.slots[at].stage == Stage::Evidence {
            return self.diagnose(at);
        }
        let state = State::of_exchange(errno);
        if state == State::LocalError {
            self.findings.count_error(state, &tine_sys::reason(&errno.into()));
        }
        self.end(at, state);
    }

    /// A place has used up its time.
    pub(super) fn took_too_long(&mut self, at: usize) {
        match self.slots[at].stage {
            Stage::Connecting => self.end(at, State::ConnectTimeout),
            Stage::Evidence => self.diagnose(at),
            _ => self.end(at, State::Timeout),
        }
    }

    /// Ends a connection, and has its place begin another.
    pub(super) fn end(&mut self, at: usize, state: State) {
        let now = now();
        let stage = self.slots[at].stage;
        self.opened(at);
        self.numbers.open -= u64::from(stage != Stage::Connecting);
        self.findings.exchanges.failed +=
            u64::from(matches!(stage, Stage::Talking | Stage::Evidence) && state.is_error());
        self.findings.connections.count(state, 1);
        if state.is_error() {
            self.numbers.errors += 1;
            self.findings.second(now - self.work.start).errors += 1;
        }
        if stage == Stage::Idle {
            self.free.retain(|free| *free != at);
        }
        let slot = &mut self.slots[at];
        slot.socket = None;
        (slot.deadline, slot.freed) = (u64::MAX, now);
        self.set_stage(at, Stage::Free);
        if stage == Stage::Connecting && state.is_error() {
            // Trying again at once would only burn the processor.
            self.rest(at, now + PAUSE);
        } else if self.schedule.is_some() && self.script(at).from_connect {
            self.free.push_back(at);
        } else {
            self.queue(at);
        }
    }

    /// Leaves a place without a connection until then.
    fn rest(&mut self, at: usize, until: u64) {
        match self.schedule.is_some() && self.script(at).from_connect {
            // Arrivals come when they come.
            true => self.free.push_back(at),
            false => self.arm(at, until),
        }
    }

    /// Counts what has not ended, or not begun, and returns everything.
    pub(super) fn finish(mut self) -> Findings {
        let now = now().min(self.end);
        // The last second begins where the time ends.
        self.account_for_bytes(now.max(self.work.start + 1) - 1);
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let endless = self.script(at).is_endless();
            match slot.stage {
                Stage::Free => continue,
                Stage::Talking if endless => self.findings.exchanges.cut += 1,
                Stage::Talking | Stage::Evidence => {
                    self.findings.exchanges.in_flight += 1;
                    self.findings.ages.add(now.saturating_sub(slot.planned));
                }
                Stage::Connecting | Stage::Closing => {
                    self.findings.ages.add(now.saturating_sub(slot.planned));
                }
                _ => {}
            }
            let is_in_flight = slot.stage.is_engaged() && !endless && slot.stage != Stage::Staying;
            self.findings.connections.count(if is_in_flight { State::InFlight } else { State::Ok }, 1);
        }
        let unstarted = match self.schedule.take() {
            Some(schedule) => schedule.left(),
            None => self.budget.unwrap_or(0),
        };
        if self.work.scripts.iter().all(|script| !script.from_connect) {
            self.findings.exchanges.planned += unstarted;
            self.findings.exchanges.unstarted += unstarted;
        } else {
            self.findings.connections.planned += unstarted;
            self.findings.connections.count(State::Unstarted, unstarted);
        }
        self.findings.bytes.sent = self.numbers.sent;
        self.findings.bytes.received = self.numbers.received;
        self.work.live.publish(self.work.number, &self.numbers);
        self.findings
    }
}
