//! Instructions for clients (ipsvd-instruct(5)): a file for each address, prefix, host or domain,
//! in a directory or in a database as `ipsvd-cdb` compiles it. Read for each connection.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::cdb;
use super::options::{Instructions, SourceLimit, source_limit};

/// What the instructions say about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) action: Action,
    /// Variables to be set, or to be removed.
    pub(super) variables: Vec<(OsString, Option<OsString>)>,
    /// A limit for this client; none if it is `Some(None)`.
    pub(super) per_source: Option<Option<SourceLimit>>,
    /// The entry that matched, for the log.
    pub(super) matched: String,
    /// The lines of the entry, for the log.
    pub(super) text: String,
    /// Lines that were not understood.
    pub(super) bad: Vec<String>,
}

/// What happens to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Action {
    #[default]
    Start,
    Deny,
    /// A shell command instead of the program.
    Execute(OsString),
}

/// Whether a host name resolves to an address.
type LeadsTo = dyn Fn(&str, IpAddr) -> bool;

/// The longest instruction that is read.
const LONGEST: u64 = 64 * 1024;

/// An entry of the instructions.
#[derive(Debug)]
enum Entry {
    Denied,
    Command(Vec<u8>),
    Lines(Vec<u8>),
}

/// Looks up the instructions for a client. Files that were not read for `timeout` are deleted
/// instead, if their owner may write them and `timeout` is not 0.
///
/// # Errors
/// The directory or database cannot be read.
pub(super) fn look_up(
    instructions: &Instructions,
    ip: IpAddr,
    host: Option<&str>,
    timeout: Duration,
    leads_to: &LeadsTo,
) -> io::Result<Instruction> {
    let database = match instructions {
        Instructions::Folder(folder) => {
            std::fs::metadata(folder)?;
            None
        }
        Instructions::Database(path) => Some(File::open(path)?),
    };
    let find = |key: &str| match (instructions, &database) {
        (Instructions::Folder(folder), _) => in_folder(&folder.join(key), timeout),
        (_, Some(database)) => in_database(database, key),
        _ => Ok(None),
    };
    for key in keys(ip, host) {
        let Some(entry) = find(&key)? else { continue };
        let mut found = Instruction { matched: key, ..Instruction::default() };
        match entry {
            Entry::Denied => found.action = Action::Deny,
            Entry::Command(command) => found.execute(command),
            Entry::Lines(lines) => {
                if let Some(forward) = found.obey(&lines, ip, Some(leads_to)) {
                    found.matched.clone_from(&forward);
                    match find(&forward)? {
                        Some(Entry::Lines(lines)) => {
                            found.obey(&lines, ip, None);
                        }
                        Some(Entry::Command(command)) => found.execute(command),
                        Some(Entry::Denied) | None => found.action = Action::Deny,
                    }
                }
            }
        }
        return Ok(found);
    }
    Ok(Instruction::default())
}

/// The names of entries, in the order of the lookup.
fn keys(ip: IpAddr, host: Option<&str>) -> Vec<String> {
    let text = ip.to_string();
    let mut keys = vec![text.clone()];
    if ip.is_ipv4() {
        keys.extend(text.rmatch_indices('.').map(|(dot, _)| text[..dot].to_owned()));
    }
    if let Some(host) = host {
        keys.push(host.to_owned());
        keys.extend(host.match_indices('.').map(|(dot, _)| host[dot + 1..].to_owned()));
    }
    // A host name from another machine must not lead out of the directory.
    keys.retain(|key| !key.is_empty() && !key.contains('/') && !key.starts_with('.'));
    keys.push("0".into());
    keys
}

fn in_folder(path: &Path, timeout: Duration) -> io::Result<Option<Entry>> {
    let status = match std::fs::metadata(path) {
        Ok(status) => status,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    let mode = status.permissions().mode();
    let (readable, writable, executable) = (mode & 0o400 != 0, mode & 0o200 != 0, mode & 0o100 != 0);
    if !timeout.is_zero() && writable {
        let age = SystemTime::now().duration_since(status.accessed()?).unwrap_or_default();
        if age >= timeout {
            std::fs::remove_file(path)?;
            return Ok(None);
        }
    }
    if !readable && !executable {
        return Ok(Some(Entry::Denied));
    }
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, LONGEST), &mut text)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(Some(if executable { Entry::Command(text) } else { Entry::Lines(text) }))
}

