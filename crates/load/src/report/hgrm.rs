//! The distribution of latencies in the percentile format of HdrHistogram's tools, in milliseconds.

use std::fmt::Write as _;

use super::Report;
use crate::findings::record::{Measure, Record};

/// Steps for each halving of the distance to 100 %; the default of HdrHistogram.
const TICKS: u32 = 5;

/// Formats the percentiles of the latency, from the planned start.
#[must_use]
pub fn hgrm(report: &Report) -> String {
    let record = report.findings.records.of(Measure::Exchange);
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    // Writing to a string cannot fail.
    let _ = write(&mut out, &record);
    out
}

fn write(out: &mut String, record: &Record) -> std::fmt::Result {
    let count = record.count();
    let ms = |nanoseconds: f64| nanoseconds / 1e6;
    for (share, value, upto) in points(record) {
        let value = ms(value as f64);
        match share < 1.0 {
            true => writeln!(out, "{value:12.6} {share:2.12} {upto:10} {:14.2}", 1.0 / (1.0 - share))?,
            false => writeln!(out, "{value:12.6} {share:2.12} {upto:10}")?,
        }
    }
    let mean = record.mean() as f64;
    let spread =
        record.counters().map(|(value, number)| number as f64 * (value as f64 - mean).powi(2)).sum::<f64>();
    let deviation = (spread / count.max(1) as f64).sqrt();
    writeln!(out, "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]", ms(mean), ms(deviation))?;
    writeln!(out, "#[Max     = {:12.6}, Total count    = {count:12}]", ms(record.max() as f64))?;
    let buckets = Record::buckets();
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", buckets.0, buckets.1)
}

/// Returns points of the distribution: a share of all durations, the duration that this share does
/// not exceed, and the number of durations up to it.
#[must_use]
pub fn points(record: &Record) -> Vec<(f64, u64, u64)> {
    let count = record.count();
    let mut points = Vec::new();
    let mut share: f64 = 0.0;
    if count == 0 {
        return points;
    }
    loop {
        let value = record.quantile(share);
        let upto = record.count_upto(value);
        points.push((share.min(1.0), value, upto));
        if upto >= count || share >= 1.0 {
            break;
        }
        // The step halves with each halving of the distance to 100 %.
        let halvings = (1.0 / (1.0 - share)).log2().floor() as i32 + 1;
        let step = 1.0 / (f64::from(TICKS) * 2f64.powi(halvings));
        share = (share + step).min(1.0);
    }
    if let Some((share, ..)) = points.last().copied()
        && share < 1.0
    {
        points.push((1.0, record.max(), count));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_rises_to_100_percent() {
        let mut record = Record::default();
        (1..=10_000).for_each(|number| record.add(number * 1000));
        let points = points(&record);
        assert!(
            points
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1 && pair[0].2 <= pair[1].2)
        );
        assert_eq!(points.last(), Some(&(1.0, 10_000_000, 10_000)));
        let (_, median, upto) = points.iter().find(|(share, ..)| *share >= 0.5).expect("half");
        assert!(median.abs_diff(5_000_000) < 5_000 && upto.abs_diff(5000) < 10, "{median} {upto}");
        assert!(super::points(&Record::default()).is_empty());
    }
}
