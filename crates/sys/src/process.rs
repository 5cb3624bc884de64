//! Forking and waiting.
//!
//! Both calls are raw `clone(2)`: the C library's `fork` offers neither `CLONE_PARENT` nor a choice
//! of exit signal, and touches more memory. What `fork` would do for the child besides is done here:
//! the cached thread id and the list of robust mutexes are set right. Handlers registered with
//! `pthread_atfork` do not run.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use crate::{check, raw};

/// Proof that this process has one thread, obtained once and passed to every fork.
///
/// In a child of a process with several threads, locks that another thread held stay locked for ever
/// (POSIX allows only async-signal-safe calls there).
#[derive(Debug)]
pub struct Alone {
    /// Where the C library caches the thread id, as the kernel knows it from `set_tid_address(2)`.
    cached_thread_id: *mut libc::c_int,
    robust_list: (*mut libc::c_void, usize),
}

/// This process has more than one thread, so it must not fork.
#[derive(Debug)]
pub struct NotAlone {
    /// How many threads were counted.
    pub threads: usize,
}

impl fmt::Display for NotAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this process has {} threads", self.threads)
    }
}

impl std::error::Error for NotAlone {}

impl Alone {
    /// Counts the threads of this process.
    ///
    /// # Errors
    /// [`NotAlone`] if there is more than one. Where `/proc` is not mounted, they cannot be counted
    /// and the caller is believed.
    pub fn check() -> Result<Alone, NotAlone> {
        let threads = count_threads();
        if threads > 1 {
            return Err(NotAlone { threads });
        }
        Ok(Alone { cached_thread_id: cached_thread_id(), robust_list: robust_list() })
    }
}

fn count_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count())
}

/// The address that the C library gave to the kernel for the thread id; null where the kernel does
/// not tell (built without `CONFIG_CHECKPOINT_RESTORE`), and then the cached id of a child is stale.
fn cached_thread_id() -> *mut libc::c_int {
    let mut address: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: PR_GET_TID_ADDRESS writes one pointer to the address given, which is valid for it.
    let told = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    if told == 0 { address } else { std::ptr::null_mut() }
}

fn robust_list() -> (*mut libc::c_void, usize) {
    let mut head: *mut libc::c_void = std::ptr::null_mut();
    let mut size: usize = 0;
    // SAFETY: get_robust_list writes one pointer and one size to the addresses given; 0 is the
    // calling thread.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    (head, size)
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Side {
    /// The process that called, with the new process's id.
    Parent(i32),
    /// The new process.
    Child,
}

/// Forks a child of this process. When it ends, `exit_signal` is sent here; 0 sends none.
///
/// With a real-time signal, the ends of several children queue up and each names its process, which
/// SIGCHLD does not promise (signal(7)). Such children are invisible to a `wait` without `__WALL`.
///
/// # Errors
/// EAGAIN at a limit on processes, ENOMEM.
pub fn fork(alone: &Alone, exit_signal: i32) -> io::Result<Side> {
    clone(alone, libc::c_long::from(exit_signal), std::ptr::null_mut())
}

/// Forks a sibling: the new process is a child of this process's parent, which also gets the exit
/// signal, the one that this process was created with (clone(2), `CLONE_PARENT`).
///
/// The new process's id is in `id` before that process runs: an observer of shared memory knows it
/// however soon the process ends and even if this one is killed meanwhile.
///
/// # Errors
/// EAGAIN at a limit on processes, ENOMEM; EINVAL where this process is the first of its namespace.
#[inline]
pub fn fork_sibling(alone: &Alone, id: &AtomicI32) -> io::Result<Side> {
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    clone(alone, libc::c_long::from(flags), id.as_ptr())
}

#[inline]
fn clone(alone: &Alone, flags: libc::c_long, id: *mut libc::c_int) -> io::Result<Side> {
    debug_assert_eq!(count_threads(), 1, "a process that forks got a second thread");
    let mut flags = flags;
    if !alone.cached_thread_id.is_null() {
        flags |= libc::c_long::from(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID);
    }
    // SAFETY: without CLONE_VM and with a null stack this is a fork: the child gets a copy of the
    // memory and goes on here. `Alone` says that no other thread exists whose locks would be copied.
    // `id` is null or an `AtomicI32`, which may be written to at any time; the cached thread id is an
    // `int` of the C library, written in the child's copy only.
    let pid = unsafe { raw::clone(flags, id, alone.cached_thread_id) };
    match pid {
        0 => {
            let (head, size) = alone.robust_list;
            // SAFETY: the list head is this thread's own, registered by the C library at its start;
            // the kernel forgets it at a fork.
            unsafe { raw::call2(libc::SYS_set_robust_list, head as libc::c_long, size as libc::c_long) };
            Ok(Side::Child)
        }
        pid if pid < 0 => Err(io::Error::from_raw_os_error(-pid as i32)),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// Ends this process at once: no destructors, no exit handlers, no flushing of inherited buffers.
#[inline]
pub fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: exit_group(2) has no preconditions, and does not return.
        unsafe { raw::call2(libc::SYS_exit_group, libc::c_long::from(code), 0) };
    }
}

/// How a process ended, and what it had used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The process's id, free for reuse from now on.
    pub pid: i32,
    /// Exit code, or the signal that ended it.
    pub how: How,
    /// Processor time, user and system, its waited-for children included.
    pub cpu: Duration,
    /// Peak of resident memory in KiB.
    pub peak_kib: u64,
}

