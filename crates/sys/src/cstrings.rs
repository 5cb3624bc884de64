//! Lists of C strings, as execve(2) takes them.

use std::ffi::{CStr, c_char};
use std::fmt;

/// The arguments or the environment of a program. A list is built once; for each connection only
/// its end changes.
#[derive(Clone, Debug, Default)]
pub struct CStrings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// Appends a string, cut at its first zero byte: a program could not read on behind that.
    pub fn push(&mut self, string: impl fmt::Display) {
        use std::io::Write;
        let start = self.bytes.len();
        // A write to memory cannot fail.
        let _ = write!(self.bytes, "{string}");
        self.finish(start);
    }

    /// Appends a string as [`CStrings::push`] does, from bytes that need not be UTF-8.
    pub fn push_bytes(&mut self, string: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(string);
        self.finish(start);
    }

    /// Copies an environment with changes, each `NAME=VALUE` and a zero byte: they replace
    /// variables of the same name. A change without `=` removes the variable.
    #[must_use]
    pub fn with_variables(&self, changes: &[u8]) -> CStrings {
        fn name(variable: &[u8]) -> &[u8] {
            variable.split(|byte| *byte == b'=').next().unwrap_or_default()
        }
        let changes = || changes.split(|byte| *byte == 0).filter(|change| !change.is_empty());
        let mut changed = CStrings::default();
        for variable in self.iter().map(CStr::to_bytes) {
            if !changes().any(|change| name(change) == name(variable)) {
                changed.push_bytes(variable);
            }
        }
        changes().filter(|change| change.contains(&b'=')).for_each(|change| changed.push_bytes(change));
        changed
    }

    /// Cuts the string that was written from `start` on at its first zero byte, and ends it.
    fn finish(&mut self, start: usize) {
        if let Some(zero) = self.bytes[start..].iter().position(|byte| *byte == 0) {
            self.bytes.truncate(start + zero);
        }
        self.bytes.push(0);
        self.starts.push(start);
    }

    /// The number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        let string = |start: &usize| CStr::from_bytes_until_nul(&self.bytes[*start..]).unwrap_or_default();
        self.starts.iter().map(string)
    }

    /// Removes all but the first `length` strings.
    pub fn truncate(&mut self, length: usize) {
        if let Some(start) = self.starts.get(length) {
            self.bytes.truncate(*start);
            self.starts.truncate(length);
        }
    }

    /// The list as execve(2) takes it: pointers to the strings, and a null pointer. Valid until the
    /// next change.
    pub(crate) fn pointers(&mut self) -> *const *const c_char {
        self.pointers.clear();
        let bytes = &self.bytes;
        self.pointers.extend(self.starts.iter().map(|start| bytes[*start..].as_ptr().cast::<c_char>()));
        self.pointers.push(std::ptr::null());
        self.pointers.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &CStrings) -> Vec<String> {
        list.iter().map(|string| string.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn strings_are_terminated_and_truncated() {
        let mut list = CStrings::default();
        list.push("A=1");
        list.push_bytes(b"B=\0hidden");
        assert_eq!(list.len(), 2);
        list.push(format_args!("C={}", 3));
        assert_eq!(texts(&list), ["A=1", "B=", "C=3"]);
        list.truncate(2);
        list.truncate(5);
        list.push("D");
        assert_eq!(texts(&list), ["A=1", "B=", "D"]);
        list.pointers();
        assert_eq!(list.pointers.len(), 4);
        assert!(list.pointers[3].is_null());
    }
}
