//! A word for each source, in memory that all forkers share: bounded, without a lock that a dead forker could hold, and
//! forgetting by itself. A word begins with the time until which it says anything; after that its place is free.

use std::hash::{BuildHasher, Hash, RandomState};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use tine_sys::memory::SharedTables;

/// Sources that are remembered at a time.
pub(crate) const MAX_SOURCES: usize = 100_000;

/// Entrys among which a source's is looked for.
const WAYS: usize = 8;

/// What a source is known by (a number that depends on a secret of this server), and its word: a time of the monotonic
/// clock in nanoseconds, of which the lowest bit is the owner's, for whatever [`Bit`] says.
type SourceEntry = [AtomicU64; 2];

/// What the lowest bit of a word is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// It means something as long as the word's time has not come, no longer.
    Expired,
    /// Where it is set, the source is remembered whatever its time: its place goes to another only where all the others are
    /// marked, too.
    Pinned,
}

/// The words. 16 bytes a source: 1.6 MB in all.
#[derive(Debug)]
pub(crate) struct Sources {
    entries: SharedTables<SourceEntry>,
    secret: RandomState,
    eviction: Eviction,
}

impl Sources {
    /// Nobody is known.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(eviction: Eviction) -> io::Result<Sources> {
        let entries = SharedTables::new(MAX_SOURCES.next_multiple_of(WAYS), 0)?;
        Ok(Sources { entries, secret: RandomState::new(), eviction })
    }

    /// Leaves it out of processes forked from here.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.entries.exclude_from_fork()
    }

    /// Takes it away from this process, which must not use it any more.
    pub(crate) fn unmap(self) -> io::Result<()> {
        self.entries.unmap()
    }

    /// The word of a source, if it has one.
    pub(crate) fn find(&self, source: &impl Hash) -> Option<u64> {
        let (name, places) = self.set(source);
        find(places, name).map(|place| place[1].load(Acquire))
    }

    /// Changes the word of a source as `step` says, from what it was (now, where nothing was known) to what it will be.
    /// Returns that; `None` if the step says no.
    pub(crate) fn change(
        &self,
        source: &impl Hash,
        now: u64,
        step: impl Fn(u64) -> Option<u64>,
    ) -> Option<u64> {
        let (name, places) = self.set(source);
        loop {
            let Some(place) = find(places, name).or_else(|| self.claim(places, name, now)) else { continue };
            let before = place[1].load(Acquire);
            let after = step(before)?;
            if place[1].compare_exchange(before, after, AcqRel, Acquire).is_ok() {
                return Some(after);
            }
        }
    }

    /// Changes every word at once.
    pub(crate) fn change_all(&self, step: impl Fn(u64) -> u64) {
        for place in self.entries.first() {
            let _ = place[1].fetch_update(AcqRel, Acquire, |word| Some(step(word)));
        }
    }

    /// What a source is known by, and the places that may be its.
    fn set(&self, source: &impl Hash) -> (u64, &[SourceEntry]) {
        // Zero is a place that nobody has had.
        let name = self.secret.hash_one(source) | 1;
        let entries = self.entries.first();
        let first = (name >> 32) as usize % (entries.len() / WAYS) * WAYS;
        (name, &entries[first..first + WAYS])
    }

    /// A place for a new source: one whose time is over, else the one whose will be first. `None` if somebody else was
    /// quicker.
    fn claim<'p>(&self, places: &'p [SourceEntry], name: u64, now: u64) -> Option<&'p SourceEntry> {
        let stays = |word: u64| self.eviction == Eviction::Pinned && word & 1 == 1;
        let rank = |place: &&SourceEntry| {
            let until = place[1].load(Acquire);
            (stays(until), until.max(now))
        };
        // All whose time is over rank alike.
        let place = places.iter().min_by_key(rank)?;
        let (old, word) = (place[0].load(Acquire), place[1].load(Acquire));
        // Looked for once more: who gave this source a place meanwhile has made it one that is not chosen here, and two
        // would be two buckets.
        if let Some(found) = find(places, name) {
            return Some(found);
        }
        place[0].compare_exchange(old, name, AcqRel, Acquire).ok()?;
        // It begins with nothing said. If it has been changed meanwhile, that was for another: it is this one's by now.
        let _ = place[1].compare_exchange(word, now & !1, AcqRel, Acquire);
        Some(place)
    }
}

