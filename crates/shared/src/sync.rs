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
/// can return without either. True if the time has passed.
#[cfg(not(loom))]
pub(crate) fn wait(word: &AtomicU32, value: u32, time: Duration) -> bool {
    use rustix::io::Errno;
    use rustix::thread::futex;
    let time = futex::Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // Woken, changed, interrupted or out of time: the caller looks at the word.
    futex::wait(word, futex::Flags::empty(), value, Some(&time)) == Err(Errno::TIMEDOUT)
}

/// Wakes up to this many processes that wait at the word (`FUTEX_WAKE`).
#[cfg(not(loom))]
pub(crate) fn wake(word: &AtomicU32, processes: u32) {
    use rustix::thread::futex;
    // The kernel takes a signed number (futex(2)). It fails for no address of ours.
    let _ = futex::wake(word, futex::Flags::empty(), processes.min(i32::MAX as u32));
}

#[cfg(loom)]
pub(crate) use model::{wait, wake};

/// Futexes of a model. Time does not pass there: a wake that is lost is a deadlock.
#[cfg(loom)]
mod model {
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex, MutexGuard};

    use super::{AtomicU32, SeqCst};

    /// Those that wait, in the order in which they came: at which word, and a number of each.
    #[derive(Default)]
    struct Queue {
        waiters: Vec<(*const AtomicU32, u64)>,
        next: u64,
    }

    loom::lazy_static! {
        static ref FUTEXES: (Mutex<Queue>, Condvar) = (Mutex::new(Queue::default()), Condvar::new());
    }

    fn queue() -> MutexGuard<'static, Queue> {
        FUTEXES.0.lock().expect("no thread of a model panics")
    }

    pub(crate) fn wait(word: &AtomicU32, value: u32, _: Duration) -> bool {
        let mut all = queue();
        if word.load(SeqCst) != value {
            return false;
        }
        let own = all.next;
        all.next += 1;
        all.waiters.push((word, own));
        while all.waiters.iter().any(|(_, waiter)| *waiter == own) {
            all = FUTEXES.1.wait(all).expect("no thread of a model panics");
        }
        false
    }

    pub(crate) fn wake(word: &AtomicU32, processes: u32) {
        let mut all = queue();
        let mut left = processes;
        all.waiters.retain(|(at, _)| {
            let wakes = std::ptr::eq(*at, word) && left > 0;
            left -= u32::from(wakes);
            !wakes
        });
        if left < processes {
            FUTEXES.1.notify_all();
        }
    }
}

/// Tells the processor that this is a loop that waits for another process.
pub(crate) fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
