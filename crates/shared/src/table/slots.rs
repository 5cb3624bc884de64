//! The slots of a table: looking for an entry, and changing one.
//!
//! Readers take no lock. An entry is changed under the lock of its key, its stripe; a free slot is
//! claimed by one compare-and-exchange, by any holder of any stripe. Each change counts from one
//! compare-and-exchange of the first word of the slot.

use std::marker::PhantomData;

use super::hash::{Hash, STRIPES, Secret};
use super::hints::{self, SLOTS};
use super::meta::{Meta, State};
use super::stripe::{Stripe, WORDS_OF_STRIPE};
use crate::copies;
use crate::error::Error;
use crate::lock;
use crate::memory;
use crate::owner::{Members, Owner};
use crate::plain::Plain;
use crate::sync::{self, AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release, fence};

/// How often a process claims a slot, and something writes to it beside the library.
const ATTEMPTS: usize = 8;

/// The slots of a table.
pub(super) struct Slots<K, V> {
    /// A word for each bucket. They lie together, since a reader needs those of two buckets.
    hints: &'static [AtomicU64],
    /// For each slot its first word, the key, and twice the time at which the entry expires (0:
    /// never) and the value.
    words: &'static [AtomicU64],
    buckets: usize,
    stripes: &'static [AtomicU32],
    /// The number of the first stripe among the objects that processes claim.
    first_object: u32,
    secret: Secret,
    /// The monotonic clock, in nanoseconds.
    pub(super) now: fn() -> u64,
    types: PhantomData<fn(K) -> V>,
}

/// An entry that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<R> {
    place: Place,
    /// When it expires, 0 for never.
    pub(super) expiry: u64,
    /// What was read of its value.
    pub(super) value: R,
}

/// A slot with a first word that it had.
#[derive(Clone, Copy, Debug)]
struct Place {
    bucket: usize,
    slot: usize,
    meta: Meta,
}

impl<K: Plain, V: Plain> Slots<K, V> {
    const COPY: usize = 1 + V::WORDS;
    /// A small slot lies in one cache line.
    const SLOT: usize = match 1 + K::WORDS + 2 * Self::COPY {
        words @ 0..=8 => words.next_power_of_two(),
        words => words,
    };

