//! Messages for syslog (RFC 5424).

use std::io::Write as _;

use super::event::{WrappedEvent, severity};

/// `daemon` (RFC 5424, 6.2.1).
pub(super) const FACILITY: u8 = 3;

/// Appends a message: the kind of the event is its MSGID. It has no structured data, whose names
/// would take a registered enterprise number; the text has the keys.
pub(super) fn message(event: &WrappedEvent, host: &str, pid: u32, out: &mut Vec<u8>) {
    let priority = FACILITY * 8 + severity(event.event, event.fields);
    let time = humantime::format_rfc3339_millis(event.time);
    let (name, text) = (event.event, event.text);
    // Writing to memory cannot fail.
    let _ = write!(out, "<{priority}>1 {time} {host} tine {pid} {name} - {text}");
}

/// A host name as the header has it: printable ASCII, or `-` for none.
pub(super) fn host_name(name: &[u8]) -> String {
    let printable = name.iter().filter(|byte| byte.is_ascii_graphic()).take(255);
    let host: String = printable.map(|byte| char::from(*byte)).collect();
    if host.is_empty() { "-".into() } else { host }
}

/// The name of this host.
pub(super) fn own_host_name() -> String {
    host_name(rustix::system::uname().nodename().to_bytes())
}
