//! Tracing a program that this process starts (ptrace(2)): its system calls, the processes and
//! threads that it makes, and its end.
//!
//! The program is seized, not attached to: it stops for no signal that it does not get anyway, and
//! the kernel kills everything that is traced when the tracer ends (`PTRACE_O_EXITKILL`). Each wait
//! is for the exact id of a task, and has a deadline.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicI32;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::namespaces::PidNamespace;
use crate::process::{Alone, Fresh, How, Side, exit_now, fork, fork_sibling, how};
use crate::signal::{self, Set};
use crate::{check, wait};

/// The requests of ptrace(2) that are used here. They are the same on all architectures.
mod requests {
    pub(super) const DETACH: libc::c_long = 17;
    pub(super) const SYSCALL: libc::c_long = 24;
    pub(super) const GET_EVENT_MESSAGE: libc::c_long = 0x4201;
    pub(super) const SEIZE: libc::c_long = 0x4206;
    /// Since Linux 5.3.
    pub(super) const GET_SYSCALL_INFO: libc::c_long = 0x420e;
}

const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_EXITKILL
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC;

/// A system call at its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// The convention of the call, as `AUDIT_ARCH_*` of linux/audit.h: a 32-bit call of a 64-bit
    /// processor has another one.
    pub architecture: u32,
    /// Its number in that convention.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// Why a task has stopped, or that it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// It is about to make a system call.
    Entry(TracedCall),
    /// A system call has returned this value, or the negative error number.
    Exit(i64),
    /// It has executed a program. Other threads of the process are gone; the one that executed had
    /// this id before.
    Executed(i32),
    /// It has made a thread or a process with this id, which is traced from its first instruction.
    Created(i32),
    /// It is a thread or process that was just made.
    Began,
    /// This signal is about to be delivered: [`Tracer::resume`] delivers it, or leaves it out.
    Signal(i32),
    /// This signal has stopped it, as SIGSTOP does.
    Halted(i32),
    /// It has ended and is not traced any more.
    Ended(How),
}

/// A task, which is a thread by its id, and what happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceStop {
    /// The id of the task; that of the first thread is the id of the process.
    pub task: i32,
    /// What happened.
    pub event: TraceEvent,
}

/// Whose child a traced process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// That of the tracer.
    Child,
    /// That of the tracer's parent, which reaps it; it outlives the tracer once it is released.
    Sibling,
}

/// The tasks that this process traces. Dropping it kills and reaps them.
///
/// SIGCHLD is blocked while it lives.
pub struct Tracer<'a> {
    alone: &'a Alone,
    child_signal: Set,
    mask: Set,
    pending: OwnedFd,
    /// Those that have not ended, as far as is known.
    tasks: Vec<i32>,
    /// The first process, which leads a process group or not.
    first: Option<Pid>,
}

/// The time in which killed tasks have to end.
const KILL_TIME: Duration = Duration::from_secs(10);

