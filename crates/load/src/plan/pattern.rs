//! Bytes that say where they belong: a function of seed, connection and offset, and one that can be turned
//! round. So any fragment can be checked without remembering what was sent, and where bytes are wrong, they
//! say themselves whether they are lost, doubled, out of order or another connection's.
//!
//! The stream of a connection is made of words of eight bytes. Each is its own address, the number of the
//! connection and the number of the word, put through a mixer of 64 bits that loses nothing (the finalizer
//! of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits of a word's number; the rest is the connection's.
const INDEX_BITS: u32 = 36;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// How far a fragment may have moved and still be recognized, in bytes.
const REACH: u64 = 1 << 30;

/// Received bytes that are enough to say what happened.
pub const WINDOW: usize = 4096;

/// The bytes of all connections of a run.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    key: u64,
}

/// What happened to bytes that are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Fault {
    /// So many bytes at this place are others.
    Changed {
        /// How many.
        bytes: u64,
    },
    /// So many bytes are missing.
    Lost {
        /// How many.
        bytes: u64,
    },
    /// So many bytes came again.
    Doubled {
        /// How many.
        bytes: u64,
    },
    /// The right bytes, in another order.
    OutOfOrder,
    /// They belong to another connection.
    Foreign {
        /// Its number.
        connection: u64,
    },
    /// They differ from a text that was to come; a text does not tell more.
    Differs,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Changed { bytes } => write!(f, "{bytes} changed"),
            Fault::Lost { bytes } => write!(f, "{bytes} lost"),
            Fault::Doubled { bytes } => write!(f, "{bytes} doubled"),
            Fault::OutOfOrder => f.write_str("out of order"),
            Fault::Foreign { connection } => write!(f, "another connection's (number {connection})"),
            Fault::Differs => f.write_str("differs"),
        }
    }
}

pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn unmix(mut word: u64) -> u64 {
    word = (word ^ (word >> 31) ^ (word >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    word = (word ^ (word >> 27) ^ (word >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    word ^ (word >> 30) ^ (word >> 60)
}

impl Pattern {
    /// That of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Pattern {
        Pattern { key: mix(seed ^ 0x9e37_79b9_7f4a_7c15) }
    }

    fn word(&self, connection: u64, index: u64) -> u64 {
        mix(self.key ^ (connection << INDEX_BITS | index & INDEX_MASK))
    }

    /// The bytes of a connection from an offset on.
    pub fn fill(&self, connection: u64, offset: u64, out: &mut [u8]) {
        let mut index = offset / 8;
        let skip = (offset % 8) as usize;
        let mut rest = out;
        if skip > 0 {
            let word = self.word(connection, index).to_le_bytes();
            let length = rest.len().min(8 - skip);
            rest[..length].copy_from_slice(&word[skip..skip + length]);
            rest = &mut rest[length..];
            index += 1;
        }
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.word(connection, index).to_le_bytes());
            index += 1;
        }
        let rest = words.into_remainder();
        let word = self.word(connection, index).to_le_bytes();
        rest.copy_from_slice(&word[..rest.len()]);
    }

    /// Where the first byte is that is not as it should be. `room` is memory to compare with.
    pub fn first_wrong(&self, connection: u64, offset: u64, got: &[u8], room: &mut Vec<u8>) -> Option<usize> {
        room.resize(got.len().max(room.len()), 0);
        let right = &mut room[..got.len()];
        self.fill(connection, offset, right);
        if right == got { None } else { right.iter().zip(got).position(|(right, got)| right != got) }
    }

    /// Where eight bytes belong: the connection, and the offset in its stream.
    fn origin(&self, word: &[u8]) -> (u64, u64) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let address = unmix(word) ^ self.key;
        (address >> INDEX_BITS, (address & INDEX_MASK) * 8)
    }

    /// What happened, given the bytes that came from the first wrong one on, and how many connections there
    /// have been: what names none of them is no address.
    #[must_use]
    pub fn diagnose(&self, connection: u64, offset: u64, got: &[u8], connections: u64) -> Fault {
        let mut right = vec![0; got.len()];
        self.fill(connection, offset, &mut right);
        let found = got.windows(8).enumerate().find_map(|(at, word)| {
            let (whose, from) = self.origin(word);
            let here = offset + at as u64;
            let plausible = whose < connections.max(connection + 1) && from.abs_diff(here) < REACH;
            plausible.then_some((at, whose, from, here))
        });
        let Some((at, whose, from, here)) = found else {
            let last = right.iter().zip(got).rposition(|(right, got)| right != got);
            let span = last.map_or(0, |last| last + 1);
            return in_place(&right[..span], &got[..span]);
        };
        if whose != connection {
            return Fault::Foreign { connection: whose };
        }
        if from == here {
            return in_place(&right[..at], &got[..at]);
        }
        if from < here {
            return Fault::Doubled { bytes: here - from };
        }
        // Later words: what is lost stays lost, what is out of order comes after all.
        let moved = from - here;
        let comes_later = got[at..].chunks_exact(8).enumerate().any(|(word, bytes)| {
            let (whose, from) = self.origin(bytes);
            let here = here + 8 * word as u64;
            whose == connection && from.abs_diff(here) < REACH && from < here + moved
        });
        if comes_later { Fault::OutOfOrder } else { Fault::Lost { bytes: moved } }
    }
}

