//! Numbers in memory that all processes share, for whoever watches a load: each worker writes its own, as often as
//! its loop turns.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tine_sys::memory::Shared;

/// Each duration of an exchange lies in one of these: four for each doubling, from 256 ns on.
const BUCKETS: usize = 112;

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Connections that are open.
    pub open: u64,
    /// Exchanges (or connections) that are done.
    pub done: u64,
    /// Connections that ended in an error.
    pub errors: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { open: 0, done: 0, errors: 0, sent: 0, received: 0, buckets: [0; BUCKETS] }
    }
}

const WORDS: usize = 5 + BUCKETS;

impl Numbers {
    /// Counts an exchange that took so long.
    pub fn took(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
    }

    /// The duration that this share of the exchanges since an earlier moment did not exceed; it may be a quarter less.
    #[must_use]
    pub fn quantile_since(&self, before: &Numbers, share: f64) -> Option<u64> {
        let fresh =
            || self.buckets.iter().zip(before.buckets).map(|(now, before)| now.saturating_sub(before));
        let wanted = (fresh().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = fresh().position(|count| {
            seen += count;
            wanted > 0 && seen >= wanted
        });
        found.map(top)
    }

    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[..5].copy_from_slice(&[self.open, self.done, self.errors, self.sent, self.received]);
        words[5..].copy_from_slice(&self.buckets);
        words
    }

    fn add(&mut self, words: &[AtomicU64; WORDS]) {
        let of = |at: usize| words[at].load(Relaxed);
        self.open += of(0);
        self.done += of(1);
        self.errors += of(2);
        self.sent += of(3);
        self.received += of(4);
        for (at, bucket) in self.buckets.iter_mut().enumerate() {
            *bucket += of(5 + at);
        }
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let nanoseconds = nanoseconds.max(256);
    let doubling = nanoseconds.ilog2();
    let quarter = (nanoseconds >> (doubling - 2)) & 3;
    (((doubling - 8) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The greatest duration of a bucket, nearly.
fn top(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket / 4 + 8, bucket % 4);
    (5 + quarter as u64) << (doubling - 2)
}

/// The numbers of all workers.
#[derive(Clone, Copy, Debug)]
pub struct Live(Shared<[AtomicU64; WORDS]>);

impl Live {
    /// Those of so many workers, all zero.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(workers: usize) -> std::io::Result<Live> {
        Shared::new(workers).map(Live)
    }

    /// Publishes a worker's numbers. Where only a few words have changed, others are not written.
    pub fn publish(&self, worker: usize, numbers: &Numbers) {
        for (word, value) in self.0[worker].iter().zip(numbers.words()) {
            if word.load(Relaxed) != value {
                word.store(value, Relaxed);
            }
        }
    }

    /// The sum over all workers.
    #[must_use]
    pub fn sum(&self) -> Numbers {
        self.0.iter().fold(Numbers::default(), |mut sum, words| {
            sum.add(words);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lie_in_their_buckets() {
        for nanoseconds in [1, 256, 1000, 123_456, 7_000_000, 59_000_000_000] {
            let top = top(bucket(nanoseconds));
            assert!(
                top >= nanoseconds && top as f64 <= 1.26 * nanoseconds.max(256) as f64,
                "{nanoseconds} {top}"
            );
        }
    }

    #[test]
    fn what_is_published_adds_up() {
        let live = Live::new(2).expect("memory");
        let mut numbers = Numbers { open: 2, done: 100, ..Numbers::default() };
        (1..=100).for_each(|number| numbers.took(number * 1000));
        live.publish(0, &numbers);
        live.publish(1, &Numbers { done: 1, ..Numbers::default() });
        let sum = live.sum();
        assert_eq!((sum.open, sum.done), (2, 101));
        let median = sum.quantile_since(&Numbers::default(), 0.5).expect("some");
        assert!((50_000..=63_000).contains(&median), "{median}");
        assert_eq!(sum.quantile_since(&sum, 0.5), None);
    }
}
