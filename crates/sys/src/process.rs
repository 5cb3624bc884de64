//! Forking and waiting.
//!
//! Forks are plain `clone(2)` calls: the C library's `fork` offers neither `CLONE_PARENT` nor a
//! choice of exit signal, and touches more memory. What it would do for the child besides is done
//! here: the cached thread id and the list of robust mutexes are set. Handlers registered with
//! `pthread_atfork` do not run.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use crate::namespaces::{Kinds, PidNamespace};
use crate::{check, raw};

/// Proof that this process has one thread, obtained once and passed to every fork.
///
/// In a child of a process with several threads, a lock that another thread held stays locked for
/// ever (POSIX allows only async-signal-safe calls there).
#[derive(Debug)]
pub struct Alone {
    /// Where the C library caches the thread id, as the kernel knows it from `set_tid_address(2)`.
    cached_thread_id: *mut libc::c_int,
    robust_list: (*mut libc::c_void, usize),
}

/// This process has several threads, so it must not fork.
#[derive(Debug)]
pub struct NotAlone {
    /// The number of threads, where `/proc` is mounted.
    pub threads: Option<usize>,
}

impl fmt::Display for NotAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.threads {
            Some(threads) => write!(f, "this process has {threads} threads"),
            None => f.write_str("this process has several threads, or they cannot be counted without /proc"),
        }
    }
}

impl std::error::Error for NotAlone {}

impl Alone {
    /// Counts the threads of this process.
    ///
    /// # Errors
    /// [`NotAlone`] if there are several, or if neither `/proc` nor unshare(2) is there to ask.
    pub fn check() -> Result<Alone, NotAlone> {
        match count_threads() {
            Some(1) => {}
            None if has_one_thread() => {}
            threads => return Err(NotAlone { threads }),
        }
        Ok(Alone { cached_thread_id: cached_thread_id(), robust_list: robust_list() })
    }
}

