//! The built-in services: handlers like any other, each in the process of its connection.

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tine::{Connection, HandlerError};

type Handled = Result<(), HandlerError>;

/// Bytes read at a time.
const BUFFER: usize = 64 * 1024;

/// What is being echoed. Static memory costs a process only the pages that messages fill; on the
/// stack, all of it would be cleared first, for each connection.
static ECHOED: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);

/// RFC 862: sends back what comes.
pub fn echo(mut connection: Connection) -> Handled {
    let mut buffer = ECHOED.lock().unwrap_or_else(PoisonError::into_inner);
    // A failure ends the connection, and the log says which; there is nobody else to be told.
    while let Ok(received @ 1..) = connection.read(&mut buffer[..]) {
        if connection.write_all(&buffer[..received]).is_err() {
            break;
        }
    }
    Ok(())
}

/// RFC 863: throws away what comes.
pub fn discard(connection: Connection) -> Handled {
    while connection.discard(BUFFER)? > 0 {}
    Ok(())
}

/// RFC 864: sends lines of 72 of the 95 printable characters, each line beginning one further, until
/// the client has gone. What comes is never read.
pub fn chargen(mut connection: Connection) -> Handled {
    let lines = chargen_lines();
    loop {
        connection.write_all(&lines)?;
    }
}

/// One whole turn of the pattern.
fn chargen_lines() -> Vec<u8> {
    let printable: Vec<u8> = (b' '..=b'~').collect();
    let line = |first: usize| printable.iter().cycle().skip(first).take(72).copied().chain(*b"\r\n");
    (0..printable.len()).flat_map(line).collect()
}

/// RFC 867: sends the date and time, in UTC, and ends.
pub fn daytime(mut connection: Connection) -> Handled {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    Ok(connection.write_all(format!("{now}\r\n").as_bytes())?)
}

/// RFC 868: sends the seconds since 1900-01-01 00:00 UTC as 32 bits, the highest byte first, and ends.
pub fn time(mut connection: Connection) -> Handled {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(connection.write_all(&since_1900(since_1970).to_be_bytes())?)
}

/// The number wraps in 2036, as the RFC has it.
fn since_1900(since_1970: u64) -> u32 {
    since_1970.wrapping_add(2_208_988_800) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chargen_goes_round() {
        let lines = chargen_lines();
        assert_eq!(lines.len(), 95 * 74);
        assert!(lines.starts_with(b" !\"#$%&'()"));
        assert_eq!(&lines[74..77], b"!\"#");
        assert_eq!(&lines[94 * 74..94 * 74 + 4], b"~ !\"");
        assert!(lines.chunks(74).all(|line| line.ends_with(b"\r\n")));
    }

    #[test]
    fn the_time_of_the_rfc() {
        // The examples of RFC 868.
        for (since_1970, value) in [(0, 2_208_988_800), (252_460_800, 2_461_449_600), (2_085_978_496, 0)] {
            assert_eq!(since_1900(since_1970), value);
        }
    }
}
