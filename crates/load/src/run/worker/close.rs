//! Ending: exchanges are recorded, and connections are closed and counted, each once.

use rustix::io::Errno;

use super::recorder::Start;
use super::slot::{Interest, Stage};
use super::{PAUSE, Worker, now};
use crate::findings::Findings;
use crate::findings::state::State;
use crate::plan::Close;
use crate::run::purpose::End;

impl Worker<'_> {
    /// Handles a complete reply.
    pub(super) fn answered(&mut self, at: usize, now: u64) {
        self.exchange_done(at, now);
        let script = self.script(at);
        if script.exchanges.is_some_and(|exchanges| self.slots[at].done >= exchanges) {
            self.exchanges_done(at, now);
        } else if self.schedule.is_some() && !script.from_connect {
            self.wait_for_arrival(at, now);
        } else if script.think > 0 {
            self.set_stage(at, Stage::Thinking);
            self.slots[at].deadline = u64::MAX;
            self.set_timer(at, now + script.think);
        } else {
            self.set_stage(at, Stage::Ready);
        }
    }

    /// Counts and records a complete exchange.
    pub(super) fn exchange_done(&mut self, at: usize, now: u64) {
        self.slots[at].done += 1;
        self.recorder.exchange_done(self.slots[at].start, now);
    }

    /// Handles a connection whose exchanges are all done.
    pub(super) fn exchanges_done(&mut self, at: usize, now: u64) {
        let script = self.script(at);
        if script.exchanges == Some(0) && !script.counts_server_close {
            self.recorder.done(now, now - self.slots[at].start.planned);
        }
        if script.stays {
            self.set_stage(at, Stage::Staying);
            self.slots[at].deadline = u64::MAX;
            self.watch(at, Interest::Read);
        } else if script.checks_end && script.close == Close::FinClient {
            self.half_close(at);
            self.wait_for_the_end(at);
        } else {
            self.close_in_order(at);
        }
    }

    /// Closes a connection as planned.
    pub(super) fn close_in_order(&mut self, at: usize) {
        match self.script(at).close {
            Close::FinClient => self.end(at, State::Ok),
            Close::FinServer => self.wait_for_the_end(at),
            Close::Rst => {
                self.reset_on_close(at);
                self.end(at, State::Ok);
            }
        }
    }

    fn wait_for_the_end(&mut self, at: usize) {
        self.set_stage(at, Stage::Closing);
        self.slots[at].deadline = now() + self.work.load.plan.timeout_ns;
        self.watch(at, Interest::Read);
    }

    /// Cuts a connection off, as planned.
    pub(super) fn cut(&mut self, at: usize) {
        let now = now();
        if self.slots[at].stage == Stage::Exchanging {
            self.recorder.exchange_cut();
            self.set_stage(at, Stage::Closing);
        }
        self.recorder.done(now, now - self.slots[at].start.planned);
        self.reset_on_close(at);
        self.end(at, State::Ok);
    }

    /// Has closing reset the connection: a linger time of zero (socket(7)).
    fn reset_on_close(&self, at: usize) {
        if let Some(socket) = &self.slots[at].socket {
            // Fails only if the connection is closed already.
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
        }
    }

    /// Handles a system error on a connection.
    pub(super) fn failed(&mut self, at: usize, errno: Errno) {
        if self.slots[at].stage == Stage::Diagnosing {
            return self.diagnose(at);
        }
        let state = State::of_exchange(errno);
        if state == State::LocalError {
            self.recorder.system_error(state, &tine_sys::reason(&errno.into()));
        }
        self.slots[at].error = Some(errno);
        self.end(at, state);
    }

    /// Handles a slot whose deadline has passed.
    pub(super) fn on_timeout(&mut self, at: usize) {
        let stage = self.slots[at].stage;
        match stage {
            Stage::Connecting if self.connects_elsewhere(at) => self.run_exchanges(at),
            Stage::Connecting => self.end(at, State::ConnectTimeout),
            Stage::Diagnosing => self.diagnose(at),
            Stage::Closing if self.script(at).accepts_open_end => self.end(at, State::Ok),
            _ => self.end(at, State::Timeout),
        }
    }

    /// Ends a connection, and has its slot open the next one.
    pub(super) fn end(&mut self, at: usize, state: State) {
        let now = now();
        let stage = self.slots[at].stage;
        let was_open = stage != Stage::Connecting;
        self.opened(at);
        if matches!(stage, Stage::Exchanging | Stage::Diagnosing) && state.is_error() {
            self.recorder.exchange_failed();
        }
        self.recorder.ended(state, was_open, now);
        self.publish_unmeasured();
        if stage == Stage::Idle {
            self.waiting.retain(|waiting| *waiting != at);
        }
        let slot = &mut self.slots[at];
        slot.socket = None;
        (slot.deadline, slot.free_since) = (u64::MAX, now);
        if let Some(observer) = self.work.purpose.observer() {
            observer.ended(slot.number, End { state, error: slot.error, was_open });
        }
        self.set_stage(at, Stage::Free);
        let waits_for_arrivals = self.schedule.is_some() && self.script(at).from_connect;
        if waits_for_arrivals {
            self.waiting.push_back(at);
        } else if !was_open && state.is_error() {
            // Another attempt at once would only burn processor time.
            self.set_timer(at, now + PAUSE);
        } else {
            self.queue(at);
        }
    }

    /// Counts connections that have not ended or not begun, and returns the findings.
    pub(super) fn finish(mut self) -> Findings {
        let now = now();
        let stop = now.min(self.recorder.end());
        for at in 0..self.slots.len() {
            let is_endless = self.script(at).is_endless();
            let (stage, Start { planned, .. }) = (self.slots[at].stage, self.slots[at].start);
            match stage {
                Stage::Free => continue,
                Stage::Exchanging if is_endless => self.recorder.exchange_cut(),
                Stage::Exchanging | Stage::Diagnosing => self.recorder.exchange_left(),
                _ => {}
            }
            let is_aged = match stage {
                Stage::Exchanging => !is_endless,
                Stage::Diagnosing | Stage::Connecting | Stage::Closing => true,
                _ => false,
            };
            let is_in_flight = stage.is_engaged() && !is_endless && stage != Stage::Staying;
            let state = if is_in_flight { State::InFlight } else { State::Ok };
            self.recorder.left(state, is_aged.then_some(planned), stop);
        }
        let unstarted = match self.schedule.take() {
            Some(schedule) => schedule.left(),
            None => self.budget.unwrap_or(0),
        };
        let are_connections = self.work.load.scripts.iter().any(|script| script.from_connect);
        self.recorder.unstarted(unstarted, are_connections);
        self.publish();
        self.recorder.finish(now)
    }
}
