//! Executing a program on a connection.
//!
//! Two ways lead there: a process that was forked before executes it in its own place ([`Execution::run`]),
//! or a new process is made for it that borrows this one's memory until it executes ([`spawn_sibling`],
//! as vfork(2)), which saves copying the page tables.

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicI32;

use crate::check;
pub use crate::cstrings::CStrings;
use crate::identity::{Ids, assume};
pub use crate::limits::{LIMITS, Limit, Resource};
use crate::process::{Alone, exit_now};

/// The way into a cgroup, which is made if there is none yet.
#[derive(Clone, Debug)]
pub struct CgroupEntry {
    /// Its directory.
    pub directory: CString,
    /// The file in it that a process enters by (`cgroup.procs`).
    pub members: CString,
}

impl CgroupEntry {
    /// Has this process enter, and its children after it.
    ///
    /// # Errors
    /// It cannot be made, or this process may not enter (cgroups(7)).
    pub fn enter(&self) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags, mkdir, open};
        match mkdir(&self.directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(why) => return Err(why.into()),
        }
        let members = open(&self.members, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        // 0 is the process that writes.
        rustix::io::write(&members, b"0")?;
        Ok(())
    }
}

/// What to execute, and what the process is to be like by then.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The file, with a slash in it: nothing is searched for.
    pub path: &'a CStr,
    /// The arguments, the program's own name first.
    pub arguments: &'a mut CStrings,
    /// `NAME=VALUE`.
    pub environment: &'a mut CStrings,
    /// What becomes descriptor 0.
    pub stdin: RawFd,
    /// What becomes descriptor 1.
    pub stdout: RawFd,
    /// What becomes descriptor 2; it stays as it is where nothing is given.
    pub stderr: Option<RawFd>,
    /// Limits to set.
    pub limits: &'a [Limit],
    /// Added to the nice value.
    pub nice: i32,
    /// Whether the program leads a session, whose terminal is its standard input, instead of a group only.
    pub terminal: bool,
    /// The process whose death is to end the program: its parent, or none that is watched.
    pub parent: Option<i32>,
    /// The cgroup that it lives in, if not this process's.
    pub cgroup: Option<&'a CgroupEntry>,
    /// Who it becomes, if not who this process is.
    pub identity: Option<Ids<'a>>,
}

impl Execution<'_> {
    /// Becomes the program. Returns only if that cannot be: then this process is half changed, and should
    /// end.
    ///
    /// No descriptor but 0, 1 and 2 stays open (close_range(2)).
    pub fn run(&mut self) -> io::Error {
        let arguments = self.arguments.pointers();
        let environment = self.environment.pointers();
        match self.prepare() {
            Err(why) => why,
            Ok(()) => {
                // SAFETY: a terminated path, and two lists of terminated words that end in a null pointer;
                // all live until the call returns, if it does.
                unsafe { libc::execve(self.path.as_ptr(), arguments, environment) };
                io::Error::last_os_error()
            }
        }
    }

    fn prepare(&self) -> io::Result<()> {
        if let Some(cgroup) = self.cgroup {
            cgroup.enter().map_err(|why| io::Error::new(why.kind(), format!("its cgroup: {why}")))?;
        }
        if let Some(ids) = &self.identity {
            assume(ids)?;
        }
        let ok = |returned: libc::c_int| check(libc::c_long::from(returned)).map(drop);
        // SAFETY: system calls with numbers only; descriptors are the caller's to replace, and owners of
        // those that are closed are not reached again in a process that executes or ends.
        unsafe {
            // After the change of user, which clears it (prctl(2)).
            if let Some(parent) = self.parent {
                ok(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                // It may have died before the kernel was asked.
                if libc::getppid() != parent {
                    exit_now(111);
                }
            }
            // A process that leads its group already may be refused a session of its own: then it has one.
            if self.terminal {
                libc::setsid()
            } else {
                libc::setpgid(0, 0)
            };
            ok(libc::dup2(self.stdin, 0))?;
            ok(libc::dup2(self.stdout, 1))?;
            if let Some(stderr) = self.stderr {
                ok(libc::dup2(stderr, 2))?;
            }
            if self.terminal {
                ok(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            crate::fd::close_from(3);
            for limit in self.limits {
                let value = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
                ok(libc::setrlimit(limit.resource, &raw const value))?;
            }
            if self.nice != 0 {
                let now = libc::getpriority(libc::PRIO_PROCESS, 0);
                ok(libc::setpriority(libc::PRIO_PROCESS, 0, now + self.nice))?;
            }
        }
        Ok(())
    }
}

/// The stack of a process that borrows this one's memory.
#[derive(Debug)]
pub struct Stack {
    master: usize,
}

impl Stack {
    /// Enough for the steps up to execve(2), which search nothing and format nothing.
    const BYTES: usize = 64 * 1024;

    /// A stack, which lives as long as this process.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> io::Result<Stack> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        // SAFETY: a fresh anonymous mapping at an address that the kernel chooses touches nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                Stack::BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::STACK,
            )?
        };
        Ok(Stack { master: start as usize + Stack::BYTES })
    }
}

/// What the new process gets to know, on the stack of the one that waits for it.
struct Order<'a, 'b> {
    execution: &'a mut Execution<'b>,
    failed: &'a dyn Fn(&io::Error) -> i32,
}

/// Makes a new process that executes a program, as a sibling of this one, like
/// [`fork_sibling`](crate::process::fork_sibling). This process waits until it has executed or ended.
///
/// Where the program cannot be executed, `failed` is called, in the new process, with this one's memory; it
/// says the exit code.
///
/// # Errors
/// EAGAIN at a limit on processes, ENOMEM: then there is no new process.
pub fn spawn_sibling(
    _alone: &Alone,
    id: &AtomicI32,
    stack: &mut Stack,
    execution: &mut Execution,
    failed: &dyn Fn(&io::Error) -> i32,
) -> io::Result<i32> {
    extern "C" fn begin(order: *mut c_void) -> libc::c_int {
        // SAFETY: the `Order` below, whose owner waits in `clone` until this process has gone elsewhere.
        let order = unsafe { &mut *order.cast::<Order>() };
        let why = order.execution.run();
        exit_now((order.failed)(&why))
    }
    let mut order = Order { execution, failed };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    // SAFETY: the stack is a mapping of ours that nobody else uses meanwhile: CLONE_VFORK has this thread,
    // the only one as `Alone` says, wait until the child executes or ends, and `&mut` keeps others from it.
    // Stacks grow downwards on all architectures that Rust's Linux targets support. Handlers of signals
    // could run in the child with this memory; callers have none.
    let pid = unsafe {
        libc::clone(begin, stack.master as *mut c_void, flags, (&raw mut order).cast::<c_void>(), id.as_ptr())
    };
    Ok(check(libc::c_long::from(pid))? as i32)
}
