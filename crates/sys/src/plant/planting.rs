//! Makes a template of a stopped program: system calls in its place, memory for the code, the way
//! into it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::machine::{self, Registers};
use super::{CopyBase, MOST_BYTES, Planting, Template, layout, registers};
use crate::about;
use crate::namespaces::Kinds;
use crate::other_memory::{read_memory, write_memory};
use crate::trace::{TraceEvent, Tracer};

unsafe extern "C" {
    static tine_planted_start: u8;
    static tine_planted_end: u8;
}

/// The planted code. It can run at any address.
fn planted_code() -> &'static [u8] {
    let (start, end) = (&raw const tine_planted_start, &raw const tine_planted_end);
    // SAFETY: both are labels of the assembly of `machine`, one behind the other, in memory that is
    // there as long as this process and that nothing writes to.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Makes a template of a program that is stopped at the entry of a system call, the only thread of
/// its process, and lets it go. Its copies are children of its own parent.
///
/// # Errors
/// The kernel or a filter of the program refuses one of the calls; the text names it. Then the
/// program is of no use any more.
pub fn plant(tracer: &mut Tracer<'_>, task: i32, planting: &Planting) -> io::Result<Template> {
    let signals = registers::block_all_signals(task).map_err(|why| about("block its signals", &why))?;
    let at = Site::enter(tracer, task).map_err(|why| about("leave its system call out", &why))?;
    let mut site = Site { tracer, task, at };
    let (code, data) = site.map_memory().map_err(|why| about("map memory in it", &why))?;
    let mut open = planting.open.clone();
    let process = Pid::from_raw(task).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    let (channel_end, channel) = site.make_channel(&process, data)?;
    open.insert(channel_end);
    let ruleset = site.make_ruleset(data)?;
    open.extend(ruleset);
    let cleared = site.cleared_word(data)?;
    let base = CopyBase {
        open,
        code,
        data,
        channel: channel_end,
        ruleset,
        gives_up_privileges: !registers::may_restrict(task),
        cleared,
        thread_id: registers::word_of_thread_id(task, &at, cleared).unwrap_or(0),
        robust_list: registers::robust_list(task),
        signals,
    };
    let image = machine::image(task, &at, signals, planting.result)?;
    write_data(task, &image, data, channel_end, planting.own)?;
    // From here on, a tracer without privileges may not look into it, either.
    site.named("hide it from others", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 0])?;
    registers::set(task, &machine::at_code(&at, code, data))?;
    tracer.release(task)?;
    Ok(Template { channel, process, base })
}

/// A task that is about to make a system call, in which other calls are made.
struct Site<'t, 'a> {
    tracer: &'t mut Tracer<'a>,
    task: i32,
    /// Its registers before the call.
    at: Registers,
}

impl Site<'_, '_> {
    /// Leaves the call out that the task is about to make.
    fn enter(tracer: &mut Tracer<'_>, task: i32) -> io::Result<Registers> {
        let at = registers::get(task)?;
        let mut instruction = machine::CALL_INSTRUCTION;
        read_memory(task, machine::call_site(&at), &mut instruction)?;
        if instruction != machine::CALL_INSTRUCTION {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "another instruction for system calls"));
        }
        registers::set(task, &machine::without_call(&at))?;
        machine::leave_call_out(task)?;
        next_call_stop(tracer, task)?;
        machine::true_registers(tracer, task, &at)
    }

    /// Has the task make a system call, and returns its result.
    fn call(&mut self, number: libc::c_long, arguments: &[u64]) -> io::Result<u64> {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        registers::set(self.task, &machine::with_call(&self.at, number, all))?;
        next_call_stop(self.tracer, self.task)?;
        match next_call_stop(self.tracer, self.task)? {
            TraceEvent::Exit(error @ -4095..0) => Err(io::Error::from_raw_os_error(-error as i32)),
            TraceEvent::Exit(result) => Ok(result.cast_unsigned()),
            event => Err(unexpected(event)),
        }
    }

    fn named(&mut self, what: &str, number: libc::c_long, arguments: &[u64]) -> io::Result<u64> {
        self.call(number, arguments).map_err(|why| about(what, &why))
    }
}

/// Lets a task run to its next stop at a system call. Its signals are blocked.
fn next_call_stop(tracer: &mut Tracer<'_>, task: i32) -> io::Result<TraceEvent> {
    tracer.resume(task, None)?;
    loop {
        let stop = tracer.next(None)?.ok_or(io::ErrorKind::TimedOut)?;
        match stop.event {
            _ if stop.task != task => {}
            event @ (TraceEvent::Entry(_) | TraceEvent::Exit(_)) => return Ok(event),
            event => return Err(unexpected(event)),
        }
    }
}

