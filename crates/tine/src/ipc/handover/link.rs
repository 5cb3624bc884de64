//! The link between the first processes of two generations of a server: the messages of a
//! hand-over, and later the signals that one passes on to the other.
//!
//! Each message is a JSON object with the key `message`. A receiver ignores keys that it does not
//! know, so a later version can add some; what is changed otherwise gets another [`VERSION`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::ipc::text_channel::{MAX_DESCRIPTORS, TextChannel};

/// The version of the hand-over. A new generation of another version is refused.
pub(crate) const VERSION: u64 = 1;

/// A descriptor that is handed over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// What it is: `socket`, `lineage` or `link`.
    pub(crate) kind: String,
    /// Which: the address of a socket, the name of a service.
    pub(crate) name: String,
    /// What the receiver has to know of it.
    pub(crate) about: Value,
}

/// What the old generation tells the new one about the hand-over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The same binary is to read the configuration again.
    pub(crate) is_reload: bool,
    /// What identifies the text of the configuration in force, for a reload.
    pub(crate) configuration: Option<u64>,
    /// The old process stays until the new one ends, and passes signals on: a process that
    /// started it waits for its end.
    pub(crate) is_anchor: bool,
}

/// A message of the link.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LinkMessage {
    /// From the new generation, first: the version of the hand-over that it speaks, and its own.
    Hello { version: u64, build: String },
    /// From the old one: what the hand-over is about. Items follow.
    Offer(Offer),
    /// From the old one, with as many descriptors as items.
    Items(Vec<Item>),
    /// From the old one: that was the last item.
    Complete,
    /// From the new one, which ends: why it cannot take over, and the exit code of the reason.
    Failed { code: u8, text: String },
    /// From the new one, which ends: a reload would change nothing.
    Unchanged,
    /// From the new one: each of its processes can serve, and it has served a connection.
    Built,
    /// From the old one: take over.
    Go,
    /// From the new one: it accepts clients.
    Accepting,
    /// Either way, later: act as if this signal had been sent to you.
    Signal(i32),
    /// From the new one to an anchor: it ends, with this exit code.
    Exit(u8),
    /// From a generation to all before it: the id of the process that serves now.
    Main(i32),
    /// From the old one: it has no connection any more.
    Finished,
    /// To the supervisor of a service, from its master: with a lineage to the next generation.
    Successor,
    /// To the supervisor of a service, from its master: the next generation serves.
    Commit,
    /// To the supervisor of a service, from its master: there is no next generation.
    Cancel,
    /// From the supervisor of a service, to its master: an operator of the fleet drains it.
    Drain,
}

impl LinkMessage {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            LinkMessage::Hello { version, build } => {
                json!({ "message": "hello", "version": version, "build": build })
            }
            LinkMessage::Offer(Offer { is_reload, configuration, is_anchor }) => json!({
                "message": "offer", "reload": is_reload, "configuration": configuration,
                "anchor": is_anchor,
            }),
            LinkMessage::Items(items) => {
                let items = items
                    .iter()
                    .map(|Item { kind, name, about }| json!({ "kind": kind, "name": name, "about": about }));
                json!({ "message": "items", "items": items.collect::<Vec<Value>>() })
            }
            LinkMessage::Failed { code, text } => {
                json!({ "message": "failed", "code": code, "text": text })
            }
            LinkMessage::Signal(number) => json!({ "message": "signal", "number": number }),
            LinkMessage::Exit(code) => json!({ "message": "exit", "code": code }),
            LinkMessage::Main(pid) => json!({ "message": "main", "pid": pid }),
            LinkMessage::Finished => json!({ "message": "finished" }),
            LinkMessage::Complete => json!({ "message": "complete" }),
            LinkMessage::Unchanged => json!({ "message": "unchanged" }),
            LinkMessage::Built => json!({ "message": "built" }),
            LinkMessage::Go => json!({ "message": "go" }),
            LinkMessage::Accepting => json!({ "message": "accepting" }),
            LinkMessage::Successor => json!({ "message": "successor" }),
            LinkMessage::Commit => json!({ "message": "commit" }),
            LinkMessage::Cancel => json!({ "message": "cancel" }),
            LinkMessage::Drain => json!({ "message": "drain" }),
        }
    }

    /// The message in a text; `None` if it is none that this version knows.
    pub(crate) fn parse(text: &[u8]) -> Option<LinkMessage> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let text_of = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        let byte = |key: &str| number(key).and_then(|number| u8::try_from(number).ok());
        let int = |key: &str| i32::try_from(value.get(key)?.as_i64()?).ok();
        let is = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(match value.get("message")?.as_str()? {
            "hello" => LinkMessage::Hello { version: number("version")?, build: text_of("build")? },
            "offer" => LinkMessage::Offer(Offer {
                is_reload: is("reload"),
                configuration: number("configuration"),
                is_anchor: is("anchor"),
            }),
            "items" => {
                let items = value.get("items")?.as_array()?;
                let item = |item: &Value| {
                    let text_of = |key: &str| Some(item.get(key)?.as_str()?.to_owned());
                    let about = item.get("about").cloned().unwrap_or(Value::Null);
                    Some(Item { kind: text_of("kind")?, name: text_of("name")?, about })
                };
                LinkMessage::Items(items.iter().map(item).collect::<Option<_>>()?)
            }
            "failed" => LinkMessage::Failed { code: byte("code")?, text: text_of("text")? },
            "signal" => LinkMessage::Signal(int("number")?),
            "main" => LinkMessage::Main(int("pid")?),
            "finished" => LinkMessage::Finished,
            "exit" => LinkMessage::Exit(byte("code")?),
            "complete" => LinkMessage::Complete,
            "unchanged" => LinkMessage::Unchanged,
            "built" => LinkMessage::Built,
            "go" => LinkMessage::Go,
            "accepting" => LinkMessage::Accepting,
            "successor" => LinkMessage::Successor,
            "commit" => LinkMessage::Commit,
            "cancel" => LinkMessage::Cancel,
            "drain" => LinkMessage::Drain,
            _ => return None,
        })
    }
}