/// The number of threads of this process; `None` where `/proc` is not mounted.
fn count_threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Asks the kernel for a thread group of its own for this thread: nothing changes for the only
/// thread of a process, and it is an error for one of several (unshare(2)). Some sandboxes forbid
/// the call.
fn has_one_thread() -> bool {
    // SAFETY: a number as the only argument.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// The address that the C library gave to the kernel for the thread id. Null where the kernel does
/// not return it (built without `CONFIG_CHECKPOINT_RESTORE`): then the cached id of a child is
/// stale.
fn cached_thread_id() -> *mut libc::c_int {
    let mut address: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: PR_GET_TID_ADDRESS writes one pointer to the address given, which is valid for it.
    let returned = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    if returned == 0 { address } else { std::ptr::null_mut() }
}

fn robust_list() -> (*mut libc::c_void, usize) {
    let mut head: *mut libc::c_void = std::ptr::null_mut();
    let mut size: usize = 0;
    // SAFETY: get_robust_list writes one pointer and one size to the addresses given; 0 is the
    // calling thread.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    (head, size)
}

/// The process that a fork returned in.
#[derive(Debug)]
pub enum Side {
    /// The process that called, with the id of the new process.
    Parent(i32),
    /// The new process, with its token.
    Child(Fresh),
}

/// The token of a forked process, which exists in such processes only, once: what changes the whole
/// process takes it, as [`close_from`](crate::fd::close_from) does.
///
/// Dropping the token ends the process with exit code 101. So neither a return nor a panic leads
/// back to the code that forked: what that code owns is neither used nor dropped in this process.
#[derive(Debug)]
#[must_use = "dropping it ends the process"]
pub struct Fresh {
    /// Whether inherited descriptors have been closed.
    pub(crate) has_closed: Cell<bool>,
    /// Keeps the token in the thread that it was made in.
    thread: PhantomData<*const ()>,
}

impl Fresh {
    /// In a process that was forked just now.
    #[inline]
    pub(crate) fn new() -> Fresh {
        Fresh { has_closed: Cell::new(false), thread: PhantomData }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        exit_now(101);
    }
}

/// Forks a child of this process. When it ends, `exit_signal` is sent to this process; 0 sends
/// none.
///
/// Real-time signals of several children are queued and each names its process, which SIGCHLD does
/// not promise (signal(7)). A `wait` without `__WALL` does not see such children.
///
/// # Errors
/// EAGAIN at a limit on processes, ENOMEM; EINVAL if `exit_signal` is not a signal.
pub fn fork(alone: &Alone, exit_signal: i32) -> io::Result<Side> {
    // The other bits of the argument are flags (clone(2)).
    if !(0..=libc::SIGRTMAX()).contains(&exit_signal) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    clone(alone, libc::c_long::from(exit_signal), std::ptr::null_mut(), PidNamespace::Inherited)
}

/// Forks a child of this process into a pid namespace. Its end sends SIGCHLD to this process.
///
/// # Errors
/// As [`fork_into`].
pub fn fork_among(alone: &Alone, pids: PidNamespace) -> io::Result<Side> {
    clone(alone, libc::c_long::from(libc::SIGCHLD), std::ptr::null_mut(), pids)
}

/// Forks a child of this process into new namespaces. Its end sends SIGCHLD to this process.
///
/// # Errors
/// As [`fork`]; EPERM without the privilege over the user namespace, ENOSPC at a limit
/// (`/proc/sys/user`).
pub fn fork_into(alone: &Alone, kinds: Kinds) -> io::Result<Side> {
    let flags = libc::c_long::from(libc::SIGCHLD | kinds.0);
    clone(alone, flags, std::ptr::null_mut(), PidNamespace::Inherited)
}

/// Forks a sibling: the new process is a child of this process's parent. The parent also gets the
/// exit signal, which is the one of this process (clone(2), `CLONE_PARENT`).
///
/// The id of the new process is in `id` before that process runs. Who reads `id` in shared memory
/// finds it even if the new process ends at once or this one is killed meanwhile.
///
/// # Errors
/// EAGAIN at a limit on processes, ENOMEM; EINVAL where this process is the first of its namespace;
/// with a pid namespace of its own, as [`fork_into`].
#[inline]
pub fn fork_sibling(alone: &Alone, id: &AtomicI32, pids: PidNamespace) -> io::Result<Side> {
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    clone(alone, libc::c_long::from(flags), id.as_ptr(), pids)
}

#[inline]
fn clone(alone: &Alone, flags: libc::c_long, id: *mut libc::c_int, pids: PidNamespace) -> io::Result<Side> {
    debug_assert!(count_threads().is_none_or(|threads| threads == 1), "a process that forks has threads");
    let mut flags = flags;
    let ignored = pids.ignored();
    if !alone.cached_thread_id.is_null() && ignored.is_none() {
        flags |= libc::c_long::from(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID);
    }
    let pid = match ignored {
        // SAFETY: without CLONE_VM and with a null stack this is a fork: the child gets a copy of
        // the memory and returns here. `Alone` says that there is no other thread, whose locks
        // would be copied. `id` is null or an `AtomicI32`, which may be written at any time; the
        // cached thread id is an `int` of the C library, written in the child's copy only.
        None => unsafe { raw::clone(flags, id, alone.cached_thread_id) },
        // SAFETY: the same; the flags for the thread id were left out.
        Some(ignored) => unsafe { raw::clone_apart(flags, id, ignored) },
    };
    match pid {
        0 => {
            if ignored.is_some() && !alone.cached_thread_id.is_null() {
                // SAFETY: an `int` of the C library in this copy of the memory. The first process
                // of a pid namespace has this id.
                unsafe { *alone.cached_thread_id = 1 };
            }
            let (head, size) = alone.robust_list;
            // SAFETY: the head of this thread's list, as the C library registered it; the kernel
            // forgets it at a fork.
            unsafe { raw::call2(libc::SYS_set_robust_list, head as libc::c_long, size as libc::c_long) };
            Ok(Side::Child(Fresh::new()))
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

/// How a process ended, and the resources that it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The id of the process. It is free: the kernel may give it to another process.
    pub pid: i32,
    /// The exit code, or the signal that ended the process.
    pub how: How,
    /// Processor time, user and system, including that of the children that the process reaped.
    pub cpu: Duration,
    /// Peak of resident memory, in KiB.
    pub peak_kib: u64,
}

/// An exit code or a signal, from a wait status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The process exited with this code, 0 to 255.
    Exited(i32),
    /// This signal ended the process.
    Signaled(i32),
}

/// Reaps this child if it has ended, whatever its exit signal. Never blocks, and examines no other
/// child: `wait(-1)` examines each running one, which costs a server with thousands most of its
/// rate.
///
/// # Errors
/// ECHILD if it is not a child of this process.
pub fn reap(pid: i32) -> io::Result<Option<Ended>> {
    wait4(pid, libc::__WALL)
}

/// Reaps this child if it has ended and its exit signal is SIGCHLD: an orphan that this process
/// adopted as a subreaper (its exit signal is SIGCHLD from then on). Leaves a child of [`fork`] or
/// [`fork_sibling`] with another signal alone (wait4(2), `__WCLONE`).
///
/// # Errors
/// ECHILD if it is not such a child.
pub fn reap_ordinary(pid: i32) -> io::Result<Option<Ended>> {
    wait4(pid, 0)
}

/// Waits until this child has ended, and reaps it. Its exit signal is SIGCHLD.
///
/// # Errors
/// ECHILD if it is not such a child.
pub fn wait_for(pid: i32) -> io::Result<How> {
    loop {
        match wait4_with(pid, 0) {
            Ok(Some(ended)) => return Ok(ended.how),
            Ok(None) => {}
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// Whether there is another process that this one, the first of its pid namespace, would signal
/// with all others (kill(2), -1), permitted or not.
#[must_use]
pub fn has_others() -> bool {
    // SAFETY: numbers as arguments; 0 is no signal.
    unsafe { libc::kill(-1, 0) == 0 }
}

/// Whether this child has ended and can be reaped. Leaves it as it is (waitid(2), `WNOWAIT`).
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the out-pointer is valid, an all-zero siginfo is valid, and its process id is plain
    // data.
    unsafe {
        let returned = libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), flags);
        returned == 0 && info.assume_init().si_pid() == pid
    }
}

/// A child that has ended and whose exit signal is SIGCHLD, which `reap` or `reap_ordinary` can
/// reap; `None` if there is none. Examines every such child, so it is for systems on which the
/// children cannot be listed.
#[must_use]
pub fn first_ended() -> Option<i32> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: as in `has_ended`.
    let pid = unsafe {
        let returned = libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags);
        if returned == 0 { info.assume_init().si_pid() } else { 0 }
    };
    (pid > 0).then_some(pid)
}

