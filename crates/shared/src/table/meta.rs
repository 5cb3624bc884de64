//! The first word of a slot: what is in the slot, and since which change.

use crate::owner::{OWNER, Owner};

// A word has, from its lowest bit: the state, which copy of the value counts, the tag of the key or
// who has claimed the slot, and how often it was changed.
const STATE: u64 = 0b11;
const CLAIMED: u64 = 1;
const USED: u64 = 2;
const SIDE: u64 = 1 << 2;
const TAG_AT: u32 = 3;
const VERSION: u64 = 1 << 32;

const _: () = assert!((OWNER as u64) << TAG_AT < VERSION);

/// The bits of a hash that a word has.
pub(super) const TAG: u32 = OWNER;

/// The first word of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta(pub(super) u64);

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing, or words that the library never writes.
    Free,
    /// What this process is about to write.
    Claimed(Owner),
    /// An entry.
    Used,
}

impl Meta {
    pub(super) fn state(self) -> State {
        match self.0 & STATE {
            CLAIMED => Owner::in_word((self.0 >> TAG_AT) as u32).map_or(State::Free, State::Claimed),
            USED => State::Used,
            _ => State::Free,
        }
    }

    /// Whether there is an entry whose key has this tag.
    #[inline]
    pub(super) fn is_entry(self, tag: u32) -> bool {
        self.0 & (STATE | u64::from(TAG) << TAG_AT) == USED | u64::from(tag) << TAG_AT
    }

    /// Which copy of the value counts: 0 or 1.
    #[inline]
    pub(super) fn side(self) -> usize {
        usize::from(self.0 & SIDE != 0)
    }

    /// The slot when this process has claimed it.
    pub(super) fn claimed(self, own: Owner) -> Meta {
        self.next(CLAIMED | u64::from(own.bits()) << TAG_AT)
    }

    /// The slot with an entry in it, whose value is the first copy.
    pub(super) fn used(self, tag: u32) -> Meta {
        self.next(USED | u64::from(tag) << TAG_AT)
    }

    /// The slot when the other copy counts.
    pub(super) fn updated(self) -> Meta {
        self.next(self.0 & (VERSION - 1) ^ SIDE)
    }

    /// The slot without its entry.
    pub(super) fn freed(self) -> Meta {
        self.next(0)
    }

    fn next(self, low: u64) -> Meta {
        Meta((self.0 & !(VERSION - 1)).wrapping_add(VERSION) | low)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_change_makes_another_word() {
        let own = Owner::member(7, 3);
        let free = Meta(0);
        let claimed = free.claimed(own);
        let used = claimed.used(TAG);
        let updated = used.updated();
        let freed = updated.freed();
        assert_eq!(free.state(), State::Free);
        assert_eq!(claimed.state(), State::Claimed(own));
        assert!(used.is_entry(TAG) && !used.is_entry(TAG - 1) && !claimed.is_entry(own.bits()));
        assert_eq!((used.side(), updated.side(), updated.updated().side()), (0, 1, 0));
        assert!(updated.is_entry(TAG));
        assert_eq!((freed.state(), freed.0), (State::Free, 4 << 32));
    }

    #[test]
    fn any_word_is_a_slot() {
        assert_eq!(Meta(u64::MAX).state(), State::Free);
        assert_eq!(Meta(CLAIMED).state(), State::Free, "nobody has claimed it");
        assert_eq!(Meta(!STATE | USED).updated().0 >> 32, 0, "versions begin again");
    }
}
