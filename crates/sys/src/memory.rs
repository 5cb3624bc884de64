//! Memory that forked processes share, and memory released before a fork.

use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

pub use crate::flag::{FlagReader, FlagWriter, TableWriter, file, flags, table};

/// A type that may lie in shared memory: atomics, for which all zero bytes are a value, and which
/// any process may change at any time.
///
/// # Safety
/// Implemented here, for atomics and arrays of them, only.
pub unsafe trait Word: Sync + 'static {}

// SAFETY: an atomic integer; zero is a value.
unsafe impl Word for AtomicI32 {}
// SAFETY: an atomic integer; zero is a value.
unsafe impl Word for AtomicU32 {}
// SAFETY: an atomic integer; zero is a value.
unsafe impl Word for AtomicU64 {}
// SAFETY: an array of words is valid where each word is.
unsafe impl<T: Word, const N: usize> Word for [T; N] {}

/// An entry for a process: its id, as the kernel writes it at a fork, and words beside it.
#[derive(Debug)]
#[repr(C)]
pub struct Record<const N: usize> {
    /// The id of the process; 0 while there is none.
    pub pid: AtomicI32,
    /// The data about it.
    pub words: [AtomicU64; N],
}

// SAFETY: atomics only; `repr(C)` leaves padding, which is never read.
unsafe impl<const N: usize> Word for Record<N> {}

/// A table in memory that this process shares with every process forked from it later. It stays
/// mapped for as long as a process lives, so copies of the handle are harmless.
#[derive(Debug)]
pub struct Shared<T: Word> {
    table: &'static [T],
}

impl<T: Word> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Word> Copy for Shared<T> {}

impl<T: Word> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.table
    }
}

impl<T: Word> Shared<T> {
    /// Maps a table of `length` entries, all zero.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(length: usize) -> io::Result<Shared<T>> {
        let start = map_shared(length * size_of::<T>())?;
        // SAFETY: the mapping is page-aligned, zero, large enough, and never unmapped; `Word` says
        // that zero is a value and that others may change it.
        let table = unsafe { std::slice::from_raw_parts(start.cast::<T>().cast_const(), length) };
        Ok(Shared { table })
    }

    /// All entries, for as long as the process lives.
    #[must_use]
    pub fn all(&self) -> &'static [T] {
        self.table
    }

    /// An entry, for as long as the process lives; `None` beyond the table.
    #[must_use]
    pub fn entry(&self, at: usize) -> Option<&'static T> {
        self.table.get(at)
    }
}

impl<T: Word> Shared<T> {
    /// Leaves the table out of processes forked from now on, or no longer (`MADV_DONTFORK`,
    /// `MADV_DOFORK`, madvise(2)). A forked process without it must not use its copy of the handle:
    /// an access ends it (SIGSEGV).
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub fn set_in_forks(&self, is_in_forks: bool) -> io::Result<()> {
        use rustix::mm::Advice;
        let advice = if is_in_forks { Advice::LinuxDoFork } else { Advice::LinuxDontFork };
        let (start, bytes) = self.range();
        // SAFETY: the range is whole pages of a mapping of ours; the advice changes nothing here.
        unsafe { rustix::mm::madvise(start, bytes, advice)? };
        Ok(())
    }

    /// The pages of the table.
    fn range(&self) -> (*mut libc::c_void, usize) {
        let bytes = size_of_val(self.table).max(1).next_multiple_of(rustix::param::page_size());
        (self.table.as_ptr().cast_mut().cast::<libc::c_void>(), bytes)
    }

    /// Takes the right to write the table away from this process, for good: a later write kills it
    /// (mprotect(2)).
    ///
    /// # Errors
    /// ENOMEM: the kernel has no memory for another mapping.
    pub fn make_read_only(&self) -> io::Result<()> {
        let (start, bytes) = self.range();
        // SAFETY: the range is whole pages of a mapping of ours, and stays readable.
        unsafe { rustix::mm::mprotect(start, bytes, rustix::mm::MprotectFlags::READ)? };
        Ok(())
    }
}

