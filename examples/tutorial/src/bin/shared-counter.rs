//! Four processes count together, a million times each, in memory that they share. The argument is
//! how they do it: `plain` is a fault, `atomic` the cure.

use std::io;
use std::num::NonZero;
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::yield_now;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, fork};

const PROCESSES: u64 = 4;
const TIMES: u64 = 1_000_000;

fn main() -> io::Result<()> {
    let is_atomic = std::env::args().nth(1).as_deref() == Some("atomic");
    let size = NonZero::new(size_of::<[AtomicU64; 2]>()).expect("it is 16");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // MAP_SHARED: children have the memory itself. With MAP_PRIVATE, each has a copy.
    // SAFETY: a new mapping touches no other memory.
    let memory = unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED) }?;
    // SAFETY: the memory is large enough, aligned, zero, and is never unmapped.
    let [counter, started]: &[AtomicU64; 2] = unsafe { memory.cast().as_ref() };
    for _ in 0..PROCESSES {
        // SAFETY: this process has one thread.
        if let ForkResult::Child = unsafe { fork() }? {
            // Not before all can count.
            started.fetch_add(1, SeqCst);
            while started.load(SeqCst) < PROCESSES {
                yield_now();
            }
            for _ in 0..TIMES {
                count(counter, is_atomic);
            }
            exit(0);
        }
    }
    for _ in 0..PROCESSES {
        wait()?;
    }
    let (total, wanted) = (counter.load(SeqCst), PROCESSES * TIMES);
    println!("counted to {total}");
    println!("lost some: {}", total < wanted);
    Ok(())
}

fn count(counter: &AtomicU64, is_atomic: bool) {
    if is_atomic {
        counter.fetch_add(1, SeqCst);
        return;
    }
    let number = counter.load(SeqCst);
    // Another process can count between the two steps. Its one is lost.
    if number.is_multiple_of(1000) {
        yield_now();
    }
    counter.store(number + 1, SeqCst);
}
