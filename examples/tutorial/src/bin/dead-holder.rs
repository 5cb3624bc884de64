//! A child takes a lock and dies. Fault: a word in shared memory is the lock, so nobody opens it.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, fork};

fn main() -> io::Result<()> {
    let size = NonZero::new(size_of::<AtomicU32>()).expect("it is 4");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping touches no other memory.
    let memory = unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED) }?;
    // SAFETY: the memory is large enough, aligned, zero, and is never unmapped.
    let lock: &AtomicU32 = unsafe { memory.cast().as_ref() };
    // SAFETY: this process has one thread.
    if let ForkResult::Child = unsafe { fork() }? {
        take(lock, Duration::MAX);
        raise(Signal::SIGKILL)?;
    }
    wait()?;
    match take(lock, Duration::from_secs(1)) {
        true => println!("the lock is free"),
        false => println!("after a second, a dead process still holds the lock"),
    }
    Ok(())
}

/// Writes its process id where 0 says that the lock is free. False if it was not in time.
fn take(lock: &AtomicU32, time: Duration) -> bool {
    let start = Instant::now();
    while lock.compare_exchange(0, std::process::id(), SeqCst, SeqCst).is_err() {
        if start.elapsed() > time {
            return false;
        }
    }
    true
}
