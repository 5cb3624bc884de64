//! Bans: address blocks whose clients are rejected at once, by order of an operator. Encoded like
//! access rules, in words of the board.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use super::prefix::Prefix;
use super::seqlock;
use super::table::{self, Answer};

/// Bans at a time, at most. Pages of the board are in use for those that there are.
pub(crate) const MAX_BANS: usize = 131_072;

/// Words of both snapshots of this many bans.
pub(crate) const BAN_WORDS: usize = 2 * (table::HEADER_WORDS + MAX_BANS * table::ROW_WORDS);

/// Puts bans in force. Runs in the supervisor.
///
/// # Errors
/// There are more than [`MAX_BANS`].
pub(crate) fn publish(words: &[AtomicU64], number: &AtomicU64, blocks: &[Prefix]) -> io::Result<()> {
    let denied = Answer { rule: 0, allows: false, text: 0 };
    let blocks: Vec<(Prefix, Answer)> = blocks.iter().map(|block| (*block, denied)).collect();
    seqlock::publish(words, number, &table::words(blocks, &[], &[], true))
}

/// Whether a ban contains an address.
pub(crate) fn contain(words: &[AtomicU64], number: &AtomicU64, address: IpAddr) -> bool {
    seqlock::read(words, number, |snapshot| table::find(snapshot, address).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_contain_the_addresses_of_their_blocks() {
        let words: Vec<AtomicU64> = (0..BAN_WORDS).map(|_| AtomicU64::new(0)).collect();
        let number = AtomicU64::new(0);
        let banned = |text: &str| contain(&words, &number, text.parse().expect(text));
        assert!(!banned("192.0.2.1"));
        let blocks = ["192.0.2.0/24", "2001:db8::/32"].map(|text| text.parse().expect(text));
        publish(&words, &number, &blocks).expect("room");
        assert!(banned("192.0.2.1") && banned("2001:db8::7"));
        assert!(!banned("192.0.3.1") && !banned("2001:db9::"));
        publish(&words, &number, &[]).expect("room");
        assert!(!banned("192.0.2.1"));
        let many: Vec<Prefix> =
            (0..=MAX_BANS as u32).map(|bits| Prefix::of(IpAddr::V4(bits.into()))).collect();
        publish(&words, &number, &many[1..]).expect("room for the most");
        assert!(banned("0.2.0.0") && !banned("0.0.0.0"));
        publish(&words, &number, &many).expect_err("one too many");
    }
}
