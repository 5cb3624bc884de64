//! Executing a program on a connection.
//!
//! There are two ways: a process that was forked for the connection executes the program itself
//! ([`Execution::run`]), or a new process that borrows this one's memory until it executes does
//! ([`spawn_sibling`], as vfork(2)), which saves the copy of the page tables.
//!
//! In the second case, what runs between `clone` and execve(2) writes to this process's memory. It
//! uses rustix, whose functions are plain system calls on Linux; the C library would write its
//! caches for the wrong process.

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicI32;

use rustix::process::{
    Signal, getppid, getpriority_process, ioctl_tiocsctty, set_parent_process_death_signal, setpgid,
    setpriority_process, setsid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

pub use crate::cstrings::CStrings;
use crate::identity::{Ids, assume};
pub use crate::limits::{LIMITS, Limit, Resource};
use crate::namespaces::PidNamespace;
use crate::process::{Alone, exit_now};
use crate::{about, check};

/// The cgroups that a process enters, one of each hierarchy: the files that it enters them by
/// (`cgroup.procs`).
#[derive(Clone, Debug, Default)]
pub struct CgroupEntry(pub Vec<CString>);

impl CgroupEntry {
    /// Opens the lists of members, so that another process can enter the cgroups by them: the
    /// kernel asks for the rights of the process that has opened a list, too (cgroups(7)).
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(&self) -> io::Result<Vec<OwnedFd>> {
        use rustix::fs::{Mode, OFlags, open};
        let open_one = |members: &CString| open(members, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        self.0.iter().map(|members| Ok(open_one(members)?)).collect()
    }

    /// Moves this process into the cgroups; processes that it forks from then on belong to them,
    /// too.
    ///
    /// # Errors
    /// This process may not enter one of them (cgroups(7)).
    pub fn enter(&self) -> io::Result<()> {
        // 0 stands for the process that writes.
        self.open()?.into_iter().try_for_each(|members| rustix::io::write(&members, b"0").map(drop))?;
        Ok(())
    }
}

/// The process group of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One that it leads.
    Own,
    /// That of the process that executes it.
    Inherited,
    /// One that it leads, in a session that it leads, whose terminal is its standard input.
    Session,
}

/// The jail that a process enters before it executes a program.
pub trait Confine: std::fmt::Debug {
    /// Joins the namespaces of the jail, before the change of user.
    ///
    /// # Errors
    /// The kernel refuses it; the text names the step.
    fn join(&self) -> io::Result<()>;

    /// The pid namespace of the process that enters it.
    fn pids(&self) -> PidNamespace;

    /// The user of the connection, where it has one of its own.
    fn ids(&self) -> Option<Ids<'_>>;

    /// Gives up rights, last. It may run in a process that borrows the memory of another one.
    ///
    /// # Errors
    /// The kernel refuses it; the text names the step.
    fn enter(&self) -> io::Result<()>;
}

/// A program to execute, and the state that the process has by then.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The file, with a slash in it: `PATH` is not searched.
    pub path: &'a CStr,
    /// The arguments, the program's own name first.
    pub arguments: &'a mut CStrings,
    /// The environment: `NAME=VALUE`.
    pub environment: &'a mut CStrings,
    /// The file that becomes descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// The file that becomes descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// The file that becomes descriptor 2; `None` leaves it as it is.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Limits to set.
    pub limits: &'a [Limit],
    /// The number added to the nice value.
    pub nice: i32,
    /// The process group of the program.
    pub group: Group,
    /// The parent whose end kills the program (`PR_SET_PDEATHSIG`, prctl(2)), if any.
    pub parent: Option<i32>,
    /// The cgroups that the program enters; `None` leaves it in this process's.
    pub cgroup: Option<&'a CgroupEntry>,
    /// The user that the program runs as; `None` leaves it this process's.
    pub identity: Option<Ids<'a>>,
    /// A descriptor from 3 on that the program inherits, too, with its number.
    pub kept: Option<BorrowedFd<'a>>,
    /// The file that becomes descriptor 3, which is the first that a service is passed
    /// (sd_listen_fds(3)).
    pub passed: Option<BorrowedFd<'a>>,
    /// The jail that it enters; `None` leaves it the rights of this process.
    pub jail: Option<&'a dyn Confine>,
}

