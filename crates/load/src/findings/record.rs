//! Records of durations: histograms of fixed geometry, so that those of many processes add up
//! exactly, and the exact minimum, maximum and sum, which a histogram would round.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest duration that has a counter, in nanoseconds. Longer ones are counted together.
pub const LONGEST: u64 = 60_000_000_000;

/// A record of durations in nanoseconds, each to three digits.
#[derive(Clone, Debug)]
pub struct Record {
    /// Made with the first duration, as it has 220 KiB.
    histogram: Option<Histogram<u64>>,
    min: u64,
    max: u64,
    sum: u128,
    beyond: u64,
}

impl Default for Record {
    fn default() -> Record {
        Record { histogram: None, min: u64::MAX, max: 0, sum: 0, beyond: 0 }
    }
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order")
}

impl PartialEq for Record {
    fn eq(&self, other: &Record) -> bool {
        let exact = |record: &Record| (record.min, record.max, record.sum, record.beyond);
        exact(self) == exact(other) && self.counters().eq(other.counters())
    }
}

impl Record {
    /// Adds a duration.
    pub fn add(&mut self, nanoseconds: u64) {
        // The lowest counter is that of 1.
        let histogram = self.histogram.get_or_insert_with(empty_histogram);
        if histogram.record(nanoseconds.max(1)).is_err() {
            self.beyond += 1;
        }
        self.min = self.min.min(nanoseconds);
        self.max = self.max.max(nanoseconds);
        self.sum += u128::from(nanoseconds);
    }

    /// Adds another record to this one, counter by counter.
    pub fn merge(&mut self, other: &Record) {
        if let Some(other) = &other.histogram {
            // The bounds and digits are the same, so it cannot fail.
            let _ = self.histogram.get_or_insert_with(empty_histogram).add(other);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.beyond += other.beyond;
    }

    /// Returns the number of durations, including those beyond [`LONGEST`].
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counted() + self.beyond
    }

    /// Returns the number of durations that have a counter.
    fn counted(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// Returns the duration that a share (0 to 1) of all durations does not exceed; 0 for an empty
    /// record.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let (count, counted) = (self.count(), self.counted());
        let Some(histogram) = &self.histogram else { return 0 };
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count);
        if rank > counted {
            return self.max;
        }
        // The upper end of a counter, which may lie above the maximum.
        let value = histogram.value_at_quantile(rank as f64 / counted as f64);
        value.clamp(self.min, self.max)
    }

    /// Returns the mean; 0 for an empty record.
    #[must_use]
    pub fn mean(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count().max(1))).unwrap_or(u64::MAX)
    }

    /// Returns the minimum; 0 for an empty record.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.min }
    }

    /// Returns the maximum; 0 for an empty record.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Returns the counters that are not zero: the greatest duration of each, and its count.
    pub fn counters(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counters = self.histogram.iter().flat_map(Histogram::iter_recorded);
        counters.map(|counter| (counter.value_iterated_to(), counter.count_since_last_iteration()))
    }

    /// Returns the number of durations that do not exceed one.
    #[must_use]
    pub fn count_upto(&self, nanoseconds: u64) -> u64 {
        match &self.histogram {
            Some(histogram) if nanoseconds < self.max => histogram.count_between(0, nanoseconds),
            _ => self.count(),
        }
    }

    /// Returns the geometry of all records: the number of doublings, and the counters in each.
    #[must_use]
    pub fn buckets() -> (u64, u64) {
        let histogram = empty_histogram();
        let (buckets, all) = (u64::from(histogram.buckets()), histogram.distinct_values() as u64);
        // The lower half of the counters of each doubling but the first is shared with the one
        // below.
        (buckets, 2 * all / (buckets + 1))
    }

    /// Computes the figures of a summary.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            count: self.count(),
            min: self.min(),
            mean: self.mean(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            p9999: self.quantile(0.9999),
            max: self.max,
        }
    }
}

/// Figures of durations, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Number of durations.
    pub count: u64,
    /// Minimum.
    pub min: u64,
    /// Mean.
    pub mean: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// 99.99th percentile.
    pub p9999: u64,
    /// Maximum.
    pub max: u64,
}

