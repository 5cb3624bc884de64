//! What nodes of a fleet say, and what operators ask and order: JSON. What comes from the bus is
//! text of others: it is bounded here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tine::cli::Prefix;

use super::records::WrittenState;
use crate::names::Name;

/// Version of the messages. Nodes of different versions do not hear each other.
const VERSION: u32 = 1;

/// Sources of a message, and its bytes, at most.
pub(super) const MOST: usize = 1_000;
pub(super) const LONGEST: usize = 64 * 1024;

/// Bytes of the longest source in a message, with its numbers.
pub(super) const SOURCE: usize = 80;

/// The longest penalty, in milliseconds.
pub(super) const LONGEST_PENALTY: u64 = 86_400_000;

/// A source, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Source(pub(super) Prefix);

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Source, String> {
        text.parse().map(Source).map_err(|_| "no source".to_owned())
    }
}

impl From<Source> for String {
    fn from(Source(source): Source) -> String {
        source.to_string()
    }
}

/// A part of all sources, in the order of [`Prefix`]: those after one, up to one. `None` is an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) after: Option<Source>,
    pub(super) to: Option<Source>,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeMessage {
    /// The version.
    v: u32,
    pub(super) node: Name,
    /// Of each start of a node, another one.
    pub(super) incarnation: Name,
    /// Grows with each message.
    pub(super) seq: u64,
    /// If there is one, `used` has all sources of it that have connections there.
    #[serde(default)]
    pub(super) whole: Option<Span>,
    /// Sources, their connections now, and those admitted since the last message about them.
    #[serde(default)]
    pub(super) used: Vec<(Source, u32, u32)>,
    /// Bans that were given or lifted there a moment ago, with the times of the orders: the bucket
    /// has them, too, or will.
    #[serde(default)]
    pub(super) bans: Vec<(Source, WrittenState, u64)>,
    /// Sources, and for how many milliseconds they have a penalty.
    #[serde(default)]
    pub(super) penalties: Vec<(Source, u64)>,
    /// It has just come to the bus, also again: what was said before, it has not heard.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) anew: bool,
    /// It leaves.
    #[serde(default)]
    pub(super) bye: bool,
}

impl NodeMessage {
    /// A message without content: a sign of life.
    pub(super) fn new(node: Name, incarnation: Name, seq: u64) -> NodeMessage {
        NodeMessage {
            v: VERSION,
            node,
            incarnation,
            seq,
            whole: None,
            used: Vec::new(),
            bans: Vec::new(),
            penalties: Vec::new(),
            anew: false,
            bye: false,
        }
    }

    /// Reads what has come for a node. `None` if it is none, or of another node.
    pub(super) fn read(text: &[u8], node: &Name) -> Option<NodeMessage> {
        if text.len() > LONGEST {
            return None;
        }
        let mut message: NodeMessage = serde_json::from_slice(text).ok()?;
        let is_fit = message.v == VERSION
            && message.node == *node
            && message.used.len() + message.bans.len() + message.penalties.len() <= MOST
            && message.whole.is_none_or(|span| match (span.after, span.to) {
                (Some(after), Some(to)) => after < to,
                _ => true,
            });
        for (_, time) in &mut message.penalties {
            *time = (*time).min(LONGEST_PENALTY);
        }
        is_fit.then_some(message)
    }
}

/// What an operator asks nodes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// What `tine status` shows.
    Status,
    /// What `tine list` shows.
    List,
}

/// A question of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) ask: Question,
}

/// The answer of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The node.
    pub node: Name,
    /// Lines of the reply of its server.
    #[serde(default)]
    pub answer: Vec<Value>,
    /// How many lines are left out.
    #[serde(default)]
    pub left_off: u64,
    /// Why there is no reply.
    #[serde(default)]
    pub error: Option<String>,
    /// Nodes that it hears, itself included.
    #[serde(default)]
    pub nodes: u32,
    /// Records of bans and lifts that it knows.
    #[serde(default)]
    pub bans: u64,
    /// Those of them that the bucket does not have yet.
    #[serde(default)]
    pub pending: u64,
    /// Why it does not share bans.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// What an operator orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FleetOrder {
    /// Serves those that it has, and ends.
    Drain,
}

/// An order of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ordering {
    pub(super) order: FleetOrder,
}

/// What comes of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) node: Name,
    /// Why it is not obeyed.
    #[serde(default)]
    pub(super) error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> NodeMessage {
        let source = |text: &str| Source(text.parse().expect(text));
        let mut message = NodeMessage::new(Name::of("a"), Name::of("1f"), 7);
        message.whole = Some(Span { after: None, to: Some(source("192.0.2.9")) });
        message.used = vec![(source("192.0.2.0/24"), 3, 5), (source("2001:db8::/64"), 1, 0)];
        message.penalties = vec![(source("192.0.2.1"), 15_000)];
        message
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let text = crate::messages::write(&message());
        assert_eq!(NodeMessage::read(&text, &Name::of("a")), Some(message()));
        let short = br#"{"v":1,"node":"a","incarnation":"1f","seq":1}"#;
        let expected = NodeMessage::new(Name::of("a"), Name::of("1f"), 1);
        assert_eq!(NodeMessage::read(short, &Name::of("a")), Some(expected));
        assert_eq!(crate::messages::write(&Ask { ask: Question::Status }), br#"{"ask":"status"}"#);
        assert_eq!(crate::messages::write(&Ordering { order: FleetOrder::Drain }), br#"{"order":"drain"}"#);
    }

    #[test]
    fn what_is_none_or_of_another_node_is_not_read() {
        let write = |change: &dyn Fn(&mut NodeMessage)| {
            let mut message = message();
            change(&mut message);
            crate::messages::write(&message)
        };
        let text = write(&|_| ());
        assert_eq!(NodeMessage::read(&text, &Name::of("b")), None);
        let many = write(&|message| message.used = vec![message.used[0]; MOST]);
        assert_eq!(NodeMessage::read(&many, &Name::of("a")), None);
        let backwards = write(&|message| {
            message.whole = message.whole.map(|span| Span { after: span.to, to: span.to });
        });
        assert_eq!(NodeMessage::read(&backwards, &Name::of("a")), None);
        let long = write(&|message| message.penalties[0].1 = u64::MAX);
        let read = NodeMessage::read(&long, &Name::of("a")).expect("a message");
        assert_eq!(read.penalties[0].1, LONGEST_PENALTY);
        let text = String::from_utf8(text).expect("text");
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"node\":\"a\"", "\"node\":\"a.b\""),
            ("192.0.2.0/24", "192.0.2.1/24"),
            ("192.0.2.0/24", "x"),
            ("\"seq\":7", "\"seq\":-7"),
            (",3,5]", ",3]"),
            (",3,5]", ",4294967296,5]"),
            ("{\"v\"", &format!("{{{}\"v\"", " ".repeat(LONGEST))),
        ] {
            assert!(text.contains(from), "{from}");
            assert_eq!(
                NodeMessage::read(text.replace(from, to).as_bytes(), &Name::of("a")),
                None,
                "{to:.40}"
            );
        }
    }

    #[test]
    fn the_longest_source_is_as_long_as_assumed() {
        let source = Source("1111:2222:3333:4444:5555:6666:7777:8888".parse().expect("an address"));
        let text = serde_json::to_string(&(source, u32::MAX, u32::MAX)).expect("text");
        assert!(text.len() < SOURCE, "{text}");
    }
}
