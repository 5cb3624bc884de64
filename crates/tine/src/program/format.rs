//! What execve(2) executes by the first bytes of a file: an ELF file, or a script and its
//! interpreter. No system call here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The number of bytes that the kernel reads of a file before it decides (`BINPRM_BUF_SIZE`,
/// linux/binfmts.h).
pub(super) const FIRST_BYTES: usize = 256;

/// The type of the ELF program header that names the dynamic loader (`PT_INTERP`, elf(5)).
const LOADER: u64 = 3;

/// The format of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    Elf,
    /// A script, and the path of its interpreter.
    Script(PathBuf),
    /// A script whose first line the kernel does not take: why.
    BadScript(&'static str),
    Unknown,
}

/// The format of a file with these first bytes, at most [`FIRST_BYTES`]. Follows `load_script` of
/// the kernel (fs/binfmt_script.c): only spaces and tabs separate the interpreter from its
/// argument, and a carriage return is part of its name.
pub(super) fn format(first: &[u8]) -> FileFormat {
    if first.starts_with(b"\x7fELF") {
        return FileFormat::Elf;
    }
    let Some(line) = first.strip_prefix(b"#!") else { return FileFormat::Unknown };
    let is_cut = first.len() >= FIRST_BYTES;
    // The kernel sees a shorter file with a zero byte at its end.
    let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
    let line = &line[..end.unwrap_or(line.len())];
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = line.iter().position(|byte| !is_blank(byte)) else {
        return FileFormat::BadScript("its first line, #!, names no interpreter");
    };
    let name = &line[start..];
    match name.iter().position(is_blank) {
        Some(length) => FileFormat::Script(path(&name[..length])),
        None if end.is_none() && is_cut => {
            FileFormat::BadScript("the path of its interpreter ends beyond the first 255 bytes")
        }
        None => FileFormat::Script(path(name)),
    }
}

/// The path of the dynamic loader that an ELF file names, if it is for the same kind of machine as
/// `own`, the first bytes of this program. `read` reads from an offset of the file. `None` if it
/// names none, or is for another machine: then the kernel decides.
pub(super) fn loader(
    first: &[u8],
    own: &[u8],
    read: impl Fn(u64, usize) -> Option<Vec<u8>>,
) -> Option<PathBuf> {
    // Class and byte order; type of machine.
    if first.get(4..6)? != own.get(4..6)? || first.get(18..20)? != own.get(18..20)? {
        return None;
    }
    let is_64 = first[4] == 2;
    let number = |bytes: &[u8], at: usize, length: usize| -> Option<u64> {
        let field = bytes.get(at..at + length)?.iter();
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if first[5] == 1 { field.rev().fold(0, add) } else { field.fold(0, add) })
    };
    let word = if is_64 { 8 } else { 4 };
    let headers = number(first, if is_64 { 32 } else { 28 }, word)?;
    let size = number(first, if is_64 { 54 } else { 42 }, 2)?;
    let count = number(first, if is_64 { 56 } else { 44 }, 2)?;
    for index in 0..count {
        let header = read(headers.checked_add(index * size)?, 56)?;
        if number(&header, 0, 4)? == LOADER {
            let offset = number(&header, if is_64 { 8 } else { 4 }, word)?;
            let length = number(&header, if is_64 { 32 } else { 16 }, word)?;
            let name = read(offset, usize::try_from(length).ok()?.min(4096))?;
            return Some(path(name.split(|byte| *byte == 0).next()?));
        }
    }
    None
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_as_the_kernel_reads_them() {
        let script = |name: &str| FileFormat::Script(name.into());
        let bad = FileFormat::BadScript("its first line, #!, names no interpreter");
        let cut = FileFormat::BadScript("the path of its interpreter ends beyond the first 255 bytes");
        let long = "x".repeat(300);
        for (text, expected) in [
            ("\x7fELF…", FileFormat::Elf),
            ("echo\n", FileFormat::Unknown),
            ("", FileFormat::Unknown),
            ("#", FileFormat::Unknown),
            ("\u{feff}#!/bin/sh\n", FileFormat::Unknown),
            ("#!/bin/sh\n", script("/bin/sh")),
            ("#!/bin/sh", script("/bin/sh")),
            ("#! \t/bin/sh\t-e \n", script("/bin/sh")),
            ("#!/bin/sh\r\necho\r\n", script("/bin/sh\r")),
            ("#!/bin/sh\x0b-e\n", script("/bin/sh\x0b-e")),
            ("#!/bin/sh\0 -e\n", script("/bin/sh")),
            ("#!sh\n", script("sh")),
            ("#!/usr/bin/env -S perl -w\n", script("/usr/bin/env")),
            ("#!\n", FileFormat::BadScript("its first line, #!, names no interpreter")),
            ("#! \t \n/bin/sh\n", FileFormat::BadScript("its first line, #!, names no interpreter")),
            ("#!", bad),
            (&format!("#!/{long}\n"), cut),
            // The argument may be cut.
            (&format!("#!/bin/sh {long}\n"), script("/bin/sh")),
            (&format!("#!/{}\n", &long[..200]), script(&format!("/{}", &long[..200]))),
        ] {
            let bytes = &text.as_bytes()[..text.len().min(FIRST_BYTES)];
            assert_eq!(format(bytes), expected, "{text:?}");
        }
    }

    #[test]
    fn the_loader_of_this_program_is_found() {
        let own = std::fs::read("/proc/self/exe").expect("this program");
        let read = |offset: u64, length: usize| {
            let start = usize::try_from(offset).ok()?;
            Some(own.get(start..(start + length).min(own.len()))?.to_vec())
        };
        let first = &own[..FIRST_BYTES];
        if let Some(loader) = loader(first, first, read) {
            assert!(loader.is_absolute() && loader.exists(), "{loader:?}");
        }
        let mut foreign = own[..FIRST_BYTES].to_vec();
        foreign[18] ^= 0xff;
        assert_eq!(loader(&foreign, first, read), None);
        assert_eq!(loader(&first[..20], first, read), None);
    }
}