/// Records of `ipsvd-cdb` end with the kind of the entry; its lines end with a zero byte.
fn in_database(database: &File, key: &str) -> io::Result<Option<Entry>> {
    let Some(mut data) = cdb::find(database, key.as_bytes())? else { return Ok(None) };
    match data.pop() {
        Some(b'D') => Ok(Some(Entry::Denied)),
        Some(b'X') => Ok(Some(Entry::Command(data))),
        Some(b'I') => {
            data.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'\n');
            Ok(Some(Entry::Lines(data)))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Instruction {
    /// A shell executes this command instead of the program.
    fn execute(&mut self, command: Vec<u8>) {
        self.text = String::from_utf8_lossy(&command).into_owned();
        self.action = Action::Execute(OsString::from_vec(command));
    }

    /// Obeys the lines of an entry. Returns the entry that one of them names, if any. Without
    /// `leads_to`, lines about hosts are ignored.
    fn obey(&mut self, lines: &[u8], ip: IpAddr, leads_to: Option<&LeadsTo>) -> Option<String> {
        self.text = String::from_utf8_lossy(lines).replace('\n', ",");
        let mut asks_host = false;
        for line in lines.split(|byte| *byte == b'\n') {
            match line.split_first() {
                None | Some((b'#', _)) => {}
                Some((b'+', variable)) if !variable.is_empty() && variable[0] != b'=' => {
                    let mut parts = variable.splitn(2, |byte| *byte == b'=').map(<[u8]>::to_vec);
                    let name = OsString::from_vec(parts.next().unwrap_or_default());
                    self.variables.push((name, parts.next().map(OsString::from_vec)));
                }
                Some((b'C', limit)) if limit == b"0" || limit.starts_with(b"0:") => {
                    self.per_source = Some(None);
                }
                Some((b'C', limit)) if source_limit(limit).is_ok() => {
                    self.per_source = source_limit(limit).ok().map(Some);
                }
                Some((b'=', host)) => {
                    let Some(leads_to) = leads_to else { continue };
                    asks_host = true;
                    let host = String::from_utf8_lossy(host).into_owned();
                    let (host, forward) = match host.split_once(':') {
                        Some((host, forward)) => (host, Some(forward)),
                        None => (host.as_str(), None),
                    };
                    if host == "0" || leads_to(host, ip) {
                        let is_name = |name: &&str| !name.contains('/') && !name.starts_with('.');
                        return match forward {
                            Some(forward) if is_name(&forward) => Some(forward.to_owned()),
                            // An entry elsewhere does not exist.
                            Some(_) => Some(String::new()),
                            None => None,
                        };
                    }
                }
                Some(_) => self.bad.push(String::from_utf8_lossy(line).into_owned()),
            }
        }
        if asks_host {
            self.action = Action::Deny;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn entries_are_looked_for_in_the_documented_order() {
        for (address, host, order) in [
            (
                "10.1.2.3",
                Some("moa.bit.smarden.org"),
                "10.1.2.3 10.1.2 10.1 10 moa.bit.smarden.org bit.smarden.org smarden.org org 0",
            ),
            ("10.1.2.3", None, "10.1.2.3 10.1.2 10.1 10 0"),
            ("2001:db8::1", Some("localhost"), "2001:db8::1 localhost 0"),
            ("10.1.2.3", Some("../../etc"), "10.1.2.3 10.1.2 10.1 10 0"),
        ] {
            assert_eq!(keys(ip(address), host).join(" "), order);
        }
    }

    #[test]
    fn lines_of_instructions() {
        let start = || Instruction::default();
        let limit = |most: usize, message: &[u8]| SourceLimit { most, message: message.into() };
        let set = |name: &str, value: Option<&str>| (name.into(), value.map(Into::into));
        let known = |host: &str, _: IpAddr| host == "known";
        for (lines, meant, forward) in [
            ("", start(), None),
            ("# nothing\n\n", start(), None),
            ("+MEMORY=20000", Instruction { variables: vec![set("MEMORY", Some("20000"))], ..start() }, None),
            ("+DEBUG=", Instruction { variables: vec![set("DEBUG", Some(""))], ..start() }, None),
            ("+LOGNAME", Instruction { variables: vec![set("LOGNAME", None)], ..start() }, None),
            ("C16", Instruction { per_source: Some(Some(limit(16, b""))), ..start() }, None),
            ("C16\nC0", Instruction { per_source: Some(None), ..start() }, None),
            ("C2:go\\n", Instruction { per_source: Some(Some(limit(2, b"go\n"))), ..start() }, None),
            ("=known", start(), None),
            ("=0", start(), None),
            ("=other", Instruction { action: Action::Deny, ..start() }, None),
            ("=other\n=known", start(), None),
            ("=known:127.0.0.1\nbad", start(), Some("127.0.0.1")),
            ("=known:../x", start(), Some("")),
            ("nonsense\n+=x", Instruction { bad: vec!["nonsense".into(), "+=x".into()], ..start() }, None),
        ] {
            let mut found = Instruction::default();
            let led = found.obey(lines.as_bytes(), ip("10.0.0.1"), Some(&known));
            found.text.clear();
            assert_eq!((found, led.as_deref()), (meant, forward), "{lines}");
        }
    }
}
