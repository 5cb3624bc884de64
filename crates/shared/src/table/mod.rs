//! Entries under keys, which can expire.

mod entry;
mod hash;
mod hints;
mod meta;
mod slots;
mod stripe;
#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use self::entry::after;
pub use self::entry::{Entry, TableFull};
use self::hash::Hash;
use self::slots::{Found, Slots};
use self::stripe::StripeTurn;
use crate::copies;
use crate::error::Error;
use crate::memory;
use crate::owner;
use crate::plain::Plain;
use crate::show::{Figure, LetGo, Shown};

/// The most entries of a table.
const MAX_CAPACITY: usize = 1 << 30;

/// Values under keys, which can expire: sessions, a cache, limits of each address.
///
/// Reading takes no lock. Changes of the same key wait for each other, those of others seldom do. A
/// process that dies in a change, at whatever instruction, leaves the entry as it was; a value is
/// never read half written.
///
/// Two keys are the same if the words of [`Plain`] are the same: so `0.0` and `-0.0` are two keys,
/// and so are a `NAN` and itself one.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Duration;
/// use tine::shared::Table;
///
/// let failures: Table<IpAddr, u32> = Table::new("failures", 10_000)?;
///
/// let client: IpAddr = "192.0.2.1".parse()?;
/// // Count it. Ten minutes after the first one, the count begins again.
/// let count = failures.update(&client, |entry| {
///     let count = entry.get().unwrap_or(0) + 1;
///     match count {
///         1 => entry.set_for(count, Duration::from_secs(600)),
///         _ => entry.set(count),
///     }
///     count
/// })?;
/// assert_eq!(count, 1);
/// assert_eq!(failures.get(&client), Some(1));
/// assert!(failures.expires_in(&client).is_some());
/// assert_eq!(failures.remove(&client), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It has room for at least its capacity, and for up to twice as many entries: memory is taken for
/// those that were used. An entry that has expired is absent at once. Its place counts as taken
/// until another entry needs it.
pub struct Table<K: 'static, V: 'static>(&'static Inner<K, V>);

struct Inner<K, V> {
    name: &'static str,
    capacity: usize,
    slots: Slots<K, V>,
}

thread_local! {
    /// The table in whose update this thread is, by the number of its first lock, counted from 1.
    static UPDATING: Cell<u32> = const { Cell::new(0) };
}

/// The monotonic clock, in nanoseconds: all processes have the same one.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// Makes an empty table with room for at least this many entries.
    ///
    /// # Errors
    /// The capacity is 0 or more than 2^30, the name is invalid or taken, the server runs already,
    /// or the system has no memory.
    pub fn new(name: &str, capacity: usize) -> Result<Table<K, V>, Error> {
        Table::with_clock(name, capacity, monotonic)
    }

    fn with_clock(name: &str, capacity: usize, now: fn() -> u64) -> Result<Table<K, V>, Error> {
        memory::check(name)?;
        memory::check_capacity(name, capacity, MAX_CAPACITY)?;
        let slots = Slots::make(name, capacity, now)?;
        let table = Table(Box::leak(Box::new(Inner { name: name.to_owned().leak(), capacity, slots })));
        memory::add(name, table);
        Ok(table)
    }

    /// The value of a key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &K) -> Option<V> {
        let slots = &self.0.slots;
        let found = slots.find(key, &slots.hash(key), copies::load)?;
        (!slots.is_over(found.expiry)).then_some(found.value)
    }

    /// Whether there is an entry with this key.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.expiry(key).is_some()
    }

    /// How long it takes until the entry with this key expires; `None` if there is none, or if it
    /// does not expire.
    #[must_use]
    pub fn expires_in(&self, key: &K) -> Option<Duration> {
        let expiry = self.expiry(key).filter(|expiry| *expiry != 0)?;
        Some(Duration::from_nanos(expiry.saturating_sub((self.0.slots.now)())))
    }

    /// When the entry with this key expires, if there is one.
    fn expiry(&self, key: &K) -> Option<u64> {
        let slots = &self.0.slots;
        let found = slots.find(key, &slots.hash(key), |_| ())?;
        (!slots.is_over(found.expiry)).then_some(found.expiry)
    }

    /// Sets the value of a key, for good. Returns the value before.
    ///
    /// # Errors
    /// The key is new, and there is no room for another entry.
    ///
    /// # Panics
    /// As [`Table::update`].
    #[inline]
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>, TableFull> {
        self.put(&key, &value, || 0)
    }

    /// Sets the value of a key for this time. Returns the value before.
    ///
    /// # Errors
    /// As [`Table::insert`].
    ///
    /// # Panics
    /// As [`Table::update`].
    pub fn insert_for(&self, key: K, value: V, time: Duration) -> Result<Option<V>, TableFull> {
        self.put(&key, &value, || after((self.0.slots.now)(), time))
    }

    #[inline]
    fn put(&self, key: &K, value: &V, expiry: impl FnOnce() -> u64) -> Result<Option<V>, TableFull> {
        let hash = self.0.slots.hash(key);
        let _turn = self.take(hash.stripe);
        let (found, before) = self.find(key, &hash);
        self.store(key, &hash, found, (value, expiry()))?;
        Ok(before)
    }

    /// Removes the entry with this key. Returns its value.
    ///
    /// # Panics
    /// As [`Table::update`].
    pub fn remove(&self, key: &K) -> Option<V> {
        let slots = &self.0.slots;
        let hash = slots.hash(key);
        let _turn = self.take(hash.stripe);
        let (found, before) = self.find(key, &hash);
        self.discard(&hash, found?, before.is_none());
        before
    }

    /// Changes the entry with this key, or makes or removes it, while no other process does.
    /// Returns what the function returns.
    ///
    /// # Errors
    /// The function has made a new entry, for which there is no room.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; if this
    /// process holds as many locks as it can (12); or if the function changes the same table. If
    /// the function panics, the entry stays as it was.
    pub fn update<R>(&self, key: &K, change: impl FnOnce(&mut Entry<V>) -> R) -> Result<R, TableFull> {
        let slots = &self.0.slots;
        let hash = slots.hash(key);
        let _turn = self.take(hash.stripe);
        let (found, value) = self.find(key, &hash);
        let expiry = value.and(found).map_or(0, |found| found.expiry);
        let mut entry = Entry { value, expiry, is_changed: false, now: slots.now };
        let result = {
            let _updating = Updating::begin(self.id());
            change(&mut entry)
        };
        match (entry.is_changed, entry.value, found) {
            (true, Some(value), _) => self.store(key, &hash, found, (&value, entry.expiry))?,
            (true, None, Some(found)) => self.discard(&hash, found, value.is_none()),
            (true, None, None) | (false, ..) => {}
        }
        Ok(result)
    }

    /// The number of entries, those included that have expired and whose place was not needed yet.
    ///
    /// It is counted with each change, so this is quick however large the table is. For the number
    /// without those that have expired, `iter().count()`.
    #[must_use]
    pub fn len(&self) -> usize {
        let length: u64 = self.0.slots.stripes().map(|stripe| u64::from(stripe.length())).sum();
        usize::try_from(length).unwrap_or(usize::MAX).min(self.0.slots.count())
    }

    /// Whether [`Table::len`] is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For how many entries there is room, at least.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// All entries that have not expired. One that is made or removed meanwhile may be among them
    /// or not.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        let slots = &self.0.slots;
        let entries = (0..slots.count()).filter_map(|number| slots.entry(number));
        entries.filter(|(_, found)| !slots.is_over(found.expiry)).map(|(key, found)| (key, found.value))
    }

    /// Removes all entries that are there now, one after the other.
    ///
    /// # Panics
    /// As [`Table::update`].
    pub fn clear(&self) {
        let slots = &self.0.slots;
        for number in 0..slots.count() {
            let Some((key, _)) = slots.entry(number) else { continue };
            let hash = slots.hash(&key);
            let _turn = self.take(hash.stripe);
            // It may have another entry by now, of another stripe: that one is newer.
            if let Some((now, found)) = slots.entry(number)
                && slots.hash(&now).stripe == hash.stripe
            {
                slots.remove(&found, slots.stripe(hash.stripe), owner::waiter());
            }
        }
    }

    fn id(&self) -> u32 {
        self.0.slots.objects().start + 1
    }

    /// Takes the lock of the keys of a stripe.
    #[inline(always)]
    fn take(&self, stripe: usize) -> StripeTurn {
        assert!(
            UPDATING.get() != self.id(),
            "a function given to `update` must not change the same table: it can wait for itself"
        );
        self.0.slots.stripe(stripe).take(|| self.0.slots.recount(stripe))
    }

    /// The entry with this key, and its value unless it has expired.
    #[inline]
    fn find(&self, key: &K, hash: &Hash) -> (Option<Found<V>>, Option<V>) {
        let slots = &self.0.slots;
        let found = slots.find(key, hash, copies::load);
        (found, found.filter(|found| !slots.is_over(found.expiry)).map(|found| found.value))
    }

    /// Sets the value of an entry that was found, or makes it. The caller holds its stripe.
    #[inline]
    fn store(
        &self,
        key: &K,
        hash: &Hash,
        found: Option<Found<V>>,
        (value, expiry): (&V, u64),
    ) -> Result<(), TableFull> {
        let slots = &self.0.slots;
        if found.is_some_and(|found| slots.update(&found, value, expiry)) {
            return Ok(());
        }
        let is_added = slots.add(key, hash, (value, expiry), (owner::waiter(), owner::members()));
        is_added.then_some(()).ok_or(TableFull { name: self.0.name, capacity: self.0.capacity })
    }

    /// Removes an entry that was found. The caller holds its stripe.
    fn discard(&self, hash: &Hash, found: Found<V>, is_expired: bool) {
        let stripe = self.0.slots.stripe(hash.stripe);
        self.0.slots.remove(&found, stripe, owner::waiter());
        if is_expired {
            stripe.count_expired();
        }
    }
}

