//! A bucket in one word: eight hints, one for each slot.
//!
//! A slot with an entry has the hint of its key, which is never 0; so a bucket without the hint of
//! a key has no such entry. A slot whose hint is 0 is free, or about to be claimed or freed.

/// The slots of a bucket.
pub(super) const SLOTS: usize = 8;

const EACH: u64 = 0x0101_0101_0101_0101;
const LOW: u64 = 0x7f * EACH;

/// The slots with this hint, as a set of bits.
#[inline]
pub(super) fn with(hints: u64, hint: u8) -> u64 {
    let differs = hints ^ (u64::from(hint) * EACH);
    // Each byte that is 0 becomes 0x80, each other one 0.
    !((differs & LOW).wrapping_add(LOW) | differs | LOW) >> 7
}

/// The first slot of a set.
#[inline]
pub(super) fn first(slots: u64) -> usize {
    slots.trailing_zeros() as usize / 8
}

/// The slots of a set, in order.
pub(super) fn each(slots: u64) -> impl Iterator<Item = usize> {
    (0..SLOTS).filter(move |slot| slots >> (8 * slot) & 1 != 0)
}

/// The word in which a slot has this hint.
pub(super) fn set(hints: u64, slot: usize, hint: u8) -> u64 {
    hints & !(0xff << (8 * slot)) | u64::from(hint) << (8 * slot)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_their_hints() {
        let mut hints = 0;
        for (slot, hint) in [(0, 7), (1, 0x80), (3, 7), (6, 0xff), (7, 8)] {
            hints = set(hints, slot, hint);
        }
        let found = |hint| each(with(hints, hint)).collect::<Vec<usize>>();
        assert_eq!(found(7), [0, 3]);
        assert_eq!(found(0), [2, 4, 5]);
        assert_eq!((found(8), found(0x80), found(0xff)), (vec![7], vec![1], vec![6]));
        assert_eq!((found(6), first(with(hints, 0xff))), (vec![], 6));
        assert_eq!(each(with(set(hints, 3, 0), 0)).collect::<Vec<usize>>(), [2, 3, 4, 5]);
    }
}
