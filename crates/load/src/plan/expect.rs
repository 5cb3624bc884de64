//! What is to come back, as it is typed.

use std::str::FromStr;

use regex::bytes::Regex;

use crate::plan::text::unescape;

/// What an exchange waits for.
#[derive(Clone, Debug)]
pub enum Expect {
    /// What was sent.
    Echo,
    /// Nothing: an exchange is over when all is sent.
    Nothing,
    /// So many bytes, whichever.
    Bytes(u64),
    /// Exactly these.
    Text(Vec<u8>),
    /// Bytes in which this is found.
    Matches(Regex),
    /// Anything, up to the end of the stream.
    End,
    /// Anything, without end: the stop ends it.
    Whatever,
}

impl FromStr for Expect {
    type Err = String;

    fn from_str(text: &str) -> Result<Expect, String> {
        if let Some(number) = text.strip_prefix("bytes:") {
            let number = number.parse().ok().filter(|number| *number > 0);
            return number.map(Expect::Bytes).ok_or_else(|| "after bytes: comes a number".to_owned());
        }
        if let Some(expression) = text.strip_prefix("re:") {
            // Of several lines that the error has, the last says what is wrong.
            let why = |error: regex::Error| error.to_string().lines().last().unwrap_or("").trim().to_owned();
            return Regex::new(expression).map(Expect::Matches).map_err(why);
        }
        match text {
            "echo" => Ok(Expect::Echo),
            "none" => Ok(Expect::Nothing),
            "end" => Ok(Expect::End),
            _ => match unescape(text.strip_prefix("text:").unwrap_or(text))? {
                empty if empty.is_empty() => Err("write none where nothing is expected".into()),
                bytes => Ok(Expect::Text(bytes)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_typed() {
        for (text, shown) in [
            ("echo", "Echo"),
            ("none", "Nothing"),
            ("end", "End"),
            ("bytes:12", "Bytes(12)"),
            (r"+PONG\r\n", "Text([43, 80, 79, 78, 71, 13, 10])"),
            ("text:end", "Text([101, 110, 100])"),
            ("re:^HTTP/1.1 2", "Matches(Regex(\"^HTTP/1.1 2\"))"),
        ] {
            assert_eq!(format!("{:?}", text.parse::<Expect>().expect(text)), shown);
        }
        for text in ["", "text:", "bytes:0", "bytes:x", "re:(", r"\x"] {
            text.parse::<Expect>().expect_err(text);
        }
    }
}
