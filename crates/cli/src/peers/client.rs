//! What preparations of clients have in common: last texts, and lines of the log.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tine::Incoming;

/// The socket of a client, as a stream.
fn stream(incoming: &Incoming) -> io::Result<TcpStream> {
    incoming.as_fd().try_clone_to_owned().map(TcpStream::from)
}

/// Sends a last text and the end of the stream. Waits a second at most for the client to end, since
/// bytes that it has sent and nobody has read would cut the text off (RFC 2525, 2.17).
pub(super) fn dismiss(incoming: &Incoming, text: &[u8]) {
    const LONGEST: Duration = Duration::from_secs(1);
    let end = Instant::now() + LONGEST;
    // If the client has gone, nothing is lost.
    let Ok(mut stream) = stream(incoming) else { return };
    let sent = stream.write_all(text).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut buffer = [0; 4096];
    while sent.is_ok() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        if !matches!(stream.read(&mut buffer), Ok(1..)) {
            return;
        }
    }
}

/// Writes a line in one piece, so that lines of several processes do not mix.
pub(super) fn write_line(mut to: impl Write, line: &str) {
    // A closed log does not stop the service.
    let _ = to.write_all(format!("{line}\n").as_bytes()).and_then(|()| to.flush());
}

/// Text for a log line, which other programs parse: at most a hundred characters, none of them
/// special.
pub(super) fn shown(text: &[u8]) -> String {
    const LONGEST: usize = 100;
    let is_plain = |byte: u8| (33..=126).contains(&byte) && byte != b'%' && byte != b':';
    let start = text.iter().take(LONGEST).map(|byte| if is_plain(*byte) { *byte as char } else { '?' });
    let more = if text.len() > LONGEST { "..." } else { "" };
    start.chain(more.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_text_has_no_special_characters() {
        assert_eq!(shown(b"joe"), "joe");
        assert_eq!(shown(b"a b:c%d\n\xff"), "a?b?c?d??");
        let long = shown(&[b'x'; 200]);
        assert_eq!((long.len(), &long[98..]), (103, "xx..."));
    }
}
