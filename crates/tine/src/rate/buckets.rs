//! Buckets by source, in memory that all forkers share: bounded, without a lock that a dead forker could hold, and
//! forgetting by itself. A full bucket says nothing, so its place is free.

use std::hash::{BuildHasher, Hash, RandomState};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use tine_sys::memory::{Region, Shared};

/// Sources that are remembered at a time.
pub(crate) const MOST: usize = 100_000;

/// Places among which a source's is looked for.
const WAYS: usize = 8;

/// What a source is known by (a number that depends on a secret of this server), and when its bucket is full.
type Place = [AtomicU64; 2];

/// The buckets. 16 bytes a source: 1.6 MB in all.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    places: Shared<Place>,
    region: Region,
    secret: RandomState,
}

impl Buckets {
    /// An empty one.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new() -> io::Result<Buckets> {
        // The second table is of no use; a pair is what can be kept from children.
        let (places, _, region): (_, Shared<AtomicU64>, _) = Shared::pair(MOST.next_multiple_of(WAYS), 1)?;
        Ok(Buckets { places, region, secret: RandomState::new() })
    }

    /// Leaves it out of processes forked from here.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.region.keep_from_children()
    }

    /// Takes it away from this process, which must not use it any more.
    pub(crate) fn withdraw(&self) -> io::Result<()> {
        self.region.withdraw()
    }

    /// Changes the bucket of a source as `step` says, from when it was full to when it will be; false if that says no.
    pub(crate) fn take(&self, source: &impl Hash, now: u64, step: impl Fn(u64, u64) -> Option<u64>) -> bool {
        // Zero is a place that nobody has had.
        let name = self.secret.hash_one(source) | 1;
        let first = (name >> 32) as usize % (self.places.len() / WAYS) * WAYS;
        let places = &self.places[first..first + WAYS];
        loop {
            let found = places.iter().find(|place| place[0].load(Acquire) == name);
            let Some(place) = found.or_else(|| claim(places, name, now)) else { continue };
            let before = place[1].load(Acquire);
            let Some(after) = step(before, now) else { return false };
            if place[1].compare_exchange(before, after, AcqRel, Acquire).is_ok() {
                return true;
            }
        }
    }
}

/// A place for a new source: one whose bucket is full, else the one that will be first. `None` if somebody else was quicker.
fn claim(places: &[Place], name: u64, now: u64) -> Option<&Place> {
    let full_at = |place: &&Place| place[1].load(Acquire);
    let place =
        places.iter().find(|place| full_at(place) <= now).or_else(|| places.iter().min_by_key(full_at))?;
    let (old, bucket) = (place[0].load(Acquire), place[1].load(Acquire));
    place[0].compare_exchange(old, name, AcqRel, Acquire).ok()?;
    // Its bucket begins full. If it has been changed meanwhile, that was for another: it is this one's by now.
    let _ = place[1].compare_exchange(bucket, now, AcqRel, Acquire);
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buckets of two tokens, one in 100.
    fn step(full_at: u64, now: u64) -> Option<u64> {
        let after = full_at.max(now) + 100;
        (after - now <= 200).then_some(after)
    }

    fn buckets() -> Buckets {
        Buckets::new().expect("memory")
    }

    #[test]
    fn each_source_has_a_bucket_of_its_own() {
        let table = buckets();
        let take = |source: u32, now: u64| table.take(&source, now, step);
        assert_eq!([take(1, 1000), take(1, 1000), take(1, 1000)], [true, true, false]);
        assert_eq!([take(2, 1000), take(2, 1000), take(2, 1000)], [true, true, false]);
        assert_eq!([take(1, 1100), take(1, 1100)], [true, false]);
    }

    #[test]
    fn a_hundred_thousand_sources_and_more() {
        let table = buckets();
        // Nearly all find a place; whose set is full takes that of another, and is admitted.
        assert!((0..2 * MOST as u64).all(|source| table.take(&source, 1000, step)));
        // Those that came last are known: no more than their two tokens, for nearly all of them.
        let beyond = |source: &u64| {
            table.take(source, 1000, step);
            !table.take(source, 1000, step)
        };
        let known = (3 * MOST as u64..3 * MOST as u64 + 1000)
            .filter(|source| table.take(source, 1000, step) && beyond(source));
        assert_eq!(known.count(), 1000);
        // When the buckets are full again, their places are free: nobody who is still counted loses one.
        assert!(
            (0..MOST as u64 / 4)
                .all(|source| table.take(&source, 2000, step) && table.take(&source, 2000, step))
        );
        let counted = (0..MOST as u64 / 4).filter(|source| !table.take(source, 2000, step)).count();
        assert!(counted > MOST / 4 - MOST / 100, "{counted}");
    }

    #[test]
    fn many_at_once_take_no_token_twice() {
        let table = buckets();
        let one_of_many = |_: usize| {
            (0..1000)
                .filter(|_| {
                    table.take(&7, 1000, |full, now| {
                        let after = full.max(now) + 1;
                        (after - now <= 1500).then_some(after)
                    })
                })
                .count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || one_of_many(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, 1500);
    }
}
