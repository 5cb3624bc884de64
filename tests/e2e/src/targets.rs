//! Targets of the log: files, and sockets of a test in the place of syslog's and the journal's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;

use crate::wait::{TEST_TIMEOUT, wait_until};
use crate::{Folder, ServerCommand};

/// In a mount namespace of its own: `/dev/log` and `/run/systemd/journal` lead to the folder of the
/// test, and its `small` is a file system of 64 KiB.
const OWN_MOUNTS: &str = r#"set -e
folder=$1; shift
mount --make-rprivate /
mkdir -p $folder/dev $folder/small
mount --rbind /dev $folder/dev
mount -t tmpfs tmpfs /dev
for name in null zero full random urandom; do
    touch /dev/$name
    mount --bind $folder/dev/$name /dev/$name
done
ln -s $folder/log /dev/log
mount -t tmpfs tmpfs /run
mkdir /run/systemd
ln -s $folder /run/systemd/journal
mount -t tmpfs -o size=64k tmpfs $folder/small
exec "$@""#;

/// A server whose syslog is the socket `log` of a folder, and whose journal is the socket `socket`.
#[must_use]
pub fn with_own_mounts(folder: &Folder, options: &[&str]) -> ServerCommand {
    let folder = folder.0.to_str().expect("a path in UTF-8");
    ServerCommand::wrapped(["unshare", "-m", "sh", "-c", OWN_MOUNTS, "sh", folder], options)
}

/// The events of a file in JSON, in order. A line that is not JSON is an error.
///
/// # Panics
/// If the file cannot be read, or has such a line.
#[must_use]
pub fn events_of_file(path: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a log file");
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no event: {line:?}"));
    whole.lines().map(event).collect()
}

/// Waits until a file has this number of events of one kind, and returns them.
///
/// # Panics
/// As [`events_of_file`], or after [`TEST_TIMEOUT`].
pub fn wait_for_events(path: impl AsRef<Path>, event: &str, number: usize) -> Vec<Value> {
    wait_until(&format!("{number} × {event} in the file"), || {
        let events = if path.as_ref().exists() { events_of_file(&path) } else { Vec::new() };
        let events: Vec<Value> = events.into_iter().filter(|value| value["event"] == event).collect();
        (events.len() >= number).then_some(events)
    })
}

/// A datagram socket in the place of a daemon's, and what it has received so far.
pub struct Daemon {
    socket: UnixDatagram,
    received: RefCell<Vec<Vec<u8>>>,
}

impl Daemon {
    /// Binds the socket.
    ///
    /// # Panics
    /// If the name is taken.
    #[must_use]
    pub fn bind(path: &str) -> Daemon {
        let socket = UnixDatagram::bind(path).expect("a free name");
        socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
        Daemon { socket, received: RefCell::default() }
    }

    /// Takes messages until one satisfies the predicate, and returns all that were taken so far.
    ///
    /// # Panics
    /// If none does within [`TEST_TIMEOUT`].
    pub fn take_until(&self, what: &str, matches: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|why| panic!("no {what}: {why}"));
            let message = buffer[..length].to_vec();
            let is_it = matches(&message);
            let mut received = self.received.borrow_mut();
            received.push(message);
            if is_it {
                return received.clone();
            }
        }
    }
}

/// The fields of an entry of the journal's native protocol
/// (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
///
/// # Panics
/// If it does not follow the protocol.
#[must_use]
pub fn journal_fields(mut datagram: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut fields = HashMap::new();
    while !datagram.is_empty() {
        let end = datagram.iter().position(|byte| *byte == b'\n').expect("a newline after each field");
        let (line, rest) = (&datagram[..end], &datagram[end + 1..]);
        let (name, value, rest) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], rest),
            None => {
                let (length, rest) = rest.split_first_chunk().expect("a length of 64 bits");
                let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
                assert_eq!(rest[length], b'\n', "a newline after the value");
                (line, &rest[..length], &rest[length + 1..])
            }
        };
        let name = String::from_utf8(name.to_vec()).expect("a name");
        let is_valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(is_valid) && name.len() <= 64 && !name.starts_with('_'), "{name}");
        assert!(fields.insert(name, value.to_vec()).is_none(), "each field once");
        datagram = rest;
    }
    fields
}
