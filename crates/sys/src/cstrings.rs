//! Lists of C strings for execve(2).

use std::ffi::{CStr, c_char};
use std::fmt;

/// Words for another program: its arguments, or its environment. Made once and changed at its end for
/// each connection.
#[derive(Clone, Debug, Default)]
pub struct CStrings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// Adds a word. One that holds a zero byte, which no program could see whole, ends there.
    pub fn push(&mut self, word: impl fmt::Display) {
        use std::io::Write;
        let start = self.bytes.len();
        // Writing to memory cannot fail.
        let _ = write!(self.bytes, "{word}");
        self.finish(start);
    }

    /// The same, of bytes as they are.
    pub fn push_bytes(&mut self, word: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(word);
        self.finish(start);
    }

    /// The same words as an environment, with these variables, `NAME=VALUE` and a zero byte each, in place of those of the
    /// same name. A name without `=` is taken away.
    #[must_use]
    pub fn with_variables(&self, variables: &[u8]) -> CStrings {
        fn name(variable: &[u8]) -> &[u8] {
            variable.split(|byte| *byte == b'=').next().unwrap_or_default()
        }
        let set = || variables.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
        let mut words = CStrings::default();
        for word in self.iter().map(CStr::to_bytes) {
            if !set().any(|variable| name(variable) == name(word)) {
                words.push_bytes(word);
            }
        }
        set().filter(|variable| variable.contains(&b'=')).for_each(|variable| words.push_bytes(variable));
        words
    }

    fn finish(&mut self, start: usize) {
        if let Some(zero) = self.bytes[start..].iter().position(|byte| *byte == 0) {
            self.bytes.truncate(start + zero);
        }
        self.bytes.push(0);
        self.starts.push(start);
    }

    /// How many words there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The words.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        let word = |start: &usize| CStr::from_bytes_until_nul(&self.bytes[*start..]).unwrap_or_default();
        self.starts.iter().map(word)
    }

    /// Forgets all but the first `length` words.
    pub fn truncate(&mut self, length: usize) {
        if let Some(start) = self.starts.get(length) {
            self.bytes.truncate(*start);
            self.starts.truncate(length);
        }
    }

    /// The words as the kernel wants them: pointers, and a null one at the end.
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

    fn words(words: &CStrings) -> Vec<String> {
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn words_are_kept_terminated_and_cut_back() {
        let mut some = CStrings::default();
        some.push("A=1");
        some.push_bytes(b"B=\0hidden");
        assert_eq!(some.len(), 2);
        some.push(format_args!("C={}", 3));
        assert_eq!(words(&some), ["A=1", "B=", "C=3"]);
        some.truncate(2);
        some.truncate(5);
        some.push("D");
        assert_eq!(words(&some), ["A=1", "B=", "D"]);
        some.pointers();
        assert_eq!(some.pointers.len(), 4);
        assert!(some.pointers[3].is_null());
    }
}
