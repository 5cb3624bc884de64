//! The mean of ratios of paired measurements, with its confidence interval.

use serde::{Deserialize, Serialize};

/// A ratio with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Geometric mean of the ratios of all pairs.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Number of pairs.
    pub pairs: usize,
}

impl Ratio {
    /// Computes the mean and interval from the logarithms of ratios, by Student's t. `None` for
    /// fewer than two.
    #[must_use]
    pub fn of(logarithms: &[f64]) -> Option<Ratio> {
        let count = logarithms.len();
        if count < 2 {
            return None;
        }
        let mean = logarithms.iter().sum::<f64>() / count as f64;
        let variance = logarithms.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        let half = student(count - 1) * (variance / count as f64).sqrt();
        Some(Ratio { ratio: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp(), pairs: count })
    }

    /// Whether both ends of the interval are within `precision`, a part of 1, of the ratio.
    #[must_use]
    pub fn is_within(&self, precision: f64) -> bool {
        self.high / self.ratio - 1.0 <= precision && 1.0 - self.low / self.ratio <= precision
    }
}

/// Returns the 97.5th percentile of Student's t distribution (NIST/SEMATECH e-Handbook of
/// Statistical Methods, 1.3.6.7.2; above 30 degrees of freedom, the expansion 26.7.5 of Abramowitz
/// and Stegun).
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    if let Some(value) = TABLE.get(freedom.saturating_sub(1)) {
        return *value;
    }
    let (z, n): (f64, f64) = (1.959_964, freedom as f64);
    z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_match_the_published_table() {
        for (freedom, value) in
            [(1, 12.706), (10, 2.228), (30, 2.042), (40, 2.021), (60, 2.000), (100, 1.984)]
        {
            assert!((student(freedom) - value).abs() < 0.0006, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn the_interval_matches_one_computed_by_hand() {
        // Ratios of 1.1 with a standard deviation of 0.02 in the logarithm: 0.02 / sqrt(4) × 3.182.
        let spread = 0.02 * (3.0f64 / 4.0).sqrt();
        let logarithms =
            [1.1f64.ln() + spread, 1.1f64.ln() - spread, 1.1f64.ln() + spread, 1.1f64.ln() - spread];
        let ratio = Ratio::of(&logarithms).expect("four");
        assert!((ratio.ratio - 1.1).abs() < 1e-9);
        assert!((ratio.high / ratio.ratio - (0.01f64 * 3.182).exp()).abs() < 1e-9, "{ratio:?}");
        assert!(ratio.is_within(0.04) && !ratio.is_within(0.03));
        assert_eq!(Ratio::of(&[0.0]), None);
    }
}
