//! Memory of other processes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::check;

/// Reads memory of another process (process_vm_readv(2)), as much of it as is there.
///
/// # Errors
/// EFAULT if nothing is there; EPERM without the right to trace it (ptrace(2)); ESRCH.
pub fn read_memory(thread: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address as usize), iov_len: buffer.len() };
    // SAFETY: the kernel writes to the buffer, up to its length; the other address is one of
    // another process, which it checks.
    let read = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    Ok(check(read as libc::c_long)?.unsigned_abs() as usize)
}

/// Reads a text of at most `most` bytes that ends in a zero byte, from the memory of another
/// process; `None` if it is not there or is longer.
#[must_use]
pub fn read_text(process: i32, address: u64, most: usize) -> Option<Vec<u8>> {
    const PIECE: u64 = 256;
    let mut text = Vec::new();
    while text.len() <= most {
        // A piece does not cross the boundary of a page, behind which nothing may be.
        let at = address.checked_add(text.len() as u64)?;
        let mut piece = [0; PIECE as usize];
        let wanted = usize::try_from(PIECE - at % PIECE).ok()?;
        let read = read_memory(process, at, &mut piece[..wanted]).ok()?;
        match piece[..read].iter().position(|byte| *byte == 0) {
            Some(end) => {
                text.extend_from_slice(&piece[..end]);
                return (text.len() <= most).then_some(text);
            }
            None if read == 0 => return None,
            None => text.extend_from_slice(&piece[..read]),
        }
    }
    None
}

/// Writes to the memory of a task that this process traces, also where the task may not write.
///
/// # Errors
/// EIO if nothing is there; EACCES without `/proc`.
pub(crate) fn write_memory(task: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let memory = File::options().write(true).open(format!("/proc/{task}/mem"))?;
    memory.write_all_at(bytes, address)
}
