//! Names of runs and agents: parts of subjects, and of file names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name.
const LONGEST: usize = 64;

/// A name: letters, digits and hyphens, 64 at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Makes a name of any text: other characters become hyphens.
    #[must_use]
    pub fn of(text: &str) -> Name {
        let fit = |one: char| if one.is_ascii_alphanumeric() { one } else { '-' };
        let name: String = text.chars().map(fit).take(LONGEST).collect();
        Name(if name.is_empty() { "-".into() } else { name })
    }

    /// Returns a name that no other has: of the random number generator of the kernel.
    ///
    /// # Errors
    /// Those of getrandom(2).
    pub fn random(digits: usize) -> std::io::Result<Name> {
        let mut bytes = [0; LONGEST / 2];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Name(text[..digits.clamp(1, LONGEST)].to_owned()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Name, String> {
        let is_fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        match (1..=LONGEST).contains(&text.len()) && is_fit(&text) {
            true => Ok(Name(text)),
            false => Err("no name".into()),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bounds a reason that comes from elsewhere: one line, 300 characters at most, none of which can
/// steer a terminal.
#[must_use]
pub fn bounded(why: &str) -> String {
    why.chars().map(|one| if one.is_control() { ' ' } else { one }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_part_of_a_subject_or_of_a_path() {
        for text in ["", "a.b", "*", ">", "a b", "../x", "a/b", "\u{e9}"] {
            Name::try_from(text.to_owned()).expect_err(text);
            let made = Name::of(text);
            assert_eq!(Name::try_from(made.as_str().to_owned()), Ok(made), "{text}");
        }
        assert_eq!(Name::of("host.example").as_str(), "host-example");
        Name::try_from("a".repeat(65)).expect_err("too long");
        let [one, other] = [16, 16].map(|digits| Name::random(digits).expect("random numbers"));
        assert!(one != other && one.as_str().len() == 16);
    }

    #[test]
    fn reasons_of_others_are_one_line() {
        assert_eq!(bounded("a\x1b[2J\nb"), "a [2J b");
        assert_eq!(bounded(&"x".repeat(1000)).len(), 300);
    }
}
