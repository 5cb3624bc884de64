//! A table with a word for each source, in memory that all forkers share. Its size is fixed, and it
//! has no lock that a killed forker could leave locked. A word holds an expiry time; expired
//! entries are reused for other sources, except for pinned ones.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use tine_sys::memory::SharedTables;

/// The number of sources that a table can hold.
pub(crate) const MAX_SOURCES: usize = 100_000;

/// The number of entries in a set; a source's entry can be any of its set (8-way set-associative).
const WAYS: usize = 8;

/// The source's key (a hash with a secret of this server; 0 in an unused entry), and its word: the
/// expiry time in nanoseconds of the monotonic clock, whose bit 0 is a flag of the table's user.
type SourceEntry = [AtomicU64; 2];

/// Which entry of a set is reused for a new source. Expired entries count as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// The one that expires first; bit 0 has no influence.
    Expired,
    /// The one that expires first among those whose bit 0 is clear; if it is set in all, among all.
    Pinned,
}

/// What makes the keys of sources, so that no client can choose addresses of the same set. All
/// generations of a server have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceSecret(pub(crate) [u64; 2]);

impl SourceSecret {
    /// Another one for each call.
    pub(crate) fn random() -> SourceSecret {
        // Each state has keys of its own, which the standard library takes from the system.
        let random = RandomState::new();
        SourceSecret([random.hash_one(0), random.hash_one(1)])
    }

    /// The hash of a source. The hasher itself has no secret, so that one comes first.
    #[inline]
    fn hash_one(self, source: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.iter().for_each(|word| hasher.write_u64(*word));
        source.hash(&mut hasher);
        hasher.finish()
    }
}

/// The entries of a table that still matter, for the next generation of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourcesState {
    /// A hash by the secret: another version of the standard library may hash otherwise.
    pub(crate) check: u64,
    /// Key and word of each entry.
    pub(crate) entries: Vec<[u64; 2]>,
}

/// The table: 16 bytes for each source, 1.6 MB in all.
#[derive(Debug)]
pub(crate) struct Sources {
    entries: SharedTables<SourceEntry>,
    secret: SourceSecret,
    eviction: Eviction,
}

