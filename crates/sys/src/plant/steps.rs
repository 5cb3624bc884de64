//! What a copy does before it goes on as the program: system calls, each with the result that it
//! must have, and bytes for its memory. They are written here and taken by the planted code.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use super::accepting::Accepting;
use super::layout;

/// Words that begin a step.
pub(super) const CALL: u64 = 1;
pub(super) const COPY: u64 = 2;
pub(super) const THREAD: u64 = 3;
const GO_ON: u64 = 0;

/// The steps of a copy, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct CopySteps {
    bytes: Vec<u8>,
    /// The descriptors that the copy has by then.
    open: BTreeSet<i32>,
    /// Where its bytes for system calls are.
    scratch: u64,
    /// Whether it stops at their end.
    stops: bool,
    /// Whether it gives up all capabilities there: the highest number of one.
    pub(super) highest_capability: Option<u32>,
    /// How it goes on with its connection, in the place of a call that accepts it.
    pub(super) accepting: Option<Accepting>,
}

impl fmt::Debug for CopySteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopySteps({} bytes)", self.bytes.len())
    }
}

impl CopySteps {
    /// No steps, of a copy of a template with these descriptors, whose data are at this address.
    pub(super) fn new(open: BTreeSet<i32>, data: u64) -> CopySteps {
        let scratch = data + layout::SCRATCH as u64;
        CopySteps {
            bytes: Vec::new(),
            open,
            scratch,
            stops: false,
            highest_capability: None,
            accepting: None,
        }
    }

    /// The number of the next descriptor that the copy receives.
    pub fn receive(&mut self) -> i32 {
        let number = self.lowest_free();
        self.open.insert(number);
        number
    }

