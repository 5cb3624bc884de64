//! Self-describing bytes: each is a function of seed, connection and offset, and the function can
//! be inverted. A fragment can be checked without a copy of what was sent, and wrong bytes show
//! which connection and offset they belong to.
//!
//! The stream of a connection consists of words of eight bytes. Each word is its own address (the
//! numbers of the connection and of the word), mixed by the bijective finalizer of SplitMix64.

use super::splitmix::{mix, unmix};

/// Bits of a word's number; the other bits are the connection's.
const INDEX_BITS: u32 = 36;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// The bytes of all connections of a run.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    key: u64,
}

impl Pattern {
    /// Creates the pattern of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Pattern {
        Pattern { key: mix(seed ^ 0x9e37_79b9_7f4a_7c15) }
    }

    fn word(&self, connection: u64, index: u64) -> u64 {
        mix(self.key ^ (connection << INDEX_BITS | index & INDEX_MASK))
    }

    /// Fills a buffer with the bytes of a connection from an offset on.
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

    /// Returns the position of the first received byte that is wrong. `scratch` is memory to
    /// compare with.
    pub fn first_wrong(
        &self,
        connection: u64,
        offset: u64,
        received: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Option<usize> {
        scratch.resize(received.len().max(scratch.len()), 0);
        let right = &mut scratch[..received.len()];
        self.fill(connection, offset, right);
        if right == received {
            return None;
        }
        right.iter().zip(received).position(|(right, received)| right != received)
    }

    /// Returns the address of a word of eight bytes: its connection, and its offset in that stream.
    /// Any eight bytes have one, also those that are not of the pattern.
    #[must_use]
    pub fn address(&self, word: [u8; 8]) -> (u64, u64) {
        let address = unmix(u64::from_le_bytes(word)) ^ self.key;
        (address >> INDEX_BITS, (address & INDEX_MASK) * 8)
    }
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
    fn a_fragment_equals_its_part_of_the_whole_stream() {
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
    fn a_word_contains_its_address() {
        let pattern = Pattern::new(7);
        let word = bytes(pattern, 3, 1000)[992..].try_into().expect("eight bytes");
        assert_eq!(pattern.address(word), (3, 992));
    }
}
