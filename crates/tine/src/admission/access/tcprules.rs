//! Rules as `tcprules` reads them (cr.yp.to/ucspi-tcp/tcprules.html), with the blocks of its IPv6 successors.

use std::net::{IpAddr, Ipv4Addr};

use super::names::Pattern;
use super::prefix::{Prefix, span};
use crate::error::Error;

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TcpRule {
    pub(super) who: RuleSubject,
    pub(super) allows: bool,
    /// `NAME=VALUE` and a zero byte each.
    pub(super) variables: Vec<u8>,
}

/// RuleSubjectm a line is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RuleSubject {
    Blocks(Vec<Prefix>),
    Name(Pattern),
}

/// One line; `None` for one that says nothing.
pub(super) fn parse(line: &str) -> Result<Option<TcpRule>, Error> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let bad = |why: String| Error::usage(why, "write ADDRESS:allow or ADDRESS:deny, as tcprules reads it");
    // Addresses of IPv6 have colons, too.
    let found = [(":allow", true), (":deny", false)].into_iter().find_map(|(word, allows)| {
        let (address, rest) = line.split_once(word)?;
        Some((address, rest, allows))
    });
    let Some((address, rest, allows)) = found else {
        return Err(bad(format!("'{line}' says neither :allow nor :deny")));
    };
    let variables = variables(rest).map_err(bad)?;
    if address.contains('@') {
        let next = "who a client's user is, only `tcpserver -x` asks, with what tcprules makes of this file";
        return Err(Error::usage(format_args!("'{address}' is about a user"), next));
    }
    let who = match address.strip_prefix('=') {
        Some(name) => Pattern::new(name).map(RuleSubject::Name),
        None => blocks(address).map(RuleSubject::Blocks),
    };
    let who = who.ok_or_else(|| bad(format!("'{address}' is no address, and no name after '='")))?;
    Ok(Some(TcpRule { who, allows, variables }))
}

/// `,NAME="VALUE"` any number of times; any character that comes twice may take the place of the quotes.
fn variables(mut rest: &str) -> Result<Vec<u8>, String> {
    let mut variables = Vec::new();
    while !rest.is_empty() {
        let one = rest.strip_prefix(',').and_then(|rest| rest.split_once('='));
        let Some((name, value)) = one.filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("what is '{rest}' after the instruction?"));
        };
        let quote = value.chars().next().ok_or_else(|| format!("{name} has no value"))?;
        let Some((value, more)) = value[quote.len_utf8()..].split_once(quote) else {
            return Err(format!("the value of {name} does not end: {quote} is missing"));
        };
        if name.contains('\0') || value.contains('\0') {
            return Err(format!("there is a zero byte in {name}"));
        }
        variables.extend_from_slice(format!("{name}={value}\0").as_bytes());
        rest = more;
    }
    Ok(variables)
}

/// `1.2.3.4`, `1.2.3.`, `1.2.3.37-53`, `1.2.`, `2001:db8::/32`, and nothing for everyone.
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
    let is_whole = !text.ends_with('.');
    if before.len() > 3 || is_whole != (before.len() == 3) || from > to {
        return None;
    }
    let address = |last: u8, rest: u8| {
        let mut bytes = [rest; 4];
        bytes[..before.len()].copy_from_slice(&before);
        bytes[before.len()] = last;
        Ipv4Addr::from(bytes)
    };
    Some(span(address(from, 0), address(to, 255)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, shown, allows) in [
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
            let who = match rule.who {
                RuleSubject::Blocks(blocks) => {
                    blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
                RuleSubject::Name(pattern) => pattern.to_string(),
            };
            assert_eq!((who.as_str(), rule.allows), (shown, allows), "{line}");
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
    fn variables_of_rules() {
        for (rest, meant) in [
            ("", ""),
            (",RELAYCLIENT=\"\"", "RELAYCLIENT=\0"),
            (",A=\"1 2\",B=/x\"y/", "A=1 2\0B=x\"y\0"),
            (",A=\u{e9}b\u{e9}", "A=b\0"),
        ] {
            let rule = parse(&format!("1.2.3.4:allow{rest}")).expect(rest).expect("a rule");
            assert_eq!(rule.variables, meant.as_bytes());
        }
    }
}
