//! A sequence lock: a snapshot of words in shared memory that the supervisor replaces and forkers
//! read. Connection processes do not have this memory: they cannot change it, and it does not make
//! their fork slower.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use tine_sys::memory::SharedTables;

use super::words::RuleWords;

/// The number of words reserved for a snapshot if later ones may be larger: 32 MiB of address
/// space. Memory is allocated for the words that are used only.
const MAX_WORDS: usize = 4 << 20;

/// Two areas for snapshots; the current one is in one of them, the next one is written to the
/// other. Readers of the current snapshot are thus undisturbed by one `publish`. A reader that two
/// of them overtake detects it by the sequence number, and reads again.
#[derive(Debug)]
pub(super) struct SeqLocked {
    /// First table: both areas. Second table: the sequence number of the current snapshot.
    tables: SharedTables<AtomicU64>,
}

/// A snapshot while it is read. Its words may be overwritten at any time, so a reader must not rely
/// on their consistency.
#[derive(Clone, Copy)]
pub(super) struct Snapshot<'a>(&'a [AtomicU64]);

impl SeqLocked {
    /// Maps the memory and publishes the first snapshot. `grows`: whether later ones may be larger.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn new(words: &[u64], grows: bool) -> io::Result<SeqLocked> {
        let size = if grows { words.len().max(MAX_WORDS) } else { words.len().max(1) };
        let published = SeqLocked { tables: SharedTables::new(2 * size, 1)? };
        published.publish(words)?;
        Ok(published)
    }

    /// Replaces the snapshot. Only one process may publish at a time.
    ///
    /// # Errors
    /// ENOMEM if the words exceed the size of an area.
    pub(super) fn publish(&self, words: &[u64]) -> io::Result<()> {
        publish(self.tables.first(), self.number(), words)
    }

    /// Calls `search` with the current snapshot, again if it was overwritten meanwhile; returns the
    /// result.
    pub(super) fn read<T>(&self, search: impl Fn(Snapshot) -> T) -> T {
        read(self.tables.first(), self.number(), search)
    }

    /// Leaves the memory out of processes forked from now on.
    pub(super) fn exclude_from_fork(&self) -> io::Result<()> {
        self.tables.exclude_from_fork()
    }

    /// Unmaps the memory in this process.
    pub(super) fn unmap(self) -> io::Result<()> {
        self.tables.unmap()
    }

    /// The sequence number.
    fn number(&self) -> &AtomicU64 {
        &self.tables.second()[0]
    }
}

/// Replaces the snapshot in these areas. Only one process may publish at a time.
///
/// # Errors
/// ENOMEM if the words exceed the size of an area.
pub(crate) fn publish(areas: &[AtomicU64], number: &AtomicU64, words: &[u64]) -> io::Result<()> {
    let next = number.load(Relaxed) + 1;
    let area = area(areas, next);
    if words.len() > area.len() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    for (word, value) in area.iter().zip(words) {
        word.store(*value, Relaxed);
    }
    number.store(next, Release);
    Ok(())
}

/// Calls `search` with the current snapshot in these areas, again if it was overwritten meanwhile;
/// returns the result.
pub(super) fn read<T>(areas: &[AtomicU64], number: &AtomicU64, search: impl Fn(Snapshot) -> T) -> T {
    loop {
        let current = number.load(Acquire);
        let found = search(Snapshot(area(areas, current)));
        fence(Acquire);
        if number.load(Relaxed) == current {
            return found;
        }
    }
}

/// The area of the snapshot with this sequence number.
fn area(areas: &[AtomicU64], number: u64) -> &[AtomicU64] {
    let (even, odd) = areas.split_at(areas.len() / 2);
    if number.is_multiple_of(2) { even } else { odd }
}

impl RuleWords for Snapshot<'_> {
    #[inline]
    fn word(self, at: usize) -> u64 {
        self.0.get(at).map_or(0, |word| word.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_never_see_a_mixture_of_snapshots() {
        let published = SeqLocked::new(&[0; 64], false).expect("memory");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 2000 {
                    let all: Vec<u64> =
                        published.read(|snapshot| (0..64).map(|at| snapshot.word(at)).collect());
                    assert!(all.iter().all(|word| *word == all[0]), "{all:?}");
                    assert!(all[0] >= last);
                    last = all[0];
                }
            });
            let mut value = 0;
            while !reader.is_finished() {
                value += 1;
                published.publish(&[value; 64]).expect("the words fit");
            }
            reader.join().expect("no panic");
        });
        assert!(published.publish(&[0; 65]).is_err());
    }
}