/// Waits for the end of this child. Returns how it ended.
///
/// # Errors
/// ECHILD if it is not a child of this process.
pub(crate) fn wait(pid: i32) -> io::Result<How> {
    let mut status = 0;
    loop {
        // SAFETY: the out-pointer is valid for writes.
        let returned = check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }.into());
        match returned {
            Ok(_) => return Ok(how(status)),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// How a process ended, from its wait status.
pub(crate) fn how(status: libc::c_int) -> How {
    match libc::WIFSIGNALED(status) {
        true => How::Signaled(libc::WTERMSIG(status)),
        false => How::Exited(libc::WEXITSTATUS(status)),
    }
}

fn wait4(pid: i32, flags: i32) -> io::Result<Option<Ended>> {
    wait4_with(pid, libc::WNOHANG | flags)
}

fn wait4_with(pid: i32, flags: i32) -> io::Result<Option<Ended>> {
    // Other numbers stand for groups of processes (wait4(2)).
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    }
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both out-pointers are valid for writes, and an all-zero rusage is a valid one.
    let (pid, usage) = unsafe {
        let pid = libc::wait4(pid, &raw mut status, flags, usage.as_mut_ptr());
        (pid, usage.assume_init())
    };
    if check(libc::c_long::from(pid))? == 0 {
        return Ok(None);
    }
    Ok(Some(Ended {
        pid,
        how: how(status),
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }))
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_usec).unwrap_or(0) * 1000)
}

/// The processor time of this process until now, user and system, and its peak of resident memory,
/// in KiB.
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
    fn a_process_with_several_threads_must_not_fork() {
        // The test harness runs this test in a thread of its own.
        let error = Alone::check().expect_err("two threads at least");
        assert!(error.threads.is_some_and(|threads| threads >= 2), "{error}");
        assert!(!has_one_thread());
    }

    #[test]
    fn reaping_another_process_or_a_group_is_an_error() {
        for pid in [1, 0, -1, i32::MIN] {
            assert_eq!(reap(pid).expect_err("not a child").raw_os_error(), Some(libc::ECHILD), "{pid}");
        }
    }
}