    /// Makes slots for this many entries: twice as many, since the two buckets of a key can be
    /// full before all are.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(super) fn make(name: &str, capacity: usize, now: fn() -> u64) -> Result<Slots<K, V>, Error> {
        let buckets = (2 * capacity).div_ceil(SLOTS).max(2);
        Ok(Slots {
            hints: memory::words(name, buckets)?,
            words: memory::words(name, buckets.saturating_mul(SLOTS * Self::SLOT))?,
            buckets,
            stripes: memory::futexes(name, STRIPES * WORDS_OF_STRIPE)?,
            first_object: lock::next_objects(STRIPES as u32),
            secret: Secret::random(),
            now,
            types: PhantomData,
        })
    }

    /// Where a key belongs.
    #[inline]
    pub(super) fn hash(&self, key: &K) -> Hash {
        self.secret.hash(key, self.buckets)
    }

    #[inline]
    pub(super) fn stripe(&self, number: usize) -> Stripe {
        Stripe::of(&self.stripes[number * WORDS_OF_STRIPE..], self.first_object + number as u32)
    }

    /// All stripes.
    pub(super) fn stripes(&self) -> impl Iterator<Item = Stripe> {
        (0..STRIPES).map(|number| self.stripe(number))
    }

    /// The numbers of the stripes among the objects that processes claim.
    pub(super) fn objects(&self) -> std::ops::Range<u32> {
        self.first_object..self.first_object + STRIPES as u32
    }

    /// The number of slots.
    pub(super) fn count(&self) -> usize {
        self.buckets * SLOTS
    }

    /// Whether a time has come at which an entry expires.
    #[inline]
    pub(super) fn is_over(&self, expiry: u64) -> bool {
        expiry != 0 && (self.now)() >= expiry
    }

    /// The words of a slot: the first one, and the others.
    #[inline]
    fn slot(&self, bucket: usize, slot: usize) -> (&'static AtomicU64, &'static [AtomicU64]) {
        let words = &self.words[(bucket * SLOTS + slot) * Self::SLOT..][..Self::SLOT];
        (&words[0], &words[1..])
    }

    fn word(&self, place: Place) -> &'static AtomicU64 {
        self.slot(place.bucket, place.slot).0
    }

    #[inline]
    fn copy(data: &[AtomicU64], side: usize) -> &[AtomicU64] {
        &data[K::WORDS + side * Self::COPY..][..Self::COPY]
    }

    /// Looks for an entry, expired or not, and reads its value.
    #[inline(always)]
    pub(super) fn find<R>(&self, key: &K, hash: &Hash, read: impl Fn(&[AtomicU64]) -> R) -> Option<Found<R>> {
        let [one, other] =
            hash.buckets.map(|bucket| hints::with(self.hints[bucket].load(Relaxed), hash.hint()));
        // Both sets in one, the second one a bit higher: one loop, and mostly one turn of it.
        let mut candidates = one | other << 1;
        while candidates != 0 {
            let slot = hints::first(candidates);
            let bucket = hash.buckets[candidates.trailing_zeros() as usize & 1];
            candidates &= candidates - 1;
            let (word, data) = self.slot(bucket, slot);
            let wanted = |meta: Meta| meta.is_entry(hash.tag);
            let read = |data: &[AtomicU64], side| {
                same(key, data).then(|| {
                    let copy = Self::copy(data, side);
                    (copy[0].load(Relaxed), read(&copy[1..]))
                })
            };
            if let Some((meta, Some((expiry, value)))) = read_whole(word, data, wanted, read) {
                return Some(Found { place: Place { bucket, slot, meta }, expiry, value });
            }
        }
        None
    }

    /// The entry in a slot, expired or not.
    pub(super) fn entry(&self, number: usize) -> Option<(K, Found<V>)> {
        let (bucket, slot) = (number / SLOTS, number % SLOTS);
        let (word, data) = self.slot(bucket, slot);
        let wanted = |meta: Meta| meta.state() == State::Used;
        let (meta, (key, expiry, value)) = read_whole(word, data, wanted, |data, side| {
            let copy = Self::copy(data, side);
            (copies::load(data), copy[0].load(Relaxed), copies::load(&copy[1..]))
        })?;
        Some((key, Found { place: Place { bucket, slot, meta }, expiry, value }))
    }

    /// Gives an entry another value. The caller holds its stripe. False if something has changed
    /// the entry beside the library.
    #[inline]
    pub(super) fn update<R>(&self, found: &Found<R>, value: &V, expiry: u64) -> bool {
        let Place { bucket, slot, meta } = found.place;
        let (word, data) = self.slot(bucket, slot);
        if word.load(Relaxed) != meta.0 {
            return false;
        }
        let copy = Self::copy(data, 1 - meta.side());
        // A process that reads a word of this copy below also sees that it does not count.
        fence(Release);
        copy[0].store(expiry, Relaxed);
        copies::store(&copy[1..], value);
        // Nobody else changes the slot of an entry whose stripe is held.
        word.store(meta.updated().0, Release);
        true
    }

    /// Removes an entry. The caller, `own`, holds its stripe.
    pub(super) fn remove<R>(&self, found: &Found<R>, stripe: Stripe, own: Owner) {
        let Place { bucket, slot, meta } = found.place;
        let (word, claimed) = (self.word(found.place), meta.claimed(own));
        // The hint goes first: the next one to claim the slot sets another.
        if stripe.change(word, meta, claimed, -1) {
            self.hint(bucket, slot, 0);
            let _ = word.compare_exchange(claimed.0, claimed.freed().0, AcqRel, Relaxed);
        }
    }

    /// Sets the hint of a slot that this process has claimed.
    fn hint(&self, bucket: usize, slot: usize, hint: u8) {
        let set = |hints| Some(hints::set(hints, slot, hint));
        let _ = self.hints[bucket].fetch_update(AcqRel, Relaxed, set);
    }

    /// Makes a new entry. The caller holds the stripe of the key, which has none. False if there is
    /// no room.
    pub(super) fn add(
        &self,
        key: &K,
        hash: &Hash,
        (value, expiry): (&V, u64),
        (own, members): (Owner, Members),
    ) -> bool {
        for _ in 0..ATTEMPTS {
            let Some(place) = self.claim(hash, own, members) else { return false };
            self.hint(place.bucket, place.slot, hash.hint());
            let (word, data) = self.slot(place.bucket, place.slot);
            // A process that reads a word of these also sees that the last entry does not count.
            fence(Release);
            copies::store(data, key);
            let copy = Self::copy(data, 0);
            copy[0].store(expiry, Relaxed);
            copies::store(&copy[1..], value);
            let stripe = self.stripe(hash.stripe);
            if stripe.change(word, place.meta, place.meta.used(hash.tag), 1) {
                return true;
            }
        }
        false
    }

    /// Claims a slot, in the emptier one of both buckets.
    fn claim(&self, hash: &Hash, own: Owner, members: Members) -> Option<Place> {
        let [one, other] = hash.buckets;
        let free = |bucket: usize| hints::with(self.hints[bucket].load(Relaxed), 0);
        let is_first = free(one).count_ones() >= free(other).count_ones();
        let order = if is_first { [one, other] } else { [other, one] };
        for bucket in order {
            for slot in hints::each(free(bucket)) {
                let place = self.place(bucket, slot);
                if place.meta.state() == State::Free
                    && let Some(claimed) = self.claim_this(place, own)
                {
                    return Some(claimed);
                }
            }
        }
        self.claim_left(hash, own, members).or_else(|| self.take_expired(hash, own, members))
    }

    fn place(&self, bucket: usize, slot: usize) -> Place {
        let (word, _) = self.slot(bucket, slot);
        Place { bucket, slot, meta: Meta(word.load(Acquire)) }
    }

    /// Claims a slot that a dead process has claimed, or whose hint is not that of its state.
    #[cold]
    fn claim_left(&self, hash: &Hash, own: Owner, members: Members) -> Option<Place> {
        let slots = hash.buckets.into_iter().flat_map(|bucket| (0..SLOTS).map(move |slot| (bucket, slot)));
        slots.map(|(bucket, slot)| self.place(bucket, slot)).find_map(|place| {
            let is_free = match place.meta.state() {
                State::Free => true,
                State::Claimed(owner) => members.is_gone(owner),
                State::Used => false,
            };
            if is_free { self.claim_this(place, own) } else { None }
        })
    }

    fn claim_this(&self, place: Place, own: Owner) -> Option<Place> {
        let meta = place.meta.claimed(own);
        let is_ours = self.word(place).compare_exchange(place.meta.0, meta.0, AcqRel, Relaxed).is_ok();
        is_ours.then_some(Place { meta, ..place })
    }

    /// Claims the slot of an expired entry, if the lock of that one is free now.
    #[cold]
    fn take_expired(&self, hash: &Hash, own: Owner, members: Members) -> Option<Place> {
        let now = (self.now)();
        let expired = |number| {
            let (key, found) = self.entry(number)?;
            (found.expiry != 0 && found.expiry <= now).then_some((key, found))
        };
        let of_bucket = |bucket: usize| (bucket * SLOTS..(bucket + 1) * SLOTS).filter_map(expired);
        let [one, other] = hash.buckets;
        // The bucket in which fewer entries live, as for a free slot.
        let is_first = of_bucket(one).count() >= of_bucket(other).count();
        let order = if is_first { [one, other] } else { [other, one] };
        for (key, found) in order.into_iter().flat_map(of_bucket) {
            let its = self.hash(&key).stripe;
            let stripe = self.stripe(its);
            // The caller holds its own stripe already. Nobody waits for a second one.
            let turn = if its == hash.stripe {
                None
            } else {
                let Some(turn) = stripe.try_take(own, members, || self.recount(its)) else { continue };
                Some(turn)
            };
            let Place { meta, .. } = found.place;
            let claimed = meta.claimed(own);
            let is_ours = stripe.change(self.word(found.place), meta, claimed, -1);
            if is_ours {
                stripe.count_expired();
            }
            drop(turn);
            if is_ours {
                return Some(Place { meta: claimed, ..found.place });
            }
        }
        None
    }

    /// Counts the entries of a stripe, which the caller holds.
    #[cold]
    pub(super) fn recount(&self, stripe: usize) -> u32 {
        let is_its =
            |number: &usize| self.entry(*number).is_some_and(|(key, _)| self.hash(&key).stripe == stripe);
        (0..self.count()).filter(is_its).count() as u32
    }
}

