//! Records of bans, as they are in the bucket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use tine::cli::{BanRecord, BanState, Prefix};

use crate::names::Name;

/// Bytes of a record, at most.
const LONGEST: usize = 256;

/// A record as JSON.
#[derive(Serialize, Deserialize)]
struct WrittenRecord {
    state: WrittenState,
    at: u64,
    /// Who has ordered it: for people.
    node: Name,
}

/// What holds, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum WrittenState {
    Until(u64),
    Word(Word),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    Forever,
    Lifted,
}

/// The key of a block: the version of the protocol, the first address in hexadecimal digits, and
/// the length.
pub(super) fn key(block: Prefix) -> String {
    match block.to_network() {
        (IpAddr::V4(first), length) => format!("4-{:08x}-{length}", first.to_bits()),
        (IpAddr::V6(first), length) => format!("6-{:032x}-{length}", first.to_bits()),
    }
}

/// The block of a key. `None` for a key that [`key`] does not make: a block has one key.
pub(super) fn block(text: &str) -> Option<Prefix> {
    let mut parts = text.split('-');
    let (version, first, length) = (parts.next()?, parts.next()?, parts.next()?);
    let first: IpAddr = match version {
        "4" => Ipv4Addr::from_bits(u32::from_str_radix(first, 16).ok()?).into(),
        "6" => Ipv6Addr::from_bits(u128::from_str_radix(first, 16).ok()?).into(),
        _ => return None,
    };
    let block: Prefix = format!("{first}/{length}").parse().ok()?;
    (key(block) == text).then_some(block)
}

/// A record as text.
pub(super) fn write(record: &BanRecord, node: &Name) -> Vec<u8> {
    let state = record.state.into();
    crate::messages::write(&WrittenRecord { state, at: record.at, node: node.clone() })
}

impl From<BanState> for WrittenState {
    fn from(state: BanState) -> WrittenState {
        match state {
            BanState::Until(seconds) => WrittenState::Until(seconds),
            BanState::Forever => WrittenState::Word(Word::Forever),
            BanState::Lifted => WrittenState::Word(Word::Lifted),
        }
    }
}

impl From<WrittenState> for BanState {
    fn from(state: WrittenState) -> BanState {
        match state {
            WrittenState::Until(seconds) => BanState::Until(seconds),
            WrittenState::Word(Word::Forever) => BanState::Forever,
            WrittenState::Word(Word::Lifted) => BanState::Lifted,
        }
    }
}

/// The record of a block in a text; `None` if it is none.
pub(super) fn read(block: Prefix, text: &[u8]) -> Option<BanRecord> {
    if text.len() > LONGEST {
        return None;
    }
    let WrittenRecord { state, at, .. } = serde_json::from_slice(text).ok()?;
    Some(BanRecord { block, state: state.into(), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_one_key() {
        for (text, expected) in [
            ("192.0.2.0/24", "4-c0000200-24"),
            ("192.0.2.1", "4-c0000201-32"),
            ("0.0.0.0/0", "4-00000000-0"),
            ("2001:db8::/32", "6-20010db8000000000000000000000000-32"),
            ("::1", "6-00000000000000000000000000000001-128"),
            ("any", "6-00000000000000000000000000000000-0"),
        ] {
            let prefix: Prefix = text.parse().expect(text);
            assert_eq!((key(prefix).as_str(), block(expected)), (expected, Some(prefix)));
        }
        for wrong in [
            "",
            "4-c0000200",
            "4-c0000200-33",
            "4-c0000201-24",
            "4-C0000200-24",
            "4-c0000200-024",
            "4-+0000200-24",
            "5-c0000200-24",
            "4-c0000200-24-1",
            // It is 192.0.2.0/24, whose key is another one.
            "6-00000000000000000000ffffc0000200-120",
        ] {
            assert_eq!(block(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let block: Prefix = "192.0.2.0/24".parse().expect("a block");
        let node = Name::of(&"n".repeat(64));
        for (state, text) in [
            (BanState::Forever, r#"{"state":"forever","at":18446744073709551615,"node":"#),
            (BanState::Lifted, r#"{"state":"lifted","at":18446744073709551615,"node":"#),
            (BanState::Until(5), r#"{"state":5,"at":18446744073709551615,"node":"#),
            (BanState::Until(u64::MAX), r#"{"state":18446744073709551615,"at":"#),
        ] {
            let record = BanRecord { block, state, at: u64::MAX };
            let written = write(&record, &node);
            assert!(written.starts_with(text.as_bytes()) && written.len() <= LONGEST);
            assert_eq!(read(block, &written), Some(record));
        }
        let padded = format!(r#"{{"state":5,"at":1,"node":"a"{}}}"#, " ".repeat(LONGEST));
        for wrong in [
            "",
            "{}",
            r#"{"state":"gone","at":1,"node":"a"}"#,
            r#"{"state":-1,"at":1,"node":"a"}"#,
            r#"{"state":5,"at":1.5,"node":"a"}"#,
            r#"{"state":5,"at":1,"node":"a b"}"#,
            &padded,
        ] {
            assert_eq!(read(block, wrong.as_bytes()), None, "{wrong}");
        }
    }
}
