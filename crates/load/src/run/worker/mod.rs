//! A worker: a process with its share of the connections, and one loop that waits, names the event and applies
//! it. `slot` says what a connection can be doing; `begin` starts connections and exchanges, `talk` moves
//! their bytes, `end` closes and counts.

mod begin;
mod end;
mod slot;
mod talk;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tine_sys::signal::Set;

use crate::findings::{Bytes, Findings};
use crate::plan::endpoint::Endpoint;
use crate::plan::pattern::Pattern;
use crate::plan::schedule::Schedule;
use crate::plan::script::Script;
use crate::plan::sources::Sources;
use crate::plan::{Plan, share};
use crate::run::live::{Live, Numbers};
use crate::units::SECOND;
use slot::{Slot, Stage};

/// Bytes that are read or written at a time.
const CHUNK: usize = 64 * 1024;
/// Chunks that one connection moves before others have their turn.
const CHUNKS: usize = 16;
/// What the kernel says of other descriptors than connections.
const STOP: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
/// How often timeouts are looked at.
const SWEEP: u64 = SECOND / 10;
/// How often the shared numbers are renewed.
const RENEWAL: u64 = SECOND / 20;
/// After so long without any connection made, and at least one refused, nothing will come of it.
const HOPELESS: u64 = 3 * SECOND;
/// How long a place rests after it could not connect.
const PAUSE: u64 = SECOND / 10;
/// Kept connections that are opened at a time, by all workers, so that their crowd does not overflow the backlog.
const OPENING: usize = 64;
/// How long one that has nothing to ask for counts as being opened.
const UNPROVEN: u64 = SECOND / 50;

/// What a worker works on.
pub struct Work<'a> {
    /// Its number, from 0.
    pub number: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Its places for connections.
    pub places: Range<usize>,
    /// What was asked for.
    pub plan: &'a Plan,
    /// What connections do, by population.
    pub scripts: &'a [Script],
    /// What each target may mean, in the order in which to try them.
    pub targets: &'a [Vec<Endpoint>],
    /// Where connections come from.
    pub sources: &'a Sources,
    /// The start of the run, on the monotonic clock.
    pub start: u64,
    /// The numbers that all share.
    pub live: Live,
    /// The signals that stop it; they are blocked.
    pub signals: Set,
}

/// The monotonic clock, in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

fn timespec(nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as _ }
}

struct Worker<'a> {
    work: &'a Work<'a>,
    epoll: OwnedFd,
    pattern: Pattern,
    schedule: Option<Schedule>,
    slots: Vec<Slot>,
    /// Places that wait for an arrival, the longest first.
    free: VecDeque<usize>,
    /// Places that begin a connection now; and those that do when not too many are being opened.
    fresh: VecDeque<usize>,
    kept: VecDeque<usize>,
    /// Connections that have more to do than they were given time for.
    again: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(u64, usize, u32)>>,
    /// Rings at the next of them, or of the arrivals.
    alarm: OwnedFd,
    alarm_at: u64,
    findings: Findings,
    numbers: Numbers,
    /// Which of its places each target is tried at, and whether that ever worked.
    tried: Vec<(usize, bool)>,
    begun: u64,
    /// The kernel's own choice of a source has run out of ports.
    needs_sources: bool,
    /// What may still be begun, where that is limited.
    budget: Option<u64>,
    engaged: usize,
    opening: usize,
    room: Vec<u8>,
    compare: Vec<u8>,
    measured_from: u64,
    end: u64,
    stopped: bool,
    swept: u64,
    published: u64,
    accounted: Bytes,
}