/// Reads what lies in a slot, all of it from between two changes; `None` if its first word is not
/// wanted.
#[inline]
fn read_whole<R>(
    word: &AtomicU64,
    data: &[AtomicU64],
    wanted: impl Fn(Meta) -> bool,
    read: impl Fn(&[AtomicU64], usize) -> R,
) -> Option<(Meta, R)> {
    loop {
        let meta = Meta(word.load(Acquire));
        if !wanted(meta) {
            return None;
        }
        let result = read(data, meta.side());
        fence(Acquire);
        if word.load(Relaxed) == meta.0 {
            return Some((meta, result));
        }
        sync::spin();
    }
}

/// Whether the words begin with those of this key.
#[inline]
fn same<K: Plain>(key: &K, words: &[AtomicU64]) -> bool {
    let mut words = words.iter();
    let mut is_same = true;
    key.put(&mut |put| is_same &= words.next().is_some_and(|word| word.load(Relaxed) == put));
    is_same
}

#[cfg(all(test, not(loom)))]
impl<K: Plain, V: Plain> Slots<K, V> {
    /// Claims a slot for a key, and no more: as a process that dies then.
    pub(super) fn only_claim(&self, key: &K, own: Owner, members: Members) -> bool {
        self.claim(&self.hash(key), own, members).is_some()
    }

    /// All words.
    pub(super) fn words(&self) -> (&'static [AtomicU64], &'static [AtomicU64], &'static [AtomicU32]) {
        (self.hints, self.words, self.stripes)
    }
}
