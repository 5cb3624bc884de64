//! A system call of a program that is watched, by its name, and the memory that its arguments point
//! into.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use syscalls::Sysno;
use tine_sys::trace::TracedCall;

/// A system call at its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedCall {
    /// Its name; empty if this library does not know it.
    pub(super) name: &'static str,
    pub(super) arguments: [u64; 6],
}

/// The convention of system calls that this library is built for (`AUDIT_ARCH_*`); `None` where the
/// warm start is not available.
const NATIVE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// The bit of the calls of x32, 32-bit programs with 64-bit registers.
const X32: u64 = 0x4000_0000;

impl NamedCall {
    /// The name and the arguments of a call; `None` if it is one of another architecture than that
    /// of this process.
    pub(super) fn of(call: &TracedCall) -> Option<NamedCall> {
        let is_native = NATIVE == Some(call.architecture) && call.number & X32 == 0;
        let number = usize::try_from(call.number).ok().filter(|_| is_native)?;
        let name = Sysno::new(number).map_or("", |known| known.name());
        Some(NamedCall { name, arguments: call.arguments })
    }

    /// An argument that is a descriptor: an `int` in the lower half of the register.
    pub(super) fn descriptor(&self, at: usize) -> i32 {
        self.arguments[at] as u32 as i32
    }
}

/// What tells whether a file is still the one that was opened: its device, inode, size, and the
/// time of its last change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileVersion {
    place: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl FileVersion {
    pub(crate) fn of(file: &fs::Metadata) -> FileVersion {
        FileVersion {
            place: (file.dev(), file.ino()),
            size: file.size(),
            changed: (file.mtime(), file.mtime_nsec()),
        }
    }
}

/// The descriptor that stands for the working directory (`AT_FDCWD`).
pub(super) const WORKING_DIRECTORY: i32 = -100;

/// What is looked up in a task that has stopped.
pub(super) trait Look {
    /// Bytes of its memory; `None` if they are not there.
    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>>;

    /// A text of its memory, up to its zero byte; `None` if it is not there or too long for a path.
    fn text(&self, address: u64) -> Option<Vec<u8>>;

    /// The path of a directory, by its descriptor or [`WORKING_DIRECTORY`]; `None` if it has none.
    fn directory(&self, descriptor: i32) -> Option<String>;

    /// Whether a file is there, by its path from a directory.
    fn exists(&self, directory: i32, path: &[u8]) -> bool;

    /// The descriptors that are the connection, as the kernel lists them.
    fn connection_descriptors(&self) -> BTreeSet<i32>;

    /// The file of a descriptor, if it is one that an operator may replace; that of the program
    /// without a descriptor.
    fn file_of(&self, descriptor: Option<i32>) -> Option<(PathBuf, FileVersion)>;

    /// The rights that the file that it executes would give it, if it is set-user-id or the like.
    fn rights_of_program(&self) -> Option<String>;

    /// The name of the program that it executes.
    fn program_name(&self) -> String;

    /// A number of eight bytes in its memory.
    fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.read(address, 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
pub(super) mod fake {
    //! A task of tests: its memory is a few regions.

    use super::*;

    /// A call by its name.
    pub(in super::super) fn call(name: &'static str, first: &[u64]) -> NamedCall {
        let mut arguments = [0; 6];
        arguments[..first.len()].copy_from_slice(first);
        NamedCall { name, arguments }
    }

    /// Regions of memory, and what a lookup returns.
    #[derive(Debug, Default)]
    pub(in super::super) struct FakeTask {
        pub(in super::super) memory: Vec<(u64, Vec<u8>)>,
        pub(in super::super) descriptors: BTreeSet<i32>,
        pub(in super::super) rights: Option<String>,
        pub(in super::super) files: Vec<String>,
    }

    impl Look for FakeTask {
        fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
            self.memory.iter().find_map(|(start, bytes)| {
                let at = usize::try_from(address.checked_sub(*start)?).ok()?;
                bytes.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
            })
        }

        fn text(&self, address: u64) -> Option<Vec<u8>> {
            self.memory.iter().find_map(|(start, bytes)| {
                let bytes = bytes.get(usize::try_from(address.checked_sub(*start)?).ok()?..)?;
                Some(bytes[..bytes.iter().position(|byte| *byte == 0)?].to_vec())
            })
        }

        fn directory(&self, descriptor: i32) -> Option<String> {
            (descriptor == WORKING_DIRECTORY).then(|| "/home".to_owned())
        }

        fn exists(&self, _directory: i32, path: &[u8]) -> bool {
            self.files.iter().any(|file| file.as_bytes() == path)
        }

        fn connection_descriptors(&self) -> BTreeSet<i32> {
            self.descriptors.clone()
        }

        fn file_of(&self, descriptor: Option<i32>) -> Option<(PathBuf, FileVersion)> {
            let name = descriptor.map_or("program".to_owned(), |number| number.to_string());
            Some((format!("/file/{name}").into(), FileVersion::default()))
        }

        fn rights_of_program(&self) -> Option<String> {
            self.rights.clone()
        }

        fn program_name(&self) -> String {
            "fake".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_another_architecture_have_no_name() {
        let read = Sysno::read as u64;
        let call = |architecture, number| TracedCall { architecture, number, arguments: [7; 6] };
        let native = NATIVE.expect("tests run on x86-64 and aarch64");
        let named = NamedCall::of(&call(native, read)).expect("native");
        assert_eq!((named.name, named.descriptor(0)), ("read", 7));
        assert_eq!(NamedCall::of(&call(native, 99_999)).map(|call| call.name), Some(""));
        assert_eq!(NamedCall::of(&call(0x4000_0003, read)), None);
        assert_eq!(NamedCall::of(&call(native, read | X32)), None);
        let minus = NamedCall { name: "read", arguments: [0xffff_ff9c, 0, 0, 0, 0, 0] };
        assert_eq!(minus.descriptor(0), -100);
    }
}
