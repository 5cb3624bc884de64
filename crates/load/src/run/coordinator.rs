//! The coordinator: the process that forks the workers, waits for them, and adds up their findings.
//! It connects to nothing.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, set_parent_process_death_signal};
use tine_sys::process::{Alone, Ended, Fresh, How, Side, exit_now, fork, reap};
use tine_sys::signal::{Set, first_real_time};

use super::live::Live;
use super::load::Load;
use super::purpose::Purpose;
use super::worker::{self, Work};
use crate::findings::Findings;
use crate::findings::measurement::LostWorker;
use crate::plan::shares;

/// File descriptors that a process needs besides those of its connections or workers.
const FURTHER_DESCRIPTORS: u64 = 64;

/// The result of all workers.
pub(super) struct Collected {
    /// The findings of the workers that measured.
    pub(super) findings: Findings,
    /// Workers that failed.
    pub(super) lost: Vec<LostWorker>,
    /// Whether a signal ended the run.
    pub(super) interrupted: bool,
}

/// Runs the workers of a load to their end. Calls `on_turn` after each event and each `period`.
///
/// # Errors
/// EAGAIN, EMFILE or ENOMEM if the workers cannot be started; also if this process has several
/// threads.
pub(super) fn run(
    load: &Load,
    purpose: Purpose,
    live: Live,
    start: u64,
    period: Option<Duration>,
    on_turn: &mut dyn FnMut(),
) -> io::Result<Collected> {
    let shares = shares(load.plan.connections as usize, load.plan.processes as usize);
    let part = load.part;
    let shares = shares.into_iter().enumerate().skip(part.first).take(part.workers);
    let largest = shares.clone().map(|(_, slots)| slots.len()).max().unwrap_or(0) as u64;
    if purpose.measures() {
        // Workers inherit the pipes of those before them.
        raise_descriptor_limit(largest + part.workers as u64 + FURTHER_DESCRIPTORS)?;
    } else {
        // If it fails, connections beyond the limit fail, each for itself.
        let _ = raise_descriptor_limit(largest + FURTHER_DESCRIPTORS);
    }
    let mut coordinator = Coordinator::new(purpose)?;
    for (number, slots) in shares {
        let stop_signals =
            purpose.measures().then(|| Set::of(&[Signal::TERM.as_raw(), Signal::INT.as_raw()]));
        let at = number - part.first;
        coordinator.start(&Work { number, at, slots, load, purpose, start, live, stop_signals })?;
    }
    while !coordinator.workers.is_empty() {
        coordinator.wait(period);
        coordinator.take_signals();
        on_turn();
    }
    coordinator.old_mask.make_mask()?;
    Ok(coordinator.collect())
}

/// Raises the limit on open files, also the hard limit if that is too low.
fn raise_descriptor_limit(needed: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let suffices = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if suffices(limit.current) {
        return Ok(());
    }
    let maximum = if suffices(limit.maximum) { limit.maximum } else { Some(needed) };
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|_| io::Error::from(Errno::MFILE))
}

struct Coordinator<'a> {
    purpose: Purpose<'a>,
    /// Workers that run, or whose pipes are not at their end, by process id.
    workers: BTreeMap<i32, WorkerHandle>,
    signals: Set,
    old_mask: Set,
    signal_fd: OwnedFd,
    exit_signal: i32,
    /// Number of SIGINT and SIGTERM received.
    interrupts: u32,
    ended: Vec<(i32, WorkerHandle)>,
}

/// A worker, as the coordinator sees it.
struct WorkerHandle {
    number: usize,
    /// The pipe on which the worker sends its findings, until it is read to its end.
    pipe: Option<OwnedFd>,
    sent: Vec<u8>,
    ended: Option<Ended>,
}

