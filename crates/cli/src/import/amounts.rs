//! Amounts as tine writes them.

/// The units of sizes, from the largest.
const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];

/// A number of bytes, as `64M`.
pub(super) fn size(bytes: u64) -> String {
    let unit = UNITS.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// The size that a text such as `5M`, `1.5g` or `64 KiB` means, in powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let unit = unit.strip_suffix('b').map_or(unit, |unit| unit.strip_suffix('i').unwrap_or(unit));
    let power = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let digits = digits.trim_end();
    match digits.split_once('.') {
        None => digits.parse::<u64>().ok()?.checked_mul(1 << power),
        Some((whole, part)) => {
            let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let number: f64 = digits.parse().ok().filter(|_| is_digits(whole) && is_digits(part))?;
            let value = number * (1_u64 << power) as f64;
            (value < u64::MAX as f64).then_some(value as u64)
        }
    }
}

/// Milliseconds of processor time in a second, as a share of one processor, and whether it is
/// rounded. Parts of a percent are left out, but for the first.
pub(super) fn share(milliseconds: u64) -> (String, bool) {
    (format!("{}%", (milliseconds / 10).max(1)), !milliseconds.is_multiple_of(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_largest_unit_that_fits() {
        for (number, text) in [
            (0, "0"),
            (1, "1"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1536"),
            (5 << 20, "5M"),
            (3 << 40, "3T"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(size(number), text);
        }
    }

    #[test]
    fn sizes_are_read_in_several_spellings() {
        for (text, number) in [
            ("5M", Some(5 << 20)),
            ("5m", Some(5 << 20)),
            ("5MB", Some(5 << 20)),
            ("5MiB", Some(5 << 20)),
            ("64 K", Some(64 << 10)),
            ("1.5g", Some(3 << 29)),
            ("77", Some(77)),
            ("77b", Some(77)),
            ("2T", Some(2 << 40)),
            ("", None),
            ("M", None),
            ("5X", None),
            ("-5M", None),
            ("1.x", None),
            ("1.5e3", None),
            ("99999999999T", None),
            ("99999999999999999999.5", None),
        ] {
            assert_eq!(bytes(text), number, "{text}");
        }
    }

    #[test]
    fn a_share_is_never_none() {
        for (milliseconds, text, is_rounded) in
            [(100, "10%", false), (2000, "200%", false), (105, "10%", true), (3, "1%", true)]
        {
            assert_eq!(share(milliseconds), (text.to_owned(), is_rounded));
        }
    }
}
