//! A worker process: its share of the connections, and one loop that waits for events and applies
//! them. [`open`] starts connections and exchanges, [`header`] sends what comes before the first
//! byte, [`transfer`] moves the bytes, [`close`] ends connections. [`timing`] handles timers and
//! deadlines, [`recorder`] counts and times.

mod close;
mod header;
mod open;
mod recorder;
mod slot;
mod timing;
mod transfer;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use tine_sys::signal::Set;

use crate::findings::Findings;
use crate::plan::pattern::Pattern;
use crate::plan::schedule::Schedule;
use crate::plan::script::Script;
use crate::plan::share;
use crate::run::clock::now;
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
    /// The number of the worker, from 0, among all of the load.
    pub(super) number: usize,
    /// Its number among those of this machine.
    pub(super) at: usize,
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

impl Work<'_> {
    /// The number of workers of the whole load.
    fn all_workers(&self) -> usize {
        self.load.part.of
    }
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
        worker.note_start(now());
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
                // The next turn of the loop handles timers.
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
            schedule: Schedule::new(plan, work.all_workers(), work.number),
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
                false => plan.requests.map(|requests| share(requests, work.all_workers(), work.number)),
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
            // Without a number of requests, it lasts to the end of the measured time, also if that
            // has no arrival any more.
            Some(schedule) => schedule.is_complete(),
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

    /// Notes how late the loop is at the start of the run.
    fn note_start(&mut self, now: u64) {
        if now >= self.work.start {
            self.recorder.started(now);
        }
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
