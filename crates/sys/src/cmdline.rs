//! The full title of a process, as `ps` and `/proc/PID/cmdline` show it.
//!
//! The kernel reads the title from the memory between two addresses. They are moved to a buffer of
//! our own (`PR_SET_MM_MAP`, prctl(2)), so that neither arguments nor environment are overwritten.

use std::io;

/// Room for a title; longer ones are cut.
const ROOM: usize = 128;

/// The buffer that the kernel shows as the command line of this process and of those forked from it.
#[derive(Debug)]
pub struct Title {
    buffer: &'static mut [u8; ROOM],
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

impl Title {
    /// Takes the command line of this process over; from now on it is what [`Title::set`] says.
    ///
    /// # Errors
    /// EINVAL where the kernel cannot (built without `CONFIG_CHECKPOINT_RESTORE`), and what reading
    /// `/proc/self/stat` can fail with.
    pub fn take_over() -> io::Result<Title> {
        let buffer: &'static mut [u8; ROOM] = Box::leak(Box::new([0; ROOM]));
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let map = memory_map(&stat, buffer.as_ptr() as u64)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the map repeats what the kernel just said of this process, but for the arguments,
        // which lie in a buffer that is never freed; the kernel checks every address.
        let set = unsafe {
            libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0)
        };
        crate::check(libc::c_long::from(set))?;
        Ok(Title { buffer })
    }

    /// Shows this text as the command line of this process.
    pub fn set(&mut self, text: &str) {
        let length = text.len().min(ROOM - 1);
        self.buffer.fill(0);
        self.buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
    }
}

/// The current map with other arguments. The numbers are those of the fields in proc_pid_stat(5).
fn memory_map(stat: &str, arguments: u64) -> Option<MemoryMap> {
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    // SAFETY: sbrk(0) only asks where the heap ends.
    let brk = unsafe { libc::sbrk(0) } as u64;
    Some(MemoryMap {
        code: [field(26)?, field(27)?],
        data: [field(45)?, field(46)?],
        brk: [field(47)?, brk],
        stack: field(28)?,
        arguments: [arguments, arguments + ROOM as u64],
        environment: [field(50)?, field(51)?],
        auxv: std::ptr::null(),
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}
