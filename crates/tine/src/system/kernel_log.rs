//! What the kernel says about a process that it has ended: `/dev/kmsg`
//! (`Documentation/ABI/testing/dev-kmsg`), as far as this process may read it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// Lines that are remembered until their process is asked for.
const LINES: usize = 64;

/// The kernel's log, from the time of its opening on.
#[derive(Debug)]
pub(crate) struct KernelLog {
    file: OwnedFd,
    /// The newest lines that name a process.
    lines: VecDeque<String>,
}

impl KernelLog {
    /// Opens it: it may be read with `CAP_SYSLOG`, or by all where `kernel.dmesg_restrict` is 0.
    /// `None` if it may not, as in most containers.
    pub(crate) fn open() -> Option<KernelLog> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()?;
        rustix::fs::seek(&file, SeekFrom::End(0)).ok()?;
        Some(KernelLog { file, lines: VecDeque::new() })
    }

    /// Moves the descriptor.
    pub(crate) fn place(self, place: impl Fn(OwnedFd) -> std::io::Result<OwnedFd>) -> Option<KernelLog> {
        Some(KernelLog { file: place(self.file).ok()?, ..self })
    }

    /// The last line about a process.
    pub(crate) fn about(&mut self, pid: i32) -> Option<String> {
        self.read();
        self.lines.iter().rev().find(|line| is_about(line, pid)).cloned()
    }

    /// The last line about a process, which the kernel may write a moment after its end: waited for
    /// until the deadline.
    pub(crate) fn about_by(&mut self, pid: i32, deadline: Instant) -> Option<String> {
        loop {
            if let Some(line) = self.about(pid) {
                return Some(line);
            }
            tine_sys::wait::until(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(deadline)).ok()?;
            if Instant::now() >= deadline {
                return self.about(pid);
            }
        }
    }

    /// Reads what has come: one record for each read(2).
    fn read(&mut self) {
        let mut record = [0; 8 * 1024];
        loop {
            match rustix::io::read(&self.file, &mut record) {
                Ok(length @ 1..) => {
                    let Some(line) = line_of(&record[..length]) else { continue };
                    if self.lines.len() == LINES {
                        self.lines.pop_front();
                    }
                    self.lines.push_back(line);
                }
                // Records were overwritten before they were read; the next one follows.
                Err(Errno::PIPE | Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// The text of a record about a process that the kernel has ended: `PRIORITY,NUMBER,TIME,…;TEXT`,
/// and more lines. The kernel itself writes with facility 0, so with a priority below 8; what
/// programs have written there is none of it.
fn line_of(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (head, text) = text.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let line = text.lines().next()?;
    let marks = ["]: ", "] ", "Killed process ", REFUSED_CALL];
    let names_process = marks.iter().any(|mark| line.contains(mark));
    (priority < 8 && names_process).then(|| line.to_owned())
}

/// The mark of a process that a filter of system calls has ended (`AUDIT_SECCOMP`, audit.h).
const REFUSED_CALL: &str = "audit: type=1326 ";

/// Whether a line is about a process: `NAME[PID]: segfault at …`, `traps: NAME[PID] general
/// protection fault …`, `Out of memory: Killed process PID (NAME) …`, `audit: type=1326 … pid=PID
/// …`.
fn is_about(line: &str, pid: i32) -> bool {
    if line.starts_with(REFUSED_CALL) {
        return field(line, "pid") == Some(&pid.to_string());
    }
    line.contains(&format!("[{pid}]: "))
        || line.contains(&format!("[{pid}] "))
        || line.contains(&format!("Killed process {pid} "))
}

/// The value of a field `NAME=VALUE`. A name of a program, which it chooses itself, has quotes, or
/// is hexadecimal where it has a space or a quote in it.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The system call at which a filter has ended a process, in such a line: its number, and whether
/// it is one of another architecture than that of the machine.
pub(crate) fn refused_call_in(line: &str) -> Option<(i64, bool)> {
    let number = line.starts_with(REFUSED_CALL).then(|| field(line, "syscall"))??;
    Some((number.parse().ok()?, field(line, "compat") == Some("1")))
}

/// The address and the place of a fault in such a line: `segfault at ADDRESS ip …`, `… in FILE[…]`.
/// The offset within the file is told by newer kernels.
pub(crate) fn fault_in(line: &str) -> (Option<String>, Option<String>) {
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok().map(|number| format!("{number:#x}"));
    let address =
        line.split_once("]: segfault at ").and_then(|(_, rest)| hexadecimal(rest.split(' ').next()?));
    let place = line.rsplit_once(" in ").and_then(|(_, rest)| {
        let (file, inside) = rest.split_once('[')?;
        let offset = inside.split_once(']')?.0.split_once(',').and_then(|(offset, _)| hexadecimal(offset));
        Some(offset.map_or_else(|| file.to_owned(), |offset| format!("{file}+{offset}")))
    });
    (address, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGFAULT: &str = "python3[13548]: segfault at 1234 ip 00007f22e3185ad8 sp 00007ffd05e8ec38 error 4 in \
                            libc.so.6[167ad8,7f22e3044000+156000] likely on CPU 0 (core 0, socket 0)";
    const OLD: &str =
        "cat[7]: segfault at 0 ip 0000000000000000 sp 00007ffd05e8ec38 error 14 in cat[400000+1000]";
    const TRAP: &str =
        "traps: x y[12] trap invalid opcode ip:55d0c1 sp:7ffd error:0 in x y[10c1,55d0c0+1000]";
    const NOWHERE: &str =
        "x[7]: segfault at ffffffffdeadbeef ip 0 sp 0 error 15 likely on CPU 1 (core 1, socket 0)";
    const MEMORY: &str =
        "Out of memory: Killed process 99 (hog) total-vm:1kB, anon-rss:1kB, UID:0 pgtables:1kB";

    const CALL: &str = "audit: type=1326 audit(1795850305.841:206): auid=4294967295 uid=0 gid=0 ses=4294967295 \
                        pid=2724 comm=\"python3\" exe=\"/usr/bin/python3.11\" sig=31 arch=c000003e syscall=110 \
                        compat=0 ip=0x7f0cd24f34f7 code=0x80000000";

    #[test]
    fn calls_at_which_a_filter_ends_a_process_are_told() {
        assert_eq!(refused_call_in(CALL), Some((110, false)));
        assert_eq!(refused_call_in(&CALL.replace("compat=0", "compat=1")), Some((110, true)));
        assert_eq!(refused_call_in(SEGFAULT), None);
        assert_eq!(refused_call_in(&format!("x[7]: {CALL}")), None);
    }

    #[test]
    fn lines_are_about_processes() {
        for (line, pid, other) in [
            (SEGFAULT, 13548, 3548),
            (OLD, 7, 400_000),
            (TRAP, 12, 1),
            (NOWHERE, 7, 1),
            (MEMORY, 99, 9),
            (CALL, 2724, 272),
        ] {
            assert!(is_about(line, pid) && !is_about(line, other), "{line}");
            let record = format!("6,1,2,-;{line}\n SUBSYSTEM=x\n");
            assert_eq!(line_of(record.as_bytes()).as_deref(), Some(line));
            // A program can write there, too, but not as the kernel.
            assert_eq!(line_of(record.replace("6,", "14,").as_bytes()), None, "{line}");
        }
        for record in ["", "6,1,2,-;eth0: link up", "6,1,2,-", "x;y[1]: z"] {
            assert_eq!(line_of(record.as_bytes()), None, "{record}");
        }
    }

    #[test]
    fn faults_have_addresses_and_places() {
        for (line, address, place) in [
            (SEGFAULT, Some("0x1234"), Some("libc.so.6+0x167ad8")),
            (OLD, Some("0x0"), Some("cat")),
            (TRAP, None, Some("x y+0x10c1")),
            (NOWHERE, Some("0xffffffffdeadbeef"), None),
            (MEMORY, None, None),
        ] {
            let found = fault_in(line);
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (address, place), "{line}");
        }
    }
}
