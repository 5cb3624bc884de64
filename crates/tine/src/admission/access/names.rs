//! Rules about the names of clients' hosts. A name is looked up, and the rule found, in the connection's own process: that
//! may take long, and nobody else waits for it.

use std::fmt;

use crate::net::dns::is_plain;

/// Hosts by their names: one (`mail.example.com`), those of a domain (`.example.com`), or all that have one (nothing).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern(String);

impl Pattern {
    /// What stands after the `=` of a rule; `None` where that can be no name.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        let fits = is_plain(text) && text != "." && !text.contains("..");
        fits.then(|| Pattern(text.to_ascii_lowercase()))
    }
}

/// As it is written in rules.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "={}", self.0)
    }
}

/// What a rule about names says, as it lies in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameRule<'a> {
    pattern: &'a [u8],
    /// Its number among all rules.
    pub(super) rule: u32,
    pub(super) allows: bool,
    /// `NAME=VALUE` and a zero byte each.
    pub(super) variables: &'a [u8],
}

// A rule's bytes: how long it is after these four; number and whether it allows; the pattern and its length; the variables.
const LENGTH: usize = 4;
const FIXED: usize = 4 + 1 + 1;

/// Adds a rule to these bytes.
pub(super) fn push(bytes: &mut Vec<u8>, pattern: &Pattern, rule: u32, allows: bool, variables: &[u8]) {
    let length = FIXED + pattern.0.len() + variables.len();
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&rule.to_le_bytes());
    bytes.extend_from_slice(&[u8::from(allows), pattern.0.len() as u8]);
    bytes.extend_from_slice(pattern.0.as_bytes());
    bytes.extend_from_slice(variables);
}

/// The rules in these bytes. Bytes that are none, since others are being written, end them.
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

/// How specific a rule is that is about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Any,
    /// So many bytes of a domain.
    Domain(usize),
    Host,
}

/// How specific a rule about this name is; `None` if it is about others.
fn weight(pattern: &[u8], name: &[u8]) -> Option<Weight> {
    match pattern {
        [] => Some(Weight::Any),
        [b'.', ..] if name.ends_with(pattern) => Some(Weight::Domain(pattern.len())),
        _ if pattern == name => Some(Weight::Host),
        _ => None,
    }
}

/// Where a client stands before its name is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingNameRules {
    /// What the rules about addresses say.
    pub(super) allows: bool,
    /// That is a rule about a block it is in, not one about everybody.
    pub(super) in_a_block: bool,
    /// The rules about names; none where a rule is about its very address.
    pub(super) names: Vec<u8>,
}

impl PendingNameRules {
    /// Whether a client of this name may come, and the variables of the rule about its name, if that decides. What is most specific
    /// does, in the order of `tcprules` (cr.yp.to/ucspi-tcp/tcprules.html): its name, a block, a domain, any name,
    /// everybody. (One about its address alone leaves nothing to its name.)
    pub(crate) fn decide(&self, name: Option<&str>) -> (bool, Option<&[u8]>) {
        match self.rule_for(name) {
            Some(rule) => (rule.allows, Some(rule.variables)),
            None => (self.allows, None),
        }
    }

    /// The rule about a name that decides.
    pub(super) fn rule_for(&self, name: Option<&str>) -> Option<NameRule<'_>> {
        let name = name?.to_ascii_lowercase();
        let about =
            rules(&self.names).filter_map(|rule| Some((weight(rule.pattern, name.as_bytes())?, rule)));
        let (weight, rule) = about.max_by_key(|(weight, _)| *weight)?;
        (weight == Weight::Host || !self.in_a_block).then_some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, shown) in
            [("", "="), ("Mail.Example.com", "=mail.example.com"), (".example.com", "=.example.com")]
        {
            assert_eq!(Pattern::new(text).expect(text).to_string(), shown);
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
    fn the_most_specific_decides() {
        let all = [("", false), (".example.com", true), (".b.example.com", false), ("a.b.example.com", true)];
        for (name, by, by_in_a_block) in [
            (Some("a.b.example.com"), Some(3), Some(3)),
            (Some("A.B.EXAMPLE.COM"), Some(3), Some(3)),
            (Some("c.b.example.com"), Some(2), None),
            (Some("b.example.com"), Some(1), None),
            // The domain itself is not in it.
            (Some("example.com"), Some(0), None),
            (Some("xexample.com"), Some(0), None),
            (None, None, None),
        ] {
            let rule = |pending_name_rules: &PendingNameRules| {
                pending_name_rules.rule_for(name).map(|rule| rule.rule)
            };
            assert_eq!(rule(&pending_name_rules(false, &all)), by, "{name:?}");
            assert_eq!(rule(&pending_name_rules(true, &all)), by_in_a_block, "{name:?}");
        }
        let known = pending_name_rules(false, &all);
        assert_eq!(known.decide(Some("c.b.example.com")), (false, Some(&b"which=.b.example.com\0"[..])));
        assert_eq!(known.decide(None), (true, None));
    }

    #[test]
    fn nonsense_ends() {
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
