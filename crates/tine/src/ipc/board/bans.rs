//! The bans of operators on the board.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use super::{BANNED, BANS_NUMBER, Board};
use crate::admission::access::bans::{self, BAN_WORDS};
use crate::admission::access::prefix::Prefix;
use crate::net::peer::Peer;

impl Board {
    /// Puts bans in force, instead of those before. Runs in the supervisor.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn set_bans(&self, blocks: &[Prefix]) -> io::Result<()> {
        bans::publish(self.ban_words(), self.word(BANS_NUMBER), blocks)?;
        self.word(BANNED).store(blocks.len() as u64, Relaxed);
        Ok(())
    }

    /// Whether the address of a client is banned.
    #[inline]
    pub(crate) fn is_banned(&self, peer: Peer) -> bool {
        // Beside words that are in use: without a ban, no other page is touched.
        self.word(BANNED).load(Relaxed) != 0 && self.is_in_ban(peer)
    }

    #[cold]
    fn is_in_ban(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp(address) => bans::contain(self.ban_words(), self.word(BANS_NUMBER), address.ip()),
            _ => false,
        }
    }

    fn ban_words(&self) -> &[std::sync::atomic::AtomicU64] {
        &self.tables.first()[self.bans_at()..][..BAN_WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;

    #[test]
    fn clients_of_a_banned_block_are_known() {
        let board = board(130);
        let peer = |text: &str| Peer::Tcp(text.parse().expect(text));
        assert!(!board.is_banned(peer("192.0.2.1:5")));
        board.set_bans(&["192.0.2.0/24".parse().expect("a block")]).expect("room");
        assert!(board.is_banned(peer("192.0.2.1:5")) && !board.is_banned(peer("192.0.3.1:5")));
        assert!(!board.is_banned(Peer::Unix(None)));
        assert_eq!((0..130).filter_map(|_| board.claim(0)).count(), 130, "the slots are untouched");
        board.set_bans(&[]).expect("room");
        assert!(!board.is_banned(peer("192.0.2.1:5")));
    }
}