fn find(places: &[SourceEntry], name: u64) -> Option<&SourceEntry> {
    places.iter().find(|place| place[0].load(Acquire) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one of two tokens, of which there is a new one in 100: as rates do.
    fn take(table: &Sources, source: u64, now: u64) -> bool {
        let step = |full_at: u64| {
            let after = full_at.max(now) + 100;
            (after - now <= 200).then_some(after)
        };
        table.change(&source, now, step).is_some()
    }

    fn table() -> Sources {
        Sources::new(Eviction::Expired).expect("memory")
    }

    #[test]
    fn who_is_marked_is_remembered() {
        for (bit, remembered) in [(Eviction::Pinned, true), (Eviction::Expired, false)] {
            let table = Sources::new(bit).expect("memory");
            let same_set = |source: &u64| std::ptr::eq(table.set(source).1, table.set(&0).1);
            let mut others = (1..).filter(same_set);
            let mut come = |count: usize, now: u64, bit: u64| {
                others.by_ref().take(count).for_each(|source| {
                    table.change(&source, now, |word| Some(word.max(now) & !1 | bit));
                });
            };
            table.change(&0, 1000, |word| Some(word | 1));
            // Others find a place, known for long and not; marked, as long as there are places.
            come(2 * WAYS, 2000, 0);
            come(2 * WAYS, 1_000_000, 0);
            come(WAYS - 1, 2000, 1);
            assert_eq!(table.find(&0), remembered.then_some(1001), "{bit:?}");
            come(1, 2000, 1);
            assert_eq!(table.find(&0), None, "there are no more than {WAYS}");
        }
    }

    #[test]
    fn thousands_who_wait_are_remembered() {
        let table = Sources::new(Eviction::Pinned).expect("memory");
        for source in 0..4096u64 {
            table.change(&source, 1000 * source, |word| Some(word | 1));
        }
        // Nine of them in a set of eight places are rare.
        let remembered = (0..4096u64).filter(|source| table.find(source).is_some()).count();
        assert!(remembered >= 4094, "{remembered}");
    }

    #[test]
    fn each_source_has_a_word_of_its_own() {
        let table = table();
        let take = |source: u64, now: u64| take(&table, source, now);
        assert_eq!([take(1, 1000), take(1, 1000), take(1, 1000)], [true, true, false]);
        assert_eq!([take(2, 1000), take(2, 1000), take(2, 1000)], [true, true, false]);
        assert_eq!([take(1, 1100), take(1, 1100)], [true, false]);
    }

    #[test]
    fn a_hundred_thousand_sources_and_more() {
        let table = table();
        // Nearly all find a place; whose set is full takes that of another, and is admitted.
        assert!((0..2 * MAX_SOURCES as u64).all(|source| take(&table, source, 1000)));
        // Those that came last are known: no more than their two tokens, for nearly all of them.
        let beyond = |source: u64| {
            take(&table, source, 1000);
            !take(&table, source, 1000)
        };
        let known = (3 * MAX_SOURCES as u64..3 * MAX_SOURCES as u64 + 1000)
            .filter(|source| take(&table, *source, 1000) && beyond(*source));
        assert_eq!(known.count(), 1000);
        // When the buckets are full again, their places are free: nobody who is still counted loses one.
        assert!(
            (0..MAX_SOURCES as u64 / 4)
                .all(|source| take(&table, source, 2000) && take(&table, source, 2000))
        );
        let counted = (0..MAX_SOURCES as u64 / 4).filter(|source| !take(&table, *source, 2000)).count();
        assert!(counted > MAX_SOURCES / 4 - MAX_SOURCES / 100, "{counted}");
    }

    #[test]
    fn many_at_once_take_no_token_twice() {
        let table = table();
        let one_of_many = |_: usize| {
            (0..1000)
                .filter(|_| {
                    let step = |full: u64| (full.max(1000) < 2500).then_some(full.max(1000) + 1);
                    table.change(&7, 1000, step).is_some()
                })
                .count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || one_of_many(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, 1500);
    }

    #[test]
    fn a_source_that_many_see_first_has_one_word() {
        const ROUNDS: u64 = 50_000;
        let table = table();
        let barrier: Vec<AtomicU64> = (0..ROUNDS).map(|_| AtomicU64::new(0)).collect();
        let admitted_in_turn = |_: usize| {
            let admitted = |source: &u64| {
                // All at once, as far as that can be had. Where the other has no processor, it has this one.
                let turn = &barrier[*source as usize];
                turn.fetch_add(1, AcqRel);
                let mut waited = 0;
                while turn.load(Acquire) < 2 {
                    waited += 1;
                    if waited < 1000 { std::hint::spin_loop() } else { std::thread::yield_now() }
                }
                table.change(source, 1000, |full_at| (full_at <= 1000).then_some(1_000_000)).is_some()
            };
            (0..ROUNDS).filter(admitted).count() as u64
        };
        let admitted: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..2).map(|number| scope.spawn(move || admitted_in_turn(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, ROUNDS);
    }
}