fn unexpected(event: TraceEvent) -> io::Error {
    io::Error::other(format!("the program did not make a system call for its tracer: {event:?}"))
}

impl Site<'_, '_> {
    /// Maps memory for the code, which the task itself can never write, and for the data. Returns
    /// both addresses.
    fn map_memory(&mut self) -> io::Result<(u64, u64)> {
        const PRIVATE: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let page = rustix::param::page_size() as u64;
        let mut map = |bytes: usize, access: libc::c_int| {
            let length = (bytes as u64).next_multiple_of(page);
            self.call(libc::SYS_mmap, &[0, length, access as u64, PRIVATE, u64::MAX, 0])
        };
        // The code finds its data by a word at its end.
        let code = map(planted_code().len() + 8, libc::PROT_READ | libc::PROT_EXEC)?;
        let data = map(layout::MESSAGE + MOST_BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
        let words = [planted_code(), &data.to_ne_bytes()].concat();
        registers::write_words(self.task, code, &words)?;
        Ok((code, data))
    }

    /// Has the task make a pair of sockets, and takes one of them. Returns the number of the other.
    fn make_channel(&mut self, process: &OwnedFd, data: u64) -> io::Result<(i32, OwnedFd)> {
        const SEQUENCED: u64 = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
        self.named(
            "make a channel in it",
            libc::SYS_socketpair,
            &[libc::AF_UNIX as u64, SEQUENCED, 0, data],
        )?;
        let mut pair = [0; 8];
        read_memory(self.task, data, &mut pair)?;
        let [own, other] =
            [&pair[..4], &pair[4..]].map(|bytes| i32::from_ne_bytes(bytes.try_into().unwrap_or_default()));
        let channel = pidfd_getfd(process.as_fd(), other, PidfdGetfdFlags::empty())
            .map_err(|why| about("take a descriptor of it (pidfd_getfd)", &why.into()))?;
        self.call(libc::SYS_close, &[other as u64])?;
        Ok((own, channel))
    }

    /// Has the task make a ruleset of Landlock for its copies, each of which enters a domain of its
    /// own: it can then neither trace nor signal the template. Returns its number; `None` before
    /// Linux 6.12.
    fn make_ruleset(&mut self, data: u64) -> io::Result<Option<i32>> {
        /// `LANDLOCK_SCOPE_SIGNAL` of linux/landlock.h.
        const SCOPE_SIGNAL: u64 = 1 << 1;
        let attributes: [u64; 3] = [0, 0, SCOPE_SIGNAL];
        let bytes: Vec<u8> = attributes.iter().flat_map(|word| word.to_ne_bytes()).collect();
        write_memory(self.task, data, &bytes)?;
        let made = self.call(libc::SYS_landlock_create_ruleset, &[data, bytes.len() as u64, 0]);
        Ok(made.ok().and_then(|number| i32::try_from(number).ok()))
    }

    /// The word that the kernel clears when the thread ends (set_tid_address(2)); 0 if it has none.
    fn cleared_word(&mut self, data: u64) -> io::Result<u64> {
        let option = libc::PR_GET_TID_ADDRESS as u64;
        // It takes a kernel with CONFIG_CHECKPOINT_RESTORE.
        self.named("ask for the word of its thread (prctl)", libc::SYS_prctl, &[option, data])?;
        let mut word = [0; 8];
        read_memory(self.task, data, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }
}

const _: () = assert!(layout::IMAGE + 8 * machine::IMAGE_WORDS <= layout::CONTROL);

/// Writes what the planted code needs.
fn write_data(task: i32, image: &[u64], data: u64, channel: i32, own: Option<Kinds>) -> io::Result<()> {
    let mut bytes = vec![0; layout::SCRATCH];
    bytes[layout::PATH..layout::PATH + layout::THREADS.len()].copy_from_slice(layout::THREADS);
    let mut put = |place: usize, word: u64| bytes[place..place + 8].copy_from_slice(&word.to_ne_bytes());
    put(layout::CHANNEL, channel as u64);
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;
    put(layout::CLONE_FLAGS, flags | own.map_or(0, Kinds::flags));
    put(layout::HEADER + 16, data + layout::VECTOR as u64);
    put(layout::HEADER + 24, 1);
    put(layout::HEADER + 32, data + layout::CONTROL as u64);
    put(layout::CONTROL_LENGTH, layout::CONTROL_BYTES as u64);
    put(layout::VECTOR, data + layout::MESSAGE as u64);
    put(layout::VECTOR + 8, MOST_BYTES as u64);
    for (number, word) in image.iter().enumerate() {
        put(layout::IMAGE + 8 * number, *word);
    }
    write_memory(task, data, &bytes)
}
