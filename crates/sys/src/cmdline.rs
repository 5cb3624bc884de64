//! The command line of a process, as `ps` and `/proc/PID/cmdline` show it.
//!
//! The kernel reads it from the memory between two addresses. They are moved to a separate buffer
//! (`PR_SET_MM_MAP`, prctl(2)), so that neither the arguments nor the environment are overwritten.

use std::io;

/// The size of the buffer in bytes, with a zero byte at the end; longer titles are cut.
const CAPACITY: usize = 128;

/// The buffer that the kernel shows as the command line of this process and of processes forked
/// from it.
#[derive(Debug)]
pub struct Title {
    buffer: &'static mut [u8; CAPACITY],
}

/// `struct prctl_mm_map` of <linux/prctl.h>.
#[repr(C)]
struct MemoryMap {
    code: [u64; 2],
    data: [u64; 2],
    brk: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxv: *const u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Whether the kernel can be made to show another command line.
///
/// # Errors
/// Those of [`Title::take_over`].
pub fn check() -> io::Result<()> {
    std::fs::read_to_string("/proc/self/stat")?;
    let mut size: libc::c_uint = 0;
    // SAFETY: the kernel writes the size of the structure to a valid address.
    let asked = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP_SIZE, &raw mut size, 0, 0) };
    crate::check(libc::c_long::from(asked))?;
    Ok(())
}

impl Title {
    /// Makes the kernel show a new buffer as the command line of this process, empty until
    /// [`Title::set`]. A title that was made before is not shown any more.
    ///
    /// # Errors
    /// EINVAL where the kernel was built without `CONFIG_CHECKPOINT_RESTORE`; errors of reading
    /// `/proc/self/stat`.
    pub fn take_over() -> io::Result<Title> {
        let buffer: &'static mut [u8; CAPACITY] = Box::leak(Box::new([0; CAPACITY]));
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let map = memory_map(&stat, buffer.as_ptr() as u64)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the map repeats the addresses that the kernel reports of this process, except
        // those of the arguments, which lie in a buffer that is never freed; the kernel checks
        // every address.
        let set = unsafe {
            libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0)
        };
        crate::check(libc::c_long::from(set))?;
        Ok(Title { buffer })
    }

    /// Shows this text, up to 127 bytes of it, as the command line of this process.
    pub fn set(&mut self, text: &str) {
        let length = text.len().min(CAPACITY - 1);
        self.buffer.fill(0);
        self.buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
    }
}

/// The current map with this address of the arguments. Fields have their numbers in
/// proc_pid_stat(5).
fn memory_map(stat: &str, arguments: u64) -> Option<MemoryMap> {
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    // SAFETY: sbrk(0) only returns the end of the heap.
    let brk = unsafe { libc::sbrk(0) } as u64;
    Some(MemoryMap {
        code: [field(26)?, field(27)?],
        data: [field(45)?, field(46)?],
        brk: [field(47)?, brk],
        stack: field(28)?,
        arguments: [arguments, arguments + CAPACITY as u64],
        environment: [field(50)?, field(51)?],
        auxv: std::ptr::null(),
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}
