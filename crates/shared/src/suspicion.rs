//! A holder that lives, but does not claim what it is said to hold.
//!
//! Another process has written its name beside the library, or it has let go this moment. If the
//! word stays as it is for [`LOOK_AGAIN`], it is the former.

use std::time::Instant;

use crate::owner::Standing;
use crate::sync::LOOK_AGAIN;

/// A holder that a process suspects while it waits: the place and the word that name it, and since
/// when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Suspicion(Option<(usize, u32, Instant)>);

impl Suspicion {
    /// Whether this word in this place has been suspect for [`LOOK_AGAIN`]. Remembers one place at
    /// a time.
    fn is_old(&mut self, place: usize, word: u32, now: Instant) -> bool {
        match self.0 {
            Some((at, seen, since)) if at == place && seen == word => now - since >= LOOK_AGAIN,
            Some((at, ..)) if at != place => false,
            _ => {
                self.0 = Some((place, word, now));
                false
            }
        }
    }

    /// This place is not suspect.
    fn clear(&mut self, place: usize) {
        if self.0.is_some_and(|(at, ..)| at == place) {
            self.0 = None;
        }
    }

    /// Whether nobody holds what the word in this place says: there is no holder, it is dead, or
    /// it was silent for long enough.
    pub(crate) fn is_free(&mut self, place: usize, word: u32, standing: Option<Standing>) -> bool {
        if standing == Some(Standing::Silent) {
            return self.is_old(place, word, Instant::now());
        }
        self.clear(place);
        standing != Some(Standing::Alive)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_holder_without_a_claim_is_suspect_for_a_while() {
        let (mut suspect, start) = (Suspicion::default(), Instant::now());
        assert!(!suspect.is_old(1, 7, start));
        assert!(!suspect.is_old(2, 7, start + LOOK_AGAIN), "one at a time");
        assert!(!suspect.is_old(1, 8, start + LOOK_AGAIN), "another word");
        assert!(suspect.is_old(1, 8, start + 2 * LOOK_AGAIN));
        suspect.clear(1);
        assert!(!suspect.is_old(1, 8, start + 3 * LOOK_AGAIN));
    }

    #[test]
    fn what_nobody_holds_is_free_at_once_and_what_is_claimed_never() {
        let mut suspicion = Suspicion::default();
        for (standing, is_free) in [
            (None, true),
            (Some(Standing::Dead), true),
            (Some(Standing::Silent), false),
            (Some(Standing::Alive), false),
        ] {
            assert_eq!(suspicion.is_free(0, 7, standing), is_free, "{standing:?}");
        }
    }
}
