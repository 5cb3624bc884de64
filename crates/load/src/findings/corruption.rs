//! Diagnosis of wrong bytes of the pattern: changed, lost, doubled, out of order, or of another
//! connection.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::pattern::Pattern;

/// Received bytes, from the first wrong one on, that suffice for a diagnosis.
pub const WINDOW: usize = 4096;

/// Distance in bytes over which a fragment that moved is recognized.
const FARTHEST: u64 = 1 << 30;

/// What happened to bytes that are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Corruption {
    /// Bytes have other values; those after them are right.
    Changed {
        /// Number of bytes.
        bytes: u64,
    },
    /// Bytes are missing.
    Lost {
        /// Number of bytes.
        bytes: u64,
    },
    /// Bytes arrived twice.
    Doubled {
        /// Number of bytes.
        bytes: u64,
    },
    /// The right bytes arrived in another order.
    OutOfOrder,
    /// The bytes belong to another connection.
    Foreign {
        /// The number of that connection.
        connection: u64,
    },
    /// The bytes differ from an expected text, which has no addresses to diagnose by.
    Differs,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corruption::Changed { bytes } => write!(f, "{bytes} changed"),
            Corruption::Lost { bytes } => write!(f, "{bytes} lost"),
            Corruption::Doubled { bytes } => write!(f, "{bytes} doubled"),
            Corruption::OutOfOrder => f.write_str("out of order"),
            Corruption::Foreign { connection } => write!(f, "another connection's (number {connection})"),
            Corruption::Differs => f.write_str("differs"),
        }
    }
}

impl Corruption {
    /// Diagnoses bytes that were received from the first wrong one, at `offset` of the stream of
    /// `connection`, on. Addresses of connections from number `connections` on are taken for
    /// chance.
    #[must_use]
    pub fn diagnose(
        pattern: &Pattern,
        connection: u64,
        offset: u64,
        received: &[u8],
        connections: u64,
    ) -> Corruption {
        let mut right = vec![0; received.len()];
        pattern.fill(connection, offset, &mut right);
        let found = received.windows(8).enumerate().find_map(|(at, word)| {
            let (owner, from) = pattern.address(word.try_into().unwrap_or_default());
            let here = offset + at as u64;
            let plausible = owner < connections.max(connection + 1) && from.abs_diff(here) < FARTHEST;
            plausible.then_some((at, owner, from, here))
        });
        let Some((at, owner, from, here)) = found else {
            let last = right.iter().zip(received).rposition(|(right, received)| right != received);
            let span = last.map_or(0, |last| last + 1);
            return in_place(&right[..span], &received[..span]);
        };
        if owner != connection {
            return Corruption::Foreign { connection: owner };
        }
        if from == here {
            return in_place(&right[..at], &received[..at]);
        }
        if from < here {
            return Corruption::Doubled { bytes: here - from };
        }
        // Words from further on: those between are lost, or out of order if they arrive after all.
        let moved = from - here;
        let arrives_later = received[at..].chunks_exact(8).enumerate().any(|(number, word)| {
            let (owner, from) = pattern.address(word.try_into().unwrap_or_default());
            let here = here + 8 * number as u64;
            owner == connection && from.abs_diff(here) < FARTHEST && from < here + moved
        });
        if arrives_later { Corruption::OutOfOrder } else { Corruption::Lost { bytes: moved } }
    }
}

/// Diagnoses wrong bytes that are followed by right ones in the right place.
fn in_place(right: &[u8], received: &[u8]) -> Corruption {
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    if sorted(right) == sorted(received) {
        return Corruption::OutOfOrder;
    }
    let wrong = right.iter().zip(received).filter(|(right, received)| right != received).count();
    Corruption::Changed { bytes: wrong as u64 }
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
    fn wrong_bytes_are_diagnosed_from_themselves() {
        let pattern = Pattern::new(1);
        let right = bytes(pattern, 5, 4000);
        let other = bytes(pattern, 9, 4000);
        let cut = |parts: &[&[u8]]| parts.concat();
        for at in [0, 1, 7, 8, 100, 1003] {
            let mut flipped = right.clone();
            flipped[at] ^= 1;
            let mut swapped = right.clone();
            swapped.swap(at, at + 1);
            for (received, corruption) in [
                (flipped, Corruption::Changed { bytes: 1 }),
                (swapped, Corruption::OutOfOrder),
                (cut(&[&right[..at], &right[at + 1..]]), Corruption::Lost { bytes: 1 }),
                (cut(&[&right[..at], &right[at + 1448..]]), Corruption::Lost { bytes: 1448 }),
                (cut(&[&right[..at + 1], &right[at..]]), Corruption::Doubled { bytes: 1 }),
                (cut(&[&right[..at + 100], &right[at..]]), Corruption::Doubled { bytes: 100 }),
                (
                    cut(&[&right[..at], &right[at + 64..at + 128], &right[at..at + 64], &right[at + 128..]]),
                    Corruption::OutOfOrder,
                ),
                (cut(&[&right[..at], &other[at..]]), Corruption::Foreign { connection: 9 }),
            ] {
                let wrong = pattern.first_wrong(5, 0, &received, &mut Vec::new()).expect("it differs");
                let window = &received[wrong..received.len().min(wrong + WINDOW)];
                let found = Corruption::diagnose(&pattern, 5, wrong as u64, window, 10);
                assert_eq!(found, corruption, "at {at}");
            }
        }
        // Too few bytes for an address.
        let found = Corruption::diagnose(&pattern, 5, 0, &[right[0] ^ 1], 10);
        assert_eq!(found, Corruption::Changed { bytes: 1 });
    }
}
