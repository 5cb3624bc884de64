//! Parser for rule files in the format of `tcprules` (cr.yp.to/ucspi-tcp/tcprules.html), with the
//! IPv6 addresses and blocks of its successors.

use std::net::{IpAddr, Ipv4Addr};

use super::names::Pattern;
use super::prefix::{Prefix, blocks_of_range};
use crate::error::Error;

/// A rule, from one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TcpRule {
    pub(super) subject: RuleSubject,
    pub(super) allows: bool,
    /// `NAME=VALUE` and a zero byte each.
    pub(super) variables: Vec<u8>,
}

/// The clients that a rule applies to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RuleSubject {
    Blocks(Vec<Prefix>),
    Name(Pattern),
}

/// Parses a line; `None` for an empty line or a comment.
pub(super) fn parse(line: &str) -> Result<Option<TcpRule>, Error> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let bad = |why: String| Error::usage(why, "write ADDRESS:allow or ADDRESS:deny, as for tcprules");
    // The instruction is searched for, not split off at the first colon: IPv6 addresses have
    // colons.
    let found = [(":allow", true), (":deny", false)].into_iter().find_map(|(instruction, allows)| {
        let (address, rest) = line.split_once(instruction)?;
        Some((address, rest, allows))
    });
    let Some((address, rest, allows)) = found else {
        return Err(bad(format!("'{line}' has neither :allow nor :deny")));
    };
    let variables = variables(rest).map_err(bad)?;
    if address.contains('@') {
        let next = "remove the rule, or use `tcpserver -x` with the file compiled by tcprules";
        return Err(Error::usage(
            format_args!("'{address}' names a user, which is not supported here"),
            next,
        ));
    }
    let subject = match address.strip_prefix('=') {
        Some(name) => Pattern::new(name).map(RuleSubject::Name),
        None => blocks(address).map(RuleSubject::Blocks),
    };
    let subject = subject.ok_or_else(|| bad(format!("invalid address or host name '{address}'")))?;
    Ok(Some(TcpRule { subject, allows, variables }))
}

/// Parses the variables after an instruction: any number of `,NAME="VALUE"`. Any character may be
/// used instead of the quotation marks.
fn variables(mut rest: &str) -> Result<Vec<u8>, String> {
    let mut variables = Vec::new();
    while !rest.is_empty() {
        let variable = rest.strip_prefix(',').and_then(|rest| rest.split_once('='));
        let Some((name, value)) = variable.filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("unexpected text after the instruction: '{rest}'"));
        };
        let quote = value.chars().next().ok_or_else(|| format!("{name} has no value"))?;
        let Some((value, after)) = value[quote.len_utf8()..].split_once(quote) else {
            return Err(format!("unterminated value of {name}: closing {quote} is missing"));
        };
        if name.contains('\0') || value.contains('\0') {
            return Err(format!("{name} contains a zero byte"));
        }
        variables.extend_from_slice(format!("{name}={value}\0").as_bytes());
        rest = after;
    }
    Ok(variables)
}

/// Parses `1.2.3.4`, `1.2.3.`, `1.2.3.37-53`, `1.2.` or `2001:db8::/32`; an empty text stands for
/// all clients.
fn blocks(text: &str) -> Option<Vec<Prefix>> {
    if text.is_empty() {
        return "any".parse().ok().map(|any| vec![any]);
    }
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|length| *length <= width)?;
        return Some(vec![Prefix::new(address, length)]);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(vec![Prefix::new(address, 128)]);
    }
    let parts: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let (last, before) = parts.split_last()?;
    let before = before.iter().map(|part| part.parse().ok()).collect::<Option<Vec<u8>>>()?;
    let (from, to) = match last.split_once('-') {
        Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
        None => {
            let only: u8 = last.parse().ok()?;
            (only, only)
        }
    };
    let has_all_bytes = !text.ends_with('.');
    if before.len() > 3 || has_all_bytes != (before.len() == 3) || from > to {
        return None;
    }
    let address = |last: u8, fill: u8| {
        let mut bytes = [fill; 4];
        bytes[..before.len()].copy_from_slice(&before);
        bytes[before.len()] = last;
        Ipv4Addr::from(bytes)
    };
    Some(blocks_of_range(address(from, 0), address(to, 255)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_invalid_ones_rejected() {
        for (line, expected, allows) in [
            ("1.2.3.4:allow", "1.2.3.4", true),
            ("1.2.3.:deny", "1.2.3.0/24", false),
            ("1.2.:deny", "1.2.0.0/16", false),
            ("10.:allow  ", "10.0.0.0/8", true),
            ("1.2.3.37-39:deny", "1.2.3.37 1.2.3.38/31", false),
            ("18-19.:allow", "18.0.0.0/7", true),
            ("2001:db8::/32:deny", "2001:db8::/32", false),
            ("::1:allow", "::1", true),
            ("192.0.2.0/24:allow", "192.0.2.0/24", true),
            (":deny", "any", false),
            ("=host.example:allow", "=host.example", true),
            ("=.Example:deny", "=.example", false),
            ("=:allow", "=", true),
        ] {
            let rule = parse(line).expect(line).expect("a rule");
            let subject = match rule.subject {
                RuleSubject::Blocks(blocks) => {
                    blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
                RuleSubject::Name(pattern) => pattern.to_string(),
            };
            assert_eq!((subject.as_str(), rule.allows), (expected, allows), "{line}");
        }
        for line in ["", "# 1.2.3.4:deny", "#"] {
            assert!(parse(line).expect(line).is_none(), "{line}");
        }
        for line in [
            "1.2.3.4",
            "1.2.3.4:permit",
            "1.2.3:deny",
            "1.2.3.4.:deny",
            "1.2.3.4.5:deny",
            "1.2.3.9-4:deny",
            "1.2.3.300:deny",
            "=host example:allow",
            "joe@1.2.3.4:allow",
            "1.2.3.4:allow,X",
            "1.2.3.4:allow,X=",
            "1.2.3.4:allow,X=\"y",
            "1.2.3.4:allow,=\"y\"",
            "1.2.3.4:allow,X=\"y\"z",
            "1.2.3.4:allowed",
            "::/129:deny",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 100, "{line}");
        }
    }

    #[test]
    fn variables_may_have_any_quotation_marks() {
        for (rest, expected) in [
            ("", ""),
            (",RELAYCLIENT=\"\"", "RELAYCLIENT=\0"),
            (",A=\"1 2\",B=/x\"y/", "A=1 2\0B=x\"y\0"),
            (",A=\u{e9}b\u{e9}", "A=b\0"),
        ] {
            let rule = parse(&format!("1.2.3.4:allow{rest}")).expect(rest).expect("a rule");
            assert_eq!(rule.variables, expected.as_bytes());
        }
    }
}
