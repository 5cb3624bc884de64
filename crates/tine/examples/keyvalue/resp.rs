//! What the protocol of Redis (RESP2) looks like.

use std::io::{self, Read};
use std::str::FromStr;

use tine::Connection;

/// Words in a line, or an array of up to 255 words of up to 64 KiB with their lengths.
pub(crate) fn read_request(connection: &mut Connection) -> io::Result<Option<Vec<Vec<u8>>>> {
    let Some(line) = connection.next_line_bytes(64 * 1024)? else { return Ok(None) };
    let Some(number) = line.strip_prefix(b"*") else {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Some(words.map(<[u8]>::to_vec).collect()));
    };
    let words = (0..parse::<u8>(number)?).map(|_| {
        let header = connection.next_line_bytes(32)?.unwrap_or_default();
        let length = parse::<u16>(header.strip_prefix(b"$").unwrap_or_default())?.into();
        let mut word = vec![0; length + 2];
        connection.read_exact(&mut word)?;
        word.truncate(length);
        Ok(word)
    });
    words.collect::<io::Result<_>>().map(Some)
}

/// A number in decimal digits.
pub(crate) fn parse<T: FromStr>(digits: &[u8]) -> io::Result<T> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| io::Error::other("not an integer, or out of range"))
}

/// A string with its length, or nil.
pub(crate) fn bulk(text: Option<&[u8]>) -> Vec<u8> {
    text.map_or(b"$-1\r\n".into(), |text| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat())
}
