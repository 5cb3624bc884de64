//! Rules by host name. The connection process looks up the name of its client and applies these
//! rules: a DNS query may take seconds, and delays no other client there.

use std::fmt;

use crate::net::dns::is_plain;

/// A pattern of host names: one host (`mail.example.com`), the hosts of a domain (`.example.com`),
/// or every host that has a name (the empty pattern).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern(String);

impl Pattern {
    /// Parses the text after the `=` of a rule; `None` if it is not a valid pattern.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        let is_valid = is_plain(text) && text != "." && !text.contains("..");
        is_valid.then(|| Pattern(text.to_ascii_lowercase()))
    }
}

/// Writes the pattern in the form of a rule, with the `=`.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "={}", self.0)
    }
}

/// A rule by host name, borrowed from the bytes that encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameRule<'a> {
    pattern: &'a [u8],
    /// The number of the rule among all rules.
    pub(super) rule: u32,
    pub(super) allows: bool,
    /// `NAME=VALUE` and a zero byte each.
    pub(super) variables: &'a [u8],
}

// The encoding of a rule: the length of the rest (4 bytes), the rule's number (4 bytes), 1 if it
// allows (1 byte), the length of the pattern (1 byte), the pattern, the variables.
const LENGTH: usize = 4;
const FIXED: usize = 4 + 1 + 1;

/// Appends the encoding of a rule to `bytes`.
pub(super) fn push(bytes: &mut Vec<u8>, pattern: &Pattern, rule: u32, allows: bool, variables: &[u8]) {
    let length = FIXED + pattern.0.len() + variables.len();
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&rule.to_le_bytes());
    bytes.extend_from_slice(&[u8::from(allows), pattern.0.len() as u8]);
    bytes.extend_from_slice(pattern.0.as_bytes());
    bytes.extend_from_slice(variables);
}

/// Decodes the rules in `bytes`. Stops at bytes that are not a rule: the table may be rewritten
/// while it is read.
fn rules(mut bytes: &[u8]) -> impl Iterator<Item = NameRule<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (rule, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = after;
        let (number, rule) = rule.split_first_chunk()?;
        let (&[allows, length], rule) = rule.split_first_chunk()?;
        let (pattern, variables) = rule.split_at_checked(length.into())?;
        Some(NameRule { pattern, rule: u32::from_le_bytes(*number), allows: allows == 1, variables })
    })
}

/// How specific a pattern that matches a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Any,
    /// The length of the domain in bytes.
    Domain(usize),
    Host,
}

/// How specific `pattern` is for `name`; `None` if it does not match.
fn specificity(pattern: &[u8], name: &[u8]) -> Option<Specificity> {
    match pattern {
        [] => Some(Specificity::Any),
        [b'.', ..] if name.ends_with(pattern) => Some(Specificity::Domain(pattern.len())),
        _ if pattern == name => Some(Specificity::Host),
        _ => None,
    }
}

/// The rules by host name that are still to be applied to a client, and the result if none applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingNameRules {
    /// The result of the rules by address.
    pub(super) allows: bool,
    /// Whether that is the result of a rule for a block, not of the rule for all clients.
    pub(super) in_a_block: bool,
    /// The encoded rules by host name; empty if a rule applies to the client's single address.
    pub(super) names: Vec<u8>,
}

impl PendingNameRules {
    /// Decides about a client with this host name. Returns whether it is allowed, and the variables
    /// of the rule by host name, if one decides.
    ///
    /// The most specific rule decides, in the order of `tcprules`
    /// (cr.yp.to/ucspi-tcp/tcprules.html): host name, block, domain, any host name, all clients. A
    /// rule for the client's single address precedes them all; then no rule by host name is
    /// pending.
    pub(crate) fn decide(&self, name: Option<&str>) -> (bool, Option<&[u8]>) {
        match self.rule_for(name) {
            Some(rule) => (rule.allows, Some(rule.variables)),
            None => (self.allows, None),
        }
    }

    /// Whether the rules by address have decided already: admission has rejected or reported the
    /// client if they deny it.
    pub(crate) fn are_decided(&self) -> bool {
        self.names.is_empty()
    }

    /// The rule by host name that decides about a client, if one does.
    pub(super) fn rule_for(&self, name: Option<&str>) -> Option<NameRule<'_>> {
        let name = name?.to_ascii_lowercase();
        let matching =
            rules(&self.names).filter_map(|rule| Some((specificity(rule.pattern, name.as_bytes())?, rule)));
        let (specificity, rule) = matching.max_by_key(|(specificity, _)| *specificity)?;
        (specificity == Specificity::Host || !self.in_a_block).then_some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_validated_and_lowercased() {
        for (text, expected) in
            [("", "="), ("Mail.Example.com", "=mail.example.com"), (".example.com", "=.example.com")]
        {
            assert_eq!(Pattern::new(text).expect(text).to_string(), expected);
        }
        for text in [".", "a b", "a..b", "a=b", "a/b", "é", &"x".repeat(256)] {
            assert_eq!(Pattern::new(text), None, "{text}");
        }
    }

    fn pending_name_rules(in_a_block: bool, all: &[(&str, bool)]) -> PendingNameRules {
        let mut names = Vec::new();
        for (number, (pattern, allows)) in all.iter().enumerate() {
            let variables = format!("which={pattern}\0");
            let pattern = Pattern::new(pattern).expect("a pattern");
            push(&mut names, &pattern, number as u32, *allows, variables.as_bytes());
        }
        PendingNameRules { allows: true, in_a_block, names }
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let all = [("", false), (".example.com", true), (".b.example.com", false), ("a.b.example.com", true)];
        for (name, expected, expected_in_a_block) in [
            (Some("a.b.example.com"), Some(3), Some(3)),
            (Some("A.B.EXAMPLE.COM"), Some(3), Some(3)),
            (Some("c.b.example.com"), Some(2), None),
            (Some("b.example.com"), Some(1), None),
            // A domain pattern does not match the domain itself.
            (Some("example.com"), Some(0), None),
            (Some("xexample.com"), Some(0), None),
            (None, None, None),
        ] {
            let rule = |pending: &PendingNameRules| pending.rule_for(name).map(|rule| rule.rule);
            assert_eq!(rule(&pending_name_rules(false, &all)), expected, "{name:?}");
            assert_eq!(rule(&pending_name_rules(true, &all)), expected_in_a_block, "{name:?}");
        }
        let pending = pending_name_rules(false, &all);
        assert_eq!(pending.decide(Some("c.b.example.com")), (false, Some(&b"which=.b.example.com\0"[..])));
        assert_eq!(pending.decide(None), (true, None));
    }

    #[test]
    fn invalid_bytes_end_the_rules() {
        let good = pending_name_rules(false, &[(".x", true), ("y", false)]).names;
        for length in 0..good.len() {
            let _ = rules(&good[..length]).count();
        }
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 0xff;
            assert!(rules(&bad).count() <= 2);
        }
        assert_eq!(rules(&[0; 40]).count(), 0);
    }
}
