//! The use of each source at the other nodes together, as far as the service does not know it yet.

use std::collections::{BTreeMap, BTreeSet};

use tine::cli::Prefix;

/// Sources, at most.
const MOST: usize = 262_144;

/// The use of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    held: u64,
    /// Those that the service does not know of yet.
    taken: u64,
    /// What it was told last.
    told: u32,
}

/// A sum as the service gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) source: Prefix,
    pub(super) held: u32,
    pub(super) taken: u32,
}

/// The sums of all sources.
#[derive(Debug, Default)]
pub(super) struct Sums {
    by_source: BTreeMap<Prefix, Sum>,
    changed: BTreeSet<Prefix>,
}

impl Sums {
    /// At one node, a source has had `before` connections and has `held` now; `taken` were admitted
    /// since. Returns whether there is room for it.
    pub(super) fn change(&mut self, source: Prefix, before: u32, held: u32, taken: u32) -> bool {
        if before == held && taken == 0 {
            return true;
        }
        if self.by_source.len() >= MOST && !self.by_source.contains_key(&source) {
            return false;
        }
        let sum = self.by_source.entry(source).or_default();
        sum.held = (sum.held + u64::from(held)).saturating_sub(u64::from(before));
        sum.taken += u64::from(taken);
        self.changed.insert(source);
        true
    }

    /// What the service is to know next: the largest sums that have changed, as many as fit.
    pub(super) fn take(&mut self, most: usize) -> Vec<Told> {
        let mut all: Vec<(u64, Prefix)> =
            self.changed.iter().map(|source| (self.weight(source), *source)).collect();
        if all.len() > most {
            all.select_nth_unstable_by(most, |one, other| other.cmp(one));
            all.truncate(most);
        }
        all.into_iter().filter_map(|(_, source)| self.tell(source)).collect()
    }

    fn weight(&self, source: &Prefix) -> u64 {
        self.by_source.get(source).map_or(0, |sum| sum.held.max(u64::from(sum.told)) + sum.taken)
    }

    fn tell(&mut self, source: Prefix) -> Option<Told> {
        self.changed.remove(&source);
        let sum = self.by_source.get_mut(&source)?;
        let fit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let (held, taken) = (fit(sum.held), fit(std::mem::take(&mut sum.taken)));
        let is_news = held != sum.told || taken > 0;
        sum.told = held;
        if sum.held == 0 {
            self.by_source.remove(&source);
        }
        is_news.then_some(Told { source, held, taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Prefix {
        std::net::Ipv4Addr::from_bits(number).to_string().parse().expect("an address")
    }

    fn told(number: u32, held: u32, taken: u32) -> Told {
        Told { source: source(number), held, taken }
    }

    #[test]
    fn sums_are_told_when_they_change() {
        let mut sums = Sums::default();
        assert!(sums.change(source(1), 0, 3, 4) && sums.change(source(1), 0, 2, 0));
        assert_eq!(sums.take(10), [told(1, 5, 4)]);
        assert_eq!(sums.take(10), []);
        // One node has gone, the other one has admitted one for each that has ended.
        assert!(sums.change(source(1), 3, 0, 0) && sums.change(source(1), 2, 2, 1));
        assert_eq!(sums.take(10), [told(1, 2, 1)]);
        // What has changed back is not told.
        assert!(sums.change(source(1), 2, 3, 0) && sums.change(source(1), 3, 2, 0));
        assert_eq!(sums.take(10), []);
        assert!(sums.change(source(1), 2, 0, 0));
        assert_eq!((sums.take(10), sums.by_source.len()), (vec![told(1, 0, 0)], 0));
        // Connections that have come and gone between two messages.
        assert!(sums.change(source(1), 0, 0, 7));
        assert_eq!((sums.take(10), sums.by_source.len()), (vec![told(1, 0, 7)], 0));
    }

    #[test]
    fn the_largest_sums_are_told_first() {
        let mut sums = Sums::default();
        for number in 0..100 {
            assert!(sums.change(source(number), 0, number + 1, 0));
        }
        let mut first: Vec<u32> = sums.take(10).iter().map(|told| told.held).collect();
        first.sort_unstable();
        assert_eq!(first, (91..=100).collect::<Vec<u32>>());
        // One that was large, and is not any more, is among them.
        assert!(sums.change(source(99), 100, 0, 0));
        assert!(sums.take(10).contains(&told(99, 0, 0)));
        assert_eq!(sums.take(usize::MAX).len(), 100 - 10 - 9);
    }

    #[test]
    fn sums_are_bounded_in_number_and_size() {
        let mut sums = Sums::default();
        for number in 0..MOST as u32 {
            assert!(sums.change(source(number), 0, u32::MAX, u32::MAX));
        }
        assert!(!sums.change(source(u32::MAX), 0, 1, 0));
        assert!(sums.change(source(0), 0, u32::MAX, u32::MAX));
        assert_eq!(sums.take(1), [told(0, u32::MAX, u32::MAX)]);
    }
}
