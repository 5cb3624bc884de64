//! The lineage between the supervisors of one service in two generations.
//!
//! The newer one takes the state, while the older one accepts no client. Later the older one tells
//! which of its connections have begun and ended, so that those count in the newer one.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::ipc::text_channel::{MAX_DESCRIPTORS, TextChannel};

/// Bytes of a state, at most: a state of 100,000 connections has a quarter of it.
const MAX_STATE: u64 = 128 * 1024 * 1024;

/// Connections of a message about ends, at most: a record has less than 1000 bytes, apart from what
/// a handler says of its failure, of which 200 bytes are kept.
pub(crate) const MAX_ENDS: usize = 100;

/// A message of the lineage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LineageMessage {
    /// From the newer supervisor: stop accepting, and send the state.
    Take,
    /// From the older one, before its state: lineages to generations before it, as descriptors.
    Older,
    /// From the older one: its state, in a file in memory.
    State,
    /// From the older one: it cannot stop accepting, for this reason.
    Refused(String),
    /// From the older one: these connections have ended (`OlderEnd`).
    Ended(Vec<Value>),
    /// From the older one: this connection has begun, of a client that it had accepted before.
    Began(Value),
    /// From the newer one: end this connection, for an operator.
    Kill(u64),
    /// From the newer one: its service stops, and the connections have their time to finish.
    Drain,
}

impl LineageMessage {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            LineageMessage::Take => json!({ "message": "take" }),
            LineageMessage::Older => json!({ "message": "older" }),
            LineageMessage::State => json!({ "message": "state" }),
            LineageMessage::Refused(why) => json!({ "message": "refused", "why": why }),
            LineageMessage::Ended(ends) => json!({ "message": "ended", "ends": ends }),
            LineageMessage::Began(connection) => json!({ "message": "began", "connection": connection }),
            LineageMessage::Kill(id) => json!({ "message": "kill", "id": id }),
            LineageMessage::Drain => json!({ "message": "drain" }),
        }
    }

    /// The message in a text; `None` if it is none that this version knows.
    pub(crate) fn parse(text: &[u8]) -> Option<LineageMessage> {
        let value: Value = serde_json::from_slice(text).ok()?;
        Some(match value.get("message")?.as_str()? {
            "take" => LineageMessage::Take,
            "older" => LineageMessage::Older,
            "state" => LineageMessage::State,
            "refused" => LineageMessage::Refused(value.get("why")?.as_str()?.to_owned()),
            "ended" => LineageMessage::Ended(value.get("ends")?.as_array()?.clone()),
            "began" => LineageMessage::Began(value.get("connection")?.clone()),
            "kill" => LineageMessage::Kill(value.get("id")?.as_u64()?),
            "drain" => LineageMessage::Drain,
            _ => return None,
        })
    }
}

/// What was received from a lineage.
#[derive(Debug)]
pub(crate) enum LineageEvent {
    Message(LineageMessage, Vec<OwnedFd>),
    /// The supervisor at the other end has ended, or speaks another language.
    Ended,
}

/// One end of a lineage.
#[derive(Debug)]
pub(crate) struct Lineage(TextChannel);

impl Lineage {
    /// Makes a lineage.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn pair() -> Result<(Lineage, Lineage), Errno> {
        TextChannel::pair().map(|(one, other)| (Lineage(one), Lineage(other)))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`TextChannel::send`].
    pub(crate) fn send(&self, message: &LineageMessage) -> Result<(), Errno> {
        self.0.send(&message.to_json().to_string(), &[])
    }

    /// Sends the state, and the lineages to older generations.
    ///
    /// # Errors
    /// As [`TextChannel::send`]; or there is no memory for a file.
    pub(crate) fn send_state(&self, state: &str, older: &[&Lineage]) -> Result<(), Errno> {
        let failed = |why: std::io::Error| Errno::from_io_error(&why).unwrap_or(Errno::IO);
        let mut file = std::fs::File::from(tine_sys::memory::file(c"tine-state").map_err(failed)?);
        file.write_all(state.as_bytes()).map_err(failed)?;
        for some in older.chunks(MAX_DESCRIPTORS) {
            let descriptors: Vec<BorrowedFd> = some.iter().map(|lineage| lineage.as_fd()).collect();
            self.0.send(&LineageMessage::Older.to_json().to_string(), &descriptors)?;
        }
        self.0.send(&LineageMessage::State.to_json().to_string(), &[file.as_fd()])
    }

    /// Receives a message, if there is one.
    pub(crate) fn receive(&self) -> Option<LineageEvent> {
        match self.0.receive() {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(Some(received)) => {
                // A message that a later version has added is not for this one.
                let message = LineageMessage::parse(&received.text)?;
                Some(LineageEvent::Message(message, received.descriptors))
            }
            Ok(None) | Err(_) => Some(LineageEvent::Ended),
        }
    }
}

/// Reads a state that was sent.
///
/// # Errors
/// It is too large, or cannot be read.
pub(crate) fn read_state(file: OwnedFd) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::from(file);
    if file.metadata()?.len() > MAX_STATE {
        return Err(Errno::FBIG.into());
    }
    // The position is the writer's.
    file.rewind()?;
    let mut state = Vec::new();
    file.take(MAX_STATE).read_to_end(&mut state)?;
    Ok(state)
}

impl AsFd for Lineage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Lineage {
    fn from(socket: OwnedFd) -> Lineage {
        Lineage(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive() {
        let (older, newer) = Lineage::pair().expect("a lineage");
        for message in [
            LineageMessage::Take,
            LineageMessage::Refused("a forker is stopped".into()),
            LineageMessage::Ended((0..MAX_ENDS as u64).map(|id| json!({ "id": u64::MAX - id })).collect()),
            LineageMessage::Began(json!({ "id": 7 })),
            LineageMessage::Kill(9),
            LineageMessage::Drain,
        ] {
            older.send(&message).expect("sent");
            let received = newer.receive();
            assert!(
                matches!(&received, Some(LineageEvent::Message(found, _)) if *found == message),
                "{received:?}"
            );
        }
        assert!(newer.receive().is_none());
        drop(older);
        assert!(matches!(newer.receive(), Some(LineageEvent::Ended)));
    }

    #[test]
    fn a_state_arrives_with_the_older_lineages() {
        let (older, newer) = Lineage::pair().expect("a lineage");
        let (_oldest, passed) = Lineage::pair().expect("a lineage");
        let state = "x".repeat(3_000_000);
        // More than one message can carry.
        older.send_state(&state, &[&passed; MAX_DESCRIPTORS + 1]).expect("sent");
        let mut passed = Vec::new();
        let file = loop {
            match newer.receive() {
                Some(LineageEvent::Message(LineageMessage::Older, descriptors)) => {
                    passed.push(descriptors.len())
                }
                Some(LineageEvent::Message(LineageMessage::State, mut descriptors)) => {
                    break descriptors.pop();
                }
                other => panic!("no state: {other:?}"),
            }
        };
        assert_eq!(read_state(file.expect("a file")).expect("readable"), state.as_bytes());
        assert_eq!(passed, [MAX_DESCRIPTORS, 1]);
    }
}
