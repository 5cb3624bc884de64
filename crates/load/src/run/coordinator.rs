//! The process that starts the workers, watches them and adds up what they found out. It connects to nobody.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, set_parent_process_death_signal};
use tine_sys::process::{Alone, Ended, How, Side, exit_now, fork, reap};
use tine_sys::signal::{Set, first_real_time};

use crate::findings::Findings;
use crate::findings::counters::{Counters, available_memory};
use crate::findings::measurement::{LostWorker, Measurement};
use crate::findings::state::State;
use crate::plan::{Plan, shares};
use crate::run::live::{Live, Numbers};
use crate::run::load::Load;
use crate::run::worker::{self, Work};
use crate::units::SECOND;

/// Descriptors that a worker needs besides its connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// How often the machine's memory is looked at, where nobody watches more often.
const LOOK: Duration = Duration::from_millis(500);

/// A moment of a load that runs, for whoever watches.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Time since the start, in nanoseconds; none before it.
    pub elapsed_ns: u64,
    /// The numbers of all workers.
    pub numbers: Numbers,
}

/// Runs a load, in this process and workers forked from it. `watch` is called every `period`, if there is one.
///
/// # Errors
/// What keeps the workers from starting: EAGAIN, EMFILE, ENOMEM; or a second thread in this process.
pub fn run(load: &Load, period: Option<Duration>, watch: &mut dyn FnMut(Moment)) -> io::Result<Measurement> {
    let places = shares(load.plan.connections as usize, load.plan.processes as usize);
    make_room(places.iter().map(ExactSizeIterator::len).max().unwrap_or(0) as u64)?;
    let live = Live::new(places.len())?;
    let mut crew = Crew::new()?;
    let before = Counters::read();
    let memory = available_memory();
    let mut least = memory;
    let began = std::time::SystemTime::now();
    // The workers begin together, when the last one has been forked.
    let start = worker::now() + SECOND / 50 + places.len() as u64 * SECOND / 500;
    let workers = places.len();
    for (number, places) in places.into_iter().enumerate() {
        crew.start(&Work {
            number,
            workers,
            places,
            plan: &load.plan,
            scripts: &load.scripts,
            targets: &load.targets,
            sources: &load.sources,
            start,
            live,
            signals: Set::of(&[Signal::TERM.as_raw(), Signal::INT.as_raw()]),
        })?;
    }
    while !crew.workers.is_empty() {
        crew.wait(period.unwrap_or(LOOK));
        least = least.min(available_memory());
        crew.take_signals();
        if period.is_some() {
            watch(Moment { elapsed_ns: worker::now().saturating_sub(start), numbers: live.sum() });
        }
    }
    crew.old_mask.make_mask()?;
    let stopped = worker::now().saturating_sub(start);
    let kernel = Counters::read().since(&before);
    let (part, lost) = crew.add_up();
    let end = measured_until(&load.plan, &part, stopped);
    Ok(Measurement {
        interrupted: crew.interrupted > 0,
        window_ns: end.saturating_sub(load.plan.warmup_ns),
        findings: part,
        lost,
        kernel,
        memory_kib: memory - least,
        began_ms: began.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
    })
}

/// Where the measured time ends, from the start of the load: with its time, or with the last of what was asked for.
fn measured_until(plan: &Plan, part: &Findings, stopped: u64) -> u64 {
    let (connections, exchanges) = (&part.connections, part.exchanges);
    let left = connections.of(State::InFlight) + connections.of(State::Unstarted);
    let is_done =
        plan.requests.is_some() && part.measured > 0 && left + exchanges.in_flight + exchanges.unstarted == 0;
    match plan.duration_ns {
        Some(duration) if !is_done => stopped.min(plan.warmup_ns + duration),
        _ => part.last_done_ns,
    }
}

/// Raises the limit on descriptors as far as may be.
fn make_room(connections: u64) -> io::Result<()> {
    let needed = connections + SPARE_DESCRIPTORS;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let allowed = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if allowed(limit.current) {
        return Ok(());
    }
    let maximum = if allowed(limit.maximum) { limit.maximum } else { Some(needed) };
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|_| io::Error::from(Errno::MFILE))
}

struct Crew {
    /// The workers that live, or have something to say, by process id.
    workers: BTreeMap<i32, WorkerHandle>,
    signals: Set,
    old_mask: Set,
    descriptor: OwnedFd,
    exit_signal: i32,
    interrupted: u32,
    done: Vec<(WorkerHandle, i32)>,
}

struct WorkerHandle {
    number: usize,
    pipe: OwnedFd,
    said: Vec<u8>,
    is_silent: bool,
    ended: Option<Ended>,
}

