//! Beginning: places take up connections when they may, connections exchanges.

use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::io::Errno;

use super::slot::{Interest, Stage};
use super::{OPENING, UNPROVEN, Worker, now};
use crate::findings::record::Measure;
use crate::findings::state::State;
use crate::plan::script::{Cut, SMALL_BUFFER};
use crate::plan::target_of;
use crate::units::SECOND;

/// A connect that took so long was tried again by the kernel.
const SLOW: u64 = SECOND * 9 / 10;

impl Worker<'_> {
    /// What there is to do at the very start.
    pub(super) fn prepare(&mut self) {
        let (ramp, all) = (self.work.plan.ramp_ns, u64::from(self.work.plan.connections).max(1));
        for (at, place) in self.work.places.clone().enumerate() {
            self.slots[at].freed = self.work.start;
            match self.schedule.is_some() && self.script(at).from_connect {
                true => self.free.push_back(at),
                false => {
                    let delay = if self.schedule.is_some() { 0 } else { ramp * place as u64 / all };
                    self.arm(at, self.work.start + delay);
                }
            }
        }
    }

    /// When the next arrival is planned.
    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.schedule.as_ref()?.peek().map(|time| self.work.start + time)
    }

    /// Whether another connection that is kept may be opened now.
    pub(super) fn may_open(&self) -> bool {
        !self.kept.is_empty() && self.opening < (OPENING / self.work.workers).max(1)
    }

    /// Has a place begin a connection, as soon as may be.
    pub(super) fn queue(&mut self, at: usize) {
        match self.script(at).opens_gently() {
            true => self.kept.push_back(at),
            false => self.fresh.push_back(at),
        }
    }

    /// Begins what the plan says, arrivals first.
    pub(super) fn start_what_is_due(&mut self) {
        while let Some(planned) = self.next_arrival() {
            let now = now();
            if planned > now {
                break;
            }
            let Some(at) = self.free.pop_front() else { break };
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
            self.arrived(at, planned, now);
        }
        self.take_up_fresh();
        while self.may_open() {
            let Some(at) = self.kept.pop_front() else { break };
            self.take_up(at);
        }
    }

    /// Begins a connection at each place that has just lost one.
    pub(super) fn take_up_fresh(&mut self) {
        // Those that end at once have to wait for their next turn.
        for _ in 0..self.fresh.len() {
            let Some(at) = self.fresh.pop_front() else { break };
            self.take_up(at);
        }
    }

    fn arrived(&mut self, at: usize, planned: u64, now: u64) {
        let freed = self.slots[at].freed;
        if freed > planned {
            self.findings.waited += 1;
        }
        if planned >= self.measured_from {
            // A place that got free after the plan is the server's slowness, not this side's.
            self.findings.records.at(Measure::Lateness).add(now - planned.max(freed).min(now));
        }
        match self.slots[at].stage {
            Stage::Idle => {
                self.begin_exchange(at, planned, now);
            }
            _ => self.dial(at, planned, now),
        }
        self.go_on_talking(at);
    }

    /// Begins a connection in a closed loop, or one that waits for arrivals.
    fn take_up(&mut self, at: usize) {
        let may_begin = match self.script(at).from_connect {
            true => self.spend(),
            // Its exchanges are what is counted.
            false => self.budget != Some(0),
        };
        if !may_begin {
            return;
        }
        let now = now();
        self.dial(at, now, now);
        self.go_on_talking(at);
    }

    /// Takes one of what may be begun; false when nothing is left.
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

    fn dial(&mut self, at: usize, planned: u64, begun: u64) {
        let number = self.begun * self.work.workers as u64 + self.work.number as u64;
        self.begun += 1;
        self.findings.connections.planned += 1;
        let is_gentle = self.script(at).opens_gently();
        let slot = &mut self.slots[at];
        slot.number = number;
        slot.done = 0;
        (slot.planned, slot.begun) = (planned, begun);
        slot.deadline = begun + self.work.plan.timeout_ns;
        slot.asked = Interest::None;
        slot.is_opening = is_gentle;
        self.opening += usize::from(is_gentle);
        self.set_stage(at, Stage::Connecting);
        self.connect(at);
    }

    /// Begins to connect, to the place of its target that is to be tried now.
    fn connect(&mut self, at: usize) {
        match self.socket(at) {
            Ok((socket, is_connected)) => {
                self.slots[at].socket = Some(socket);
                self.slots[at].asked = Interest::None;
                match is_connected && !self.is_cut_at(at, Cut::Connecting) {
                    true => self.connected(at),
                    false => self.look_at_connecting(at),
                }
            }
            Err(errno) => self.cannot_connect(at, errno),
        }
    }

    /// A socket that is being connected, and whether it is.
    fn socket(&self, at: usize) -> Result<(OwnedFd, bool), Errno> {
        let (number, target) = (self.slots[at].number, self.target(at));
        let place = &self.work.targets[target][self.tried[target].0];
        let socket = place.socket()?;
        if self.script(at).pace.is_some() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SMALL_BUFFER)?;
        }
        self.work.sources.bind(&socket, number, place, self.needs_sources)?;
        match place.connect(&socket) {
            // A Unix socket must not be asked again: with its queue full, it does not say that it is connected.
            Ok(()) => Ok((socket, true)),
            Err(Errno::INPROGRESS | Errno::INTR | Errno::AGAIN) => Ok((socket, false)),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a place's connection is to be cut off at this stage.
    pub(super) fn is_cut_at(&self, at: usize, stage: Cut) -> bool {
        self.script(at).is_cut && Cut::of(self.slots[at].number) == stage
    }

    fn target(&self, at: usize) -> usize {
        target_of(self.slots[at].number as usize, self.work.targets.len())
    }

    /// Asks how connecting goes. On loopback it is done by now: that saves a turn of the loop.
    pub(super) fn look_at_connecting(&mut self, at: usize) {
        if self.is_cut_at(at, Cut::Connecting) {
            return self.cut(at);
        }
        let target = self.target(at);
        let place = &self.work.targets[target][self.tried[target].0];
        let Some(socket) = &self.slots[at].socket else { return };
        match place.connect(socket) {
            Ok(()) | Err(Errno::ISCONN) => self.connected(at),
            Err(Errno::ALREADY | Errno::INPROGRESS | Errno::INTR) => self.ask(at, Interest::ReadWrite),
            // A Unix socket's queue is full, and nothing tells when there is room.
            Err(Errno::AGAIN) => self.arm(at, now() + SECOND / 1000),
            Err(errno) => self.cannot_connect(at, errno),
        }
    }

    /// Tries from another source, if there are no ports left; or the next place that the target may mean, if none of it
    /// has ever worked.
    fn cannot_connect(&mut self, at: usize, errno: Errno) {
        let target = self.target(at);
        let (tried, worked) = self.tried[target];
        let place = &self.work.targets[target][tried];
        if errno == Errno::ADDRNOTAVAIL && !self.needs_sources && self.work.sources.has_more(place) {
            self.needs_sources = true;
            return self.connect(at);
        }
        if !worked && tried + 1 < self.work.targets[target].len() {
            self.tried[target].0 += 1;
            return self.connect(at);
        }
        let state = State::of_connect(errno);
        self.findings.count_error(state, &tine_sys::reason(&errno.into()));
        self.end(at, state);
    }

    fn connected(&mut self, at: usize) {
        let now = now();
        let target = self.target(at);
        self.tried[target].1 = true;
        self.numbers.open += 1;
        self.findings.most_open = self.findings.most_open.max(self.numbers.open);
        let (script, slot) = (self.script(at), &self.slots[at]);
        let took = now - slot.begun;
        self.findings.slow_connects += u64::from(took > SLOW);
        if slot.planned >= self.measured_from {
            self.findings.records.at(Measure::Connect).add(took);
        }
        let (planned, begun) = (slot.planned, slot.begun);
        self.set_stage(at, Stage::Ready);
        if self.is_cut_at(at, Cut::Connected) {
            self.cut(at);
        } else if script.exchanges == Some(0) {
            self.exchanged(at, now);
            self.count_as_opened_soon(at, now);
        } else if script.from_connect {
            self.begin_exchange(at, planned, begun);
        } else if self.schedule.is_some() {
            self.wait_for_arrival(at, now);
            self.count_as_opened_soon(at, now);
        } else {
            self.begin_exchange(at, now, now);
        }
    }

    /// A connection that has nothing to ask for yet gives its server time to accept it.
    fn count_as_opened_soon(&mut self, at: usize, now: u64) {
        if self.slots[at].is_opening {
            self.arm(at, now + UNPROVEN);
        }
    }

    /// Its server has been heard of, or had time to accept it: another one may be opened.
    pub(super) fn opened(&mut self, at: usize) {
        self.opening -= usize::from(std::mem::take(&mut self.slots[at].is_opening));
    }

    /// Rests until the next arrival.
    pub(super) fn wait_for_arrival(&mut self, at: usize, now: u64) {
        self.set_stage(at, Stage::Idle);
        let slot = &mut self.slots[at];
        (slot.deadline, slot.freed) = (u64::MAX, now);
        self.free.push_back(at);
        self.ask(at, Interest::Read);
    }

    /// Begins the next exchange of a connection.
    pub(super) fn begin_exchange(&mut self, at: usize, planned: u64, begun: u64) {
        let script = self.script(at);
        if !script.from_connect && !self.spend() {
            return self.close_in_order(at);
        }
        self.findings.exchanges.planned += 1;
        let slot = &mut self.slots[at];
        (slot.planned, slot.begun, slot.is_heard) = (planned, begun, false);
        // Its connection's time counts, too, where it is one exchange.
        slot.deadline = begun + self.work.plan.timeout_ns;
        slot.exchange.begin(script, slot.number, slot.done);
        self.set_stage(at, Stage::Talking);
        self.speak(at);
    }

    /// Has the kernel say what happens to a socket; once for all, but for those that have to wait for room.
    pub(super) fn ask(&mut self, at: usize, what: Interest) {
        use epoll::EventFlags as Flags;
        let slot = &mut self.slots[at];
        if slot.asked >= what {
            return;
        }
        let Some(socket) = &slot.socket else { return };
        let flags = match what {
            Interest::ReadWrite => Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
            _ => Flags::IN | Flags::RDHUP | Flags::ET,
        };
        let data = epoll::EventData::new_u64(at as u64);
        let asked = match slot.asked {
            Interest::None => epoll::add(&self.epoll, socket, data, flags),
            _ => epoll::modify(&self.epoll, socket, data, flags),
        };
        slot.asked = what;
        if let Err(errno) = asked {
            self.failed(at, errno);
        }
    }
}
