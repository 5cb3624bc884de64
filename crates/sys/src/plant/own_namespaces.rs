//! What a copy does in namespaces of its own: it is the first process of its pid namespace, and has
//! all capabilities over what is made in them until it gives them up.

use std::ffi::CStr;
use std::io;

use super::steps::{CopySteps, word};
use crate::namespaces::Kinds;

/// The namespaces of a copy that has its own: those of users, for the right to the others, mounts,
/// processes, and System V objects.
pub const OF_A_COPY: Kinds = Kinds::USER.and(Kinds::MOUNT).and(Kinds::PID).and(Kinds::IPC);

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

impl CopySteps {
    /// Has its user and group have the same numbers in its user namespace as outside, and no others
    /// any (user_namespaces(7)). `/proc` has to be there.
    pub fn keep_ids(&mut self, user: u32, group: u32) {
        self.write_file(c"/proc/self/setgroups", b"deny");
        self.write_file(c"/proc/self/uid_map", format!("{user} {user} 1\n").as_bytes());
        self.write_file(c"/proc/self/gid_map", format!("{group} {group} 1\n").as_bytes());
    }

    fn write_file(&mut self, path: &CStr, text: &[u8]) {
        let place = self.put(path.to_bytes_with_nul());
        let opened = self.receive();
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        self.call(libc::SYS_openat, &[word(libc::AT_FDCWD), place, word(flags), 0], word(opened));
        let place = self.put(text);
        self.call(libc::SYS_write, &[word(opened), place, text.len() as u64], text.len() as u64);
        self.close(opened);
    }

    /// Mounts a file system of a kind at a path (mount(2)).
    ///
    /// # Errors
    /// The path or the options are too long.
    pub fn mount(&mut self, kind: &CStr, path: &CStr, flags: u64, options: &CStr) -> io::Result<()> {
        let texts = [kind, path, options].map(CStr::to_bytes_with_nul);
        let kind = self.put_long(&texts.concat())?;
        let path = kind + texts[0].len() as u64;
        let options = path + texts[1].len() as u64;
        self.call(libc::SYS_mount, &[kind, path, kind, flags, options], 0);
        Ok(())
    }

    /// Switches the loopback interface of its network namespace on, as
    /// [`raise_loopback`](crate::namespaces::raise_loopback) does.
    pub fn raise_loopback(&mut self) {
        let socket = self.receive();
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        self.call(libc::SYS_socket, &[word(libc::AF_INET), word(kind), 0], word(socket));
        // A `struct ifreq`: the name, and the flags.
        let mut request = [0; 40];
        request[..2].copy_from_slice(b"lo");
        let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        let request = self.put(&request);
        self.call(libc::SYS_ioctl, &[word(socket), libc::SIOCSIFFLAGS, request], 0);
        self.close(socket);
    }

    /// Enters a directory.
    ///
    /// # Errors
    /// The path is too long.
    pub fn enter_directory(&mut self, path: &CStr) -> io::Result<()> {
        let path = self.put_long(path.to_bytes_with_nul())?;
        self.call(libc::SYS_chdir, &[path], 0);
        Ok(())
    }

    /// Adds a filter of system calls (seccomp(2)): the instructions of its program. It has to have
    /// the capabilities still, or `no_new_privs`.
    ///
    /// # Errors
    /// The program is too long.
    pub fn add_filter(&mut self, instructions: &[u64]) -> io::Result<()> {
        let count = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // A `struct sock_fprog`: the number of instructions, and their address.
        let head = [count.into(), self.scratch() + 16];
        let words = head.iter().chain(instructions);
        let program = self.put_long(&words.flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>())?;
        self.call(libc::SYS_seccomp, &[libc::SECCOMP_SET_MODE_FILTER.into(), 0, program], 0);
        Ok(())
    }

    /// Has it give up all capabilities (capset(2)), and what programs can gain of them, when all
    /// else is done that may need one. `highest`: the highest number of one.
    pub fn drop_capabilities_last(&mut self, highest: u32) {
        self.highest_capability = Some(highest);
    }

    pub(super) fn drop_capabilities_if_asked(&mut self) {
        let Some(highest) = self.highest_capability else { return };
        for capability in 0..=highest {
            self.control(libc::PR_CAPBSET_DROP, capability.into());
        }
        let head = self.put(&u64::from(CAPABILITY_VERSION).to_ne_bytes());
        // The same for both halves: effective, permitted, inheritable.
        let none = head + 8;
        self.write(none, &[0; 24]);
        self.call(libc::SYS_capset, &[head, none], 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::layout;
    use super::super::steps::tests::words;
    use super::*;

    fn steps() -> CopySteps {
        CopySteps::new(BTreeSet::from([0, 1, 2]), 0x1000)
    }

    #[test]
    fn a_mount_has_its_texts_behind_each_other() {
        let mut steps = steps();
        steps.mount(c"tmpfs", c"/tmp", 6, c"size=1k").expect("short");
        let words = words(steps);
        let scratch = 0x1000 + layout::SCRATCH as u64;
        let text: Vec<u8> = words[3..6].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(text[..19], *b"tmpfs\0/tmp\0size=1k\0");
        let expected = [scratch, scratch + 6, scratch, 6, scratch + 11];
        assert_eq!(words[8..13], expected);
        let long = std::ffi::CString::new("/x".repeat(300)).expect("a path");
        let mut steps = self::steps();
        assert!(steps.mount(c"tmpfs", &long, 0, c"").is_err() && steps.enter_directory(&long).is_err());
    }

    #[test]
    fn a_filter_is_its_length_and_its_address() {
        let mut steps = steps();
        steps.add_filter(&[7, 8]).expect("short");
        let words = words(steps);
        let scratch = 0x1000 + layout::SCRATCH as u64;
        assert_eq!(words[3..7], [2, scratch + 16, 7, 8]);
        assert_eq!(words[9..12], [1, 0, scratch]);
        assert!(self::steps().add_filter(&[0; 100]).is_err());
    }
}