impl<'a> Execution<'a> {
    /// A program on a descriptor, with the rest as it is in this process, but for a process group
    /// that it leads.
    pub fn new(
        path: &'a CStr,
        arguments: &'a mut CStrings,
        environment: &'a mut CStrings,
        stream: BorrowedFd<'a>,
    ) -> Execution<'a> {
        Execution {
            path,
            arguments,
            environment,
            stdin: stream,
            stdout: stream,
            stderr: None,
            limits: &[],
            nice: 0,
            group: Group::Own,
            parent: None,
            cgroup: None,
            identity: None,
            kept: None,
            passed: None,
            jail: None,
        }
    }
}

impl Execution<'_> {
    /// Executes the program in this process. It inherits descriptors 0, 1 and 2, and no other than
    /// `kept`. Returns only on error, by when some of the changes to the process have been made.
    pub fn run(&mut self) -> io::Error {
        let arguments = self.arguments.pointers();
        let environment = self.environment.pointers();
        match self.prepare() {
            Err(why) => why,
            Ok(()) => {
                // SAFETY: a terminated path, and two lists of terminated strings that end in a null
                // pointer; all live until the call returns, if it does. rustix has no stable
                // `execve`; of the C library's state, this one writes `errno` alone.
                unsafe { libc::execve(self.path.as_ptr(), arguments, environment) };
                io::Error::last_os_error()
            }
        }
    }

    /// Makes the changes to this process that precede the execution. A process that only tries them
    /// exits afterwards.
    ///
    /// # Errors
    /// A change is not possible; the text names it.
    pub fn prepare(&self) -> io::Result<()> {
        if let Some(cgroup) = self.cgroup {
            cgroup.enter().map_err(|why| about("its cgroup", &why))?;
        }
        self.jail.map_or(Ok(()), Confine::join)?;
        if let Some(ids) = self.jail.and_then(Confine::ids).as_ref().or(self.identity.as_ref()) {
            assume(ids)?;
        }
        if let Some(parent) = self.parent {
            // After the change of user, which clears it (prctl(2)).
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the kernel was asked. One outside of a pid
            // namespace has no number in it: there, the first process of the namespace watches it.
            if getppid().is_some_and(|actual| actual.as_raw_nonzero().get() != parent) {
                exit_now(111);
            }
        }
        // These fail for a process that leads its session or group already, which is the aim.
        match self.group {
            Group::Own => drop(setpgid(None, None)),
            Group::Inherited => {}
            Group::Session => drop(setsid()),
        }
        dup2_stdin(self.stdin)?;
        dup2_stdout(self.stdout)?;
        if let Some(stderr) = self.stderr {
            dup2_stderr(stderr)?;
        }
        if self.group == Group::Session {
            ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        crate::fd::set_close_on_exec_from(3);
        if let Some(kept) = self.kept {
            rustix::io::fcntl_setfd(kept, rustix::io::FdFlags::empty())?;
        }
        self.limits.iter().try_for_each(|limit| limit.set())?;
        if self.nice != 0 {
            let nice = getpriority_process(None)?.saturating_add(self.nice);
            setpriority_process(None, nice).map_err(|why| about("its nice value", &why.into()))?;
        }
        self.jail.map_or(Ok(()), Confine::enter)?;
        // What has had this number is of no use any more.
        self.passed.map_or(Ok(()), |passed| crate::fd::duplicate_to(passed, 3))
    }
}

/// The stack of a process that borrows this one's memory.
#[derive(Debug)]
pub struct Stack {
    /// The highest address: stacks grow downwards on all architectures that Rust supports on Linux.
    top: usize,
}

