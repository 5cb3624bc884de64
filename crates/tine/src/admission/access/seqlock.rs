//! Words that the supervisor writes anew from time to time and forkers read. They lie in memory that processes of
//! connections do not have: they can neither change them, nor do they make a fork slower.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use tine_sys::memory::SharedTables;

use super::words::RuleWords;

/// Words of an edition whose successors may be larger: 32 MiB, of which only what is used is memory.
const ROOM: usize = 4 << 20;

/// Two editions, of which one is in force. Whoever reads while the other is being written is not disturbed; who has been
/// reading for two editions notices, and reads again.
#[derive(Debug)]
pub(super) struct SeqLocked {
    /// The words of both editions; and the number of the edition in force.
    tables: SharedTables<AtomicU64>,
}

/// An edition. Every word may be another one by now: nothing is taken on trust.
#[derive(Clone, Copy)]
pub(super) struct Snapshot<'a>(&'a [AtomicU64]);

impl SeqLocked {
    /// The first edition; `grows` if later ones may be larger.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn new(words: &[u64], grows: bool) -> io::Result<SeqLocked> {
        let room = if grows { words.len().max(ROOM) } else { words.len().max(1) };
        let published = SeqLocked { tables: SharedTables::new(2 * room, 1)? };
        published.publish(words)?;
        Ok(published)
    }

    /// The next edition. By one process at a time.
    ///
    /// # Errors
    /// ENOMEM where it is larger than an edition may be.
    pub(super) fn publish(&self, words: &[u64]) -> io::Result<()> {
        let next = self.number().load(Relaxed) + 1;
        let place = self.area(next);
        if words.len() > place.len() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        for (word, value) in place.iter().zip(words) {
            word.store(*value, Relaxed);
        }
        self.number().store(next, Release);
        Ok(())
    }

    /// Looks something up in the edition in force.
    pub(super) fn read<T>(&self, look: impl Fn(Snapshot) -> T) -> T {
        loop {
            let number = self.number().load(Acquire);
            let found = look(Snapshot(self.area(number)));
            fence(Acquire);
            if self.number().load(Relaxed) == number {
                return found;
            }
        }
    }

    /// Leaves the memory out of processes forked from now on.
    pub(super) fn exclude_from_fork(&self) -> io::Result<()> {
        self.tables.exclude_from_fork()
    }

    /// Takes the memory away from this process.
    pub(super) fn unmap(self) -> io::Result<()> {
        self.tables.unmap()
    }

    fn number(&self) -> &AtomicU64 {
        &self.tables.second()[0]
    }

    fn area(&self, number: u64) -> &[AtomicU64] {
        let words = self.tables.first();
        let (even, odd) = words.split_at(words.len() / 2);
        if number.is_multiple_of(2) { even } else { odd }
    }
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
    fn readers_see_one_edition_or_another() {
        let published = SeqLocked::new(&[0; 64], false).expect("memory");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 2000 {
                    let all: Vec<u64> =
                        published.read(|edition| (0..64).map(|at| edition.word(at)).collect());
                    assert!(all.iter().all(|word| *word == all[0]), "{all:?}");
                    assert!(all[0] >= last);
                    last = all[0];
                }
            });
            let mut edition = 0;
            while !reader.is_finished() {
                edition += 1;
                published.publish(&[edition; 64]).expect("room");
            }
            reader.join().expect("no panic");
        });
        assert!(published.publish(&[0; 65]).is_err());
    }
}
