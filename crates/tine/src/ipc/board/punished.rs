//! Penalties that forkers, spares and workers have given, for the supervisor, which tells other
//! nodes. The last ones are kept: a penalty that is told to nobody holds here nevertheless.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Board, PUNISHED, PUNISHED_KEPT, PUNISHED_NUMBER, PUNISHED_WORDS};
use crate::net::peer::Peer;

// Words of a penalty: the peer, the milliseconds, and its number from 1, which is written last.
const MILLISECONDS: usize = 3;
const NUMBER: usize = 4;

impl Board {
    /// Notes that the source of a peer has got a penalty.
    pub(crate) fn note_punished(&self, peer: Peer, milliseconds: u64) {
        let number = self.word(PUNISHED_NUMBER).fetch_add(1, Relaxed);
        let at = punished_at(number);
        // Nobody takes it for another one meanwhile.
        self.word(at + NUMBER).store(0, Release);
        peer.to_words().into_iter().enumerate().for_each(|(word, value)| {
            self.word(at + word).store(value, Relaxed);
        });
        self.word(at + MILLISECONDS).store(milliseconds, Relaxed);
        self.word(at + NUMBER).store(number + 1, Release);
    }

    /// The penalties that were noted since this many; counts them. One whose writer was killed, or
    /// is not done yet while others are, is left out.
    pub(crate) fn punished_since(&self, seen: &mut u64) -> Vec<(Peer, u64)> {
        let number = self.word(PUNISHED_NUMBER).load(Acquire);
        let first = (*seen).max(number.saturating_sub(PUNISHED_KEPT));
        *seen = number;
        (first..number).filter_map(|number| self.punished(number)).collect()
    }

    fn punished(&self, number: u64) -> Option<(Peer, u64)> {
        let at = punished_at(number);
        let is_it = || self.word(at + NUMBER).load(Acquire) == number + 1;
        if !is_it() {
            return None;
        }
        let words = [0, 1, 2].map(|word| self.word(at + word).load(Acquire));
        let milliseconds = self.word(at + MILLISECONDS).load(Acquire);
        is_it().then_some((Peer::from_words(words), milliseconds))
    }
}

fn punished_at(number: u64) -> usize {
    PUNISHED + (number % PUNISHED_KEPT) as usize * PUNISHED_WORDS
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;

    #[test]
    fn the_last_penalties_are_told_once() {
        let board = board(1);
        let peer = |last: u8| Peer::Tcp(([192, 0, 2, last], 7).into());
        let mut seen = 0;
        assert!(board.punished_since(&mut seen).is_empty());
        board.note_punished(peer(1), 15_000);
        board.note_punished(peer(2), 1);
        assert_eq!(board.punished_since(&mut seen), [(peer(1), 15_000), (peer(2), 1)]);
        assert!(board.punished_since(&mut seen).is_empty());
        (0..100).for_each(|last| board.note_punished(peer(last), 2));
        let told = board.punished_since(&mut seen);
        assert_eq!((told.len() as u64, told[0], told[63]), (PUNISHED_KEPT, (peer(36), 2), (peer(99), 2)));
    }
}
