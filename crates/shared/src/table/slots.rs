//! The slots of a table: looking for an entry, and changing one.
//!
//! Readers take no lock. An entry is changed under the lock of its key, its stripe; a free slot is
//! claimed by one compare-and-exchange, by any holder of any stripe. Each change counts from one
//! compare-and-exchange of the first word of the slot.

use std::marker::PhantomData;

use super::hash::{Hash, STRIPES, Secret};
use super::meta::{Meta, State};
use super::stripe::{Stripe, WORDS_OF_STRIPE};
use crate::copies;
use crate::error::Error;
use crate::lock;
use crate::memory;
use crate::owner::{Members, Owner};
use crate::plain::Plain;
use crate::sync::{self, AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release, fence};

/// The slots of a bucket: their first words are a cache line.
const SLOTS: usize = 8;

/// How often a process tries to claim a slot that others take before it. Each time means that
/// another one has made progress, or that something writes beside the library.
const ATTEMPTS: usize = 1000;

/// The slots of a table.
pub(super) struct Slots<K, V> {
    /// For each bucket: the first words of its slots, then for each slot the key, and twice the
    /// time at which the entry expires (0: never) and the value.
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
    const SLOT: usize = K::WORDS + 2 * Self::COPY;
    const BUCKET: usize = (SLOTS + SLOTS * Self::SLOT).next_multiple_of(8);

    /// Makes slots for this many entries: twice as many, since the two buckets of a key can be
    /// full before all are.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(super) fn make(name: &str, capacity: usize, now: fn() -> u64) -> Result<Slots<K, V>, Error> {
        let buckets = (2 * capacity).div_ceil(SLOTS).max(2);
        Ok(Slots {
            words: memory::words(name, buckets.saturating_mul(Self::BUCKET))?,
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

    fn word(&self, place: Place) -> &'static AtomicU64 {
        &self.words[place.bucket * Self::BUCKET + place.slot]
    }

    fn data(&self, bucket: usize, slot: usize) -> &'static [AtomicU64] {
        &self.words[bucket * Self::BUCKET + SLOTS + slot * Self::SLOT..][..Self::SLOT]
    }

    fn copy(data: &[AtomicU64], side: usize) -> &[AtomicU64] {
        &data[K::WORDS + side * Self::COPY..][..Self::COPY]
    }

    /// Looks for an entry, expired or not, and reads its value.
    #[inline]
    pub(super) fn find<R>(&self, key: &K, hash: &Hash, read: impl Fn(&[AtomicU64]) -> R) -> Option<Found<R>> {
        for bucket in hash.buckets {
            let words = &self.words[bucket * Self::BUCKET..][..Self::BUCKET];
            for slot in 0..SLOTS {
                let word = &words[slot];
                if !Meta(word.load(Relaxed)).is_entry(hash.tag) {
                    continue;
                }
                let data = &words[SLOTS + slot * Self::SLOT..][..Self::SLOT];
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
        }
        None
    }

    /// The entry in a slot, expired or not.
    pub(super) fn entry(&self, number: usize) -> Option<(K, Found<V>)> {
        let (bucket, slot) = (number / SLOTS, number % SLOTS);
        let data = self.data(bucket, slot);
        let word = &self.words[bucket * Self::BUCKET + slot];
        let wanted = |meta: Meta| meta.state() == State::Used;
        let (meta, (key, expiry, value)) = read_whole(word, data, wanted, |data, side| {
            let copy = Self::copy(data, side);
            (copies::load(data), copy[0].load(Relaxed), copies::load(&copy[1..]))
        })?;
        Some((key, Found { place: Place { bucket, slot, meta }, expiry, value }))
    }

    /// Gives an entry another value. The caller holds its stripe. False if something has changed
    /// the entry beside the library.
    pub(super) fn update<R>(&self, found: &Found<R>, value: &V, expiry: u64) -> bool {
        let Place { bucket, slot, meta } = found.place;
        let copy = Self::copy(self.data(bucket, slot), 1 - meta.side());
        // Who reads a word of this copy below also sees that it does not count any more.
        fence(Release);
        copy[0].store(expiry, Relaxed);
        copies::store(&copy[1..], value);
        self.word(found.place).compare_exchange(meta.0, meta.updated().0, AcqRel, Relaxed).is_ok()
    }

    /// Removes an entry. The caller holds its stripe.
    pub(super) fn remove<R>(&self, found: &Found<R>, stripe: Stripe) {
        let meta = found.place.meta;
        stripe.change(self.word(found.place), meta, meta.freed(), -1);
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
            let data = self.data(place.bucket, place.slot);
            // Who reads a word of these also sees that the last entry does not count any more.
            fence(Release);
            copies::store(data, key);
            let copy = Self::copy(data, 0);
            copy[0].store(expiry, Relaxed);
            copies::store(&copy[1..], value);
            let stripe = self.stripe(hash.stripe);
            if stripe.change(self.word(place), place.meta, place.meta.used(hash.tag), 1) {
                return true;
            }
        }
        false
    }

    /// Claims a slot, in the emptier one of both buckets.
    fn claim(&self, hash: &Hash, own: Owner, members: Members) -> Option<Place> {
        for _ in 0..ATTEMPTS {
            let [(first, one), (second, other)] = hash.buckets.map(|bucket| self.free(bucket, members));
            let Some(place) = (if first >= second { one } else { other }) else {
                return self.take_expired(hash, own, members);
            };
            if let Some(claimed) = self.claim_this(place, own) {
                return Some(claimed);
            }
        }
        None
    }

    fn claim_this(&self, place: Place, own: Owner) -> Option<Place> {
        let meta = place.meta.claimed(own);
        let is_ours = self.word(place).compare_exchange(place.meta.0, meta.0, AcqRel, Relaxed).is_ok();
        is_ours.then_some(Place { meta, ..place })
    }

    /// How many slots of a bucket are free, and one of them. A slot that a dead process has claimed
    /// is free.
    fn free(&self, bucket: usize, members: Members) -> (usize, Option<Place>) {
        let metas = &self.words[bucket * Self::BUCKET..][..SLOTS];
        let mut free = (0, None);
        for (slot, word) in metas.iter().enumerate() {
            let meta = Meta(word.load(Acquire));
            let is_free = match meta.state() {
                State::Free => true,
                State::Claimed(owner) => members.is_gone(owner),
                State::Used => false,
            };
            if is_free {
                free = (free.0 + 1, Some(Place { bucket, slot, meta }));
            }
        }
        free
    }

    /// Claims the slot of an expired entry, if the lock of that one is free now.
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
    pub(super) fn words(&self) -> (&'static [AtomicU64], &'static [AtomicU32]) {
        (self.words, self.stripes)
    }
}
