//! Descriptors that this process did not open itself, and ranges of descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::process::Fresh;
use crate::{check, raw};

/// Takes ownership of a descriptor that this process inherited when it was executed, and sets
/// close-on-exec on it.
///
/// Close-on-exec tells whose a descriptor is. execve(2) closes the descriptors that have it, so one
/// that has it was opened by this process, or taken here before; the standard library sets it on
/// everything that it opens. So each number is given out once.
///
/// # Errors
/// EBADF if the descriptor is not open; [`io::ErrorKind::ResourceBusy`] if it has an owner.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: F_GETFD only asks; a number that is not open is an error.
    let flags = check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    if flags & libc::c_long::from(libc::FD_CLOEXEC) != 0 {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the server itself has opened it, or uses it for something else",
        ));
    }
    // SAFETY: F_SETFD takes an integer.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: it is open, and had no owner in this process until now, as said above.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from 3 on that this process inherited when it was executed, except these
/// numbers: what was left open by mistake would be passed on to every program.
pub fn close_strays(keep: &[RawFd]) {
    let strays = open_numbers().into_iter().filter(|number| *number >= 3 && !keep.contains(number));
    // One that has an owner stays open.
    strays.for_each(|number| drop(inherited(number)));
}

/// Makes a number, which may be in use, one of the same file as a descriptor (dup2(2)). It is not
/// closed on an execution.
pub(crate) fn duplicate_to(descriptor: BorrowedFd, number: RawFd) -> io::Result<()> {
    if descriptor.as_raw_fd() == number {
        return Ok(rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: numbers as arguments. Its caller has no use for what it closes.
    check(unsafe { libc::syscall(libc::SYS_dup3, descriptor.as_raw_fd(), number, 0) }).map(drop)
}

/// Whether two descriptors of a process are of one open file, with one offset (kcmp(2),
/// `KCMP_FILE`).
///
/// # Errors
/// ENOSYS where the kernel does not have it; EPERM without the right to trace the process.
pub fn are_of_one_file(process: i32, one: RawFd, other: RawFd) -> io::Result<bool> {
    const FILE: libc::c_int = 0;
    // SAFETY: numbers as arguments.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, process, process, FILE, one, other) };
    check(order).map(|order| order == 0)
}

/// The boundary between the descriptors of a program, below, and those of the server in it, from
/// here on. A process that serves a client keeps the former and closes the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor(RawFd);

impl Floor {
    /// The boundary above all descriptors that are open now, except those that are to move above
    /// it. One number below it stays free, for the socket of a client where the program opens
    /// nothing more.
    #[must_use]
    pub fn above_open(to_move: &[BorrowedFd]) -> Floor {
        let moves = |number: &RawFd| to_move.iter().any(|descriptor| descriptor.as_raw_fd() == *number);
        let highest = open_numbers().into_iter().filter(|number| !moves(number)).max();
        Floor(highest.unwrap_or(2).max(2) + 2)
    }

    /// The boundary above the standard descriptors: for a process that needs nothing of the
    /// program.
    #[must_use]
    pub fn above_standard() -> Floor {
        Floor(3)
    }

    /// Duplicates a descriptor to the lowest free number from the boundary on, with close-on-exec.
    ///
    /// # Errors
    /// EMFILE at the limit on descriptors.
    pub fn duplicate(self, descriptor: impl AsFd) -> io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(descriptor, self.0).map_err(|why| match why {
            // The boundary itself is beyond the limit (fcntl(2)).
            Errno::INVAL => Errno::MFILE.into(),
            why => why.into(),
        })
    }

    /// The lowest number of a descriptor of the server.
    #[must_use]
    pub fn number(self) -> RawFd {
        self.0
    }
}

/// Closes the descriptors from the boundary on (close_range(2)), without a look at each number. The
/// second call in a process does nothing: what it opens in between stays open.
///
/// The owners of these descriptors belong to the code that forked, to which this process does not
/// return. A borrow of one that the child was handed becomes a number without a descriptor, whose
/// use is EBADF until the number is given out again.
#[inline]
pub fn close_from(fresh: &Fresh, floor: Floor) {
    close_from_except(fresh, floor, &[]);
}

/// The same, but these stay open.
#[inline]
pub fn close_from_except(fresh: &Fresh, floor: Floor, kept: &[BorrowedFd]) {
    close_from_but(fresh, floor, kept.iter().map(AsRawFd::as_raw_fd));
}

#[inline]
fn close_from_but(fresh: &Fresh, floor: Floor, kept: impl Iterator<Item = RawFd> + Clone) {
    if fresh.has_closed.replace(true) {
        return;
    }
    let mut first = floor.0;
    // The next one that is kept, until none is left.
    while let Some(kept) = kept.clone().filter(|kept| *kept >= first).min() {
        if kept > first {
            close_range(first, (kept - 1).unsigned_abs());
        }
        first = kept + 1;
    }
    close_range(first, u32::MAX);
}

/// The numbers of descriptors that belong to the program although they are beyond the boundary: it
/// has opened them after that was measured.
#[derive(Debug, Default)]
pub struct Kept(Vec<RawFd>);

impl Kept {
    /// Calls a function, and notes the descriptors from the boundary on that are open afterwards
    /// and were not before.
    pub fn opened_by<T>(floor: Floor, open: impl FnOnce() -> T) -> (Kept, T) {
        let before = open_numbers();
        let result = open();
        let is_new = |number: &RawFd| *number >= floor.0 && before.binary_search(number).is_err();
        (Kept(open_numbers().into_iter().filter(is_new).collect()), result)
    }
}

/// As [`close_from`], but what the program has opened stays open, and so does the socket of the
/// client: it has a number beyond the boundary where the program has taken the free one below.
#[inline]
pub fn close_from_keeping(fresh: &Fresh, floor: Floor, kept: &Kept, socket: BorrowedFd) {
    close_from_but(fresh, floor, kept.0.iter().copied().chain([socket.as_raw_fd()]));
}

/// Closes what is open from the boundary on, up to a number.
#[inline]
fn close_range(first: RawFd, last: u32) {
    // SAFETY: what is open from the boundary on was opened by the code that forked, after it
    // measured the boundary, and is owned there; `Fresh` keeps this process from returning to that
    // code.
    if unsafe { raw::close_range(first, last, 0) } < 0 {
        close_each_in(first, last);
    }
}

/// The same for kernels before Linux 5.9, one by one.
#[cold]
fn close_each_in(first: RawFd, last: u32) {
    for number in
        open_numbers().into_iter().filter(|number| *number >= first && number.unsigned_abs() <= last)
    {
        // SAFETY: as above.
        unsafe { raw::close(number) };
    }
}

/// Sets close-on-exec on every descriptor from `first` on (close_range(2)). Their owners keep them
/// until this process executes another program.
pub(crate) fn set_close_on_exec_from(first: RawFd) {
    // SAFETY: the flag changes nothing in this process.
    if unsafe { raw::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } < 0 {
        set_close_on_exec_each_from(first);
    }
}

/// The same for kernels before Linux 5.11, one by one.
#[cold]
fn set_close_on_exec_each_from(first: RawFd) {
    for number in open_numbers().into_iter().filter(|number| *number >= first) {
        // SAFETY: as above.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes a descriptor as dropping it does, by a system call in place: a fresh process need not
/// touch the page of the C library's `close`.
#[inline]
pub fn close(descriptor: OwnedFd) {
    // SAFETY: it is owned, and the owner is consumed without closing it a second time.
    unsafe { raw::close(descriptor.into_raw_fd()) };
}

/// The numbers of the descriptors that are open in this process, in ascending order.
#[must_use]
pub fn open_numbers() -> Vec<RawFd> {
    let Ok(directory) = std::fs::read_dir("/proc/self/fd") else {
        return open_numbers_below(highest_possible());
    };
    let mut numbers: Vec<RawFd> =
        directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    // The descriptor of the listing itself is among them, and closed by now.
    // SAFETY: F_GETFD on any number only asks.
    numbers.retain(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } != -1);
    numbers
}

/// The number from which on no descriptor can have been opened: the limit of this process, or what
/// the kernel allows unless it is set otherwise (`fs.nr_open`, proc(5)), if that is less.
fn highest_possible() -> RawFd {
    const NR_OPEN: u64 = 1 << 20;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(NR_OPEN, |limit| limit.min(NR_OPEN)) as RawFd
}

/// The numbers below `end` that are open, without `/proc`: poll(2) marks those that are not. Takes
/// milliseconds for a limit of a million.
#[cold]
fn open_numbers_below(end: RawFd) -> Vec<RawFd> {
    // Not more at a time than the limit on open files allows.
    const BATCH: usize = 256;
    let numbers: Vec<RawFd> = (0..end).collect();
    let mut open = Vec::new();
    for batch in numbers.chunks(BATCH) {
        let mut polled: Vec<libc::pollfd> =
            batch.iter().map(|fd| libc::pollfd { fd: *fd, events: 0, revents: 0 }).collect();
        // SAFETY: the list is valid for its length; numbers that are not open are marked only.
        let done = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 0) };
        let is_open = |entry: &&libc::pollfd| done >= 0 && entry.revents & libc::POLLNVAL == 0;
        open.extend(polled.iter().filter(is_open).map(|entry| entry.fd));
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_descriptor_is_given_out_once() {
        // Without close-on-exec, as descriptors are after an exec.
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let (number, _) = (reader.into_raw_fd(), writer.into_raw_fd());
        let taken = inherited(number).expect("without an owner");
        let again = inherited(number).expect_err("taken");
        assert_eq!(again.kind(), io::ErrorKind::ResourceBusy, "{again}");
        assert_eq!(taken.as_raw_fd(), number);
    }

    #[test]
    fn what_this_process_opened_is_not_inherited() {
        let file = std::fs::File::open("/dev/null").expect("readable");
        let error = inherited(file.as_raw_fd()).expect_err("it has an owner");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        for number in [-1, i32::MAX] {
            assert_eq!(inherited(number).expect_err("not open").raw_os_error(), Some(libc::EBADF));
        }
    }
    #[test]
    fn open_descriptors_are_found_without_proc() {
        let file = std::fs::File::open("/dev/null").expect("readable");
        let number = file.as_raw_fd();
        let far = rustix::io::fcntl_dupfd_cloexec(&file, 600).expect("below the limit");
        let found = open_numbers_below(1000);
        assert!(found.contains(&number) && found.contains(&far.as_raw_fd()), "{found:?}");
        drop(far);
        assert!(!open_numbers_below(1000).contains(&600) || open_numbers().contains(&600));
        assert!(found.is_sorted() && open_numbers_below(0).is_empty());
    }
}
