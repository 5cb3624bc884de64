//! Counters and mutexes, in one process and in several.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use tine_shared::{Counter, Mutex};
use tine_sys::memory::Shared;
use tine_sys::process::{Alone, Side, exit_now, fork, wait_for};

use crate::{Race, TIME, rate};

pub(crate) struct Locks {
    counter: Counter,
    mutex: Mutex<u64>,
    bare: Shared<AtomicU64>,
    results: Shared<AtomicU64>,
}

/// The rate of a function in this many processes together, each of them a member.
pub(crate) fn in_processes(processes: usize, results: Shared<AtomicU64>, run: impl Fn() -> f64) -> f64 {
    let alone = Alone::check().expect("one thread");
    let (ready, go, rates) = (&results[0], &results[8], &results[16..]);
    ready.store(0, SeqCst);
    go.store(0, SeqCst);
    let mut children = Vec::new();
    for number in 0..processes {
        match fork(&alone, 17).expect("a process") {
            Side::Parent(pid) => children.push(pid),
            Side::Child(_fresh) => {
                tine_shared::server::enter(number);
                ready.fetch_add(1, SeqCst);
                while go.load(SeqCst) == 0 {
                    std::hint::spin_loop();
                }
                rates[number].store(run().to_bits(), SeqCst);
                exit_now(0);
            }
        }
    }
    while ready.load(SeqCst) < processes as u64 {
        std::thread::yield_now();
    }
    go.store(1, SeqCst);
    children.into_iter().for_each(|pid| _ = wait_for(pid).expect("a child"));
    rates[..processes].iter().map(|rate| f64::from_bits(rate.load(SeqCst))).sum()
}

/// The rate of the robust mutex of the C library.
fn robust(processes: usize) -> f64 {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../out/robust");
    let arguments = [processes.to_string(), TIME.as_millis().to_string()];
    let output =
        Command::new(program).args(arguments).output().expect("bench/out/robust: see bench/shared/run");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a rate")
}

impl Locks {
    pub(crate) fn make() -> Locks {
        Locks {
            counter: Counter::new("counter").expect("memory"),
            mutex: Mutex::new("mutex", 0).expect("memory"),
            bare: Shared::new(8).expect("memory"),
            results: Shared::new(128).expect("memory"),
        }
    }

    pub(crate) fn races(&self) -> Vec<Race<'_>> {
        let mut races = Vec::new();
        for processes in [1, 2] {
            let results = self.results;
            races.push(Race {
                name: format!("Counter, {processes} processes; a bare atomic"),
                ours: Box::new(move || in_processes(processes, results, || rate(|| _ = self.counter.add(1)))),
                yardstick: Box::new(move || {
                    in_processes(processes, results, || rate(|| _ = self.bare[0].fetch_add(1, Relaxed)))
                }),
                target: 0.9,
            });
        }
        for (processes, target) in [(1, 1.0 / 1.5), (2, 1.0), (4, 1.0)] {
            races.push(Race {
                name: format!("Mutex, {processes} processes; pthread, robust"),
                ours: Box::new(move || {
                    in_processes(processes, self.results, || rate(|| *self.mutex.lock() += 1))
                }),
                yardstick: Box::new(move || robust(processes)),
                target,
            });
        }
        races
    }
}
