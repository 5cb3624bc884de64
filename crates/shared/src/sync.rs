//! Atomics and futexes (futex(2)). Under the model checker `loom`, both are those of a model.

use std::time::Duration;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// The longest wait before a process looks again. What it waits for wakes it; but the words in
/// shared memory can have any value when another process has written beside the library, and then
/// nobody may know that it waits.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Waits while the word has this value, until a wake or for this time at most (`FUTEX_WAIT`). It
/// can return without either.
#[cfg(not(loom))]
pub(crate) fn wait(word: &AtomicU32, value: u32, time: Duration) {
    use rustix::thread::futex;
    let time = futex::Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // Woken, changed, interrupted or out of time: the caller looks at the word.
    let _ = futex::wait(word, futex::Flags::empty(), value, Some(&time));
}

/// Wakes up to this many processes that wait at the word (`FUTEX_WAKE`).
#[cfg(not(loom))]
pub(crate) fn wake(word: &AtomicU32, processes: u32) {
    use rustix::thread::futex;
    // The kernel takes a signed number (futex(2)). It fails for no address of ours.
    let _ = futex::wake(word, futex::Flags::empty(), processes.min(i32::MAX as u32));
}

/// The queue of all futexes of a model. A wake wakes everybody, who then look again; time does not
/// pass.
#[cfg(loom)]
mod model {
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        pub(super) static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }
}

#[cfg(loom)]
pub(crate) fn wait(word: &AtomicU32, value: u32, _: Duration) {
    let (queue, woken) = &*model::QUEUE;
    let queue = queue.lock().expect("no thread of a model panics");
    if word.load(std::sync::atomic::Ordering::SeqCst) == value {
        drop(woken.wait(queue).expect("no thread of a model panics"));
    }
}

#[cfg(loom)]
pub(crate) fn wake(_: &AtomicU32, _: u32) {
    let (queue, woken) = &*model::QUEUE;
    let queue = queue.lock().expect("no thread of a model panics");
    woken.notify_all();
    drop(queue);
}

/// Tells the processor that this is a loop that waits for another process.
pub(crate) fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
