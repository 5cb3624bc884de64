//! A worker process: its share of the connections, and one loop that waits for events and applies
//! them. [`open`] starts connections and exchanges, [`transfer`] moves their bytes, [`close`] ends
//! them; [`recorder`] counts and times.

mod close;
mod open;
mod recorder;
mod slot;
mod transfer;

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

use crate::findings::Findings;
use crate::plan::pattern::Pattern;
use crate::plan::schedule::Schedule;
use crate::plan::script::Script;
use crate::plan::share;
use crate::run::live::Live;
use crate::run::load::Load;
use crate::run::purpose::Purpose;
use crate::units::SECOND;
use recorder::Recorder;
use slot::{Interest, Slot, Stage};

/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1024;
/// Chunks, or exchanges, of one connection before the other connections have their turn.
const CHUNKS: usize = 16;
/// Data of epoll events that are not about a connection.
const STOP: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Shortest time between two checks of all deadlines.
const SWEEP: u64 = SECOND / 10;
/// Time between two publications of the live numbers.
const PUBLICATION: u64 = SECOND / 20;
/// A run in which all connections have failed for this long ends.
const HOPELESS: u64 = 3 * SECOND;
/// Time for which a slot pauses after it could not connect.
const PAUSE: u64 = SECOND / 10;
/// Kept connections that all workers open at the same time, so that they do not overflow the
/// backlog.
const OPENING: usize = 64;
/// Time for which a connection that sends nothing counts as being opened.
const UNPROVEN: u64 = SECOND / 50;
/// Time for which bytes are collected to diagnose wrong ones.
const EVIDENCE: u64 = SECOND / 5;

/// The work of a worker.
pub(super) struct Work<'a> {
    /// The number of the worker, from 0.
    pub(super) number: usize,
    /// The number of workers.
    pub(super) workers: usize,
    /// Its share of the connection slots.
    pub(super) slots: Range<usize>,
    pub(super) load: &'a Load,
    pub(super) purpose: Purpose<'a>,
    /// The start of the run, on the monotonic clock.
    pub(super) start: u64,
    pub(super) live: Live,
    /// Blocked signals that stop the worker in order. `None`: their default action ends it.
    pub(super) stop_signals: Option<Set>,
}

/// Returns the time of the monotonic clock, in nanoseconds.
#[must_use]
pub(super) fn now() -> u64 {
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
    /// Slots that wait for an arrival, in the order in which they became free.
    waiting: VecDeque<usize>,
    /// Slots that open a connection now.
    fresh: VecDeque<usize>,
    /// Slots that open a connection as soon as few are being opened.
    gentle: VecDeque<usize>,
    /// Slots that have more to do, after the other connections have had their turn.
    again: VecDeque<usize>,
    /// Times, slots, and the generation of each timer.
    timers: BinaryHeap<Reverse<(u64, usize, u32)>>,
    /// Becomes readable at the earliest of the timers and of the arrivals.
    timer: OwnedFd,
    timer_at: u64,
    recorder: Recorder,
    /// The endpoint of each target that is tried, and whether a connection to it has been made.
    tried: Vec<(usize, bool)>,
    /// Connections begun.
    begun: u64,
    /// Whether the source address that the kernel chooses has run out of ports.
    out_of_ports: bool,
    /// Connections (or exchanges) that may still begin, if their number is limited.
    budget: Option<u64>,
    /// Number of engaged slots.
    engaged: usize,
    /// Number of connections being opened.
    opening: usize,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    stopped: bool,
    next_sweep: u64,
    published: u64,
}

