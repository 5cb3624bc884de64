//! Buffered reading: `BufRead`, and lines of a bounded length.

use std::io::{self, BufRead};
use std::sync::PoisonError;

use super::Connection;
use super::input::{FoundLine, Input};

impl Connection {
    /// The number of bytes that were read from the socket and not yet from the connection. While
    /// there are any, a read does not wait, whatever `poll(2)` says about the socket.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let input = self.extras.get().map(|extras| &extras.input);
        input.map_or(0, |input| input.lock().unwrap_or_else(PoisonError::into_inner).unread().len())
    }

    /// Reads the next line, without its end: `\n` or `\r\n`. `None` at the end of the stream; what
    /// the client sent behind the last newline is a line, too.
    ///
    /// At most `most` bytes of a line are accepted, so that a client cannot fill the memory. After
    /// an error, the line is still there: a read that was interrupted by a timeout can go on, and
    /// a line that is too long stays so.
    ///
    /// # Errors
    /// As reading; [`io::ErrorKind::InvalidData`] for a line that is too long or not UTF-8. The
    /// latter is removed.
    pub fn next_line(&mut self, most: usize) -> io::Result<Option<String>> {
        let line = self.next_line_bytes(most)?;
        let text = line.map(String::from_utf8).transpose();
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is not UTF-8"))
    }

    /// The same, for lines that need not be UTF-8.
    ///
    /// # Errors
    /// As reading; [`io::ErrorKind::InvalidData`] for a line that is too long.
    pub fn next_line_bytes(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.input().find_line(most) {
                FoundLine::Whole(length) => return Ok(Some(self.input().take_line(length))),
                FoundLine::TooLong => {
                    let text = format!("a line is longer than {most} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                FoundLine::Partial => {}
            }
            if self.fill()? == 0 {
                let rest = self.input().unread().len();
                return Ok((rest > 0).then(|| self.input().take_line(rest)));
            }
        }
    }

    /// The buffer, without a lock: nobody else has the connection.
    fn input(&mut self) -> &mut Input {
        self.extras();
        match self.extras.get_mut() {
            Some(extras) => extras.input.get_mut().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("they were allocated"),
        }
    }

    /// Appends to the buffer what one read of the socket returns; 0 at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut input = std::mem::take(self.input());
        let received = self.receive_more(input.room());
        *self.input() = input;
        received
    }
}

impl BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.input().unread().is_empty() {
            self.fill()?;
        }
        Ok(self.input().unread())
    }

    fn consume(&mut self, amount: usize) {
        self.input().consume(amount);
    }
}
