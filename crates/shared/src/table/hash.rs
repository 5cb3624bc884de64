//! Where a key belongs: a keyed hash of its words (SipHash-1-3), so that clients cannot choose keys
//! that all belong to the same place.

use std::hash::{BuildHasher, RandomState};

use super::meta::TAG;
use crate::plain::Plain;

/// The secret of a table.
#[derive(Clone, Copy)]
pub(super) struct Secret(u64, u64);

/// Where a key belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    /// Its two buckets.
    pub(super) buckets: [usize; 2],
    /// What the word of its slot has of the hash.
    pub(super) tag: u32,
    /// The lock under which it is changed.
    pub(super) stripe: usize,
}

/// The locks of a table: so many that two processes seldom want the same one, and no more than fit
/// a page with a cache line each.
pub(super) const STRIPES: usize = 64;

impl Hash {
    /// What its bucket has of the hash.
    #[inline]
    pub(super) fn hint(&self) -> u8 {
        (self.tag as u8).max(1)
    }
}

impl Secret {
    pub(super) fn random() -> Secret {
        Secret(RandomState::new().hash_one(0), RandomState::new().hash_one(1))
    }

    /// Where a key belongs, among this many buckets: at least 2, and fewer than 2^32.
    #[inline]
    pub(super) fn hash<K: Plain>(self, key: &K, buckets: usize) -> Hash {
        let hash = self.sip(key);
        let part = |bits: u64, of: usize| (((bits & 0xffff_ffff) * of as u64) >> 32) as usize;
        let first = part(hash, buckets);
        // Any other one.
        let second = first + 1 + part(hash >> 32, buckets - 1);
        let second = if second >= buckets { second - buckets } else { second };
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Hash {
            buckets: [first, second],
            tag: (mixed >> 35) as u32 & TAG,
            stripe: (mixed >> 29) as usize % STRIPES,
        }
    }

    /// SipHash-1-3 of the words of a value.
    #[inline]
    fn sip<K: Plain>(self, value: &K) -> u64 {
        let mut state = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let mut length = 0u64;
        value.put(&mut |word| {
            add(&mut state, word);
            length = length.wrapping_add(8);
        });
        add(&mut state, length << 56);
        state[2] ^= 0xff;
        (0..3).for_each(|_| round(&mut state));
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

#[inline]
fn add(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline]
fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *c = c.wrapping_add(*d);
    *b = b.rotate_left(13) ^ *a;
    *d = d.rotate_left(16) ^ *c;
    *a = a.rotate_left(32).wrapping_add(*d);
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *d = d.rotate_left(21) ^ *a;
    *c = c.rotate_left(32);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    /// A secret that every run has.
    pub(in crate::table) const KNOWN: Secret = Secret(1, 2);

    #[test]
    fn the_hash_is_that_of_the_standard_library() {
        for words in [&[][..], &[7u64], &[1, 2, u64::MAX]] {
            let mut hasher = DefaultHasher::new();
            words.iter().for_each(|word| hasher.write_u64(*word));
            let ours = match *words {
                [] => Secret(0, 0).sip(&()),
                [one] => Secret(0, 0).sip(&one),
                [one, two, three] => Secret(0, 0).sip(&[one, two, three]),
                _ => unreachable!("no such case"),
            };
            assert_eq!(ours, hasher.finish(), "{words:?}");
        }
    }

    #[test]
    fn keys_belong_to_two_buckets_and_any_stripe() {
        for buckets in [2, 3, 1000] {
            let mut stripes = [0; STRIPES];
            for key in 0..10_000u64 {
                let hash = KNOWN.hash(&key, buckets);
                assert_ne!(hash.buckets[0], hash.buckets[1]);
                assert!(hash.buckets.iter().all(|bucket| *bucket < buckets));
                stripes[hash.stripe] += 1;
            }
            assert!(stripes.iter().all(|keys| (80..250).contains(keys)), "{stripes:?}");
        }
        assert_ne!(Secret::random().sip(&1u64), Secret::random().sip(&1u64));
    }
}
