//! Words that one process sets and the processes forked from it can only read.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::memory::SharedTables;

/// The writing half. Its mapping is left out of forked processes.
#[derive(Debug)]
pub struct FlagWriter {
    words: SharedTables<AtomicU64>,
    weakness: Option<io::Error>,
}

/// The reading half: a mapping without write permission.
#[derive(Clone, Copy, Debug)]
pub struct FlagReader {
    word: &'static AtomicU64,
}

/// Where the two mappings of the words begin: the writer's and the readers'.
type Mappings = (*mut libc::c_void, *mut libc::c_void);

/// Makes some words in one page, zero at first, with a mapping for their writer and one for their
/// readers.
///
/// No process can make the readers' mapping writable, except where memory cannot be sealed:
/// [`FlagWriter::weakness`].
///
/// # Errors
/// ENOMEM, EMFILE.
///
/// # Panics
/// If the words are more than a page.
pub fn flags<const N: usize>() -> io::Result<(FlagWriter, [FlagReader; N])> {
    let page = rustix::param::page_size();
    assert!(N * size_of::<AtomicU64>() <= page, "{N} words");
    let (mappings, weakness) = match map_sealed(page) {
        Ok(mappings) => (mappings, None),
        Err(why) => (map_twice(page)?, Some(why)),
    };
    let (start, read_only) = mappings;
    // SAFETY: the writer's mapping is a page of zeros that nothing else unmaps.
    let words = unsafe { SharedTables::of_mapping(start, page, N) };
    let readers = std::array::from_fn(|which| {
        // SAFETY: a page of zeros that has the word, can be read, and stays for as long as the
        // process lives.
        FlagReader { word: unsafe { &*read_only.cast::<AtomicU64>().add(which) } }
    });
    words.exclude_from_fork()?;
    Ok((FlagWriter { words, weakness }, readers))
}

/// A table of numbers that one process writes and others read. The writer's half.
#[derive(Debug)]
pub struct TableWriter {
    entries: SharedTables<AtomicU32>,
}

/// Makes a table of numbers, zero at first, with a mapping for its writer and one for its readers,
/// under the conditions of [`flags`]. Processes forked from this one have both, until
/// [`TableWriter::exclude_from_fork`].
///
/// # Errors
/// ENOMEM, EMFILE.
pub fn table(length: usize) -> io::Result<(TableWriter, &'static [AtomicU32])> {
    let bytes = (length.max(1) * size_of::<AtomicU32>()).next_multiple_of(rustix::param::page_size());
    let (start, read_only) = map_sealed(bytes).or_else(|_| map_twice(bytes))?;
    // SAFETY: the writer's mapping is zero, has room for the entries, and nothing else unmaps it.
    let entries = unsafe { SharedTables::of_mapping(start, bytes, length) };
    // SAFETY: the mapping is page-aligned, zero at first, readable, has room for the entries, and
    // stays for as long as the process lives. Atomics are written by explicit calls only.
    let readers = unsafe { std::slice::from_raw_parts(read_only.cast::<AtomicU32>().cast_const(), length) };
    Ok((TableWriter { entries }, readers))
}

impl TableWriter {
    /// Leaves the writer's half out of processes forked from now on.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub fn exclude_from_fork(&self) -> io::Result<()> {
        self.entries.exclude_from_fork()
    }

    /// The entries. Not in a process that was forked after [`TableWriter::exclude_from_fork`]: an
    /// access ends it (SIGSEGV).
    #[must_use]
    pub fn entries(&self) -> &[AtomicU32] {
        self.entries.first()
    }
}