/// The serialized form of a record: only counters that are not zero.
#[derive(Serialize, Deserialize)]
struct SerializedRecord {
    count: u64,
    min: u64,
    max: u64,
    /// Decimal: it may exceed the range of numbers in other languages.
    sum: String,
    /// Number of durations above [`LONGEST`].
    beyond: u64,
    /// The greatest duration of each counter, in nanoseconds, and its count.
    counters: Vec<(u64, u64)>,
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SerializedRecord {
            count: self.count(),
            min: self.min(),
            max: self.max,
            sum: self.sum.to_string(),
            beyond: self.beyond,
            counters: self.counters().collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Record, D::Error> {
        use serde::de::Error;
        let written = SerializedRecord::deserialize(deserializer)?;
        let mut record = Record::default();
        for (value, count) in written.counters {
            let histogram = record.histogram.get_or_insert_with(empty_histogram);
            histogram.record_n(value, count).map_err(D::Error::custom)?;
        }
        if record.counted().checked_add(written.beyond) != Some(written.count) {
            return Err(D::Error::custom("the counters do not add up"));
        }
        if written.count > 0 {
            record.min = written.min;
            // Quantiles are clamped to both.
            if written.min > written.max {
                return Err(D::Error::custom("the least is above the most"));
            }
        }
        record.max = written.max;
        record.sum = written.sum.parse().map_err(D::Error::custom)?;
        record.beyond = written.beyond;
        Ok(record)
    }
}

/// The records of a run, by what they measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Records(BTreeMap<Measure, Record>);

/// What a record measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// From the start of connecting to the connection.
    Connect,
    /// From the actual start of an exchange to the first byte of its reply.
    FirstByte,
    /// From the planned start of an exchange to the complete reply: the latency that a user sees.
    Exchange,
    /// From the actual start of an exchange to the complete reply.
    Uncorrected,
    /// From the time at which the client could have started an arrival to the time at which it did.
    Lateness,
}

impl Records {
    /// Returns the record of a measure; an empty one if there is none.
    #[must_use]
    pub fn of(&self, measure: Measure) -> std::borrow::Cow<'_, Record> {
        match self.0.get(&measure) {
            Some(record) => std::borrow::Cow::Borrowed(record),
            None => std::borrow::Cow::Owned(Record::default()),
        }
    }

    /// Returns the record of a measure, to add to.
    pub fn at(&mut self, measure: Measure) -> &mut Record {
        self.0.entry(measure).or_default()
    }

    /// Adds other records to these.
    pub fn merge(&mut self, other: &Records) {
        for (measure, record) in &other.0 {
            self.at(*measure).merge(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudorandom numbers, the same each time.
    fn samples(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Numbers of every magnitude, some of them above the bound.
            (state >> 20) >> ((state >> 8) % 44)
        })
    }

    #[test]
    fn records_of_many_processes_add_up_exactly() {
        for seed in 0..20 {
            let mut whole = Record::default();
            let mut parts = vec![Record::default(); 8];
            for (number, sample) in samples(seed).take(5000).enumerate() {
                whole.add(sample);
                parts[(sample as usize ^ number) % 8].add(sample);
            }
            let mut merged = Record::default();
            // As workers send them: written and read again.
            for part in &parts {
                let text = serde_json::to_string(part).expect("it can be written");
                merged.merge(&serde_json::from_str(&text).expect("it can be read"));
            }
            assert_eq!(merged, whole);
            assert_eq!(merged.figures(), whole.figures());
        }
    }

    #[test]
    fn quantiles_are_exact_to_a_thousandth() {
        let mut record = Record::default();
        (1..=100_000).for_each(|number| record.add(number * 1000));
        for (share, truth) in [(0.5, 50_000_000.0), (0.99, 99_000_000.0), (0.999, 99_900_000.0)] {
            let found = record.quantile(share) as f64;
            assert!((found / truth - 1.0).abs() < 0.001, "{share}: {found}");
        }
        assert_eq!((record.min(), record.max(), record.mean()), (1000, 100_000_000, 50_000_500));
        assert_eq!(Record::default().figures(), Figures::default());
    }

    #[test]
    fn durations_above_the_bound_are_counted_and_are_the_maximum() {
        let mut record = Record::default();
        [5, 10 * LONGEST].into_iter().for_each(|value| record.add(value));
        assert_eq!((record.count(), record.quantile(0.5), record.quantile(0.99)), (2, 5, 10 * LONGEST));
    }

    #[test]
    fn a_record_whose_counters_do_not_add_up_is_rejected() {
        let text = r#"{"count":3,"min":1,"max":2,"sum":"3","beyond":0,"counters":[[1,1],[2,1]]}"#;
        serde_json::from_str::<Record>(text).expect_err("two are not three");
        let text = r#"{"count":1,"min":2,"max":1,"sum":"3","beyond":0,"counters":[[1,1]]}"#;
        serde_json::from_str::<Record>(text).expect_err("the minimum is above the maximum");
    }
}