/// Two tables in one shared mapping that some processes must not have: it can be left out of forked
/// processes and taken away from this one. There is one owner; unmapping consumes it, so that no
/// reference into the tables is left.
#[derive(Debug)]
pub struct SharedTables<T: Word, U: Word = AtomicU64> {
    start: *mut libc::c_void,
    bytes: usize,
    first: usize,
    second_at: usize,
    second: usize,
    tables: PhantomData<(T, U)>,
}

// SAFETY: the tables hold atomics only, which every thread and process may use at any time
// (`Word`).
unsafe impl<T: Word, U: Word> Send for SharedTables<T, U> {}
// SAFETY: as for `Send`.
unsafe impl<T: Word, U: Word> Sync for SharedTables<T, U> {}

impl<T: Word, U: Word> SharedTables<T, U> {
    /// Maps tables of `first` and `second` entries, all zero.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(first: usize, second: usize) -> io::Result<SharedTables<T, U>> {
        let second_at = (first * size_of::<T>()).next_multiple_of(align_of::<U>().max(64));
        let bytes = second_at + second * size_of::<U>();
        let start = map_shared(bytes)?;
        let bytes = bytes.max(1).next_multiple_of(rustix::param::page_size());
        Ok(SharedTables { start, bytes, first, second_at, second, tables: PhantomData })
    }

    /// The owner of a mapping, of which the first entries are used.
    ///
    /// # Safety
    /// These pages are mapped, shared, readable and writable, zero at first, have room for so many
    /// entries, and no other owner.
    pub(crate) unsafe fn of_mapping(
        start: *mut libc::c_void,
        bytes: usize,
        first: usize,
    ) -> SharedTables<T, U> {
        SharedTables { start, bytes, first, second_at: 0, second: 0, tables: PhantomData }
    }

    /// The first table.
    #[must_use]
    #[inline]
    pub fn first(&self) -> &[T] {
        // SAFETY: the mapping begins with these entries, is page-aligned, and stays for as long as
        // `self`; `Word` says that zero is a value and that others may change it.
        unsafe { std::slice::from_raw_parts(self.start.cast::<T>().cast_const(), self.first) }
    }

    /// The second table.
    #[must_use]
    #[inline]
    pub fn second(&self) -> &[U] {
        // SAFETY: as for `first`; the second table begins at a multiple of its alignment, behind
        // the first one, within the mapping.
        unsafe {
            let start = self.start.byte_add(self.second_at).cast::<U>().cast_const();
            std::slice::from_raw_parts(start, self.second)
        }
    }

    /// Leaves the tables out of processes forked from now on (`MADV_DONTFORK`, madvise(2)): those
    /// can neither read nor write them, and forking them is cheaper.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub fn exclude_from_fork(&self) -> io::Result<()> {
        // SAFETY: the range is exactly one mapping of ours; the advice changes nothing here.
        unsafe { rustix::mm::madvise(self.start, self.bytes, rustix::mm::Advice::LinuxDontFork)? };
        Ok(())
    }

    /// Takes the permission to write both tables away from this process: a write to them ends it
    /// (SIGSEGV).
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub fn make_read_only(&self) -> io::Result<()> {
        self.make_read_only_from(0)
    }

    /// The same for the second table, except for the part that shares a page with the first.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub fn make_second_read_only(&self) -> io::Result<()> {
        self.make_read_only_from(self.second_at.next_multiple_of(rustix::param::page_size()))
    }

    fn make_read_only_from(&self, at: usize) -> io::Result<()> {
        use rustix::mm::{MprotectFlags, mprotect};
        if at >= self.bytes {
            return Ok(());
        }
        // SAFETY: the range is the end of a mapping of ours, from a page on; it stays readable, as
        // the references into it need. Atomics are written by explicit calls only.
        unsafe { mprotect(self.start.byte_add(at), self.bytes - at, MprotectFlags::READ)? };
        Ok(())
    }

    /// Takes the tables away from this process.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    #[inline]
    pub fn unmap(self) -> io::Result<()> {
        // SAFETY: the range is exactly one mapping of ours, and `self` was its only owner:
        // references into it borrow from `self`.
        unsafe { rustix::mm::munmap(self.start, self.bytes)? };
        Ok(())
    }
}