/// Works until the end of the plan, or a signal. Returns what was found out.
///
/// # Errors
/// Those of making a descriptor: EMFILE, ENOMEM.
pub fn run(work: &Work) -> Result<Findings, Errno> {
    let mut worker = Worker::new(work)?;
    let signals = work.signals.descriptor().map_err(|why| Errno::from_io_error(&why).unwrap_or(Errno::IO))?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&worker.epoll, &signals, epoll::EventData::new_u64(STOP), readable)?;
    // Edge-triggered: nobody needs to read it.
    let rings = readable | epoll::EventFlags::ET;
    epoll::add(&worker.epoll, &worker.alarm, epoll::EventData::new_u64(ALARM), rings)?;
    let mut events = Vec::with_capacity(256);
    worker.prepare();
    while !worker.is_over(now()) {
        worker.start_what_is_due();
        worker.look_at_the_time();
        let timeout = worker.patience()?;
        events.clear();
        match epoll::wait(&worker.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        for event in &events {
            match event.data.u64() {
                STOP => worker.stopped = true,
                // What is due is looked at in the next turn.
                ALARM => {}
                at => {
                    worker.happened(at as usize, event.flags);
                    // At once, so that the server does not wait for the rest of the batch.
                    worker.take_up_fresh();
                }
            }
        }
        worker.go_on();
    }
    Ok(worker.finish())
}