    /// The lowest number that is no descriptor: the kernel gives it to the next one.
    fn lowest_free(&self) -> i32 {
        (0..).find(|number| !self.open.contains(number)).unwrap_or(i32::MAX)
    }

    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.bytes.extend_from_slice(&word.to_ne_bytes()));
    }

    pub(super) fn call(&mut self, number: libc::c_long, arguments: &[u64], result: u64) {
        let mut words = [CALL, number.cast_unsigned(), 0, 0, 0, 0, 0, 0, result];
        words[2..2 + arguments.len()].copy_from_slice(arguments);
        self.words(&words);
    }

    /// Writes bytes to its memory.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        self.words(&[COPY, address, bytes.len() as u64]);
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Has the kernel kill it when its parent dies (`PR_SET_PDEATHSIG`), which has to be this
    /// process until now.
    pub fn die_with(&mut self, parent: i32) {
        self.control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
        self.call(libc::SYS_getppid, &[], word(parent));
    }

    /// Lets others of its user look into it, as into any program (`PR_SET_DUMPABLE`).
    pub fn show(&mut self) {
        self.control(libc::PR_SET_DUMPABLE, 1);
    }

    pub(super) fn control(&mut self, option: i32, value: u64) {
        self.call(libc::SYS_prctl, &[word(option), value], 0);
    }

    /// Has it lead a process group.
    pub fn lead_group(&mut self) {
        self.call(libc::SYS_setpgid, &[0, 0], 0);
    }

    /// Enters the cgroup whose list of members this descriptor writes.
    pub fn enter_cgroup(&mut self, members: i32) {
        let scratch = self.put(b"0");
        self.call(libc::SYS_write, &[word(members), scratch, 1], 1);
    }

    /// Makes another descriptor the same as this one.
    pub fn duplicate(&mut self, from: i32, to: i32, closes_on_exec: bool) {
        let flags = if closes_on_exec { libc::O_CLOEXEC } else { 0 };
        self.call(libc::SYS_dup3, &[word(from), word(to), word(flags)], word(to));
        self.open.insert(to);
    }

    /// Closes a descriptor.
    pub fn close(&mut self, number: i32) {
        self.call(libc::SYS_close, &[word(number)], 0);
        self.open.remove(&number);
    }

    /// Opens the file of a descriptor again, with these flags of open(2) and at this offset, so
    /// that the offset is its own. `/proc` has to be there.
    pub fn reopen(&mut self, number: i32, flags: i32, offset: u64) {
        const AT_OPENING: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOFOLLOW;
        let path = self.put(format!("/proc/self/fd/{number}\0").as_bytes());
        let opened = self.receive();
        let at = word(libc::AT_FDCWD);
        self.call(libc::SYS_openat, &[at, path, word(flags & !AT_OPENING), 0], word(opened));
        self.call(libc::SYS_lseek, &[word(opened), offset, word(libc::SEEK_SET)], offset);
        self.duplicate(opened, number, flags & libc::O_CLOEXEC != 0);
        self.close(opened);
    }

    /// Gives up what programs can gain (`PR_SET_NO_NEW_PRIVS`), without which a process that has no
    /// privileges may not restrict itself.
    pub(super) fn give_up_privileges(&mut self) {
        self.call(libc::SYS_prctl, &[word(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0], 0);
    }

    /// Restricts it by the Landlock ruleset of this descriptor, which it closes.
    pub(super) fn restrict(&mut self, ruleset: i32) {
        self.call(libc::SYS_landlock_restrict_self, &[word(ruleset), 0], 0);
        self.close(ruleset);
    }

    /// Has the kernel clear this word at its end (set_tid_address(2)), and writes its thread id
    /// where the C library has it; 0 for nowhere.
    pub(super) fn name_thread(&mut self, cleared: u64, id: u64) {
        let id = if id == 0 { self.scratch } else { id };
        self.words(&[THREAD, cleared, id]);
    }

    /// Registers the list of robust mutexes, which a fork forgets.
    pub(super) fn register_robust_list(&mut self, list: [u64; 2]) {
        self.call(libc::SYS_set_robust_list, &list, 0);
    }

    /// Sets the blocked signals.
    pub(super) fn block_signals(&mut self, mask: u64) {
        let place = self.put(&mask.to_ne_bytes());
        self.call(libc::SYS_rt_sigprocmask, &[word(libc::SIG_SETMASK), place, 0, 8], 0);
    }

    /// Answers over the channel.
    pub(super) fn answer(&mut self, channel: i32, answer: [u64; 2]) {
        let place = self.put(&answer.map(u64::to_ne_bytes).concat());
        self.call(libc::SYS_sendto, &[word(channel), place, 16, word(libc::MSG_NOSIGNAL), 0, 0], 16);
    }

    /// Exits, with code 0.
    pub(super) fn exit(&mut self) {
        self.call(libc::SYS_exit_group, &[0], 0);
    }

    /// Has it stop itself as its last step, until it gets SIGCONT: others can look at it before it
    /// goes on as the program. It has to lead a process group by then.
    pub fn stop_last(&mut self) {
        self.stops = true;
    }

    /// The last step. The signal is for its process group, as it does not know its own id here.
    pub(super) fn stop_if_asked(&mut self) {
        if self.stops {
            self.call(libc::SYS_kill, &[0, word(libc::SIGSTOP)], 0);
        }
    }

    /// Ends the steps.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.words(&[GO_ON]);
        self.bytes
    }

    /// Puts bytes where a system call finds them; returns their address.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u64 {
        self.write(self.scratch, bytes);
        self.scratch
    }

    /// The same for bytes that there may be no room for.
    pub(super) fn put_long(&mut self, bytes: &[u8]) -> io::Result<u64> {
        match bytes.len() <= layout::MESSAGE - layout::SCRATCH {
            true => Ok(self.put(bytes)),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Where the data of the planted code begin.
    pub(super) fn data(&self) -> u64 {
        self.scratch - layout::SCRATCH as u64
    }

    /// Where it puts them.
    pub(super) fn scratch(&self) -> u64 {
        self.scratch
    }
}

/// An `int` as a register has it.
pub(super) fn word(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn words(steps: CopySteps) -> Vec<u64> {
        let bytes = steps.end();
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8"))).collect()
    }

    #[test]
    fn steps_are_words_with_an_end() {
        let mut steps = CopySteps::new(BTreeSet::from([0, 1, 3]), 0x1000);
        assert_eq!([steps.receive(), steps.receive()], [2, 4]);
        steps.close(2);
        assert_eq!(steps.receive(), 2);
        steps.write(0x77, b"123456789");
        let close = [CALL, libc::SYS_close.unsigned_abs(), 2, 0, 0, 0, 0, 0, 0];
        let copy = [COPY, 0x77, 9, u64::from_ne_bytes(*b"12345678"), u64::from_ne_bytes(*b"9\0\0\0\0\0\0\0")];
        assert_eq!(words(steps), [&close[..], &copy, &[GO_ON]].concat());
    }

    #[test]
    fn a_file_is_opened_again_by_the_number_that_is_free_then() {
        let mut steps = CopySteps::new(BTreeSet::from([0, 1, 2, 5]), 0x1000);
        steps.reopen(5, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_CREAT, 92);
        let words = words(steps);
        let scratch = 0x1000 + layout::SCRATCH as u64;
        assert_eq!(words[..3], [COPY, scratch, 16]);
        let calls: Vec<&[u64]> = words[5..].chunks_exact(9).collect();
        let open = |at: usize| (calls[at][1], calls[at][8]);
        assert_eq!(open(0), (libc::SYS_openat.unsigned_abs(), 3));
        assert_eq!(calls[0][4], word(libc::O_CLOEXEC));
        assert_eq!(open(1), (libc::SYS_lseek.unsigned_abs(), 92));
        assert_eq!(open(2), (libc::SYS_dup3.unsigned_abs(), 5));
        assert_eq!(open(3), (libc::SYS_close.unsigned_abs(), 0));
    }
}
