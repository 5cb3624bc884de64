//! The reply that an exchange expects.

use std::str::FromStr;

use regex::bytes::Regex;

use super::text::unescape;

/// The reply that an exchange expects.
#[derive(Clone, Debug)]
pub enum Expect {
    /// The bytes that were sent.
    Echo,
    /// No reply: an exchange is complete when all is sent.
    Nothing,
    /// This number of bytes, of any value.
    Bytes(u64),
    /// This text.
    Text(Vec<u8>),
    /// A text in which this expression is found.
    Matches(Regex),
    /// Any bytes, up to the end of the stream.
    End,
    /// Any bytes, without end: only the stop ends the exchange.
    Endless,
}

impl FromStr for Expect {
    type Err = String;

    fn from_str(text: &str) -> Result<Expect, String> {
        if let Some(number) = text.strip_prefix("bytes:") {
            let parsed = number.parse().ok().filter(|number| *number > 0);
            return parsed
                .map(Expect::Bytes)
                .ok_or_else(|| format!("invalid number '{number}'; write bytes:N"));
        }
        if let Some(expression) = text.strip_prefix("re:") {
            // The last line of the error has the reason, without the drawing above it.
            let why = |error: regex::Error| error.to_string().lines().last().unwrap_or("").trim().to_owned();
            return Regex::new(expression).map(Expect::Matches).map_err(why);
        }
        match text {
            "echo" => Ok(Expect::Echo),
            "none" => Ok(Expect::Nothing),
            "end" => Ok(Expect::End),
            _ => match unescape(text.strip_prefix("text:").unwrap_or(text))? {
                empty if empty.is_empty() => {
                    Err("the expected text is empty; write none for no reply".into())
                }
                bytes => Ok(Expect::Text(bytes)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_an_expected_reply_is_parsed() {
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
