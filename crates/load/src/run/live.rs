//! Live counters: shared memory in which each worker publishes its numbers. They are for display,
//! and for the summary of a worker that was killed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};
use tine_sys::memory::Shared;

use crate::findings::state::State;

/// Counters of durations: four for each doubling, from 256 ns on.
const BUCKETS: usize = 112;
/// Counters of ends of connections, by state.
const STATES: usize = State::ALL.len();
/// Counters besides those.
const SINGLE: usize = 6;
const WORDS: usize = SINGLE + STATES + BUCKETS;

/// The numbers of one worker, or of all workers together, at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Numbers {
    /// Connections open now.
    pub open: u64,
    /// Connections made so far.
    pub made: u64,
    /// Messages begun.
    pub messages: u64,
    /// Exchanges (or connections) done.
    pub done: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    states: [u64; STATES],
    buckets: [u64; BUCKETS],
}

/// The serialized form of numbers: the places that are not zero.
#[derive(Serialize, Deserialize)]
struct Sparse(Vec<(usize, u64)>);

impl From<Numbers> for Sparse {
    fn from(numbers: Numbers) -> Sparse {
        Sparse(numbers.to_words().into_iter().enumerate().filter(|(_, word)| *word > 0).collect())
    }
}

/// Places that do not exist are left out.
impl From<Sparse> for Numbers {
    fn from(Sparse(places): Sparse) -> Numbers {
        let mut words = [0; WORDS];
        for (at, word) in places {
            words.get_mut(at).into_iter().for_each(|place| *place = word);
        }
        Numbers::from_words(&words)
    }
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers::from_words(&[0; WORDS])
    }
}

impl Numbers {
    /// Counts a connection that ended in a state.
    pub fn count_end(&mut self, state: State) {
        self.states[state as usize] += 1;
    }

    /// Returns the number of connections that ended in a state that fulfils a condition.
    #[must_use]
    pub fn ended(&self, fulfils: impl Fn(State) -> bool) -> u64 {
        let states = State::ALL.iter().zip(self.states);
        states.filter(|((state, _), _)| fulfils(*state)).map(|(_, number)| number).sum()
    }

    /// Returns the number of connections that ended in an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.ended(State::is_error)
    }

    /// Returns the sum of these numbers and others.
    #[must_use]
    pub fn plus(&self, other: &Numbers) -> Numbers {
        let (one, other) = (self.to_words(), other.to_words());
        Numbers::from_words(&std::array::from_fn(|at| one[at].saturating_add(other[at])))
    }

    /// Counts the duration of an exchange.
    pub fn count_duration(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
    }

    /// Returns the duration that a share of the exchanges since `before` did not exceed, to a
    /// quarter.
    #[must_use]
    pub fn quantile_since(&self, before: &Numbers, share: f64) -> Option<u64> {
        let recent =
            || self.buckets.iter().zip(before.buckets).map(|(now, before)| now.saturating_sub(before));
        let wanted = (recent().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = recent().position(|count| {
            seen += count;
            wanted > 0 && seen >= wanted
        });
        found.map(upper_end)
    }

    fn to_words(self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[..SINGLE].copy_from_slice(&[
            self.open,
            self.made,
            self.messages,
            self.done,
            self.sent,
            self.received,
        ]);
        words[SINGLE..SINGLE + STATES].copy_from_slice(&self.states);
        words[SINGLE + STATES..].copy_from_slice(&self.buckets);
        words
    }

    fn from_words(words: &[u64; WORDS]) -> Numbers {
        let part = |from: usize, at: usize| words[from + at];
        Numbers {
            open: words[0],
            made: words[1],
            messages: words[2],
            done: words[3],
            sent: words[4],
            received: words[5],
            states: std::array::from_fn(|at| part(SINGLE, at)),
            buckets: std::array::from_fn(|at| part(SINGLE + STATES, at)),
        }
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let nanoseconds = nanoseconds.max(256);
    let doubling = nanoseconds.ilog2();
    let quarter = (nanoseconds >> (doubling - 2)) & 3;
    (((doubling - 8) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// Returns the duration at the upper end of a bucket.
fn upper_end(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket / 4 + 8, bucket % 4);
    (5 + quarter as u64) << (doubling - 2)
}

/// The numbers of all workers, in memory that they share with the coordinator.
#[derive(Clone, Copy, Debug)]
pub struct Live(Shared<[AtomicU64; WORDS]>);

impl Live {
    /// Creates the numbers of this many workers, all zero.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(workers: usize) -> std::io::Result<Live> {
        Shared::new(workers).map(Live)
    }

    /// Returns the number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// Publishes a worker's numbers. Only words that changed are written.
    pub fn publish(&self, worker: usize, numbers: &Numbers) {
        for (word, value) in self.0[worker].iter().zip(numbers.to_words()) {
            if word.load(Relaxed) != value {
                word.store(value, Relaxed);
            }
        }
    }

    /// Returns the numbers of one worker.
    #[must_use]
    pub fn of(&self, worker: usize) -> Numbers {
        let words = &self.0[worker];
        Numbers::from_words(&std::array::from_fn(|at| words[at].load(Relaxed)))
    }

    /// Returns the sum over all workers.
    #[must_use]
    pub fn sum(&self) -> Numbers {
        let mut sum = [0; WORDS];
        for words in self.0.iter() {
            for (sum, word) in sum.iter_mut().zip(words) {
                *sum += word.load(Relaxed);
            }
        }
        Numbers::from_words(&sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_at_most_a_quarter_above_its_durations() {
        for nanoseconds in [1, 256, 1000, 123_456, 7_000_000, 59_000_000_000] {
            let end = upper_end(bucket(nanoseconds));
            assert!(
                end >= nanoseconds && end as f64 <= 1.26 * nanoseconds.max(256) as f64,
                "{nanoseconds} {end}"
            );
        }
    }

    #[test]
    fn published_numbers_add_up() {
        let live = Live::new(2).expect("memory");
        let mut numbers = Numbers { open: 2, made: 3, done: 100, ..Numbers::default() };
        (1..=100).for_each(|number| numbers.count_duration(number * 1000));
        numbers.count_end(State::Refused);
        numbers.count_end(State::Ok);
        live.publish(0, &numbers);
        live.publish(1, &Numbers { done: 1, messages: 7, sent: 8, received: 9, ..Numbers::default() });
        assert_eq!(live.of(0), numbers);
        let sum = live.sum();
        assert_eq!((sum.open, sum.made, sum.messages, sum.done), (2, 3, 7, 101));
        assert_eq!((sum.sent, sum.received, sum.errors()), (8, 9, 1));
        assert_eq!(live.of(0).plus(&live.of(1)), sum);
        let text = serde_json::to_string(&sum).expect("text");
        assert_eq!(serde_json::from_str::<Numbers>(&text).expect("numbers"), sum);
        let foreign = serde_json::from_str::<Numbers>("[[100000,1]]").expect("numbers");
        assert_eq!(foreign, Numbers::default());
        let median = sum.quantile_since(&Numbers::default(), 0.5).expect("some");
        assert!((50_000..=63_000).contains(&median), "{median}");
        assert_eq!(sum.quantile_since(&sum, 0.5), None);
    }
}