impl Sources {
    /// Maps an empty table.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(eviction: Eviction, secret: SourceSecret) -> io::Result<Sources> {
        let entries = SharedTables::new(MAX_SOURCES.next_multiple_of(WAYS), 0)?;
        Ok(Sources { entries, secret, eviction })
    }

    /// The entries that have not expired.
    pub(crate) fn export(&self, now: u64) -> SourcesState {
        let entries = self.entries.first().iter().map(|[key, word]| [key.load(Acquire), word.load(Acquire)]);
        let entries = entries.filter(|[key, word]| *key != 0 && word & !1 > now).collect();
        SourcesState { check: self.check(), entries }
    }

    /// Takes entries of an older generation into an empty table, each word changed by `step`. Those
    /// of a table with other keys are of no use.
    pub(crate) fn import(&self, state: &SourcesState, step: impl Fn(u64) -> u64) {
        if state.check != self.check() {
            return;
        }
        for [key, word] in &state.entries {
            let free = self.set_of(*key).iter().find(|entry| entry[0].load(Acquire) == 0);
            if let Some(entry) = free {
                entry[0].store(*key, Release);
                entry[1].store(step(*word), Release);
            }
        }
    }

    fn check(&self) -> u64 {
        self.secret.hash_one(&"tine")
    }

    /// Leaves the table out of processes forked from now on.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.entries.exclude_from_fork()
    }

    /// Takes the permission to write the table away from this process.
    pub(crate) fn make_read_only(&self) -> io::Result<()> {
        self.entries.make_read_only()
    }

    /// Unmaps the table in this process.
    pub(crate) fn unmap(self) -> io::Result<()> {
        self.entries.unmap()
    }

    /// The word of a source, if it has one.
    pub(crate) fn find(&self, source: &impl Hash) -> Option<u64> {
        let (key, set) = self.set(source);
        find(set, key).map(|entry| entry[1].load(Acquire))
    }

    /// Changes the word of a source atomically: `step` gets the old word and returns the new one.
    /// For a source without an entry, the old word is `now` with bit 0 clear. Returns the new word;
    /// `None` if `step` does, and the word stays.
    pub(crate) fn change(
        &self,
        source: &impl Hash,
        now: u64,
        step: impl Fn(u64) -> Option<u64>,
    ) -> Option<u64> {
        let (key, set) = self.set(source);
        loop {
            let Some(entry) = find(set, key).or_else(|| self.claim(set, key, now)) else { continue };
            let before = entry[1].load(Acquire);
            let after = step(before)?;
            if entry[1].compare_exchange(before, after, AcqRel, Acquire).is_ok() {
                return Some(after);
            }
        }
    }

    /// Changes the word of every entry, each one atomically.
    pub(crate) fn change_all(&self, step: impl Fn(u64) -> u64) {
        for entry in self.entries.first() {
            let _ = entry[1].fetch_update(AcqRel, Acquire, |word| Some(step(word)));
        }
    }

    /// The key of a source, and the set that its entry is in.
    fn set(&self, source: &impl Hash) -> (u64, &[SourceEntry]) {
        // The key of an unused entry is 0.
        let key = self.secret.hash_one(source) | 1;
        (key, self.set_of(key))
    }

    #[inline]
    fn set_of(&self, key: u64) -> &[SourceEntry] {
        let entries = self.entries.first();
        let first = (key >> 32) as usize % (entries.len() / WAYS) * WAYS;
        &entries[first..first + WAYS]
    }

    /// Claims an entry for a new source: an expired one, else the one chosen by [`Eviction`].
    /// `None` if another process claimed that entry first.
    fn claim<'s>(&self, set: &'s [SourceEntry], key: u64, now: u64) -> Option<&'s SourceEntry> {
        let is_pinned = |word: u64| self.eviction == Eviction::Pinned && word & 1 == 1;
        let rank = |entry: &&SourceEntry| {
            let word = entry[1].load(Acquire);
            // Expired entries rank alike.
            (is_pinned(word), word.max(now))
        };
        let entry = set.iter().min_by_key(rank)?;
        let (old_key, word) = (entry[0].load(Acquire), entry[1].load(Acquire));
        // Another process may have claimed an entry for the same source since the first search. A
        // second entry would be a second token bucket.
        if let Some(found) = find(set, key) {
            return Some(found);
        }
        entry[0].compare_exchange(old_key, key, AcqRel, Acquire).ok()?;
        // The new word is that of a source without a history. If this fails, another process has
        // changed the word since: either for the same source, which counts, or for the evicted one,
        // whose word this source then inherits.
        let _ = entry[1].compare_exchange(word, now & !1, AcqRel, Acquire);
        Some(entry)
    }
}