/// Bytes that are wrong where those after them are right.
fn in_place(right: &[u8], got: &[u8]) -> Fault {
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    if sorted(right) == sorted(got) {
        return Fault::OutOfOrder;
    }
    let wrong = right.iter().zip(got).filter(|(right, got)| right != got).count();
    Fault::Changed { bytes: wrong as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pattern: Pattern, connection: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        pattern.fill(connection, 0, &mut out);
        out
    }

    #[test]
    fn the_mixer_loses_nothing() {
        for word in (0..1000).map(|number| mix(number << 31 | number)).chain([0, 1, u64::MAX]) {
            assert_eq!(unmix(mix(word)), word);
        }
    }

    #[test]
    fn any_fragment_is_the_same_as_the_whole() {
        let pattern = Pattern::new(7);
        let whole = bytes(pattern, 3, 1000);
        for (from, length) in [(0, 1), (1, 7), (3, 5), (5, 20), (8, 8), (999, 1), (13, 900)] {
            let mut part = vec![0; length];
            pattern.fill(3, from as u64, &mut part);
            assert_eq!(part, whole[from..from + length], "{length} from {from}");
            assert_eq!(pattern.first_wrong(3, from as u64, &part, &mut Vec::new()), None);
        }
        assert_ne!(whole, bytes(pattern, 4, 1000));
        assert_ne!(whole, bytes(Pattern::new(8), 3, 1000));
    }

    #[test]
    fn what_happened_is_told_by_the_bytes() {
        let pattern = Pattern::new(1);
        let right = bytes(pattern, 5, 4000);
        let other = bytes(pattern, 9, 4000);
        let cut = |parts: &[&[u8]]| parts.concat();
        for at in [0, 1, 7, 8, 100, 1003] {
            let mut flipped = right.clone();
            flipped[at] ^= 1;
            let mut swapped = right.clone();
            swapped.swap(at, at + 1);
            for (got, fault) in [
                (flipped, Fault::Changed { bytes: 1 }),
                (swapped, Fault::OutOfOrder),
                (cut(&[&right[..at], &right[at + 1..]]), Fault::Lost { bytes: 1 }),
                (cut(&[&right[..at], &right[at + 1448..]]), Fault::Lost { bytes: 1448 }),
                (cut(&[&right[..at + 1], &right[at..]]), Fault::Doubled { bytes: 1 }),
                (cut(&[&right[..at + 100], &right[at..]]), Fault::Doubled { bytes: 100 }),
                (
                    cut(&[&right[..at], &right[at + 64..at + 128], &right[at..at + 64], &right[at + 128..]]),
                    Fault::OutOfOrder,
                ),
                (cut(&[&right[..at], &other[at..]]), Fault::Foreign { connection: 9 }),
            ] {
                let wrong = pattern.first_wrong(5, 0, &got, &mut Vec::new()).expect("it differs");
                let window = &got[wrong..got.len().min(wrong + WINDOW)];
                assert_eq!(pattern.diagnose(5, wrong as u64, window, 10), fault, "at {at}");
            }
        }
        // Too little to tell more by.
        assert_eq!(pattern.diagnose(5, 0, &[right[0] ^ 1], 10), Fault::Changed { bytes: 1 });
    }
}