impl<'a> Worker<'a> {
    fn new(work: &'a Work<'a>) -> Result<Worker<'a>, Errno> {
        let plan = work.plan;
        let slot = |place: usize| Slot::new(plan.population_of(place));
        Ok(Worker {
            work,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            pattern: Pattern::new(plan.seed),
            schedule: Schedule::new(plan, work.workers, work.number),
            slots: work.places.clone().map(slot).collect(),
            free: VecDeque::new(),
            fresh: VecDeque::new(),
            kept: VecDeque::new(),
            again: VecDeque::new(),
            timers: BinaryHeap::new(),
            alarm: timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            alarm_at: 0,
            findings: Findings::default(),
            numbers: Numbers::default(),
            tried: vec![(0, false); work.targets.len()],
            begun: 0,
            needs_sources: false,
            budget: match plan.is_open() {
                // The schedule counts.
                true => None,
                false => plan.requests.map(|requests| share(requests, work.workers, work.number)),
            },
            engaged: 0,
            opening: 0,
            room: vec![0; CHUNK],
            compare: Vec::new(),
            measured_from: work.start + plan.warmup_ns,
            end: plan.duration_ns.map_or(u64::MAX, |length| work.start + plan.warmup_ns + length),
            stopped: false,
            swept: 0,
            published: 0,
            accounted: Bytes::default(),
        })
    }

    fn script(&self, at: usize) -> &'a Script {
        &self.work.scripts[self.slots[at].population]
    }

    fn is_over(&self, now: u64) -> bool {
        let nothing_left = match &self.schedule {
            Some(schedule) => schedule.peek().is_none(),
            None => self.budget == Some(0),
        };
        let has_failed = self.findings.connections.errors() > 0;
        let reached = self.tried.iter().any(|(_, worked)| *worked);
        self.stopped
            || now >= self.end
            || nothing_left && self.engaged == 0
            || !reached && has_failed && now > self.work.start + HOPELESS
    }

    /// How long nothing is to be done but for what the kernel tells, the alarm among it: epoll_wait(2) counts in
    /// milliseconds, which is a lot of an open loop's lateness.
    fn patience(&mut self) -> Result<Timespec, Errno> {
        let now = now();
        let timer = self.timers.peek().map(|Reverse((time, ..))| *time);
        let arrival = self.next_arrival().filter(|_| !self.free.is_empty());
        let next = [timer, arrival].into_iter().flatten().min();
        let is_due = !self.fresh.is_empty() || self.may_open() || !self.again.is_empty();
        if is_due || next.is_some_and(|next| next <= now) {
            return Ok(timespec(0));
        }
        if let Some(next) = next.filter(|next| *next != self.alarm_at) {
            let it_value = timespec(next);
            let setting = Itimerspec { it_interval: timespec(0), it_value };
            timerfd_settime(&self.alarm, TimerfdTimerFlags::ABSTIME, &setting)?;
            self.alarm_at = next;
        }
        Ok(timespec(self.end.min(now + SWEEP).saturating_sub(now)))
    }

    /// What the kernel says of a connection.
    fn happened(&mut self, at: usize, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        if self.slots[at].stage == Stage::Connecting {
            self.look_at_connecting(at);
            return self.go_on_talking(at);
        }
        if flags.contains(Flags::OUT) && self.slots[at].stage == Stage::Talking {
            self.speak(at);
        }
        if flags.intersects(Flags::IN | Flags::RDHUP | Flags::HUP | Flags::ERR) {
            self.hear(at, CHUNK, flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR));
        }
        self.go_on_talking(at);
    }

    /// Exchange after exchange, while the answers are there at once; then others have their turn.
    fn go_on_talking(&mut self, at: usize) {
        for _ in 0..CHUNKS {
            if self.slots[at].stage != Stage::Ready {
                return;
            }
            let now = now();
            self.begin_exchange(at, now, now);
        }
        self.again.push_back(at);
    }

    /// What was broken off for others to have their turn.
    fn go_on(&mut self) {
        for at in std::mem::take(&mut self.again) {
            match self.slots[at].stage {
                Stage::Talking => {
                    self.speak(at);
                    self.hear(at, CHUNK, false);
                    self.go_on_talking(at);
                }
                Stage::Ready => self.go_on_talking(at),
                Stage::Closing | Stage::Staying | Stage::Evidence => self.hear(at, CHUNK, false),
                _ => {}
            }
        }
    }

    fn look_at_the_time(&mut self) {
        let now = now();
        while let Some(Reverse((time, at, generation))) = self.timers.peek().copied() {
            if time > now {
                break;
            }
            self.timers.pop();
            if self.slots[at].generation == generation {
                self.rings(at);
            }
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            for at in 0..self.slots.len() {
                if self.slots[at].deadline <= now {
                    self.took_too_long(at);
                }
            }
        }
        if now >= self.published + RENEWAL {
            self.published = now;
            self.account_for_bytes(now);
            self.work.live.publish(self.work.number, &self.numbers);
        }
    }

    /// Bytes since the last time are those of this second: counting each as it moves would cost more than it tells.
    fn account_for_bytes(&mut self, now: u64) {
        let all = Bytes { sent: self.numbers.sent, received: self.numbers.received };
        let (sent, received) = (all.sent - self.accounted.sent, all.received - self.accounted.received);
        self.accounted = all;
        if now >= self.measured_from {
            self.findings.measured_bytes.sent += sent;
            self.findings.measured_bytes.received += received;
        }
        if sent + received > 0 {
            let second = self.findings.second(now.saturating_sub(self.work.start));
            second.sent += sent;
            second.received += received;
        }
    }

    /// The alarm of a place.
    fn rings(&mut self, at: usize) {
        match self.slots[at].stage {
            Stage::Free => self.queue(at),
            Stage::Idle | Stage::Staying => self.opened(at),
            Stage::Connecting => {
                self.look_at_connecting(at);
                self.go_on_talking(at);
            }
            Stage::Thinking => {
                let now = now();
                self.begin_exchange(at, now, now);
                self.go_on_talking(at);
            }
            Stage::Talking => {
                self.speak(at);
                self.hear(at, 1, false);
                self.go_on_talking(at);
            }
            _ => {}
        }
    }

    /// Wakes a place at this time; an alarm set before is off.
    fn arm(&mut self, at: usize, time: u64) {
        let slot = &mut self.slots[at];
        slot.generation = slot.generation.wrapping_add(1);
        self.timers.push(Reverse((time, at, slot.generation)));
    }

    fn set_stage(&mut self, at: usize, stage: Stage) {
        let slot = &mut self.slots[at];
        self.engaged -= usize::from(slot.stage.is_engaged());
        self.engaged += usize::from(stage.is_engaged());
        slot.stage = stage;
        slot.generation = slot.generation.wrapping_add(1);
    }
}
