//! The bytes that were read from the socket and not yet by the handler.

/// Bytes asked for at a time.
const CHUNK: usize = 8 * 1024;

/// A buffer of input, which grows only for a line that is longer than it.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Where the unread bytes begin.
    at: usize,
    /// How many of the unread bytes are known to have no newline.
    searched: usize,
}

/// What a search for a line finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundLine {
    /// A line of so many bytes, its newline included.
    Whole(usize),
    /// Its end is not there yet.
    Partial,
    /// It has more bytes than it may.
    TooLong,
}

impl Input {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.bytes.len());
        self.searched = self.searched.saturating_sub(amount);
        if self.at == self.bytes.len() {
            (self.at, self.searched) = (0, 0);
            self.bytes.clear();
        }
    }

    /// Moves unread bytes to a reader, as many as there is room for.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.copy(buffer);
        self.consume(length);
        length
    }

    /// Copies unread bytes, as many as there is room for.
    pub(super) fn copy(&self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.unread().len());
        buffer[..length].copy_from_slice(&self.unread()[..length]);
        length
    }

    /// The memory to which more input is to be appended. It has spare capacity.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.reserve(CHUNK);
        }
        &mut self.bytes
    }

    /// Looks for the end of the first line, which may have `most` bytes without its end.
    pub(super) fn find_line(&mut self, most: usize) -> FoundLine {
        let unread = &self.bytes[self.at..];
        let newline = unread[self.searched..].iter().position(|byte| *byte == b'\n');
        let length = newline.map_or(unread.len(), |newline| self.searched + newline);
        self.searched = length;
        // A carriage return at the end may belong to the newline.
        let text = unread[..length].strip_suffix(b"\r").unwrap_or(&unread[..length]);
        match newline {
            _ if text.len() > most => FoundLine::TooLong,
            Some(_) => FoundLine::Whole(length + 1),
            None => FoundLine::Partial,
        }
    }

    /// Removes so many bytes, and returns them without the end of a line.
    pub(super) fn take_line(&mut self, length: usize) -> Vec<u8> {
        let line = &self.unread()[..length];
        let text = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let text = text.to_vec();
        self.consume(length);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Input {
        let mut input = Input::default();
        input.room().extend_from_slice(bytes);
        input
    }

    #[test]
    fn lines_end_with_a_newline_and_have_a_limit() {
        for (bytes, most, found) in [
            (&b""[..], 0, FoundLine::Partial),
            (b"\n", 0, FoundLine::Whole(1)),
            (b"\r\n", 0, FoundLine::Whole(2)),
            (b"\r", 0, FoundLine::Partial),
            (b"\rx", 0, FoundLine::TooLong),
            (b"abc\nd", 3, FoundLine::Whole(4)),
            (b"abc\r\nd", 3, FoundLine::Whole(5)),
            (b"abc", 3, FoundLine::Partial),
            (b"abc\r", 3, FoundLine::Partial),
            (b"abc\rd", 4, FoundLine::TooLong),
            (b"abcd", 3, FoundLine::TooLong),
            (b"abcd\n", 3, FoundLine::TooLong),
        ] {
            assert_eq!(input(bytes).find_line(most), found, "{bytes:?}");
        }
    }

    #[test]
    fn a_line_that_comes_in_parts_is_searched_once() {
        let mut input = input(b"one\ntw");
        assert_eq!(input.find_line(9), FoundLine::Whole(4));
        assert_eq!(input.take_line(4), b"one");
        assert_eq!(input.find_line(9), FoundLine::Partial);
        assert_eq!(input.searched, 2);
        input.room().extend_from_slice(b"o\r\nthree");
        assert_eq!(input.find_line(9), FoundLine::Whole(5));
        assert_eq!(input.take_line(5), b"two");
        assert_eq!((input.unread(), input.searched), (&b"three"[..], 0));
        assert_eq!(input.take_line(5), b"three");
        assert!(input.unread().is_empty());
    }

    #[test]
    fn a_full_buffer_grows_by_what_is_unread() {
        let mut input = Input::default();
        let capacity = input.room().capacity();
        input.room().resize(capacity, b'a');
        let mut buffer = vec![0; capacity - 2];
        assert_eq!((input.copy(&mut buffer), input.take(&mut buffer)), (capacity - 2, capacity - 2));
        assert!(input.room().spare_capacity_mut().len() >= CHUNK);
        assert_eq!(input.unread(), b"aa");
        input.consume(3);
        assert_eq!(input.room().len(), 0);
    }
}
