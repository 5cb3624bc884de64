//! Words, times and sizes, as systemd.syntax(7), systemd.service(5) and systemd.time(7) have them.

/// Splits a value into words: quotes and C escapes are removed.
///
/// # Errors
/// A quote is not closed, or an escape is unknown.
pub(super) fn split(value: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        match (character, quote) {
            ('\\', _) => word.get_or_insert_default().push(escaped(&mut rest)?),
            (mark, Some(open)) if mark == open => quote = None,
            (mark @ ('"' | '\''), None) => {
                word.get_or_insert_default();
                quote = Some(mark);
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (other, _) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// The character of an escape, after its backslash.
fn escaped(rest: &mut std::str::Chars) -> Result<char, String> {
    if rest.clone().next().is_some_and(|digit| digit.is_digit(8)) {
        return coded(rest, 3, 8);
    }
    Ok(match rest.next() {
        Some('x') => return coded(rest, 2, 16),
        Some('u') => return coded(rest, 4, 16),
        Some('n') => '\n',
        Some('t') => '\t',
        Some('r') => '\r',
        Some('a') => '\x07',
        Some('b') => '\x08',
        Some('f') => '\x0c',
        Some('v') => '\x0b',
        Some('s') => ' ',
        Some(same @ ('\\' | '"' | '\'')) => same,
        Some(other) => return Err(format!("the escape \\{other} is unknown")),
        None => return Err("it ends in a backslash".into()),
    })
}

/// A character by its number.
fn coded(rest: &mut std::str::Chars, digits: usize, radix: u32) -> Result<char, String> {
    let text: String = rest.by_ref().take(digits).collect();
    let is_whole = text.len() == digits && text.chars().all(|digit| digit.is_digit(radix));
    let code = u32::from_str_radix(&text, radix).ok().filter(|_| is_whole).and_then(char::from_u32);
    // A zero byte would end the word.
    code.filter(|code| *code != '\0').ok_or_else(|| format!("the escape {text} is none"))
}

/// Replaces the specifiers that do not depend on the connection (systemd.unit(5)). `template` is
/// the name of the service without `@.service`.
///
/// # Errors
/// One depends on the connection, or on the machine.
pub(super) fn specify(text: &str, template: &str) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            result.push(character);
            continue;
        }
        match rest.next() {
            Some('%') => result.push('%'),
            Some('p' | 'P') => result.push_str(template),
            Some(other) => {
                return Err(format!(
                    "it uses %{other}; a program finds its connection in variables such as TCPREMOTEIP"
                ));
            }
            None => result.push('%'),
        }
    }
    Ok(result)
}

/// A time span in milliseconds, as `1min 30s` or `20`, which are seconds; `None` for `infinity`.
///
/// # Errors
/// It is none.
pub(super) fn milliseconds(value: &str) -> Result<Option<u64>, String> {
    const UNITS: [(&[&str], u64); 7] = [
        (&["ms", "msec"], 1),
        (&["", "s", "sec", "second", "seconds"], 1000),
        (&["m", "min", "minute", "minutes"], 60_000),
        (&["h", "hr", "hour", "hours"], 3_600_000),
        (&["d", "day", "days"], 86_400_000),
        (&["w", "week", "weeks"], 604_800_000),
        (&["y", "year", "years"], 31_557_600_000),
    ];
    if value == "infinity" {
        return Ok(None);
    }
    let wrong = || format!("{value} is no time that tine knows");
    let mut total = 0_u64;
    let mut rest = value.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(names, _)| names.contains(&&rest[..letters])).ok_or_else(wrong)?;
        total = number.checked_mul(unit.1).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
    }
    Ok(Some(total))
}

/// Whether a word stands for yes (systemd.syntax(7)).
pub(super) fn is_yes(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Whether a word stands for no.
pub(super) fn is_no(value: &str) -> bool {
    ["0", "no", "n", "false", "f", "off"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_systemd_does() {
        for (value, words) in [
            ("/bin/a b  c", vec!["/bin/a", "b", "c"]),
            (r#"a "b c" 'd "e"' f"g h"i"#, vec!["a", "b c", r#"d "e""#, "fg hi"]),
            (r#"a "" b"#, vec!["a", "", "b"]),
            (r"a\x20b \s \101 \u00e9 \\", vec!["a b", " ", "A", "é", "\\"]),
            ("", vec![]),
        ] {
            assert_eq!(split(value), Ok(words.into_iter().map(str::to_owned).collect()), "{value}");
        }
        for value in ["a \"b", r"\q", "\\", r"\x0", r"\x00", r"\xzz", r"\9"] {
            split(value).expect_err(value);
        }
    }

    #[test]
    fn specifiers_of_the_template_are_replaced_and_others_refused() {
        assert_eq!(specify("100%% %p", "echo").as_deref(), Ok("100% echo"));
        assert!(specify("%i", "echo").is_err_and(|why| why.contains("%i")));
    }

    #[test]
    fn time_spans() {
        for (value, expected) in [
            ("20", Some(20_000)),
            ("1min 30s", Some(90_000)),
            ("5min20s", Some(320_000)),
            ("100 ms", Some(100)),
            ("infinity", None),
        ] {
            assert_eq!(milliseconds(value), Ok(expected), "{value}");
        }
        for value in ["", "x", "5 parsecs", "99999999999999999999", "-1", "1.5s"] {
            milliseconds(value).expect_err(value);
        }
    }
}
