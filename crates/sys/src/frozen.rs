//! Files in memory that nobody can change any more, mapped for reading.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

pub use crate::flag::file;

/// Seals a file in memory (`F_ADD_SEALS`, fcntl(2)): no process can change it from now on.
///
/// # Errors
/// EBUSY if it is mapped for writing; EPERM if it cannot be sealed; EINVAL if it is no such file.
pub fn seal(file: impl AsFd) -> io::Result<()> {
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(())
}

/// A sealed file, mapped for reading. A fork does not copy its page tables.
#[derive(Debug)]
pub struct FrozenMap {
    /// Dangling, if it is empty.
    start: std::ptr::NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is never written, and stays until the only owner is dropped.
unsafe impl Send for FrozenMap {}
// SAFETY: as for `Send`.
unsafe impl Sync for FrozenMap {}

impl FrozenMap {
    /// A mapping without any bytes.
    #[must_use]
    pub fn empty() -> FrozenMap {
        FrozenMap { start: std::ptr::NonNull::dangling(), length: 0 }
    }

    /// Maps a file, which must be sealed ([`seal`]): another process could otherwise change what
    /// this one reads, or make the file shorter, which would end this one (SIGBUS).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`]: it is not sealed; ENOMEM: the kernel has no memory for
    /// another mapping, or the file is larger than the address space.
    pub fn new(file: impl AsFd) -> io::Result<FrozenMap> {
        let file = file.as_fd();
        let needed = SealFlags::WRITE | SealFlags::SHRINK;
        // Files of other kinds have no seals (EINVAL).
        if !fcntl_get_seals(file).is_ok_and(|seals| seals.contains(needed)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is not sealed"));
        }
        let length = fstat(file)?.st_size;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if length == 0 {
            return Ok(FrozenMap::empty());
        }
        // SAFETY: a fresh mapping, at an address that the kernel chooses.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        let start = std::ptr::NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(FrozenMap { start, length })
    }

    /// The bytes of the file, at the beginning of a page.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the file is mapped for as long as `self`, and is this long. Its seals keep its
        // bytes and its length as they are, for good: `F_SEAL_WRITE` cannot be set while any
        // mapping can write.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for FrozenMap {
    fn drop(&mut self) {
        if self.length != 0 {
            // SAFETY: the range is exactly one mapping of ours, into which no reference is left. It
            // cannot fail for one.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sealed_files_are_mapped() {
        let memory = file(c"tine test").expect("memory");
        rustix::io::write(&memory, b"frozen").expect("room");
        let refused = |file: &dyn AsFd| FrozenMap::new(file.as_fd()).expect_err("not sealed").kind();
        assert_eq!(refused(&memory), io::ErrorKind::InvalidData);
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).expect("it can be sealed");
        assert_eq!(refused(&memory), io::ErrorKind::InvalidData);
        assert_eq!(refused(&io::stdin()), io::ErrorKind::InvalidData);
        seal(&memory).expect("it can be sealed");
        let map = FrozenMap::new(&memory).expect("it is sealed");
        assert_eq!(map.bytes(), b"frozen");
        assert_eq!(rustix::io::pwrite(&memory, b"F", 0), Err(rustix::io::Errno::PERM));
        drop(memory);
        assert_eq!(map.bytes(), b"frozen");
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        let memory = file(c"tine test").expect("memory");
        seal(&memory).expect("it can be sealed");
        assert!(FrozenMap::new(&memory).expect("it is sealed").bytes().is_empty());
        assert!(FrozenMap::empty().bytes().is_empty());
    }
}