impl<'a> Tracer<'a> {
    /// A tracer without tasks.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new(alone: &'a Alone) -> io::Result<Tracer<'a>> {
        // An ignored SIGCHLD would be inherited by nobody, but would reap children unseen.
        signal::default(libc::SIGCHLD);
        let child_signal = Set::of(&[libc::SIGCHLD]);
        let pending = child_signal.descriptor()?;
        let mask = child_signal.block()?;
        Ok(Tracer { alone, child_signal, mask, pending, tasks: Vec::new(), first: None })
    }

    /// Forks a process, a child or a sibling of this one, and traces it. There, all signals have
    /// their default actions, and `execute` is called, which executes a program: it returns only on
    /// failure, with a report, and the process exits.
    ///
    /// Returns the id of the process, and where its report can be read once it has ended
    /// ([`StartFailure`]). The first event is [`TraceEvent::Executed`].
    ///
    /// # Errors
    /// EAGAIN, ENOMEM, EMFILE; EPERM where tracing is not permitted
    /// (`/proc/sys/kernel/yama/ptrace_scope`, the filter of a container).
    pub fn start(
        &mut self,
        kin: Kin,
        execute: impl FnOnce(&Fresh) -> Vec<u8>,
    ) -> io::Result<(i32, StartFailure)> {
        let (mut own, mut other) = UnixStream::pair()?;
        let tracer = rustix::process::getpid();
        let forked = match kin {
            Kin::Child => fork(self.alone, libc::SIGCHLD),
            Kin::Sibling => fork_sibling(self.alone, &AtomicI32::new(0), PidNamespace::Inherited),
        };
        match forked? {
            Side::Child(fresh) => {
                drop(own);
                signal::defaults(&fresh);
                // A process that has changed its user may not be traced by that user, before it
                // executes a program. Where only descendants may be traced (Yama), it says by whom
                // else; elsewhere that is an error, and not needed.
                // SAFETY: numbers as arguments.
                unsafe {
                    libc::prctl(libc::PR_SET_DUMPABLE, 1);
                    libc::prctl(libc::PR_SET_PTRACER, libc::c_long::from(tracer.as_raw_nonzero().get()));
                }
                let _ = other.write_all(&[0]);
                // The end of the stream: the tracer has ended or may not trace.
                if other.read_exact(&mut [0]).is_err() {
                    exit_now(111);
                }
                let sent = other.write_all(&execute(&fresh));
                exit_now(if sent.is_ok() { 127 } else { 111 })
            }
            Side::Parent(process) => {
                drop(other);
                self.tasks.push(process);
                self.first = Pid::from_raw(process);
                own.read_exact(&mut [0])?;
                // SAFETY: the request has numbers as arguments.
                unsafe { request(requests::SEIZE, process, 0, i64::from(OPTIONS) as libc::c_long) }?;
                own.write_all(&[0])?;
                Ok((process, StartFailure(own.into())))
            }
        }
    }

    /// Waits for the next event of any task; `None` at the deadline. A deadline of `None` never
    /// comes. The task stays stopped until
    /// [`Tracer::resume`]; the others run on.
    ///
    /// # Errors
    /// ENOSYS and EIO before Linux 5.3; ENOMEM.
    pub fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<TraceStop>> {
        loop {
            // Before the look at the tasks: a later change makes the signal pending again.
            while self.child_signal.take().is_some() {}
            for task in self.tasks.clone() {
                let Some(status) = self.look_at(task)? else { continue };
                match self.event(task, status) {
                    Ok(event) => return Ok(Some(TraceStop { task, event })),
                    // Killed meanwhile: its end follows.
                    Err(why) if why.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(why) => return Err(why),
                }
            }
            let mut poll = [PollFd::new(&self.pending, PollFlags::IN)];
            match wait::until(&mut poll, deadline) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Lets a stopped task run to its next system call or event, and delivers a signal to it. One
    /// that was killed meanwhile is left to its end.
    ///
    /// # Errors
    /// EIO if it is not a signal.
    pub fn resume(&mut self, task: i32, signal: Option<i32>) -> io::Result<()> {
        let signal = libc::c_long::from(signal.unwrap_or(0));
        // SAFETY: the request has numbers as arguments.
        match unsafe { request(requests::SYSCALL, task, 0, signal) } {
            Err(why) if why.raw_os_error() != Some(libc::ESRCH) => Err(why),
            _ => Ok(()),
        }
    }

    /// Lets a stopped task go: it is not traced any more, and outlives the tracer.
    ///
    /// # Errors
    /// ESRCH if it was killed meanwhile.
    pub fn release(&mut self, task: i32) -> io::Result<()> {
        // SAFETY: the request has numbers as arguments.
        unsafe { request(requests::DETACH, task, 0, 0) }?;
        self.tasks.retain(|other| *other != task);
        self.first = self.first.filter(|first| first.as_raw_nonzero().get() != task);
        Ok(())
    }

    /// The wait status of a task that has stopped or ended.
    fn look_at(&mut self, task: i32) -> io::Result<Option<libc::c_int>> {
        let mut status = 0;
        // SAFETY: the out-pointer is valid for writes.
        let waited = unsafe { libc::waitpid(task, &raw mut status, libc::__WALL | libc::WNOHANG) };
        match check(waited.into()) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(status)),
            // A thread that is gone since another one has executed a program.
            Err(why) if why.raw_os_error() == Some(libc::ECHILD) => {
                self.tasks.retain(|other| *other != task);
                Ok(None)
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn event(&mut self, task: i32, status: libc::c_int) -> io::Result<TraceEvent> {
        if !libc::WIFSTOPPED(status) {
            self.tasks.retain(|other| *other != task);
            return Ok(TraceEvent::Ended(how(status)));
        }
        let signal = libc::WSTOPSIG(status);
        Ok(match (status >> 16, signal) {
            (0, number) if number == libc::SIGTRAP | 0x80 => return system_call(task),
            (0, number) => TraceEvent::Signal(number),
            (libc::PTRACE_EVENT_EXEC, _) => {
                let former = event_message(task)?;
                self.tasks.retain(|other| *other == task || *other != former);
                TraceEvent::Executed(former)
            }
            (libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE, _) => {
                let created = event_message(task)?;
                self.tasks.push(created);
                TraceEvent::Created(created)
            }
            (libc::PTRACE_EVENT_STOP, libc::SIGTRAP) => TraceEvent::Began,
            (libc::PTRACE_EVENT_STOP, number) => TraceEvent::Halted(number),
            (_, number) => TraceEvent::Signal(number),
        })
    }

    /// Kills all tasks, and waits until they have ended.
    fn end(&mut self) {
        // The group also has those that were made so that they are not traced (CLONE_UNTRACED).
        let group = self.first.map(|first| kill_process_group(first, Signal::KILL));
        let _ = group.transpose();
        for task in self.tasks.iter().filter_map(|task| Pid::from_raw(*task)) {
            let _ = kill_process(task, Signal::KILL);
        }
        let deadline = Instant::now() + KILL_TIME;
        while !self.tasks.is_empty() {
            match self.next(Some(deadline)) {
                Ok(Some(TraceStop { event: TraceEvent::Ended(_), .. })) => {}
                // It has stopped before it saw the signal. A task that it has made is killed, too.
                Ok(Some(TraceStop { task, event })) => {
                    for task in [Some(task), created(event)].into_iter().flatten() {
                        let _ = Pid::from_raw(task).map(|task| kill_process(task, Signal::KILL));
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn created(event: TraceEvent) -> Option<i32> {
    match event {
        TraceEvent::Created(task) => Some(task),
        _ => None,
    }
}

impl Drop for Tracer<'_> {
    fn drop(&mut self) {
        self.end();
        let _ = self.mask.make_mask();
    }
}

/// Where a process that could not execute its program reports why.
#[derive(Debug)]
pub struct StartFailure(OwnedFd);

impl StartFailure {
    /// The report of a process that has ended; empty if it had none.
    #[must_use]
    pub fn read(self) -> Vec<u8> {
        let mut report = Vec::new();
        // The other end is closed, by the execution or by the end.
        let _ = File::from(self.0).read_to_end(&mut report);
        report
    }
}

/// A request of ptrace(2).
///
/// # Safety
/// That of the request: an argument that the kernel writes to is a valid address for it.
pub(crate) unsafe fn request(
    request: libc::c_long,
    task: i32,
    address: libc::c_long,
    data: libc::c_long,
) -> io::Result<libc::c_long> {
    // SAFETY: as the caller guarantees. Requests are made by the system call, whose arguments are
    // the same in all C libraries; none of them returns a word, as those that peek do.
    check(unsafe { libc::syscall(libc::SYS_ptrace, request, libc::c_long::from(task), address, data) })
}

/// The message of an event: the id of a task.
fn event_message(task: i32) -> io::Result<i32> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the request writes an unsigned long to a valid address.
    unsafe { request(requests::GET_EVENT_MESSAGE, task, 0, (&raw mut message) as libc::c_long) }?;
    Ok(message as i32)
}

/// `struct ptrace_syscall_info` of linux/ptrace.h, without its last field, which stops of filters
/// have.
#[repr(C)]
#[derive(Default)]
struct SyscallInfo {
    operation: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction: u64,
    stack: u64,
    /// The number and the arguments at an entry, the result at an exit.
    words: [u64; 7],
}

fn system_call(task: i32) -> io::Result<TraceEvent> {
    const ENTRY: u8 = 1;
    let mut info = SyscallInfo::default();
    // SAFETY: the request writes at most as many bytes as its third argument says.
    unsafe {
        let (size, place) = (size_of::<SyscallInfo>() as libc::c_long, (&raw mut info) as libc::c_long);
        request(requests::GET_SYSCALL_INFO, task, size, place)
    }?;
    let [number, arguments @ ..] = info.words;
    Ok(match info.operation {
        ENTRY => TraceEvent::Entry(TracedCall { architecture: info.architecture, number, arguments }),
        _ => TraceEvent::Exit(number.cast_signed()),
    })
}
