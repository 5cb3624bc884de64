//! Forks beside a large frozen value.

use std::sync::atomic::AtomicU64;

use tine_shared::Frozen;
use tine_sys::memory::Shared;
use tine_sys::process::{Alone, Side, exit_now, fork, wait_for};

use crate::locks::in_processes;
use crate::{BATCH, Race, TIME};

const BYTES: usize = 1 << 30;

pub(crate) fn load() -> Frozen<u64> {
    let block: Vec<u64> = (0..1 << 17).collect();
    let fill = |writer: &mut tine_shared::FrozenWriter<u64>| {
        (0..BYTES / 8 / block.len()).try_for_each(|_| writer.extend(&block))
    };
    Frozen::load("frozen", fill).expect("memory")
}

/// The rate of forks and waits.
fn forks() -> f64 {
    let alone = Alone::check().expect("one thread");
    let (start, mut done) = (std::time::Instant::now(), 0);
    while start.elapsed() < TIME {
        for _ in 0..BATCH / 20 {
            match fork(&alone, 17).expect("a process") {
                Side::Parent(pid) => _ = wait_for(pid).expect("a child"),
                Side::Child(_fresh) => exit_now(0),
            }
        }
        done += BATCH / 20;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn race(frozen: Frozen<u64>) -> Race<'static> {
    let results: Shared<AtomicU64> = Shared::new(128).expect("memory");
    Race {
        name: "Frozen, forks with 1 GiB of it; without".to_owned(),
        ours: Box::new(move || {
            in_processes(1, results, || {
                let snapshot = frozen.get();
                let sum = snapshot.iter().step_by(512).fold(0, |sum, value| sum ^ value);
                std::hint::black_box(sum);
                forks()
            })
        }),
        yardstick: Box::new(move || {
            in_processes(1, results, || {
                tine_shared::server::leave().expect("memory");
                forks()
            })
        }),
        target: 1.0 / 1.2,
    }
}