/// What was received from a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Message(LinkMessage, Vec<OwnedFd>),
    /// The process at the other end has sent what is no message of this version.
    Unknown,
    /// The process at the other end has closed the link, or ended.
    Ended,
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link(TextChannel);

impl Link {
    /// Makes a link.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn pair() -> Result<(Link, Link), Errno> {
        TextChannel::pair().map(|(one, other)| (Link(one), Link(other)))
    }

    /// Sends a message without descriptors.
    ///
    /// # Errors
    /// As [`TextChannel::send`].
    pub(crate) fn send(&self, message: &LinkMessage) -> Result<(), Errno> {
        self.0.send(&message.to_json().to_string(), &[])
    }

    /// Sends a message with a descriptor.
    ///
    /// # Errors
    /// As [`TextChannel::send`].
    pub(crate) fn send_with(&self, message: &LinkMessage, descriptor: BorrowedFd) -> Result<(), Errno> {
        self.0.send(&message.to_json().to_string(), &[descriptor])
    }

    /// Sends items, in as many messages as they need.
    ///
    /// # Errors
    /// As [`TextChannel::send`].
    pub(crate) fn send_items(&self, items: &[(Item, BorrowedFd)]) -> Result<(), Errno> {
        for some in items.chunks(MAX_DESCRIPTORS) {
            let descriptors: Vec<BorrowedFd> = some.iter().map(|(_, descriptor)| *descriptor).collect();
            let items = some.iter().map(|(item, _)| item.clone()).collect();
            self.0.send(&LinkMessage::Items(items).to_json().to_string(), &descriptors)?;
        }
        Ok(())
    }

    /// Receives a message, if there is one.
    pub(crate) fn receive(&self) -> Option<LinkEvent> {
        Some(match self.0.receive() {
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => LinkEvent::Unknown,
            Ok(None) => LinkEvent::Ended,
            Ok(Some(received)) => match LinkMessage::parse(&received.text) {
                Some(message) => LinkEvent::Message(message, received.descriptors),
                None => LinkEvent::Unknown,
            },
        })
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Link {
    fn from(socket: OwnedFd) -> Link {
        Link(socket.into())
    }
}

impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<LinkMessage> {
        let item = Item { kind: "socket".into(), name: "unix:/a b".into(), about: json!({ "dual": true }) };
        vec![
            LinkMessage::Hello { version: VERSION, build: "1.2.3".into() },
            LinkMessage::Offer(Offer { is_reload: true, configuration: Some(u64::MAX), is_anchor: true }),
            LinkMessage::Offer(Offer::default()),
            LinkMessage::Items(vec![item.clone(), Item { about: Value::Null, ..item }]),
            LinkMessage::Complete,
            LinkMessage::Failed { code: 100, text: "tine.toml:3: wrong\n".into() },
            LinkMessage::Unchanged,
            LinkMessage::Built,
            LinkMessage::Go,
            LinkMessage::Accepting,
            LinkMessage::Signal(15),
            LinkMessage::Exit(111),
            LinkMessage::Main(4711),
            LinkMessage::Finished,
            LinkMessage::Successor,
            LinkMessage::Commit,
            LinkMessage::Cancel,
            LinkMessage::Drain,
        ]
    }

    #[test]
    fn messages_arrive() {
        let (one, other) = Link::pair().expect("a link");
        for message in messages() {
            one.send(&message).expect("sent");
            let received = other.receive();
            assert!(
                matches!(&received, Some(LinkEvent::Message(found, _)) if *found == message),
                "{received:?}"
            );
        }
        assert!(other.receive().is_none());
        drop(one);
        assert!(matches!(other.receive(), Some(LinkEvent::Ended)));
    }

    #[test]
    fn many_items_take_several_messages() {
        let (one, other) = Link::pair().expect("a link");
        let item = |number: usize| Item { kind: "x".into(), name: number.to_string(), about: Value::Null };
        let items: Vec<_> = (0..250).map(|number| (item(number), one.as_fd())).collect();
        one.send_items(&items).expect("sent");
        let mut names = Vec::new();
        while let Some(LinkEvent::Message(LinkMessage::Items(items), descriptors)) = other.receive() {
            assert_eq!(items.len(), descriptors.len());
            names.extend(items.into_iter().map(|item| item.name));
        }
        assert_eq!(names, (0..250).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_message_is_unknown() {
        let (one, other) = TextChannel::pair().expect("a channel");
        let link = Link(other);
        for text in ["x", "{}", "[]", r#"{"message":"later"}"#, r#"{"message":"exit","code":256}"#] {
            one.send(text, &[]).expect("sent");
            assert!(matches!(link.receive(), Some(LinkEvent::Unknown)), "{text}");
        }
    }
}
