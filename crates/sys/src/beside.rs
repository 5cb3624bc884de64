//! Forking beside threads that sleep, for test harnesses.

use std::io;
use std::time::Instant;

use crate::process::{Fresh, Side};

/// Forks a child of a process whose other threads sleep, by the C library's `fork`, so that the
/// child, which has this thread only, can allocate. Its end sends SIGCHLD to this process.
///
/// It is for test harnesses, whose main thread waits for the end of a test: a thread that waits in
/// futex(2) runs no code and, unless it waits for a lock while it holds another one, holds none.
/// Waits until all other threads do, or until the deadline.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if another thread runs or waits elsewhere;
/// [`io::ErrorKind::NotFound`] without `/proc`; otherwise as [`fork`](crate::process::fork).
pub fn fork_beside_sleepers(deadline: Instant) -> io::Result<Side> {
    while !do_others_sleep()? {
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "other threads of this process run"));
        }
        std::thread::yield_now();
    }
    // SAFETY: no argument. The other threads, which the child does not have, hold no lock, as said
    // above; those of the allocator are taken by `fork` itself.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child(Fresh::new())),
        pid => Ok(Side::Parent(pid)),
    }
}

/// Whether every other thread of this process waits in futex(2).
fn do_others_sleep() -> io::Result<bool> {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if thread.file_name().to_str() == Some(&own) {
            continue;
        }
        // One that has ended meanwhile has neither file. proc_pid_syscall(5): the number, or
        // "running".
        let call = match std::fs::read_to_string(thread.path().join("syscall")) {
            Err(why) if matches!(why.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
            call => call?,
        };
        if call.split(' ').next().and_then(|call| call.parse().ok()) != Some(libc::SYS_futex) {
            return Ok(false);
        }
    }
    Ok(true)
}
