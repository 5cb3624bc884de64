//! The journal: its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), and whether standard
//! error is a stream of it (systemd.exec(5), `JOURNAL_STREAM`).

use std::io::Write as _;
use std::os::fd::BorrowedFd;

use super::event::{WrappedEvent, severity};
use super::syslog::FACILITY;
use super::value::FieldValue::{self, Bytes, Decimal, Number, Text};

/// Appends an entry: the line as its message, and a field `TINE_KEY` for each key. The journal's
/// own `_PID` is that of the log writer; `SYSLOG_PID` is the process of the line.
pub(super) fn datagram(event: &WrappedEvent, pid: u32, out: &mut Vec<u8>) {
    field(out, "MESSAGE", event.text.as_bytes());
    let severity = severity(event.event, event.fields);
    // Writing to memory cannot fail.
    let _ = write!(
        out,
        "PRIORITY={severity}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=tine\nSYSLOG_PID={pid}\n"
    );
    field(out, "TINE_EVENT", event.event.as_bytes());
    if let Some(service) = event.service {
        field(out, "TINE_SERVICE", service.as_bytes());
    }
    for (key, value) in event.fields {
        let name = format!("TINE_{}", key.to_ascii_uppercase());
        match value {
            Number(_) | Decimal(_) => field(out, &name, decimal(value).as_bytes()),
            Text(text) => field(out, &name, text.as_bytes()),
            Bytes(bytes) => field(out, &name, bytes),
        }
    }
}

fn decimal(value: &FieldValue) -> String {
    match value {
        Number(number) => number.to_string(),
        Decimal(number) => format!("{number:.6}"),
        Text(_) | Bytes(_) => String::new(),
    }
}

/// Appends a field. A value with a newline has its length in front, as 64 bits, little-endian.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Whether a descriptor is the stream that the service manager has connected to the journal.
pub(super) fn is_stream(descriptor: BorrowedFd) -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stat = rustix::fs::fstat(descriptor).ok();
    stat.is_some_and(|stat| names(&stream, stat.st_dev, stat.st_ino))
}

/// Whether a value of `JOURNAL_STREAM` names this device and inode: decimal numbers, separated by a
/// colon.
fn names(stream: &str, device: u64, inode: u64) -> bool {
    let numbers = stream.split_once(':');
    let numbers = numbers.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    numbers == Some((device, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_device_and_inode() {
        for (stream, is_it) in [
            ("8:4711", true),
            ("9:4711", false),
            ("8:4712", false),
            ("8", false),
            ("", false),
            ("8:4711:1", false),
            ("0x8:4711", false),
        ] {
            assert_eq!(names(stream, 8, 4711), is_it, "{stream}");
        }
    }
}
