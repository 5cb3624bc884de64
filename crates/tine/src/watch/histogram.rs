//! Distributions that can be added up over servers: counts in buckets whose bounds are fixed. No
//! system call here.

use std::time::SystemTime;

use serde_json::{Value, json};

/// The upper bounds of the buckets of times, in seconds: a value belongs to the first that is not
/// below it. Beyond the last one, there is one bucket more.
pub(crate) const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0,
];

/// The same of sizes in memory, in bytes.
pub(crate) const BYTES: &[f64] = &[
    262_144.0,
    524_288.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
    16_777_216.0,
    33_554_432.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// A value in a bucket, and the connection that it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) id: u64,
    pub(crate) value: f64,
    pub(crate) at: SystemTime,
}

/// A distribution of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    /// The last value of each bucket.
    exemplars: Vec<Option<Exemplar>>,
}

impl Histogram {
    /// A distribution without values.
    pub(crate) fn new(bounds: &'static [f64]) -> Histogram {
        let buckets = bounds.len() + 1;
        Histogram { bounds, counts: vec![0; buckets], sum: 0.0, exemplars: vec![None; buckets] }
    }

    /// A distribution whose values were counted elsewhere.
    pub(crate) fn of_counts(bounds: &'static [f64], counts: Vec<u64>, sum: f64) -> Histogram {
        Histogram { counts, sum, ..Histogram::new(bounds) }
    }

    /// Counts a value of a connection.
    pub(crate) fn record(&mut self, exemplar: Exemplar) {
        let bucket = bucket(self.bounds, exemplar.value);
        self.counts[bucket] += 1;
        self.sum += exemplar.value;
        self.exemplars[bucket] = Some(exemplar);
    }

    /// As an object: `bounds`, `counts` of each bucket, one more than bounds, `sum`, and the
    /// `exemplars` that there are, by bucket.
    pub(crate) fn to_json(&self) -> Value {
        let exemplars = self.exemplars.iter().enumerate().filter_map(|(bucket, exemplar)| {
            let Exemplar { id, value, at } = (*exemplar)?;
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            Some(json!({ "bucket": bucket, "id": id, "value": value, "at": at }))
        });
        json!({
            "bounds": self.bounds,
            "counts": self.counts,
            "sum": self.sum,
            "exemplars": exemplars.collect::<Vec<Value>>(),
        })
    }

    /// The counts and the sum of an object; `None` if it is no distribution with these bounds.
    pub(crate) fn from_json(bounds: &'static [f64], value: &Value) -> Option<Histogram> {
        let numbers = |key: &str| value.get(key)?.as_array();
        let theirs: Vec<f64> = numbers("bounds")?.iter().map(Value::as_f64).collect::<Option<_>>()?;
        let counts: Vec<u64> = numbers("counts")?.iter().map(Value::as_u64).collect::<Option<_>>()?;
        let is_same = theirs == bounds && counts.len() == bounds.len() + 1;
        let sum = value.get("sum")?.as_f64()?;
        is_same.then(|| Histogram::of_counts(bounds, counts, sum))
    }
}

/// The bucket that a value belongs to.
pub(crate) fn bucket(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_bound_that_is_not_below_it() {
        for (value, expected) in
            [(0.0, 0), (0.000_01, 0), (0.000_011, 1), (1.0, 15), (1.01, 16), (3_600.0, 23), (1e9, 24)]
        {
            assert_eq!(bucket(SECONDS, value), expected, "{value}");
        }
        assert!(SECONDS.is_sorted() && BYTES.is_sorted());
    }

    #[test]
    fn a_distribution_survives_as_json() {
        let mut times = Histogram::new(SECONDS);
        for (id, value) in [(1, 0.25), (2, 0.2), (3, 7_200.0)] {
            times.record(Exemplar { id, value, at: SystemTime::UNIX_EPOCH });
        }
        let json = times.to_json();
        assert_eq!(json["sum"], 7_200.45);
        assert_eq!((&json["counts"][13], &json["counts"][24]), (&json!(2), &json!(1)));
        assert_eq!(json["exemplars"][0], json!({ "bucket": 13, "id": 2, "value": 0.2, "at": 0.0 }));
        let again = Histogram::from_json(SECONDS, &json).expect("a distribution");
        assert_eq!((&again.counts, again.sum), (&times.counts, times.sum));
        for wrong in [json!({}), json!({ "bounds": [1.0], "counts": [1, 2], "sum": 1.0 }), json!(7)] {
            assert_eq!(Histogram::from_json(SECONDS, &wrong), None, "{wrong}");
        }
        assert_eq!(Histogram::from_json(BYTES, &json), None);
    }
}
