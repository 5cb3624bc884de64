//! Formats that the administrator has registered with the kernel (binfmt_misc): files that are
//! neither ELF nor scripts and execute all the same.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where the kernel shows them.
const FOLDER: &str = "/proc/sys/fs/binfmt_misc";

/// Whether an enabled format takes a file, by its name or its first bytes.
pub(super) fn takes(path: &Path, first: &[u8]) -> bool {
    let is_on = std::fs::read_to_string(format!("{FOLDER}/status")).is_ok_and(|it| it.trim() == "enabled");
    let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    is_on
        && entries
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .any(|entry| matches(&entry, path, first))
}

/// Whether a format, as the kernel shows it, is enabled and takes a file.
fn matches(entry: &str, path: &Path, first: &[u8]) -> bool {
    let mut lines = entry.lines();
    if lines.next() != Some("enabled") {
        return false;
    }
    let value = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    if let Some(extension) = value("extension") {
        let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        return name.ends_with(extension.as_bytes());
    }
    let offset = value("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
    let Some(magic) = value("magic").and_then(bytes) else { return false };
    let mask = value("mask").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    let found = first.get(offset..).and_then(|rest| rest.get(..magic.len()));
    found.is_some_and(|found| found.iter().zip(&magic).zip(&mask).all(|((a, b), mask)| (a ^ b) & mask == 0))
}

/// The bytes of a hexadecimal number.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_match_by_extension_or_by_magic() {
        let jar = "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n";
        let wine = "enabled\ninterpreter /usr/bin/wine\nflags: \noffset 0\nmagic 4d5a\n";
        let masked = "enabled\ninterpreter /x\nflags: OCF\noffset 2\nmagic 0f00\nmask ff00\n";
        for (entry, name, first, taken) in [
            (jar, "/a/b.jar", &b"PK"[..], true),
            (jar, "/a/b.war", b"PK", false),
            (wine, "/a/b", b"MZ\x90", true),
            (wine, "/a/b", b"M", false),
            (masked, "/a/b", b"xx\x0f\x77", true),
            (masked, "/a/b", b"xx\x0e\x77", false),
            (&wine.replace("enabled", "disabled"), "/a/b", b"MZ", false),
            ("", "/a/b", b"MZ", false),
        ] {
            assert_eq!(matches(entry, Path::new(name), first), taken, "{entry}{name}");
        }
        assert!(!takes(Path::new("/x"), b"exit 0\n"));
    }
}
