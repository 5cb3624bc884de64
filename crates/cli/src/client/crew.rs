//! The process that starts the workers, watches them and sums up. It connects to nobody.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::error::Error;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tine_load::plan::shares;
use tine_sys::process::{Alone, Fresh, How, Side, exit_now, fork, reap};
use tine_sys::signal::{Set, first_real_time};

use super::dial::Target;
use super::exchange::Script;
use super::report::{self, Death, Status};
use super::tally::{Count, Tally};
use super::worker::{self, Print, Work};
use crate::args::Client;

/// How often the status lines are renewed.
const RENEWAL: Duration = Duration::from_millis(200);

struct Crew {
    /// Process ids and numbers of the workers that live.
    workers: BTreeMap<i32, usize>,
    signals: Set,
    descriptor: OwnedFd,
    exit_signal: i32,
    interrupted: bool,
    deaths: Vec<Death>,
}

/// Runs a whole crew, until every connection is over or Ctrl-C.
pub fn run(args: &Client, targets: &[Target]) -> Result<ExitCode, Error> {
    let Some(template) = args.message.clone() else {
        return Err(Error::usage("there is nothing to send", "say what (--message TEMPLATE)"));
    };
    let script = Script {
        template,
        every: args.every,
        count: args.count,
        expect_echo: args.expect_echo,
        wait: args.wait,
    };
    let connections = args.connections as usize;
    let shares = shares(connections, args.processes.map_or(connections, |processes| processes as usize));
    let tally = Tally::new(shares.len()).map_err(|why| cannot_start(&why))?;
    let print = match (args.quiet, connections) {
        (true, _) => Print::Nothing,
        (false, 1) => Print::Bytes,
        (false, _) => Print::Numbered,
    };
    let mut crew = Crew::new()?;
    for (number, connections) in shares.into_iter().enumerate() {
        crew.start(&Work { number, connections, targets, script: &script, tally, print })?;
    }
    let status = Status::new(crew.workers.len(), args.quiet);
    while !crew.workers.is_empty() {
        status.renew(&tally);
        crew.wait(status.is_shown());
        crew.take_signals();
    }
    status.finish();
    if !args.quiet || crew.interrupted || tally.errors() > 0 {
        report::summary(&tally, &crew.deaths);
    }
    Ok(exit_code(&crew, &tally))
}

fn exit_code(crew: &Crew, tally: &Tally) -> ExitCode {
    ExitCode::from(match (crew.interrupted, tally.sum(Count::Wrong), tally.errors()) {
        (true, ..) => super::INTERRUPTED,
        (false, 1.., _) => super::WRONG_BYTES,
        (false, 0, 0) if crew.deaths.is_empty() => 0,
        (false, 0, _) => 111,
    })
}

fn cannot_start(why: &std::io::Error) -> Error {
    let next = "ask for fewer processes (--processes), or raise the limits (`ulimit -a`)";
    Error::system("cannot start the client", why, next)
}

impl Crew {
    fn new() -> Result<Crew, Error> {
        let exit_signal = first_real_time();
        let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw(), exit_signal]);
        tine_sys::signal::default(exit_signal);
        signals.block().map_err(|why| cannot_start(&why))?;
        let descriptor = signals.descriptor().map_err(|why| cannot_start(&why))?;
        let workers = BTreeMap::new();
        Ok(Crew { workers, signals, descriptor, exit_signal, interrupted: false, deaths: Vec::new() })
    }

    fn start(&mut self, work: &Work) -> Result<(), Error> {
        let alone =
            Alone::check().map_err(|why| Error::usage(why, "this is a fault of tine's; please report it"))?;
        match fork(&alone, self.exit_signal) {
            Ok(Side::Parent(pid)) => {
                self.workers.insert(pid, work.number);
                Ok(())
            }
            Ok(Side::Child(fresh)) => become_worker(&fresh, work),
            Err(why) => {
                self.end_workers();
                Err(cannot_start(&why))
            }
        }
    }

    /// Waits for a signal; where there are status lines to renew, not longer than that.
    fn wait(&self, renew: bool) {
        let mut ask = [PollFd::new(&self.descriptor, PollFlags::IN)];
        let _ = tine_sys::wait::until(&mut ask, renew.then(|| Instant::now() + RENEWAL));
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            match signal.pid.filter(|_| signal.number == self.exit_signal) {
                Some(pid) => self.worker_ended(pid),
                None => {
                    self.interrupted = true;
                    self.end_workers();
                }
            }
        }
    }

    fn end_workers(&self) {
        for pid in self.workers.keys().filter_map(|pid| Pid::from_raw(*pid)) {
            // Not reaped yet, so the id is the worker's; it may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    fn worker_ended(&mut self, pid: i32) {
        let Ok(Some(ended)) = reap(pid) else { return };
        let Some(number) = self.workers.remove(&pid) else { return };
        let asked = self.interrupted && ended.how == How::Signaled(Signal::TERM.as_raw());
        if ended.how != How::Exited(0) && !asked {
            self.deaths.push(Death { number, pid, how: ended.how });
        }
    }
}

/// The worker's life. A group of its own: Ctrl-C reaches the crew's process, which ends the workers.
fn become_worker(fresh: &Fresh, work: &Work) -> ! {
    tine_sys::signal::defaults(fresh);
    let _ = rustix::process::setpgid(None, None);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Ok(name) = std::ffi::CString::new(format!("tine: client {}", work.number + 1)) {
        let _ = rustix::thread::set_name(&name);
    }
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(work)));
    exit_now(if ran.is_ok() { 0 } else { 101 })
}