/// Maps a file in memory for writing and for reading. The second mapping can never become writable:
/// the file is sealed against new writers (`F_SEAL_FUTURE_WRITE`, since Linux 5.1), or the mapping
/// is of a descriptor that was opened for reading only, which takes `/proc`.
fn map_sealed(bytes: usize) -> io::Result<Mappings> {
    use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, open};

    let memory = file(c"tine flag")?;
    ftruncate(&memory, bytes as u64)?;
    let anywhere = std::ptr::null_mut();
    // SAFETY: a fresh mapping, at an address that the kernel chooses, of a file that is this
    // long and keeps its length.
    let start =
        unsafe { mmap(anywhere, bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &memory, 0)? };
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let reader = match fcntl_add_seals(&memory, seals) {
        Ok(()) => Ok(memory),
        Err(_) => {
            let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
            open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        }
    };
    // SAFETY: as above.
    let mapped = reader
        .and_then(|reader| unsafe { mmap(anywhere, bytes, ProtFlags::READ, MapFlags::SHARED, &reader, 0) });
    match mapped {
        Ok(read_only) => Ok((start, read_only)),
        Err(why) => {
            // SAFETY: the mapping made above, which nothing refers to.
            unsafe { rustix::mm::munmap(start, bytes)? };
            Err(why.into())
        }
    }
}

/// A file in memory that can be sealed and is never executed. Kernels before Linux 6.3 do not know
/// the second; later ones can be set to refuse a file without it (`vm.memfd_noexec`, sysctl(8)).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM; a sandbox forbids it.
pub fn file(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => Ok(memfd_create(name, flags)?),
        made => Ok(made?),
    }
}

/// Maps memory twice and takes the write permission from the second mapping, which mprotect(2) can
/// give back. Needs neither files nor `/proc`.
fn map_twice(bytes: usize) -> io::Result<Mappings> {
    use rustix::mm::{MprotectFlags, MremapFlags, mmap_anonymous, mprotect, mremap};

    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: fresh mappings at addresses that the kernel chooses. An old size of zero leaves the
    // old mapping and makes a second one of its pages (mremap(2)).
    unsafe {
        let start = mmap_anonymous(std::ptr::null_mut(), bytes, both, MapFlags::SHARED)?;
        let read_only = mremap(start, 0, bytes, MremapFlags::MAYMOVE)?;
        mprotect(read_only, bytes, MprotectFlags::READ)?;
        Ok((start, read_only))
    }
}

impl FlagWriter {
    /// Sets the word of this index, for every reader.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn set(&self, which: usize, value: u64) {
        self.words.first()[which].store(value, SeqCst);
    }

    /// Why memory could not be sealed, if so: then a reader that calls mprotect(2) can write.
    #[must_use]
    pub fn weakness(&self) -> Option<&io::Error> {
        self.weakness.as_ref()
    }
}

impl FlagReader {
    /// The word, as last set.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.word.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the mappings, writes through the first, reads through the second, and returns whether
    /// the second can be made writable.
    fn can_be_written(map: fn(usize) -> io::Result<Mappings>) -> bool {
        use rustix::mm::{MprotectFlags, mprotect};

        let page = rustix::param::page_size();
        let (start, read_only) = map(page).expect("memory");
        // SAFETY: two mappings of one page, which this test alone uses.
        unsafe {
            let word = &*start.cast::<AtomicU64>();
            word.store(7, SeqCst);
            assert_eq!((*read_only.cast::<AtomicU64>()).load(SeqCst), 7);
            mprotect(read_only, page, MprotectFlags::READ | MprotectFlags::WRITE).is_ok()
        }
    }

    #[test]
    fn a_sealed_page_cannot_be_made_writable_and_a_page_mapped_twice_can() {
        assert!(!can_be_written(map_sealed));
        assert!(can_be_written(map_twice));
    }

    #[test]
    fn the_readers_of_a_table_see_what_its_writer_stores() {
        let (writer, readers) = table(5000).expect("memory");
        assert_eq!((writer.entries().len(), readers.len()), (5000, 5000));
        writer.entries()[4999].store(7, SeqCst);
        assert_eq!([0, 4999].map(|at: usize| readers[at].load(SeqCst)), [0, 7]);
    }

    #[test]
    fn readers_see_what_the_writer_sets() {
        let (writer, readers) = flags::<2>().expect("memory");
        assert!(writer.weakness().is_none());
        assert_eq!(readers.map(|reader| reader.get()), [0, 0]);
        writer.set(1, 7);
        assert_eq!(readers.map(|reader| reader.get()), [0, 7]);
    }
}