impl Stack {
    /// Much more than the steps up to execve(2) and a message about their failure need.
    const BYTES: usize = 64 * 1024;

    /// Maps a stack, which lives as long as this process, above a page without permissions: an
    /// overflow is a SIGSEGV.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> io::Result<Stack> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        let guard = rustix::param::page_size();
        let length = guard + Stack::BYTES;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::STACK;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses, whose lowest page
        // is not in use yet.
        let start = unsafe {
            let start = mmap_anonymous(std::ptr::null_mut(), length, access, flags)?;
            mprotect(start, guard, MprotectFlags::empty())?;
            start
        };
        Ok(Stack { top: start as usize + length })
    }
}

/// The argument of the new process, on the stack of the one that waits for it.
struct Order<'a, 'b> {
    execution: &'a mut Execution<'b>,
    failed: &'a dyn Fn(&io::Error) -> i32,
}

/// Creates a process that executes a program, as a sibling of this one, like
/// [`fork_sibling`](crate::process::fork_sibling). This process waits until the other has executed
/// or ended.
///
/// Where the program cannot be executed, `failed` is called in the new process, with this one's
/// memory, and returns the exit code.
///
/// # Errors
/// EAGAIN at a limit on processes, ENOMEM: then there is no new process.
pub fn spawn_sibling(
    alone: &Alone,
    id: &AtomicI32,
    stack: &mut Stack,
    execution: &mut Execution,
    failed: &dyn Fn(&io::Error) -> i32,
) -> io::Result<i32> {
    spawn(alone, libc::CLONE_PARENT, id, stack, execution, failed)
}

/// The same, as a child of this process. Its end sends SIGCHLD.
///
/// # Errors
/// As [`spawn_sibling`].
pub fn spawn_child(
    alone: &Alone,
    stack: &mut Stack,
    execution: &mut Execution,
    failed: &dyn Fn(&io::Error) -> i32,
) -> io::Result<i32> {
    spawn(alone, libc::SIGCHLD, &AtomicI32::new(0), stack, execution, failed)
}

fn spawn(
    _alone: &Alone,
    kin: libc::c_int,
    id: &AtomicI32,
    stack: &mut Stack,
    execution: &mut Execution,
    failed: &dyn Fn(&io::Error) -> i32,
) -> io::Result<i32> {
    extern "C" fn begin(order: *mut c_void) -> libc::c_int {
        // SAFETY: the `Order` below, whose owner waits in `clone` until this process has executed
        // or ended.
        let order = unsafe { &mut *order.cast::<Order>() };
        let why = order.execution.run();
        exit_now((order.failed)(&why))
    }
    let ignored = execution.jail.and_then(|jail| jail.pids().ignored());
    let mut order = Order { execution, failed };
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | kin;
    if ignored.is_some() {
        flags |= libc::CLONE_NEWPID;
    }
    // The fourth and fifth argument of the system call; their order differs between architectures
    // (clone(2)). Without flags for them, the kernel ignores both.
    let [fourth, fifth] = ignored.unwrap_or_default().map(|number| number as usize as *mut c_void);
    let (tls, child) = if cfg!(target_arch = "x86_64") { (fifth, fourth) } else { (fourth, fifth) };
    // SAFETY: the stack is a mapping without another user meanwhile: CLONE_VFORK stops this
    // thread, the only one as `Alone` says, until the child executes or ends, and `&mut` excludes
    // others. So the child writes memory as a function called here would, and so would a signal
    // handler that runs in it. A panic in `begin` aborts the child. `id` is an `AtomicI32`, which
    // may be written at any time. The kernel ignores the last two arguments, as the flags have
    // neither CLONE_SETTLS nor one for the id in the child.
    let pid = unsafe {
        let order = (&raw mut order).cast::<c_void>();
        libc::clone(begin, stack.top as *mut c_void, flags, order, id.as_ptr(), tls, child)
    };
    Ok(check(libc::c_long::from(pid))? as i32)
}
