//! Rules as compiled by `tcprules` (cr.yp.to/ucspi-tcp/tcprules.html), opened for each connection,
//! so that a new file has an effect at once.

use std::fs::File;
use std::io;
use std::path::Path;

use super::cdb;

/// The first rule for a client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub denies: bool,
    /// `NAME=VALUE`
    pub variables: Vec<Vec<u8>>,
}

/// Looks up the rule for a client: by address, host name, and the ident answer. Without a rule, the
/// client is allowed.
///
/// # Errors
/// The file cannot be read, or is not such a database.
pub(super) fn look_up(file: &Path, ip: &str, host: Option<&str>, info: Option<&[u8]>) -> io::Result<Rule> {
    let file = File::open(file)?;
    for key in keys(ip, host, info) {
        if let Some(data) = cdb::find(&file, &key)? {
            return Ok(rule(&data));
        }
    }
    Ok(Rule::default())
}

/// The keys, in the order of the lookup.
fn keys(ip: &str, host: Option<&str>, info: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    if let Some(info) = info {
        keys.push([info, b"@", ip.as_bytes()].concat());
        keys.extend(host.map(|host| [info, b"@=", host.as_bytes()].concat()));
    }
    keys.push(ip.as_bytes().to_vec());
    keys.extend(host.map(|host| format!("={host}").into_bytes()));
    let shorter = |(at, _): (usize, char)| ip.as_bytes()[..=at].to_vec();
    keys.extend(ip.char_indices().rev().filter(|(_, character)| matches!(character, '.' | ':')).map(shorter));
    if let Some(host) = host {
        let dots = host.char_indices().filter(|(_, character)| *character == '.');
        keys.extend(dots.map(|(at, _)| format!("={}", &host[at..]).into_bytes()));
        keys.push(b"=".to_vec());
    }
    keys.push(Vec::new());
    keys
}

/// A rule from its record: `D` for deny, `+NAME=VALUE` for a variable, with a zero byte after each.
fn rule(data: &[u8]) -> Rule {
    let mut rule = Rule::default();
    for part in data.split(|byte| *byte == 0) {
        match part.split_first() {
            Some((b'D', _)) => rule.denies = true,
            Some((b'+', variable)) if variable.contains(&b'=') => rule.variables.push(variable.to_vec()),
            _ => {}
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_looked_for_in_the_documented_order() {
        let text = |keys: Vec<Vec<u8>>| {
            keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>().join(" ")
        };
        for (host, info, order) in [
            (
                Some("one.two.three"),
                Some(&b"joe"[..]),
                "joe@86.75.30.9 joe@=one.two.three 86.75.30.9 =one.two.three 86.75.30. 86.75. 86. =.two.three =.three = ",
            ),
            (None, Some(b"joe"), "joe@86.75.30.9 86.75.30.9 86.75.30. 86.75. 86. "),
            (Some("host"), None, "86.75.30.9 =host 86.75.30. 86.75. 86. = "),
            (None, None, "86.75.30.9 86.75.30. 86.75. 86. "),
        ] {
            assert_eq!(text(keys("86.75.30.9", host, info)), order);
        }
    }

    #[test]
    fn records_of_rules() {
        assert_eq!(rule(b"D\0"), Rule { denies: true, variables: vec![] });
        assert_eq!(
            rule(b"+A=1\0+B=\0"),
            Rule { denies: false, variables: vec![b"A=1".to_vec(), b"B=".to_vec()] }
        );
        assert_eq!(rule(b""), Rule::default());
    }

    #[test]
    fn another_file_is_an_error() {
        let path = std::env::temp_dir().join(format!("tine-cdb-{}", std::process::id()));
        for bytes in [&b""[..], &[0; 100], &[0xff; 4096]] {
            std::fs::write(&path, bytes).expect("a file");
            assert!(look_up(&path, "127.0.0.1", None, None).is_err(), "{} bytes", bytes.len());
        }
        // A database with empty tables has no rule for any client.
        std::fs::write(&path, [0; 2048]).expect("a file");
        assert_eq!(look_up(&path, "127.0.0.1", None, None).expect("a database"), Rule::default());
        std::fs::remove_file(&path).expect("it was there");
        assert!(look_up(&path, "127.0.0.1", None, None).is_err());
    }
}
