//! Values as a reader at a terminal wants them.

use serde_json::Value;
use tine::cli::one_line;

/// A value of an object as text; a dash if there is none.
pub(crate) fn field(object: &Value, name: &str) -> String {
    match &object[name] {
        Value::Null => "-".to_owned(),
        // What a client can choose is in it: it must not control the terminal.
        Value::String(text) => one_line(text),
        other => other.to_string(),
    }
}

/// A time in milliseconds: `0.250s`, `12s`, `3min 5s`, `2h 3min`, `5d 4h`.
pub(crate) fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..10 => format!("{:.1}s", milliseconds as f64 / 1000.0),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}min {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes: `512`, `1.5K`, `20M`.
pub(crate) fn bytes(number: Option<u64>) -> String {
    let Some(number) = number else { return "-".to_owned() };
    let mut value = number as f64;
    let mut unit = "";
    for next in ["K", "M", "G", "T"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "" => number.to_string(),
        unit if value < 10.0 => format!("{value:.1}{unit}"),
        unit => format!("{value:.0}{unit}"),
    }
}

/// Rows as columns that are as wide as their widest value. The first row has the headings.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_sizes() {
        for (milliseconds, text) in [
            (0, "0.0s"),
            (250, "0.2s"),
            (9_999, "10.0s"),
            (12_000, "12s"),
            (185_000, "3min 5s"),
            (7_380_000, "2h 3min"),
            (446_400_000, "5d 4h"),
        ] {
            assert_eq!(age(milliseconds), text);
        }
        for (number, text) in [
            (0, "0"),
            (1023, "1023"),
            (1536, "1.5K"),
            (20 << 20, "20M"),
            (3 << 40, "3.0T"),
            (5000 << 40, "5000T"),
        ] {
            assert_eq!(bytes(Some(number)), text);
        }
        assert_eq!(bytes(None), "-");
    }

    #[test]
    fn columns_are_aligned_and_text_is_escaped() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(columns(&[row(["ID", "PEER"]), row(["100", "a"])]), "ID   PEER\n100  a\n");
        assert_eq!(field(&json!({ "a": "x\u{1b}[2J" }), "a"), "x\\u{1b}[2J");
        assert_eq!((field(&json!({ "a": 3 }), "a"), field(&json!({}), "a")), ("3".into(), "-".into()));
    }
}