/// Runs a worker until the end of the plan or a stop signal, and returns its findings.
///
/// # Errors
/// EMFILE or ENOMEM if a descriptor cannot be created.
pub(super) fn run(work: &Work) -> Result<Findings, Errno> {
    let mut worker = Worker::new(work)?;
    let readable = epoll::EventFlags::IN;
    let signals = work.stop_signals.map(|signals| signals.descriptor()).transpose();
    let signals = signals.map_err(|why| Errno::from_io_error(&why).unwrap_or(Errno::IO))?;
    if let Some(signals) = &signals {
        epoll::add(&worker.epoll, signals, epoll::EventData::new_u64(STOP), readable)?;
    }
    // Edge-triggered, so that it need not be read.
    let expiry = readable | epoll::EventFlags::ET;
    epoll::add(&worker.epoll, &worker.timer, epoll::EventData::new_u64(TIMER), expiry)?;
    let mut events = Vec::with_capacity(256);
    worker.prepare();
    while !worker.is_over(now()) {
        worker.begin_due();
        worker.on_time();
        let timeout = worker.timeout()?;
        events.clear();
        match epoll::wait(&worker.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        for event in &events {
            match event.data.u64() {
                STOP => worker.stopped = true,
                // The next turn of the loop handles what is due.
                TIMER => {}
                at => {
                    worker.on_event(at as usize, event.flags);
                    // At once, so that the server does not wait for the rest of the batch.
                    worker.open_fresh();
                }
            }
        }
        worker.resume();
    }
    Ok(worker.finish())
}

impl<'a> Worker<'a> {
    fn new(work: &'a Work<'a>) -> Result<Worker<'a>, Errno> {
        let plan = &work.load.plan;
        let slot = |number: usize| Slot::new(plan.population_of(number));
        Ok(Worker {
            work,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            pattern: Pattern::new(plan.seed),
            schedule: Schedule::new(plan, work.workers, work.number),
            slots: work.slots.clone().map(slot).collect(),
            waiting: VecDeque::new(),
            fresh: VecDeque::new(),
            gentle: VecDeque::new(),
            again: VecDeque::new(),
            timers: BinaryHeap::new(),
            timer: timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            timer_at: 0,
            recorder: Recorder::new(plan, work.start, work.purpose.measures()),
            tried: vec![(0, false); work.load.targets.len()],
            begun: 0,
            out_of_ports: false,
            budget: match plan.is_open() {
                // The schedule counts.
                true => None,
                false => plan.requests.map(|requests| share(requests, work.workers, work.number)),
            },
            engaged: 0,
            opening: 0,
            buffer: vec![0; CHUNK],
            scratch: Vec::new(),
            stopped: false,
            next_sweep: 0,
            published: 0,
        })
    }

    fn script(&self, at: usize) -> &'a Script {
        &self.work.load.scripts[self.slots[at].population]
    }

    fn is_over(&self, now: u64) -> bool {
        let nothing_left = match &self.schedule {
            Some(schedule) => schedule.peek().is_none(),
            None => self.budget == Some(0),
        };
        let is_late = now > self.work.start + HOPELESS;
        let is_hopeless =
            || is_late && !self.tried.iter().any(|(_, has_worked)| *has_worked) && self.recorder.has_errors();
        self.stopped
            || now >= self.recorder.end()
            || nothing_left && self.engaged == 0
            || !nothing_left && is_hopeless()
    }

    /// Sets the timer for the next timer or arrival, and returns the timeout of epoll_wait(2). The
    /// timer is needed because that timeout counts milliseconds, too coarse for an open loop.
    fn timeout(&mut self) -> Result<Timespec, Errno> {
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

    /// Handles an event of a connection.
    fn on_event(&mut self, at: usize, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        if self.slots[at].stage == Stage::Connecting {
            self.check_connecting(at);
            return self.run_exchanges(at);
        }
        if flags.contains(Flags::OUT) && self.slots[at].stage == Stage::Exchanging {
            self.send(at);
        }
        if flags.intersects(Flags::IN | Flags::RDHUP | Flags::HUP | Flags::ERR) {
            self.receive(at, CHUNK, flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR));
        }
        self.run_exchanges(at);
    }

    /// Runs exchange after exchange while replies arrive at once, until the others have their turn.
    fn run_exchanges(&mut self, at: usize) {
        for _ in 0..CHUNKS {
            if self.slots[at].stage != Stage::Ready {
                return;
            }
            let now = now();
            self.begin_exchange(at, recorder::Start { planned: now, actual: now });
        }
        self.again.push_back(at);
    }

    /// Resumes connections that were interrupted to give the others their turn.
    fn resume(&mut self) {
        for at in std::mem::take(&mut self.again) {
            match self.slots[at].stage {
                Stage::Exchanging => {
                    self.send(at);
                    self.receive(at, CHUNK, false);
                    self.run_exchanges(at);
                }
                Stage::Ready => self.run_exchanges(at),
                Stage::Closing | Stage::Staying | Stage::Diagnosing => self.receive(at, CHUNK, false),
                _ => {}
            }
        }
    }

    /// Handles what is due: timers, deadlines, and the publication of the live numbers.
    fn on_time(&mut self) {
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

    fn publish(&self) {
        self.work.live.publish(self.work.number, &self.recorder.numbers);
    }

    /// Publishes the live numbers of a run that does not measure: at each step that a server or a
    /// user can see, before they see it. So they are right also if the worker is killed.
    fn publish_unmeasured(&self) {
        if !self.work.purpose.measures() {
            self.publish();
        }
    }

    /// Ends what has timed out. A deadline that is set later is at least [`EVIDENCE`] or the
    /// timeout of the plan away, so the next sweep need not be before.
    fn sweep(&mut self, now: u64) {
        let mut earliest = now + EVIDENCE.min(self.work.load.plan.timeout_ns);
        if !self.collects_evidence() {
            earliest = now + self.work.load.plan.timeout_ns;
        }
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
                self.begin_exchange(at, recorder::Start { planned: now, actual: now });
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
    fn set_timer(&mut self, at: usize, time: u64) {
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

    /// Has epoll report events of a socket. It stays at reading once for all, except for sockets
    /// that have to wait until they can be written.
    fn watch(&mut self, at: usize, interest: Interest) {
        use epoll::EventFlags as Flags;
        let slot = &mut self.slots[at];
        if slot.interest >= interest {
            return;
        }
        let Some(socket) = &slot.socket else { return };
        let flags = match interest {
            Interest::ReadWrite => Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
            _ => Flags::IN | Flags::RDHUP | Flags::ET,
        };
        let data = epoll::EventData::new_u64(at as u64);
        let watched = match slot.interest {
            Interest::None => epoll::add(&self.epoll, socket, data, flags),
            _ => epoll::modify(&self.epoll, socket, data, flags),
        };
        slot.interest = interest;
        if let Err(errno) = watched {
            self.failed(at, errno);
        }
    }
}
