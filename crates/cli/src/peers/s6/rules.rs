//! Access rules of s6 (s6-accessrules-cdb-from-fs): a directory or a database with an entry for
//! each network and domain. The most specific entry decides.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::cdb;

/// Where rules are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// `-i`
    Folder(PathBuf),
    /// `-x`: as `s6-accessrules-cdb-from-fs` compiles them.
    Database(PathBuf),
}

/// What an entry says about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow(Allowed),
    Deny,
    /// No entry matches.
    Unknown,
}

/// What an entry that allows a client changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Variables to be set, or to be removed.
    pub(super) variables: Vec<(OsString, Option<OsString>)>,
    /// A script of execline that is executed instead of the program.
    pub(super) exec: Option<OsString>,
}

/// The longest `exec` file that counts.
const LONGEST_EXEC: u64 = 4096;

impl Rules {
    /// The verdict about an address.
    ///
    /// # Errors
    /// The rules cannot be read.
    pub(super) fn of_address(&self, ip: IpAddr) -> io::Result<Verdict> {
        let keys: Vec<String> = match ip {
            IpAddr::V4(ip) => (0..=32)
                .rev()
                .map(|length| {
                    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                    format!("ip4/{}_{length}", Ipv4Addr::from_bits(ip.to_bits() & mask))
                })
                .collect(),
            IpAddr::V6(ip) => (0..=128)
                .rev()
                .map(|length| {
                    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                    format!("ip6/{}_{length}", Ipv6Addr::from_bits(ip.to_bits() & mask))
                })
                .collect(),
        };
        self.first(&keys)
    }

    /// The verdict about a host name.
    ///
    /// # Errors
    /// The rules cannot be read.
    pub(super) fn of_name(&self, name: &str) -> io::Result<Verdict> {
        // A name from another machine must not lead out of the directory.
        let is_plain = !name.contains('/') && !name.split('.').any(str::is_empty);
        let mut keys = Vec::new();
        if is_plain {
            keys.push(format!("reversedns/{name}"));
            let dots = name.match_indices('.');
            keys.extend(dots.map(|(dot, _)| format!("reversedns/{}", &name[dot + 1..])));
        }
        keys.push("reversedns/@".into());
        self.first(&keys)
    }

    fn first(&self, keys: &[String]) -> io::Result<Verdict> {
        let database = match self {
            Rules::Folder(_) => None,
            Rules::Database(path) => Some(File::open(path)?),
        };
        for key in keys {
            let verdict = match (self, &database) {
                (Rules::Folder(folder), _) => in_folder(&folder.join(key))?,
                (_, Some(database)) => in_database(database, key)?,
                _ => Verdict::Unknown,
            };
            if verdict != Verdict::Unknown {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Unknown)
    }
}

/// An entry in a directory: `allow` or `deny`, and beside `allow`, `env` and `exec`.
fn in_folder(entry: &Path) -> io::Result<Verdict> {
    if !is_readable(&entry.join("allow"))? {
        let denies = is_readable(&entry.join("deny"))?;
        return Ok(if denies { Verdict::Deny } else { Verdict::Unknown });
    }
    let mut allowed = Allowed::default();
    match std::fs::read_dir(entry.join("env")) {
        Ok(files) => {
            for file in files {
                let file = file?;
                let name = file.file_name();
                if !name.as_bytes().starts_with(b".") && !name.as_bytes().contains(&b'=') {
                    allowed.variables.push((name, value(&std::fs::read(file.path())?)));
                }
            }
            allowed.variables.sort();
        }
        Err(why) if is_absent(&why) => {}
        Err(why) => return Err(why),
    }
    match File::open(entry.join("exec")) {
        Ok(file) => {
            let mut text = Vec::new();
            file.take(LONGEST_EXEC).read_to_end(&mut text)?;
            allowed.exec = Some(OsString::from_vec(text)).filter(|text| !text.is_empty());
        }
        Err(why) if is_absent(&why) => {}
        Err(why) => return Err(why),
    }
    Ok(Verdict::Allow(allowed))
}

fn is_absent(why: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(why.kind(), NotFound | PermissionDenied | NotADirectory)
}

/// Whether a file is there and can be read.
fn is_readable(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(_) => Ok(true),
        Err(why) if is_absent(&why) => Ok(false),
        Err(why) => Err(why),
    }
}

/// The value of a variable, as s6-envdir reads it: the first line without white space at its end,
/// zero bytes being newlines. An empty file removes the variable.
fn value(text: &[u8]) -> Option<OsString> {
    if text.is_empty() {
        return None;
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let value = line[..end].iter().map(|byte| if *byte == 0 { b'\n' } else { *byte });
    Some(OsString::from_vec(value.collect()))
}

/// A record: `D`, or `A` with two parts, each after its length in two bytes, the higher first: the
/// variables, each with a zero byte after it, and the script.
fn in_database(database: &File, key: &str) -> io::Result<Verdict> {
    let Some(data) = cdb::find(database, key.as_bytes())? else { return Ok(Verdict::Unknown) };
    record(&data).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn record(data: &[u8]) -> Option<Verdict> {
    fn part(data: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = data.split_first_chunk::<2>()?;
        rest.split_at_checked(u16::from_be_bytes(*length).into())
    }
    let (kind, data) = data.split_first()?;
    match kind {
        b'D' => return Some(Verdict::Deny),
        b'A' => {}
        _ => return Some(Verdict::Unknown),
    }
    let (variables, data) = part(data)?;
    let (exec, rest) = part(data)?;
    if !rest.is_empty() {
        return None;
    }
    let variables = variables.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    let variables = variables.map(|variable| {
        let mut parts = variable.splitn(2, |byte| *byte == b'=').map(<[u8]>::to_vec);
        (OsString::from_vec(parts.next().unwrap_or_default()), parts.next().map(OsString::from_vec))
    });
    Some(Verdict::Allow(Allowed {
        variables: variables.collect(),
        exec: Some(OsString::from_vec(exec.to_vec())).filter(|exec| !exec.is_empty()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables() {
        for (text, meant) in
            [(&b""[..], None), (b"\n", Some("")), (b"a b \t\nrest", Some("a b")), (b"a\0b", Some("a\nb"))]
        {
            assert_eq!(value(text), meant.map(OsString::from), "{text:?}");
        }
    }

    #[test]
    fn records_of_a_database() {
        let allow = |variables: Vec<(OsString, Option<OsString>)>, exec: Option<&str>| {
            Some(Verdict::Allow(Allowed { variables, exec: exec.map(Into::into) }))
        };
        let set = |name: &str, value: Option<&str>| (name.into(), value.map(Into::into));
        for (data, meant) in [
            (&b"D\0\0\0\0"[..], Some(Verdict::Deny)),
            (b"A\0\0\0\0", allow(vec![], None)),
            (b"A\0\x06A=1\0B\0\0\x02id", allow(vec![set("A", Some("1")), set("B", None)], Some("id"))),
            (b"X\0\0\0\0", Some(Verdict::Unknown)),
            (b"A\0\x09A", None),
            (b"A\0\0\0\0x", None),
            (b"A", None),
            (b"", None),
        ] {
            assert_eq!(record(data), meant, "{data:?}");
        }
    }
}
