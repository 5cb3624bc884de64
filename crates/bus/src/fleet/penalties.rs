//! Penalties that are known, with their ends: so many at most.

use std::collections::BTreeMap;

use tine::cli::Prefix;

/// Penalties, at most.
pub(super) const MOST: usize = 10_000;
/// The time between two looks for those that have ended, where there are as many, in milliseconds:
/// each costs as much as there are, and others decide how often one is told.
const SWEEP_AFTER: u64 = 1_000;

/// Penalties, by their sources.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    until: BTreeMap<Prefix, u64>,
    sweep_due: u64,
}

impl Penalties {
    /// Until when a source has one, in milliseconds.
    pub(super) fn until(&self, source: &Prefix) -> Option<u64> {
        self.until.get(source).copied()
    }

    /// Notes one in the place of that which the source has. Returns whether there is room for it.
    pub(super) fn note(&mut self, source: Prefix, until: u64, now: u64) -> bool {
        if self.until.len() >= MOST && now >= self.sweep_due {
            self.sweep_due = now + SWEEP_AFTER;
            self.until.retain(|_, until| now < *until);
        }
        let has_room = self.until.len() < MOST || self.until.contains_key(&source);
        if has_room {
            self.until.insert(source, until);
        }
        has_room
    }

    /// Forgets that of a source.
    pub(super) fn forget(&mut self, source: &Prefix) {
        self.until.remove(source);
    }

    /// The sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = Prefix> {
        self.until.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_ones_make_room_once_in_a_second() {
        let source = |number: u32| -> Prefix {
            std::net::Ipv4Addr::from_bits(number).to_string().parse().expect("an address")
        };
        let mut penalties = Penalties::default();
        assert!((0..MOST as u32).all(|number| penalties.note(
            source(number),
            500 + u64::from(number % 2),
            0
        )));
        let next = MOST as u32;
        assert!(!penalties.note(source(next), 9_000, 0), "it was looked for ended ones: there are none");
        assert!(!penalties.note(source(next), 9_000, 999) && penalties.note(source(0), 9_000, 999));
        assert_eq!((penalties.until(&source(0)), penalties.until(&source(next))), (Some(9_000), None));
        assert!(penalties.note(source(next), 9_000, 1_000));
        assert_eq!(penalties.sources().collect::<Vec<_>>(), [source(0), source(next)]);
        penalties.forget(&source(0));
        assert_eq!(penalties.until(&source(0)), None);
    }
}
