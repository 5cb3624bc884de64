//! Starting: slots open connections when they may, and connections begin exchanges.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::recorder::Start;
use super::slot::{Interest, Stage};
use super::{OPENING, UNPROVEN, Worker, now};
use crate::findings::state::{State, Step};
use crate::plan::endpoint::Endpoint;
use crate::plan::script::{Cut, Message, SMALL_BUFFER};
use crate::plan::target_of;
use crate::units::SECOND;

/// Time between two attempts to connect to a Unix socket whose backlog is full.
const RETRY: u64 = SECOND / 1000;

impl Worker<'_> {
    /// Prepares all slots for the start of the run.
    pub(super) fn prepare(&mut self) {
        let plan = &self.work.load.plan;
        let (ramp, all) = (plan.ramp_ns, u64::from(plan.connections).max(1));
        for (at, number) in self.work.slots.clone().enumerate() {
            self.slots[at].free_since = self.work.start;
            match self.schedule.is_some() && self.script(at).from_connect {
                true => self.waiting.push_back(at),
                false => {
                    let delay = if self.schedule.is_some() { 0 } else { ramp * number as u64 / all };
                    self.set_timer(at, self.work.start + delay);
                }
            }
        }
    }

    /// Returns the planned time of the next arrival.
    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.schedule.as_ref()?.peek().map(|time| self.work.start + time)
    }

    /// Whether another kept connection may be opened now.
    pub(super) fn may_open(&self) -> bool {
        !self.gentle.is_empty() && self.opening < (OPENING / self.work.all_workers()).max(1)
    }

    /// Has a slot open a connection as soon as it may.
    pub(super) fn queue(&mut self, at: usize) {
        match self.script(at).opens_gently() {
            true => self.gentle.push_back(at),
            false => self.fresh.push_back(at),
        }
    }

    /// Begins connections and exchanges that are due, arrivals first.
    pub(super) fn begin_due(&mut self) {
        while let Some(planned) = self.next_arrival() {
            let now = now();
            if planned > now {
                break;
            }
            let Some(at) = self.waiting.pop_front() else { break };
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
            self.begin_arrival(at, planned, now);
        }
        self.open_fresh();
        while self.may_open() {
            let Some(at) = self.gentle.pop_front() else { break };
            self.open(at);
        }
    }

    /// Opens a connection in each slot that has just lost one.
    pub(super) fn open_fresh(&mut self) {
        // Slots whose connections end at once are queued again, for the next turn.
        for _ in 0..self.fresh.len() {
            let Some(at) = self.fresh.pop_front() else { break };
            self.open(at);
        }
    }

    fn begin_arrival(&mut self, at: usize, planned: u64, now: u64) {
        self.recorder.arrived(planned, self.slots[at].free_since, now);
        let start = Start { planned, actual: now };
        match self.slots[at].stage {
            Stage::Idle => self.begin_exchange(at, start),
            _ => self.begin_connection(at, start),
        }
        self.run_exchanges(at);
    }

    /// Opens a connection of a closed loop, or one that waits for arrivals.
    fn open(&mut self, at: usize) {
        let may_begin = match self.script(at).from_connect {
            true => self.spend(),
            // The budget counts its exchanges.
            false => self.budget != Some(0),
        };
        if !may_begin {
            return;
        }
        let now = now();
        self.begin_connection(at, Start { planned: now, actual: now });
        self.run_exchanges(at);
    }

    /// Takes one connection (or exchange) from the budget. False if nothing is left.
    fn spend(&mut self) -> bool {
        match &mut self.budget {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn begin_connection(&mut self, at: usize, start: Start) {
        let number = self.begun * self.work.all_workers() as u64 + self.work.number as u64;
        self.begun += 1;
        self.recorder.connecting();
        let is_gentle = self.script(at).opens_gently();
        let slot = &mut self.slots[at];
        slot.number = number;
        slot.failed_endpoints = 0;
        slot.done = 0;
        slot.start = start;
        slot.error = None;
        slot.is_opening = is_gentle;
        self.opening += usize::from(is_gentle);
        self.set_stage(at, Stage::Connecting);
        self.connect(at);
    }

    /// Connects to the endpoint of the target that is tried now.
    fn connect(&mut self, at: usize) {
        let target = self.target(at);
        self.slots[at].endpoint = self.tried[target].0;
        self.slots[at].deadline = self.connect_deadline(at);
        match self.socket(at) {
            Ok((socket, is_connected)) => {
                self.slots[at].socket = Some(socket);
                self.slots[at].interest = Interest::None;
                match is_connected && !self.is_cut_at(at, Cut::Connecting) {
                    true => self.connected(at),
                    false => self.check_connecting(at),
                }
            }
            Err(errno) => self.cannot_connect(at, errno, Step::Local),
        }
    }

    /// Returns the time at which connecting to an endpoint times out. The endpoints that are left,
    /// while none has worked, share what is left of the timeout.
    fn connect_deadline(&self, at: usize) -> u64 {
        let (slot, target) = (&self.slots[at], self.target(at));
        let deadline = slot.start.actual + self.work.load.plan.timeout_ns;
        let endpoints = self.work.load.targets[target].len();
        let left = endpoints.saturating_sub(slot.failed_endpoints).max(1) as u64;
        match self.tried[target].1 {
            true => deadline,
            false => {
                let now = now();
                now + deadline.saturating_sub(now) / left
            }
        }
    }

    /// Creates a connecting socket. True if it is connected already.
    fn socket(&self, at: usize) -> Result<(OwnedFd, bool), Errno> {
        use rustix::net::sockopt::{set_socket_recv_buffer_size, set_tcp_nodelay};
        let (script, endpoint) = (self.script(at), self.endpoint(at));
        let socket = endpoint.socket()?;
        if script.pace.is_some() {
            set_socket_recv_buffer_size(&socket, SMALL_BUFFER)?;
        }
        if script.no_delay && matches!(endpoint, Endpoint::Tcp(_)) {
            set_tcp_nodelay(&socket, true)?;
        }
        let number = self.slots[at].number;
        self.work.load.sources.bind(&socket, number, endpoint, self.out_of_ports)?;
        match endpoint.connect(&socket) {
            // A Unix socket is connected now: a second call could fail, on a full backlog.
            Ok(()) => Ok((socket, true)),
            Err(Errno::INPROGRESS | Errno::INTR | Errno::AGAIN) => Ok((socket, false)),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the connection of a slot is to be cut off at a stage.
    pub(super) fn is_cut_at(&self, at: usize, stage: Cut) -> bool {
        self.script(at).is_cut && Cut::of(self.slots[at].number) == stage
    }

    fn target(&self, at: usize) -> usize {
        target_of(self.slots[at].number as usize, self.work.load.targets.len())
    }

    pub(super) fn endpoint(&self, at: usize) -> &Endpoint {
        &self.work.load.targets[self.target(at)][self.slots[at].endpoint]
    }

    /// Checks the progress of connecting. On loopback the connection is made by now, which saves a
    /// turn of the loop.
    pub(super) fn check_connecting(&mut self, at: usize) {
        if self.is_cut_at(at, Cut::Connecting) {
            return self.cut(at);
        }
        let Some(socket) = &self.slots[at].socket else { return };
        match self.endpoint(at).connect(socket) {
            Ok(()) | Err(Errno::ISCONN) => self.connected(at),
            Err(Errno::ALREADY | Errno::INPROGRESS | Errno::INTR) => self.watch(at, Interest::ReadWrite),
            // The backlog of a Unix socket is full, and no event reports when it is not.
            Err(Errno::AGAIN) => self.set_timer(at, now() + RETRY),
            Err(errno) => self.cannot_connect(at, errno, Step::Handshake),
        }
    }

    /// Connects from another source if no ports are left, or to another endpoint of the target.
    /// Else the connection fails.
    fn cannot_connect(&mut self, at: usize, errno: Errno, step: Step) {
        let has_more_sources = self.work.load.sources.has_more(self.endpoint(at));
        if errno == Errno::ADDRNOTAVAIL && !self.out_of_ports && has_more_sources {
            self.out_of_ports = true;
            return self.connect(at);
        }
        let state = State::of_connect(errno, step);
        let is_for_all = matches!(state, State::NoDescriptors | State::NoMemory);
        if !is_for_all && self.connects_elsewhere(at) {
            return;
        }
        self.recorder.system_error(state, &tine_sys::reason(&errno.into()));
        self.slots[at].error = Some(errno);
        self.end(at, state);
    }

    /// Connects to another endpoint of the target, if none has worked yet or another one has
    /// meanwhile. A connection tries each endpoint once. False if none is left.
    pub(super) fn connects_elsewhere(&mut self, at: usize) -> bool {
        let target = self.target(at);
        let endpoints = self.work.load.targets[target].len();
        let (tried, has_worked) = self.tried[target];
        let slot = &mut self.slots[at];
        let is_current = slot.endpoint == tried;
        if slot.failed_endpoints + 1 >= endpoints || is_current && has_worked {
            return false;
        }
        slot.failed_endpoints += 1;
        slot.socket = None;
        if is_current {
            self.tried[target].0 = (tried + 1) % endpoints;
        }
        self.connect(at);
        true
    }

    fn connected(&mut self, at: usize) {
        let now = now();
        let target = self.target(at);
        self.tried[target] = (self.slots[at].endpoint, true);
        let (script, start) = (self.script(at), self.slots[at].start);
        self.recorder.connected(start, now);
        self.set_stage(at, Stage::Ready);
        if !self.send_header(at) {
            return;
        }
        if self.is_cut_at(at, Cut::Connected) {
            self.cut(at);
        } else if script.exchanges == Some(0) {
            self.exchanges_done(at, now);
            self.expect_acceptance(at, now);
        } else if script.from_connect {
            self.begin_exchange(at, start);
        } else if self.schedule.is_some() {
            self.wait_for_arrival(at, now);
            self.expect_acceptance(at, now);
        } else {
            self.begin_exchange(at, Start { planned: now, actual: now });
        }
    }

    /// Gives the server time to accept a connection that sends nothing yet, before it counts as
    /// opened.
    fn expect_acceptance(&mut self, at: usize, now: u64) {
        if self.slots[at].is_opening {
            self.set_timer(at, now + UNPROVEN);
        }
    }

    /// Notes that the server has replied, or had time to accept: another connection may be opened.
    pub(super) fn opened(&mut self, at: usize) {
        self.opening -= usize::from(std::mem::take(&mut self.slots[at].is_opening));
    }

    /// Has a connection wait for the next arrival.
    pub(super) fn wait_for_arrival(&mut self, at: usize, now: u64) {
        self.set_stage(at, Stage::Idle);
        let slot = &mut self.slots[at];
        (slot.deadline, slot.free_since) = (u64::MAX, now);
        self.waiting.push_back(at);
        self.watch(at, Interest::Read);
    }

    /// Begins the next exchange of a connection.
    pub(super) fn begin_exchange(&mut self, at: usize, start: Start) {
        let script = self.script(at);
        if !script.from_connect && !self.spend() {
            return self.close_in_order(at);
        }
        self.recorder.exchange_begun();
        self.publish_unmeasured();
        let timeout = self.work.load.plan.timeout_ns;
        let slot = &mut self.slots[at];
        (slot.start, slot.has_first_byte) = (start, false);
        slot.exchange.begin(script, slot.number, slot.done);
        slot.deadline = match &script.message {
            Message::Series { every, .. } => {
                let now = now();
                slot.next_message = now + every;
                if slot.exchange.is_last() { now + timeout } else { u64::MAX }
            }
            // Includes the time for connecting, if the exchange began with it.
            _ => start.actual + timeout,
        };
        self.set_stage(at, Stage::Exchanging);
        self.send(at);
    }
}
