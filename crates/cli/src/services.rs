//! The built-in services: a table of handlers, each of which runs in the process of its connection.

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tine::{Connection, HandlerError};

type Handled = Result<(), HandlerError>;

/// A built-in service.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its name, as an option and in a configuration.
    pub name: &'static str,
    /// Its handler.
    pub handler: fn(Connection) -> Handled,
    /// What it does, for `--help`.
    help: &'static str,
}

/// All built-in services; the first is the default.
pub(crate) static TABLE: [BuiltIn; 5] = [
    BuiltIn { name: "echo", handler: echo, help: "Send back the received bytes (RFC 862)" },
    BuiltIn { name: "discard", handler: discard, help: "Discard the received bytes (RFC 863)" },
    BuiltIn { name: "chargen", handler: chargen, help: "Send characters without end (RFC 864)" },
    BuiltIn { name: "daytime", handler: daytime, help: "Send the date and time as text (RFC 867)" },
    BuiltIn { name: "time", handler: time, help: "Send the seconds since 1900 as 32 bits (RFC 868)" },
];

/// The service of this name.
#[must_use]
pub(crate) fn find(name: &str) -> Option<&'static BuiltIn> {
    TABLE.iter().find(|service| service.name == name)
}

/// The parser of an option whose value is the name of a service.
pub(crate) fn parser() -> impl TypedValueParser<Value = &'static BuiltIn> {
    let names = TABLE.iter().map(|service| PossibleValue::new(service.name).help(service.help));
    PossibleValuesParser::new(names).try_map(|name| find(&name).ok_or("there is no such service"))
}

/// Bytes read at a time.
const BUFFER: usize = 64 * 1024;

/// The buffer of `echo`. Static memory costs a process only the pages that messages fill; on the
/// stack, all of it would be cleared first, for each connection.
static ECHOED: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);

/// RFC 862: sends back the received bytes.
pub(crate) fn echo(mut connection: Connection) -> Handled {
    let mut buffer = ECHOED.lock().unwrap_or_else(PoisonError::into_inner);
    // A failure ends the connection, and the log has it.
    while let Ok(received @ 1..) = connection.read(&mut buffer[..]) {
        if connection.write_all(&buffer[..received]).is_err() {
            break;
        }
    }
    Ok(())
}

/// RFC 863: discards the received bytes.
pub(crate) fn discard(connection: Connection) -> Handled {
    while connection.discard(BUFFER)? > 0 {}
    Ok(())
}

/// RFC 864: sends lines of 72 of the 95 printable characters, each line beginning one character
/// later, until the client disconnects. It never reads.
pub(crate) fn chargen(mut connection: Connection) -> Handled {
    let lines = chargen_lines();
    loop {
        connection.write_all(&lines)?;
    }
}

/// The pattern, until it repeats.
fn chargen_lines() -> Vec<u8> {
    let printable: Vec<u8> = (b' '..=b'~').collect();
    let line = |first: usize| printable.iter().cycle().skip(first).take(72).copied().chain(*b"\r\n");
    (0..printable.len()).flat_map(line).collect()
}

/// RFC 867: sends the date and time, in UTC, and ends.
pub(crate) fn daytime(mut connection: Connection) -> Handled {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    Ok(connection.write_all(format!("{now}\r\n").as_bytes())?)
}

/// RFC 868: sends the seconds since 1900-01-01 00:00 UTC as 32 bits, the highest byte first, and
/// ends.
pub(crate) fn time(mut connection: Connection) -> Handled {
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
    fn the_pattern_of_chargen_repeats() {
        let lines = chargen_lines();
        assert_eq!(lines.len(), 95 * 74);
        assert!(lines.starts_with(b" !\"#$%&'()"));
        assert_eq!(&lines[74..77], b"!\"#");
        assert_eq!(&lines[94 * 74..94 * 74 + 4], b"~ !\"");
        assert!(lines.chunks(74).all(|line| line.ends_with(b"\r\n")));
    }

    #[test]
    fn seconds_since_1900_wrap_as_in_the_rfc() {
        // The examples of RFC 868.
        for (since_1970, value) in [(0, 2_208_988_800), (252_460_800, 2_461_449_600), (2_085_978_496, 0)] {
            assert_eq!(since_1900(since_1970), value);
        }
    }
}