impl Crew {
    fn new() -> io::Result<Crew> {
        let exit_signal = first_real_time();
        let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw(), exit_signal]);
        tine_sys::signal::default(exit_signal);
        let old_mask = signals.block()?;
        let descriptor = signals.descriptor()?;
        Ok(Crew {
            workers: BTreeMap::new(),
            signals,
            old_mask,
            descriptor,
            exit_signal,
            interrupted: 0,
            done: Vec::new(),
        })
    }

    fn start(&mut self, work: &Work) -> io::Result<()> {
        let alone = Alone::check().map_err(|why| io::Error::other(why.to_string()))?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match fork(&alone, self.exit_signal) {
            Ok(Side::Parent(pid)) => {
                rustix::io::ioctl_fionbio(&reader, true)?;
                let worker = WorkerHandle {
                    number: work.number,
                    pipe: reader,
                    said: Vec::new(),
                    is_silent: false,
                    ended: None,
                };
                self.workers.insert(pid, worker);
                Ok(())
            }
            Ok(Side::Child(_fresh)) => become_worker(work, &writer),
            Err(why) => {
                self.end_workers(Signal::KILL);
                Err(why)
            }
        }
    }

    /// Waits for a signal or for what a worker says, at most so long.
    fn wait(&mut self, period: Duration) {
        let deadline = Some(Instant::now() + period);
        let mut ask = vec![PollFd::new(&self.descriptor, PollFlags::IN)];
        let talking = || self.workers.values().filter(|worker| !worker.is_silent);
        ask.extend(talking().map(|worker| PollFd::new(&worker.pipe, PollFlags::IN)));
        let _ = tine_sys::wait::until(&mut ask, deadline);
        drop(ask);
        self.workers.values_mut().for_each(WorkerHandle::listen);
        self.sort_out();
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            match signal.pid.filter(|_| signal.number == self.exit_signal) {
                Some(pid) => self.worker_ended(pid),
                None => {
                    self.interrupted += 1;
                    self.end_workers(if self.interrupted > 1 { Signal::KILL } else { Signal::TERM });
                }
            }
        }
        self.sort_out();
    }

    fn end_workers(&self, signal: Signal) {
        let living = self.workers.iter().filter(|(_, worker)| worker.ended.is_none());
        for pid in living.filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            // Not reaped yet, so the id is the worker's; it may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    fn worker_ended(&mut self, pid: i32) {
        let Ok(Some(ended)) = reap(pid) else { return };
        if let Some(worker) = self.workers.get_mut(&pid) {
            worker.ended = Some(ended);
        }
    }

    /// Puts those aside that have ended and said all.
    fn sort_out(&mut self) {
        let over: Vec<i32> = self
            .workers
            .iter()
            .filter(|(_, one)| one.is_silent && one.ended.is_some())
            .map(|(pid, _)| *pid)
            .collect();
        for pid in over {
            self.done.extend(self.workers.remove(&pid).map(|worker| (worker, pid)));
        }
    }

    /// What the workers found out, and those that did not say.
    fn add_up(&mut self) -> (Findings, Vec<LostWorker>) {
        let mut whole = Findings::default();
        let mut lost = Vec::new();
        for (worker, pid) in self.done.drain(..) {
            let ended = worker.ended.as_ref();
            let is_well = ended.is_some_and(|ended| ended.how == How::Exited(0));
            match serde_json::from_slice::<Findings>(&worker.said) {
                Ok(part) if is_well => whole.merge(&part),
                _ => lost.push(LostWorker { worker: worker.number, pid, outcome: outcome(ended) }),
            }
            if let Some(ended) = ended {
                whole.usage.cpu_ns += u64::try_from(ended.cpu.as_nanos()).unwrap_or(u64::MAX);
                whole.usage.memory_kib = whole.usage.memory_kib.max(ended.peak_kib);
            }
        }
        (whole, lost)
    }
}

fn outcome(ended: Option<&Ended>) -> String {
    match ended.map(|ended| ended.how) {
        Some(How::Exited(code)) => format!("exit {code}"),
        Some(How::Signaled(signal)) => format!("signal {signal}"),
        None => "vanished".into(),
    }
}

impl WorkerHandle {
    /// Takes what it says, as far as it has.
    fn listen(&mut self) {
        while !self.is_silent {
            let mut room = [0; 64 * 1024];
            match rustix::io::read(&self.pipe, &mut room) {
                Ok(0) => self.is_silent = true,
                Ok(length) => self.said.extend_from_slice(&room[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.is_silent = true,
            }
        }
    }
}

/// The worker's life. A group of its own: Ctrl-C reaches the crew's process, which stops the workers.
fn become_worker(work: &Work, writer: &OwnedFd) -> ! {
    let _ = rustix::process::setpgid(None, None);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Ok(name) = std::ffi::CString::new(format!("tine: load {}", work.number + 1)) {
        let _ = rustix::thread::set_name(&name);
    }
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let part = worker::run(work).map_err(io::Error::from)?;
        say(writer, &serde_json::to_vec(&part).map_err(io::Error::other)?)
    }));
    exit_now(match worked {
        Ok(Ok(())) => 0,
        Ok(Err(why)) => {
            eprintln!("tine: load {}: {}", work.number + 1, tine_sys::reason(&why));
            1
        }
        Err(_) => 101,
    })
}

fn say(pipe: &OwnedFd, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match rustix::io::write(pipe, text) {
            Ok(written) => text = &text[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_time_ends_with_the_time_or_with_all_that_was_asked_for() {
        let timed = Plan { duration_ns: Some(10), warmup_ns: 5, ..crate::plan::tests::plan() };
        let counted = Plan { requests: Some(3), ..timed.clone() };
        let untimed = Plan { duration_ns: None, ..counted.clone() };
        let part = Findings { measured: 3, last_done_ns: 9, ..Findings::default() };
        let mut unfinished = part.clone();
        unfinished.connections.count(State::Unstarted, 1);
        for (plan, part, stopped, end) in [
            (&timed, &part, 16, 15),
            (&timed, &part, 7, 7),
            (&counted, &part, 16, 9),
            (&counted, &unfinished, 16, 15),
            (&untimed, &part, 16, 9),
        ] {
            assert_eq!(measured_until(plan, part, stopped), end);
        }
    }
}