/// Tables of up to this many bytes get their pages when they are mapped, so that the memory of a
/// server does not depend on its busiest moment; larger tables get theirs as they are used.
const PREPARED: usize = 4 << 20;

fn map_shared(length: usize) -> io::Result<*mut libc::c_void> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let length = length.max(1).next_multiple_of(rustix::param::page_size());
    let prepare = if length <= PREPARED { MapFlags::POPULATE } else { MapFlags::empty() };
    let flags = MapFlags::SHARED | prepare;
    // SAFETY: a fresh anonymous mapping at an address that the kernel chooses touches nothing.
    let start =
        unsafe { mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags)? };
    Ok(start)
}

/// Returns unused heap to the system: a fork copies the page tables of all memory that was touched.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A constant that the loader relocates and then makes read-only: it lies in the part of the
/// program that [`share_constants`] replaces.
static RELOCATED: [&str; 1] = ["relocated"];

/// Replaces the relocated constants of this program by a sealed copy that all forked processes
/// share. Relocation makes them private pages: every fork copies their page tables, and when
/// thousands of processes share a private page, a walk over all of its users holds a lock that
/// forks need.
///
/// If that part is not found or the system refuses, nothing changes.
pub fn share_constants() {
    // An optimization: without it the program runs as well.
    let _ = try_share_constants();
}

/// A sealed file in memory with these bytes, opened for reading: no process can change it.
fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, open};

    let memory = file(name)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&memory, rest)?..];
    }
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn try_share_constants() -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    let here = std::hint::black_box(&raw const RELOCATED) as usize;
    let Some((start, end, _)) = mapping_of(here).filter(|(_, _, permissions)| permissions == "r--p") else {
        return Ok(());
    };
    let length = end - start;
    // SAFETY: the mapping is readable, and without write permission.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, length) };
    let reader = sealed(c"tine constants", bytes)?;
    let place = start as *mut libc::c_void;
    // SAFETY: the range is exactly one read-only mapping, and is replaced in one step by the same
    // bytes, read-only for good: every reference into it stays valid.
    unsafe { mmap(place, length, ProtFlags::READ, MapFlags::SHARED | MapFlags::FIXED, &reader, 0)? };
    Ok(())
}

/// Returns the part of the stack below the caller's frame to the system: what the start-up touched
/// there would be copied at each fork.
// In the frame of its caller, `here` could lie above other variables of that frame.
#[inline(never)]
pub fn trim_stack() {
    let here = 0u8;
    let here = &raw const here as usize;
    let Some((start, _, _)) = mapping_of(here) else { return };
    // This function's own frame, and the red zone below it, lie within the two pages left alone.
    let page = rustix::param::page_size();
    let end = (here & !(page - 1)).saturating_sub(page);
    if end > start {
        // SAFETY: the range is stack below every frame in use; its contents are never read.
        let _ = unsafe {
            rustix::mm::madvise(start as *mut libc::c_void, end - start, rustix::mm::Advice::LinuxDontNeed)
        };
    }
}

/// Whether this address is mapped without any permission, as guard pages are.
pub(crate) fn is_inaccessible(address: *const libc::c_void) -> bool {
    mapping_of(address as usize).is_some_and(|(_, _, permissions)| permissions.starts_with("---"))
}

/// The mapping of an address in `/proc/self/maps`: start, end, permissions.
fn mapping_of(address: usize) -> Option<(usize, usize, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (start..end).contains(&address).then(|| (start, end, rest[..4.min(rest.len())].to_owned()))
    })
}