fn find(set: &[SourceEntry], key: u64) -> Option<&SourceEntry> {
    set.iter().find(|entry| entry[0].load(Acquire) == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a token as a rate does, from a bucket of two that gets a token every 100 ns.
    fn take(table: &Sources, source: u64, now: u64) -> bool {
        let step = |full_at: u64| {
            let after = full_at.max(now) + 100;
            (after - now <= 200).then_some(after)
        };
        table.change(&source, now, step).is_some()
    }

    fn table() -> Sources {
        Sources::new(Eviction::Expired, SourceSecret::random()).expect("memory")
    }

    #[test]
    fn a_pinned_entry_is_evicted_last() {
        for (eviction, is_kept) in [(Eviction::Pinned, true), (Eviction::Expired, false)] {
            let table = Sources::new(eviction, SourceSecret::random()).expect("memory");
            let same_set = |source: &u64| std::ptr::eq(table.set(source).1, table.set(&0).1);
            let mut others = (1..).filter(same_set);
            let mut add = |count: usize, now: u64, bit: u64| {
                others.by_ref().take(count).for_each(|source| {
                    table.change(&source, now, |word| Some(word.max(now) & !1 | bit));
                });
            };
            table.change(&0, 1000, |word| Some(word | 1));
            // Unpinned sources evict each other, and pinned ones evict them as long as there are
            // any.
            add(2 * WAYS, 2000, 0);
            add(2 * WAYS, 1_000_000, 0);
            add(WAYS - 1, 2000, 1);
            assert_eq!(table.find(&0), is_kept.then_some(1001), "{eviction:?}");
            add(1, 2000, 1);
            assert_eq!(table.find(&0), None, "a set has {WAYS} entries");
        }
    }

    #[test]
    fn the_next_generation_knows_what_has_not_expired() {
        let secret = SourceSecret::random();
        let table = |secret| Sources::new(Eviction::Pinned, secret).expect("memory");
        let (old, new, other) = (table(secret), table(secret), table(SourceSecret::random()));
        for source in 0..1000u64 {
            old.change(&source, 0, |_| Some((2 * source) | 1));
        }
        let state = old.export(1000);
        assert_eq!(state.entries.len(), 499);
        new.import(&state, |word| word & !1);
        other.import(&state, |word| word);
        for (source, word) in [(0u64, None), (500, None), (501, Some(1002)), (999, Some(1998))] {
            assert_eq!((new.find(&source), other.find(&source)), (word, None), "{source}");
        }
        assert_ne!(SourceSecret::random(), SourceSecret::random());
    }

    #[test]
    fn thousands_of_pinned_sources_are_kept() {
        let table = Sources::new(Eviction::Pinned, SourceSecret::random()).expect("memory");
        for source in 0..4096u64 {
            table.change(&source, 1000 * source, |word| Some(word | 1));
        }
        // A set with more of them than it has entries is rare.
        let kept = (0..4096u64).filter(|source| table.find(source).is_some()).count();
        assert!(kept >= 4094, "{kept}");
    }

    #[test]
    fn each_source_has_its_own_word() {
        let table = table();
        let take = |source: u64, now: u64| take(&table, source, now);
        assert_eq!([take(1, 1000), take(1, 1000), take(1, 1000)], [true, true, false]);
        assert_eq!([take(2, 1000), take(2, 1000), take(2, 1000)], [true, true, false]);
        assert_eq!([take(1, 1100), take(1, 1100)], [true, false]);
    }

    #[test]
    fn a_full_table_evicts_old_sources_and_limits_new_ones() {
        let table = table();
        // More sources than entries: each new one gets an entry, and its first token.
        assert!((0..2 * MAX_SOURCES as u64).all(|source| take(&table, source, 1000)));
        // New sources in a full table get their two tokens and no third one.
        let is_limited = |source: u64| {
            take(&table, source, 1000);
            !take(&table, source, 1000)
        };
        let limited = (3 * MAX_SOURCES as u64..3 * MAX_SOURCES as u64 + 1000)
            .filter(|source| take(&table, *source, 1000) && is_limited(*source));
        assert_eq!(limited.count(), 1000);
        // Once the buckets are full again, their entries have expired and are reused: new sources
        // evict hardly any entry that has not expired.
        assert!(
            (0..MAX_SOURCES as u64 / 4)
                .all(|source| take(&table, source, 2000) && take(&table, source, 2000))
        );
        let kept = (0..MAX_SOURCES as u64 / 4).filter(|source| !take(&table, *source, 2000)).count();
        assert!(kept > MAX_SOURCES / 4 - MAX_SOURCES / 100, "{kept}");
    }

    #[test]
    fn concurrent_threads_take_no_token_twice() {
        let table = table();
        let count_taken = |_: usize| {
            (0..1000)
                .filter(|_| {
                    let step = |full: u64| (full.max(1000) < 2500).then_some(full.max(1000) + 1);
                    table.change(&7, 1000, step).is_some()
                })
                .count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || count_taken(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, 1500);
    }

    #[test]
    fn concurrent_claims_for_a_source_yield_one_entry() {
        const ROUNDS: u64 = 50_000;
        let table = table();
        let barrier: Vec<AtomicU64> = (0..ROUNDS).map(|_| AtomicU64::new(0)).collect();
        let count_admitted = |_: usize| {
            let admitted = |source: &u64| {
                // Both threads begin each round together. One that waits for long yields its CPU,
                // in case there is only one.
                let arrived = &barrier[*source as usize];
                arrived.fetch_add(1, AcqRel);
                let mut spins = 0;
                while arrived.load(Acquire) < 2 {
                    spins += 1;
                    if spins < 1000 { std::hint::spin_loop() } else { std::thread::yield_now() }
                }
                table.change(source, 1000, |full_at| (full_at <= 1000).then_some(1_000_000)).is_some()
            };
            (0..ROUNDS).filter(admitted).count() as u64
        };
        let admitted: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|number| scope.spawn(move || count_admitted(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, ROUNDS);
    }
}
