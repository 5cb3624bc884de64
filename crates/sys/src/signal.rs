//! Signals that a process waits for in one place. No function here installs a handler.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::check;
use crate::process::Fresh;

/// The command of fcntl(2) that chooses the signal; the crate `libc` does not have it.
const F_SETSIG: libc::c_int = 10;

/// A set of signals.
#[derive(Clone, Copy)]
pub struct Set(libc::sigset_t);

impl Set {
    /// The set of these signals; numbers that are not signals are left out.
    #[must_use]
    pub fn of(signals: &[i32]) -> Set {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set, and sigaddset changes an initialised one.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            Set(set.assume_init())
        }
    }

    /// Blocks these signals in the calling thread, besides those that are blocked already. Returns
    /// the signals that were blocked before, for [`Set::make_mask`].
    ///
    /// # Errors
    /// None: sets are valid.
    pub fn block(&self) -> io::Result<Set> {
        self.change_mask(libc::SIG_BLOCK)
    }

    /// Blocks exactly these signals in the calling thread. Returns the signals that were blocked
    /// before.
    ///
    /// # Errors
    /// None: sets are valid.
    pub fn make_mask(&self) -> io::Result<Set> {
        self.change_mask(libc::SIG_SETMASK)
    }

    fn change_mask(&self, how: libc::c_int) -> io::Result<Set> {
        let mut old = Set::of(&[]);
        // SAFETY: both sets are initialised.
        let errno = unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut old.0) };
        if errno == 0 { Ok(old) } else { Err(io::Error::from_raw_os_error(errno)) }
    }

    /// A descriptor that is readable while a signal of the set is pending, which only a blocked
    /// signal remains (signalfd(2)). [`Set::take`] takes it: a read from the descriptor would lose
    /// the process id of an exit signal other than SIGCHLD.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        let fd = check(libc::c_long::from(fd))?;
        let fd = i32::try_from(fd).expect("signalfd(2) returns an int");
        // SAFETY: the kernel has just made this descriptor: it has no other owner.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Takes one pending signal of the set, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Signal> {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the set is initialised, the out-pointer is valid, and so is the timeout.
        let number = unsafe { libc::sigtimedwait(&raw const self.0, info.as_mut_ptr(), &raw const now) };
        if number <= 0 {
            return None;
        }
        // SAFETY: an all-zero siginfo is valid, and the process id is plain data. The kernel sets
        // it in a signal about the end of a child, which has a positive code (sigaction(2)).
        let (code, pid) = unsafe {
            let info = info.assume_init();
            (info.si_code, info.si_pid())
        };
        Some(Signal { number, pid: (code > 0).then_some(pid) })
    }
}

/// A signal that a process has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// The child that ended, where that is the reason of the signal.
    pub pid: Option<i32>,
}

/// The first real-time signal that is free for programs: the C library uses the ones before it.
#[must_use]
pub fn first_real_time() -> i32 {
    libc::SIGRTMIN()
}

/// Sets one signal to its default action.
pub fn default(signal: i32) {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Sends a signal to this process. Returns unless the signal ends it.
pub fn raise(signal: i32) {
    // SAFETY: no preconditions; a number that is not a signal is an error.
    unsafe { libc::raise(signal) };
}

/// From now on, this process gets a signal whenever something is written to the other end of this
/// pipe or socket, whoever writes it (fcntl(2), `F_SETSIG`).
///
/// # Errors
/// EINVAL if it is not a signal; a sandbox forbids it.
pub fn send_on_input(descriptor: impl AsFd, signal: i32) -> io::Result<()> {
    let number = descriptor.as_fd().as_raw_fd();
    let call = |command, argument: i32| {
        // SAFETY: these commands take an integer, and `descriptor` is open.
        check(libc::c_long::from(unsafe { libc::fcntl(number, command, argument) }))
    };
    call(libc::F_SETOWN, std::process::id() as i32)?;
    call(F_SETSIG, signal)?;
    let flags = call(libc::F_GETFL, 0)? as i32;
    call(libc::F_SETFL, flags | libc::O_ASYNC).map(drop)
}

/// Undoes [`send_on_input`].
pub fn send_none(descriptor: impl AsFd) {
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: these commands take an integer, and `descriptor` is open.
    unsafe {
        let flags = libc::fcntl(number, libc::F_GETFL);
        libc::fcntl(number, libc::F_SETFL, flags & !libc::O_ASYNC);
    }
}

/// Ignores one signal.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sets every signal to its default action and unblocks them all, whatever was inherited. Unmaps
/// the alternate stack on which the runtime reports a stack overflow: without its handler it
/// is of no use, and each mapping makes a fork slower.
pub fn defaults(_fresh: &Fresh) {
    drop_alternate_stack();
    for number in 1..=libc::SIGRTMAX() {
        default(number);
    }
    // An empty set is valid, so this cannot fail.
    let _ = Set::of(&[]).make_mask();
}

fn drop_alternate_stack() {
    let mut old = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    default(libc::SIGSEGV);
    default(libc::SIGBUS);
    // SAFETY: the two handlers that used the stack are gone; both pointers are valid. The runtime
    // maps the stack in whole pages with a guard page below, which goes, too. It unmaps both once
    // more where `main` returns, which `Fresh` keeps this process from, and in
    // `std::process::exit`, just before the process ends.
    unsafe {
        if libc::sigaltstack(&raw const off, &raw mut old) == 0 && old.ss_flags & libc::SS_DISABLE == 0 {
            libc::munmap(old.ss_sp, old.ss_size);
            let guard = old.ss_sp.byte_sub(rustix::param::page_size());
            if crate::memory::is_inaccessible(guard) {
                libc::munmap(guard, rustix::param::page_size());
            }
        }
    }
}
