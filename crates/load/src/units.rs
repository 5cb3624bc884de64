//! Units: nanoseconds, and numbers as they are printed.

use std::time::Duration;

/// One second, in the unit of all times of this crate.
pub const SECOND: u64 = 1_000_000_000;

/// Converts a duration to nanoseconds; those above a century are cut, so that sums of times fit.
#[must_use]
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// Formats a duration with three digits and its unit.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (nanoseconds as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanoseconds as f64 / 1e6, "ms"),
        _ => (nanoseconds as f64 / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Formats a number of bytes with three digits and its unit (powers of ten).
#[must_use]
pub fn bytes(number: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{} {}", three_digits(value), units[unit]) }
}

/// Formats a rate: three digits below 100, whole numbers from there on.
#[must_use]
pub fn rounded(rate: f64) -> String {
    if rate >= 100.0 { grouped(rate.round() as u64) } else { three_digits(rate) }
}

/// Parses a rate as a number per second: `5000/s`, `5000`, `2.5k/s`, `30/min`, `100/h`.
///
/// # Errors
/// A message with the forms, if it is none of them, not above 0, or above 100 million per second.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let units = [("/s", 1.0), ("/min", 60.0), ("/h", 3600.0)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1.0));
    let (number, factor) = match number.strip_suffix('k') {
        Some(number) => (number, 1000.0),
        None => (number, 1.0),
    };
    let rate = number.parse().ok().map(|number: f64| number * factor / seconds);
    rate.filter(|rate| *rate > 0.0 && *rate <= 1e8)
        .ok_or_else(|| "write a number and a unit, as in 5000/s, 30/min or 100/h".to_owned())
}

/// Formats a number with commas between thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_cut_where_sums_would_overflow() {
        assert_eq!(nanoseconds(Duration::from_millis(5)), 5_000_000);
        let longest = nanoseconds(Duration::MAX);
        assert!(longest / SECOND > 100 * 365 * 86_400 && longest.checked_mul(4).is_some());
    }

    #[test]
    fn rates_are_parsed_per_second() {
        for (text, value) in [
            ("5000/s", 5000.0),
            ("0.5", 0.5),
            ("2.5k/s", 2500.0),
            ("30/min", 0.5),
            ("6k/min", 100.0),
            ("36/h", 0.01),
        ] {
            assert_eq!(parse_rate(text), Ok(value), "{text}");
        }
        for text in ["", "/s", "0", "-1/s", "fast", "inf", "NaN", "5/m", "5/day", "/min", "1e9/s", "5 /s"] {
            parse_rate(text).expect_err(text);
        }
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (nanoseconds, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (45_678_000, "45.7 ms"),
            (123_000_000_000, "123 s"),
        ] {
            assert_eq!(duration(nanoseconds), shown);
        }
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([12.0, 1500.0, 9.99e9].map(bytes), ["12 B", "1.50 kB", "9.99 GB"]);
        assert_eq!([1.234, 99.0, 1234.5].map(rounded), ["1.23", "99.0", "1,235"]);
    }
}
