//! Memory that processes share, handed out piece by piece before they are forked.

use std::ffi::CStr;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous};

use crate::memory::{Word, file};

/// The alignment of a piece: two pieces have no cache line in common.
const LINE: usize = 64;

/// Memory in one mapping that every process forked later shares. A page takes memory once it is
/// written. It stays mapped for as long as a process lives.
#[derive(Debug)]
pub struct Arena {
    start: *mut libc::c_void,
    bytes: usize,
    used: AtomicUsize,
}

// SAFETY: pieces hold atomics only (`Word`), and no byte is handed out twice.
unsafe impl Send for Arena {}
// SAFETY: as for `Send`; `used` is an atomic.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps memory of this size, rounded up to pages, which the name shows in `/proc/PID/maps`. Its
    /// file is sealed, so that no process can make it shorter: an access beyond its end would end
    /// the others (SIGBUS). Where a sandbox forbids such files, the memory has none.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub fn new(name: &CStr, bytes: usize) -> io::Result<Arena> {
        let bytes = bytes.max(1).next_multiple_of(rustix::param::page_size());
        let start = match map_file(name, bytes) {
            Ok(start) => start,
            Err(_) => {
                let both = ProtFlags::READ | ProtFlags::WRITE;
                let flags = MapFlags::SHARED | MapFlags::NORESERVE;
                // SAFETY: a fresh mapping at an address that the kernel chooses touches nothing.
                unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, both, flags)? }
            }
        };
        Ok(Arena { start, bytes, used: AtomicUsize::new(0) })
    }

    /// Hands out a piece with `length` entries, all zero; `None` if there is no room for it.
    #[must_use]
    pub fn take<T: Word>(&self, length: usize) -> Option<&'static [T]> {
        let start = self.take_bytes(length.checked_mul(size_of::<T>())?)?;
        // SAFETY: `take_bytes` says what these bytes are; they are a slice of this length.
        Some(unsafe { entries(start, length) })
    }

    /// Hands out a piece with one entry and, right behind it, `length` others, all zero; `None` if
    /// there is no room for it. A small piece is in one cache line.
    #[must_use]
    pub fn take_headed<H: Word, T: Word>(&self, length: usize) -> Option<(&'static H, &'static [T])> {
        const { assert!(align_of::<T>() <= LINE) };
        let first = size_of::<H>().next_multiple_of(align_of::<T>());
        let start = self.take_bytes(length.checked_mul(size_of::<T>())?.checked_add(first)?)?;
        // SAFETY: `take_bytes` says what these bytes are; the entries begin behind the head, at
        // their alignment, and end with the piece.
        unsafe {
            let head: &'static [H] = entries(start, 1);
            Some((&head[0], entries(start.byte_add(first), length)))
        }
    }

    /// Hands out this many bytes, in cache lines of their own: in the mapping, which is never
    /// unmapped, zero at first, and handed out to nobody else.
    fn take_bytes(&self, bytes: usize) -> Option<*const libc::c_void> {
        let wanted = bytes.checked_next_multiple_of(LINE)?;
        let after = |used: usize| used.checked_add(wanted).filter(|after| *after <= self.bytes);
        let at = self.used.fetch_update(Relaxed, Relaxed, after).ok()?;
        Some(self.start.wrapping_byte_add(at).cast_const())
    }

    /// Takes the memory away from this process, for good: an access ends it (SIGSEGV).
    ///
    /// # Errors
    /// ENOMEM: the kernel has no memory for another mapping.
    pub fn take_away(&self) -> io::Result<()> {
        self.protect(MprotectFlags::empty())
    }

    /// Takes the right to write the memory away from this process: a write ends it (SIGSEGV).
    ///
    /// # Errors
    /// ENOMEM: the kernel has no memory for another mapping.
    pub fn make_read_only(&self) -> io::Result<()> {
        self.protect(MprotectFlags::READ)
    }

    fn protect(&self, flags: MprotectFlags) -> io::Result<()> {
        // SAFETY: the range is exactly one mapping of ours. References into it stay valid for the
        // compiler, which neither reads nor writes atomics on its own.
        unsafe { rustix::mm::mprotect(self.start, self.bytes, flags)? };
        Ok(())
    }
}

/// The entries at an address.
///
/// # Safety
/// The bytes are of an arena, aligned for the entries, and handed out to the caller alone.
unsafe fn entries<T: Word>(start: *const libc::c_void, length: usize) -> &'static [T] {
    const { assert!(align_of::<T>() <= LINE) };
    // SAFETY: as the caller says; `Word` says that zero is a value and that others may change it.
    unsafe { std::slice::from_raw_parts(start.cast(), length) }
}

fn map_file(name: &CStr, bytes: usize) -> io::Result<*mut libc::c_void> {
    use rustix::fs::{SealFlags, fcntl_add_seals, ftruncate};

    let memory = file(name)?;
    ftruncate(&memory, bytes as u64)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping, at an address that the kernel chooses, of a file that is this long
    // and keeps its length.
    Ok(unsafe { mmap(std::ptr::null_mut(), bytes, both, MapFlags::SHARED, &memory, 0)? })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64};

    use super::*;

    #[test]
    fn pieces_are_zero_apart_and_end_with_the_memory() {
        let arena = Arena::new(c"tine test", 4096).expect("memory");
        let first: &[AtomicU32] = arena.take(1).expect("room");
        let second: &[AtomicU64] = arena.take(9).expect("room");
        assert_eq!(second.as_ptr().addr() - first.as_ptr().addr(), LINE);
        assert!(second.iter().all(|word| word.load(Relaxed) == 0));
        second[8].store(7, Relaxed);
        assert_eq!(first[0].load(Relaxed), 0);
        let rest = (4096 - 3 * LINE) / 8;
        assert!(arena.take::<AtomicU64>(rest + 1).is_none());
        assert!(arena.take::<AtomicU64>(usize::MAX).is_none());
        assert_eq!(arena.take::<AtomicU64>(rest).expect("room").len(), rest);
        assert!(arena.take::<AtomicU64>(1).is_none());
    }

    #[test]
    fn entries_behind_a_head_are_in_its_cache_line() {
        let arena = Arena::new(c"tine test", 4096).expect("memory");
        let (head, rest): (&AtomicU32, &[AtomicU64]) = arena.take_headed(7).expect("room");
        let at = std::ptr::from_ref(head).addr();
        assert_eq!((at % LINE, rest.as_ptr().addr() - at, rest.len()), (0, 8, 7));
        rest[6].store(7, Relaxed);
        let next: &[AtomicU32] = arena.take(1).expect("room");
        assert_eq!(next.as_ptr().addr() - at, LINE);
        assert_eq!((head.load(Relaxed), next[0].load(Relaxed)), (0, 0));
        assert!(arena.take_headed::<AtomicU32, AtomicU64>(usize::MAX / 8).is_none());
    }
}