/// Exit code or signal, from a wait status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It called `exit` with this code, 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// Reaps exactly this child, whatever its exit signal, if it has ended. Never blocks, and looks at no
/// other child: `wait(-1)` looks at each living one, which costs a server with thousands most of its
/// rate.
///
/// # Errors
/// ECHILD if it is no child of this process.
pub fn reap(pid: i32) -> io::Result<Option<Ended>> {
    wait4(pid, libc::__WALL)
}

/// Reaps this child if it has ended and its exit signal is SIGCHLD: an orphan that this process adopted
/// as a subreaper (its exit signal is SIGCHLD from then on). A child of [`fork`] or [`fork_sibling`]
/// with another signal is left alone (wait4(2), `__WCLONE`).
///
/// # Errors
/// ECHILD if it is no such child.
pub fn reap_ordinary(pid: i32) -> io::Result<Option<Ended>> {
    wait4(pid, 0)
}

/// Whether this child has ended and can be reaped; it is left as it is (waitid(2), `WNOWAIT`).
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the out-pointer is valid, an all-zero siginfo is a valid one, and its process id is plain data.
    unsafe {
        let told = libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), flags);
        told == 0 && info.assume_init().si_pid() == pid
    }
}

fn wait4(pid: i32, flags: i32) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both out-pointers are valid for writes, and an all-zero rusage is a valid one.
    let (pid, usage) = unsafe {
        let pid = libc::wait4(pid, &raw mut status, libc::WNOHANG | flags, usage.as_mut_ptr());
        (pid, usage.assume_init())
    };
    if check(libc::c_long::from(pid))? == 0 {
        return Ok(None);
    }
    let how = if libc::WIFSIGNALED(status) {
        How::Signaled(libc::WTERMSIG(status))
    } else {
        How::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Some(Ended {
        pid,
        how,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }))
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_usec).unwrap_or(0) * 1000)
}

/// Processor time of this process so far, user and system, and its peak of resident memory in KiB.
#[must_use]
pub fn own_usage() -> (Duration, u64) {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes one rusage to a valid address; all-zero is a valid rusage.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    (duration(usage.ru_utime) + duration(usage.ru_stime), u64::try_from(usage.ru_maxrss).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_threads_are_no_place_to_fork() {
        // The test harness runs this test in a thread of its own.
        let refused = Alone::check().expect_err("two threads at least");
        assert!(refused.threads >= 2, "{refused}");
    }

    #[test]
    fn nothing_to_reap_is_an_error() {
        assert_eq!(reap(1).expect_err("init is no child").raw_os_error(), Some(libc::ECHILD));
    }
}
