//! What users get from a table: an entry while it is changed, and the error.

use std::fmt;
use std::time::Duration;

use crate::plain::Plain;

/// A table has no room for another entry.
///
/// [`fmt::Display`] writes one line, `what: why; next move`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// The name of the table.
    pub name: &'static str,
    /// Its capacity.
    pub capacity: usize,
}

/// An entry of a [`Table`](crate::Table), there or not, while no other process changes it.
///
/// What is set counts once the function that [`Table::update`](crate::Table::update) calls has
/// returned.
#[derive(Debug)]
pub struct Entry<V> {
    pub(super) value: Option<V>,
    /// When it expires, 0 for never.
    pub(super) expiry: u64,
    pub(super) is_changed: bool,
    pub(super) now: fn() -> u64,
}

impl<V: Plain> Entry<V> {
    /// The value, if the entry is there.
    #[must_use]
    pub fn get(&self) -> Option<V> {
        self.value
    }

    /// How long it takes until the entry expires; `None` if it is not there, or does not expire.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        (self.expiry != 0).then(|| Duration::from_nanos(self.expiry.saturating_sub((self.now)())))
    }

    /// Sets the value. An entry that is there expires when it would have; a new one does not.
    pub fn set(&mut self, value: V) {
        (self.value, self.is_changed) = (Some(value), true);
    }

    /// Sets the value for this time from now on.
    pub fn set_for(&mut self, value: V, time: Duration) {
        self.set(value);
        self.expiry = after((self.now)(), time);
    }

    /// Removes the entry. Returns its value.
    pub fn remove(&mut self) -> Option<V> {
        (self.expiry, self.is_changed) = (0, true);
        self.value.take()
    }
}

/// This time after now; never 0.
pub(super) fn after(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).max(1)
}

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableFull { name, capacity } = self;
        write!(
            f,
            "the table {name:?} has no room for another entry: its capacity is {capacity}; \
             raise the capacity, or let entries expire (`insert_for`)"
        )
    }
}

impl std::error::Error for TableFull {}