impl<'a> Coordinator<'a> {
    fn new(purpose: Purpose<'a>) -> io::Result<Coordinator<'a>> {
        let exit_signal = first_real_time();
        let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw(), exit_signal]);
        tine_sys::signal::default(exit_signal);
        let old_mask = signals.block()?;
        let signal_fd = signals.descriptor()?;
        Ok(Coordinator {
            purpose,
            workers: BTreeMap::new(),
            signals,
            old_mask,
            signal_fd,
            exit_signal,
            interrupts: 0,
            ended: Vec::new(),
        })
    }

    fn start(&mut self, work: &Work) -> io::Result<()> {
        let alone = Alone::check().map_err(|why| io::Error::other(why.to_string()))?;
        let pipe = match self.purpose.measures() {
            true => Some(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?),
            false => None,
        };
        match fork(&alone, self.exit_signal) {
            Ok(Side::Parent(pid)) => {
                let pipe = pipe.map(|(reader, _)| reader);
                pipe.as_ref().map_or(Ok(()), |pipe| rustix::io::ioctl_fionbio(pipe, true))?;
                let worker = WorkerHandle { number: work.number, pipe, sent: Vec::new(), ended: None };
                self.workers.insert(pid, worker);
                Ok(())
            }
            Ok(Side::Child(fresh)) => become_worker(&fresh, work, pipe.map(|(_, writer)| writer)),
            Err(why) => {
                self.signal_workers(Signal::KILL);
                Err(why)
            }
        }
    }

    /// Waits for a signal, for findings, or for the end of the period.
    fn wait(&mut self, period: Option<Duration>) {
        let deadline = period.map(|period| Instant::now() + period);
        let mut fds = vec![PollFd::new(&self.signal_fd, PollFlags::IN)];
        let pipes = self.workers.values().filter_map(|worker| worker.pipe.as_ref());
        fds.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let _ = tine_sys::wait::until(&mut fds, deadline);
        drop(fds);
        self.workers.values_mut().for_each(WorkerHandle::read);
        self.remove_ended();
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            match signal.pid.filter(|_| signal.number == self.exit_signal) {
                Some(pid) => self.reap(pid),
                None => {
                    self.interrupts += 1;
                    self.signal_workers(if self.interrupts > 1 { Signal::KILL } else { Signal::TERM });
                }
            }
        }
        self.remove_ended();
    }

    fn signal_workers(&self, signal: Signal) {
        let running = self.workers.iter().filter(|(_, worker)| worker.ended.is_none());
        for pid in running.filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            // The id is not reused, as the worker is not reaped; it may have ended.
            let _ = kill_process(pid, signal);
        }
    }

    fn reap(&mut self, pid: i32) {
        let Ok(Some(ended)) = reap(pid) else { return };
        if let Some(worker) = self.workers.get_mut(&pid) {
            worker.ended = Some(ended);
        }
    }

    /// Moves workers that have ended, and whose pipes are read to the end, out of the table.
    fn remove_ended(&mut self) {
        let is_over = |worker: &WorkerHandle| worker.pipe.is_none() && worker.ended.is_some();
        let over = self.workers.iter().filter(|(_, worker)| is_over(worker));
        for pid in over.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            self.ended.extend(self.workers.remove(&pid).map(|worker| (pid, worker)));
        }
    }

    /// Adds up the findings, and lists the workers that failed.
    fn collect(mut self) -> Collected {
        let (mut findings, mut lost) = (Findings::default(), Vec::new());
        for (pid, worker) in std::mem::take(&mut self.ended) {
            let Some(ended) = worker.ended else { continue };
            if !self.take_findings(&worker, ended.how, &mut findings) {
                lost.push(LostWorker { worker: worker.number, pid, outcome: outcome(ended.how) });
            }
            findings.usage.cpu_ns += u64::try_from(ended.cpu.as_nanos()).unwrap_or(u64::MAX);
            findings.usage.memory_kib = findings.usage.memory_kib.max(ended.peak_kib);
        }
        Collected { findings, lost, interrupted: self.interrupts > 0 }
    }

    /// Adds the findings of a worker, if it measured. False if it failed.
    fn take_findings(&self, worker: &WorkerHandle, how: How, findings: &mut Findings) -> bool {
        if !self.purpose.measures() {
            // Without an orderly stop, the signal of an interrupt ends the worker.
            let is_interrupted = self.interrupts > 0 && how == How::Signaled(Signal::TERM.as_raw());
            return how == How::Exited(0) || is_interrupted;
        }
        match serde_json::from_slice::<Findings>(&worker.sent) {
            Ok(more) if how == How::Exited(0) => {
                findings.merge(&more);
                true
            }
            _ => false,
        }
    }
}

fn outcome(how: How) -> String {
    match how {
        How::Exited(code) => format!("exit {code}"),
        How::Signaled(signal) => format!("signal {signal}"),
    }
}

impl WorkerHandle {
    /// Reads the bytes that the worker has sent so far.
    fn read(&mut self) {
        while let Some(pipe) = &self.pipe {
            let mut buffer = [0; 64 * 1024];
            match rustix::io::read(pipe, &mut buffer) {
                Ok(length @ 1..) => self.sent.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }
}

/// Runs in the new process: becomes a worker, and ends as one. Its process group is its own,
/// because Ctrl-C is for the coordinator, which stops the workers.
fn become_worker(fresh: &Fresh, work: &Work, pipe: Option<OwnedFd>) -> ! {
    if work.stop_signals.is_none() {
        tine_sys::signal::defaults(fresh);
    }
    let _ = rustix::process::setpgid(None, None);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let name = format!("{} {}", work.purpose.worker_name(), work.number + 1);
    if let Ok(name) = std::ffi::CString::new(format!("tine: {name}")) {
        let _ = rustix::thread::set_name(&name);
    }
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let findings = worker::run(work).map_err(io::Error::from)?;
        let Some(pipe) = &pipe else { return Ok(()) };
        write_all(pipe, &serde_json::to_vec(&findings).map_err(io::Error::other)?)
    }));
    exit_now(match worked {
        Ok(Ok(())) => 0,
        Ok(Err(why)) => {
            // It cannot be written: the exit code says it, too.
            let _ = writeln!(io::stderr(), "tine: {name}: {}", tine_sys::reason(&why));
            1
        }
        Err(_) => 101,
    })
}

fn write_all(pipe: &OwnedFd, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match rustix::io::write(pipe, text) {
            Ok(written) => text = &text[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
