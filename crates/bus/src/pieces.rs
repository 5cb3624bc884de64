//! Results in pieces, as a message has a greatest length; and whether a result that came from
//! elsewhere is one that can be added up.

use serde_json::Value;
use tine_load::plan::Plan;
use tine_load::report::{Report, SCHEMA};

/// Length of a piece, in bytes. Quoted, it is shorter than a message may be.
const PIECE: usize = 64 * 1024;

/// Greatest number of pieces: a result of 32 MiB, as of a day with full histograms.
const MOST: usize = 512;

/// Greatest number in a result. The sum of those of all agents fits into 64 bits.
const GREATEST: u64 = 1 << 53;

/// Longest sum of durations, which is written in digits: those of all agents fit into 128 bits.
const SUM_DIGITS: usize = 34;

/// Cuts a result into pieces, each of whole characters.
#[must_use]
pub(crate) fn cut(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        pieces.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    pieces
}

/// Pieces of one result, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(Vec<Option<String>>);

impl Pieces {
    /// Adds a piece. Returns the result when it is complete. A piece that cannot be one is left
    /// out.
    pub(crate) fn add(&mut self, number: usize, of: usize, text: String) -> Option<String> {
        let fits = number < of && of <= MOST && text.len() <= PIECE;
        if !fits || !self.0.is_empty() && self.0.len() != of {
            return None;
        }
        self.0.resize(of, None);
        self.0[number] = Some(text);
        self.0.iter().cloned().collect()
    }
}

/// Reads the result of a part of a load.
///
/// # Errors
/// Why it is none, or is of another load.
pub(crate) fn result(text: &str, plan: &Plan) -> Result<Report, String> {
    let value: Value = serde_json::from_str(text).map_err(|why| why.to_string())?;
    let counted = ["findings", "kernel", "lost", "window_ns", "memory_kib", "began_ms"];
    if !counted.iter().all(|name| value.get(name).is_none_or(is_plausible)) {
        return Err("it has numbers that nobody can have measured".into());
    }
    let report: Report = serde_json::from_value(value).map_err(|why| why.to_string())?;
    if report.schema != SCHEMA {
        return Err(format!("it has another schema than {SCHEMA}"));
    }
    match report.plan == *plan && report.name == plan.name() {
        true => Ok(report),
        false => Err("it is of another load".into()),
    }
}

/// Whether sums of the numbers cannot overflow, and no text can steer a terminal.
fn is_plausible(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_some_and(|number| number <= GREATEST),
        Value::Object(fields) => fields.iter().all(|(name, field)| match (name.as_str(), field) {
            ("sum", Value::String(digits)) => digits.len() <= SUM_DIGITS,
            // Where bytes were wrong may be any place, and nothing adds it up.
            ("faults", _) => true,
            _ => is_plausible(field),
        }),
        Value::Array(all) => all.iter().all(is_plausible),
        Value::String(text) => !text.chars().any(char::is_control),
        Value::Null | Value::Bool(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{plan, report};

    #[test]
    fn a_result_is_put_together_from_its_pieces_in_any_order() {
        let text = format!("{}é{}", "a".repeat(PIECE - 1), "b".repeat(2 * PIECE));
        let cut = cut(&text);
        assert!(cut.len() == 4 && cut.iter().all(|piece| piece.len() <= PIECE));
        let mut pieces = Pieces::default();
        for number in [2, 0, 2, 3] {
            assert_eq!(pieces.add(number, 4, cut[number].clone()), None);
        }
        // Pieces that cannot be are left out.
        for (number, of, length) in [(4, 4, 1), (1, 5, 1), (0, MOST + 1, 1), (1, 4, PIECE + 1)] {
            assert_eq!(pieces.add(number, of, "x".repeat(length)), None);
        }
        assert_eq!(pieces.add(1, 4, cut[1].clone()), Some(text));
    }

    #[test]
    fn a_result_of_another_load_or_with_impossible_numbers_is_refused() {
        let text = serde_json::to_string(&report()).expect("text");
        result(&text, &plan()).expect("the result of this plan");
        let other = Plan { connections: 7, ..plan() };
        assert_eq!(result(&text, &other).expect_err("another plan"), "it is of another load");
        for (from, to) in [
            ("\"measured\":0", "\"measured\":18446744073709551615"),
            ("\"waited\":0", "\"waited\":-1"),
            ("\"sum\":\"0\"", "\"sum\":\"340282366920938463463374607431768211455\""),
            ("\"schema\":\"tine-load/1\"", "\"schema\":\"tine-load/9\""),
            ("\"lost\":[]", "\"lost\":7"),
        ] {
            assert!(text.contains(from), "{from}");
            result(&text.replace(from, to), &plan()).expect_err(to);
        }
        result("", &plan()).expect_err("nothing");
    }
}