/// The mark of an update, also while it panics.
struct Updating {
    before: u32,
}

impl Updating {
    fn begin(id: u32) -> Updating {
        Updating { before: UPDATING.replace(id) }
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        UPDATING.set(self.before);
    }
}

impl<K: Plain, V: Plain> Shown for Table<K, V> {
    fn kind(&self) -> &'static str {
        "table"
    }

    fn figures(&self) -> Vec<Figure> {
        let expired: u64 = self.0.slots.stripes().map(|stripe| u64::from(stripe.expired())).sum();
        vec![
            Figure::gauge("length", self.len() as f64),
            Figure::gauge("capacity", self.0.capacity as f64),
            Figure::counter("expired", expired),
        ]
    }

    fn let_go(&self, dead: LetGo) {
        let objects = self.0.slots.objects();
        if objects.contains(&dead.object) {
            self.0.slots.stripe((dead.object - objects.start) as usize).lock.let_go(dead.owner);
        }
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        self.0.slots.objects()
    }
}

impl<K: 'static, V: 'static> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: 'static, V: 'static> Copy for Table<K, V> {}

impl<K: 'static, V: 'static> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, capacity, .. } = self.0;
        f.debug_struct("Table").field("name", name).field("capacity", capacity).finish_non_exhaustive()
    }
}
