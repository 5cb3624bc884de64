//! What surrounds a line on its way to its target: the priority of sd-daemon(3), the header of a
//! syslog message, the fields of the journal.

use super::event::{WrappedEvent, severity};
use super::{journal, syslog};

/// What a target takes around a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// A priority in front (sd-daemon(3)): standard error is a stream of the journal.
    Priority,
    /// A message of RFC 5424, from this host.
    Syslog(String),
    /// A datagram of the journal's native protocol.
    Journal,
}

impl Wrapping {
    /// Appends what the target takes for an event.
    pub(super) fn wrap(&self, event: &WrappedEvent, out: &mut Vec<u8>) {
        match self {
            Wrapping::Priority => {
                let line = format!("<{}>{}\n", severity(event.event, event.fields), event.line);
                out.extend_from_slice(line.as_bytes());
            }
            Wrapping::Syslog(host) => syslog::message(event, host, std::process::id(), out),
            Wrapping::Journal => journal::datagram(event, std::process::id(), out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::log::value::FieldValue;
    use FieldValue::{Bytes, Decimal, Number, Text};

    fn wrapped(wrapping: &Wrapping, service: Option<&str>, fields: &[(&str, FieldValue)]) -> Vec<u8> {
        let line = "2026-01-02T03:04:05.678Z end id=7 outcome=\"exit 0\"";
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_767_323_045_678);
        let event = WrappedEvent { event: "end", line, text: &line[25..], time, service, fields };
        let mut out = Vec::new();
        match wrapping {
            Wrapping::Priority => wrapping.wrap(&event, &mut out),
            Wrapping::Syslog(host) => syslog::message(&event, host, 42, &mut out),
            Wrapping::Journal => journal::datagram(&event, 42, &mut out),
        }
        out
    }

    #[test]
    fn a_priority_is_in_front_of_the_line() {
        let line = wrapped(&Wrapping::Priority, None, &[]);
        assert_eq!(line, b"<6>2026-01-02T03:04:05.678Z end id=7 outcome=\"exit 0\"\n");
    }

    #[test]
    fn a_syslog_message_has_the_header_of_rfc_5424() {
        for (host, shown) in [("host.example", "host.example"), ("", "-"), ("a b\u{e9}", "ab")] {
            let message = wrapped(&Wrapping::Syslog(syslog::host_name(host.as_bytes())), None, &[]);
            let expected =
                format!("<30>1 2026-01-02T03:04:05.678Z {shown} tine 42 end - end id=7 outcome=\"exit 0\"");
            assert_eq!(String::from_utf8(message).expect("UTF-8"), expected);
        }
    }

    #[test]
    fn the_journal_gets_a_field_for_each_key() {
        let fields = [
            ("id", Number(7)),
            ("outcome", Text("exit 0")),
            ("seconds", Decimal(0.5)),
            ("text", Bytes(b"two\nlines\xff")),
        ];
        let datagram = wrapped(&Wrapping::Journal, Some("web"), &fields);
        let expected = [
            &b"MESSAGE=end id=7 outcome=\"exit 0\"\nPRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=tine\n"
                [..],
            b"SYSLOG_PID=42\nTINE_EVENT=end\nTINE_SERVICE=web\nTINE_ID=7\nTINE_OUTCOME=exit 0\n",
            b"TINE_SECONDS=0.500000\nTINE_TEXT\n\x0a\0\0\0\0\0\0\0two\nlines\xff\n",
        ]
        .concat();
        assert_eq!(String::from_utf8_lossy(&datagram), String::from_utf8_lossy(&expected));
    }
}
