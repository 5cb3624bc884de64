//! Numbers that any process changes: counters, gauges, histograms.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::memory;
use crate::show::{Figure, Shown, Value};
use crate::sync::{AtomicU64, Relaxed};

/// A number that only grows: requests, bytes, failures.
///
/// ```
/// let requests = tine::shared::Counter::new("requests")?;
/// requests.add(2);
/// assert_eq!(requests.add(1), 2);
/// assert_eq!(requests.get(), 3);
/// # Ok::<(), tine::shared::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Counter(&'static AtomicU64);

/// A number that grows and shrinks: the temperature, the length of a queue.
///
/// A process that adds and dies does not subtract: for "how many are here now", use a
/// [`Semaphore`](crate::Semaphore), whose permits come back.
#[derive(Clone, Copy)]
pub struct Gauge(&'static AtomicU64);

/// How measured values are distributed over buckets, as Prometheus has them.
///
/// ```
/// let seconds = tine::shared::Histogram::new("query_seconds", &[0.001, 0.01, 0.1, 1.0])?;
/// seconds.observe(0.02);
/// assert_eq!(seconds.count(), 1);
/// # Ok::<(), tine::shared::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Histogram {
    /// The sum, as the bits of an `f64`, the bounds, and the counts.
    words: &'static [AtomicU64],
}

/// The most bounds of a histogram.
const MAX_BOUNDS: usize = 256;

impl Counter {
    /// Makes a counter that is 0.
    ///
    /// # Errors
    /// The name is invalid or taken, the server runs already, or the system has no memory.
    pub fn new(name: &str) -> Result<Counter, Error> {
        let counter = Counter(number(name)?);
        memory::add(name, counter);
        Ok(counter)
    }

    /// Adds to the counter. Returns what it was before: so each caller gets another number.
    #[inline]
    pub fn add(&self, number: u64) -> u64 {
        self.0.fetch_add(number, Relaxed)
    }

    /// The counter.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauge {
    /// Makes a gauge that is 0.
    ///
    /// # Errors
    /// As [`Counter::new`].
    pub fn new(name: &str) -> Result<Gauge, Error> {
        let gauge = Gauge(number(name)?);
        memory::add(name, gauge);
        Ok(gauge)
    }

    /// Adds to the gauge, or subtracts. Returns what it was before.
    #[inline]
    pub fn add(&self, number: i64) -> i64 {
        self.0.fetch_add(number as u64, Relaxed) as i64
    }

    /// Sets the gauge.
    #[inline]
    pub fn set(&self, number: i64) {
        self.0.store(number as u64, Relaxed);
    }

    /// The gauge.
    #[must_use]
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed) as i64
    }
}

fn number(name: &str) -> Result<&'static AtomicU64, Error> {
    memory::check(name)?;
    Ok(&memory::words(name, 1)?[0])
}

impl Histogram {
    /// Makes a histogram whose buckets have these upper bounds. Values above all of them are
    /// counted, too.
    ///
    /// # Errors
    /// There are no bounds or more than 256, or they do not ascend; or as [`Counter::new`].
    pub fn new(name: &str, bounds: &[f64]) -> Result<Histogram, Error> {
        memory::check(name)?;
        memory::check_capacity(name, bounds.len(), MAX_BOUNDS)?;
        let ascend = bounds.is_sorted_by(|one, next| one < next);
        if !ascend || bounds.iter().any(|bound| !bound.is_finite()) {
            let what = format!("the bounds of {name:?} do not ascend, or are no numbers");
            return Err(Error::new(ErrorKind::Capacity, what, "sort them, and leave infinity out"));
        }
        let histogram = Histogram { words: memory::words(name, 1 + 2 * bounds.len() + 1)? };
        for (word, bound) in histogram.words[1..].iter().zip(bounds) {
            word.store(bound.to_bits(), Relaxed);
        }
        memory::add(name, histogram);
        Ok(histogram)
    }

    /// Counts a value. One that is no number is not counted.
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let bounds = self.bounds();
        let bucket = bounds.iter().position(|bound| value <= f64::from_bits(bound.load(Relaxed)));
        self.counts()[bucket.unwrap_or(bounds.len())].fetch_add(1, Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        let _ = self.words[0].fetch_update(Relaxed, Relaxed, add);
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts().iter().map(|count| count.load(Relaxed)).fold(0, u64::wrapping_add)
    }

    fn bounds(&self) -> &'static [AtomicU64] {
        &self.words[1..self.words.len() / 2]
    }

    fn counts(&self) -> &'static [AtomicU64] {
        &self.words[self.words.len() / 2..]
    }
}

impl Shown for Counter {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![Figure::counter("", self.get())]
    }
}

impl Shown for Gauge {
    fn kind(&self) -> &'static str {
        "gauge"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![Figure::gauge("", self.get() as f64)]
    }
}

impl Shown for Histogram {
    fn kind(&self) -> &'static str {
        "histogram"
    }

    fn figures(&self) -> Vec<Figure> {
        let value = Value::Histogram {
            bounds: self.bounds().iter().map(|bound| f64::from_bits(bound.load(Relaxed))).collect(),
            counts: self.counts().iter().map(|count| count.load(Relaxed)).collect(),
            sum: f64::from_bits(self.words[0].load(Relaxed)),
        };
        vec![Figure { name: "", value }]
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.get()).finish()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.get()).finish()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_up_to_their_bound() {
        let histogram = Histogram::new("up_to_their_bound", &[1.0, 2.0]).expect("memory");
        for value in [-1.0, 1.0, 1.5, 2.0, 2.1, f64::INFINITY, f64::NAN] {
            histogram.observe(value);
        }
        assert_eq!(histogram.count(), 6);
        let figures = histogram.figures();
        let Value::Histogram { bounds, counts, sum } = &figures[0].value else { panic!("{figures:?}") };
        assert_eq!((&bounds[..], &counts[..], *sum), (&[1.0, 2.0][..], &[2, 2, 2][..], f64::INFINITY));
        for bounds in [&[][..], &[2.0, 1.0], &[1.0, 1.0], &[f64::NAN], &[1.0, f64::INFINITY]] {
            let error = Histogram::new("bounds", bounds).expect_err("bounds");
            assert_eq!(error.kind(), ErrorKind::Capacity);
        }
    }

    #[test]
    fn a_gauge_can_be_negative() {
        let gauge = Gauge::new("negative").expect("memory");
        assert_eq!((gauge.add(-5), gauge.get()), (0, -5));
        gauge.set(7);
        assert_eq!(gauge.add(1), 7);
        assert_eq!(gauge.figures(), [Figure::gauge("", 8.0)]);
    }
}
