//! `inetd.conf`, as inetd(8) of the BSDs and of GNU read it.

mod columns;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;

use super::addresses::{listen, port};
use super::service::{ImportedService, ServedBy};
use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use columns::{Flags, buffer_sizes, identity, unix};

/// The mark that `update-inetd` puts before a disabled line.
const OFF: &str = "#<off>#";

/// The mark before an IPsec policy (FreeBSD, NetBSD).
const POLICY: &str = "#@";

/// The note where TCP wrappers have rules.
const WRAPPER_RULES: &str = "hosts.allow and hosts.deny have rules. inetd applies them to all lines if started with -l (Debian) or -w \
     (FreeBSD); here they apply to lines with tcpd only";

/// Imports the text of a file; with `all`, the disabled lines, too.
pub fn import(text: &str, file: &str, world: &dyn World, all: bool) -> ImportedFile {
    let mut import = ImportedFile::default();
    let lines = entries(text);
    let dialect = Dialect::of(&lines);
    if super::has_wrapper_rules(world) {
        import.notes.push(WRAPPER_RULES.into());
    }
    let mut host = None;
    let mut policy = None;
    // Of lines with the same service, type and protocol, inetd serves the last.
    let mut keys = HashMap::new();
    for (number, line) in lines {
        let position = Position::new(Rc::from(Path::new(file)), number);
        let left = |name: &str, why: &str| ImportedItem::Left(position.clone(), name.into(), why.into());
        if let Some(rest) = line.strip_prefix(POLICY) {
            // The IPsec policy of the lines that follow; empty for none.
            policy = Some(rest.trim().to_owned()).filter(|policy| !policy.is_empty());
            continue;
        }
        let (line, is_off) = match line.strip_prefix(OFF) {
            Some(rest) => (rest.trim(), true),
            None => (line.as_str(), false),
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            import.items.push(left("a line", "it contains a zero byte"));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [only] = words[..]
            && let Some(default) = only.strip_suffix(':')
        {
            // A default for the lines that follow, `*:` for none.
            host = Some(default.to_owned()).filter(|host| host != "*" && !host.is_empty());
            continue;
        }
        let name = words[0].rsplit(':').next().unwrap_or_default();
        if is_off && !all {
            import.items.push(left(name, "it is switched off; --all imports it, too"));
            continue;
        }
        if let Some(policy) = &policy {
            import.items.push(left(name, &format!("it has an IPsec policy: {policy}")));
            continue;
        }
        match one(&words, &position, host.as_deref(), dialect, world) {
            Ok(service) => import.items.push(ImportedItem::Served(service)),
            Err(why) => {
                import.items.push(left(name, &why));
                continue;
            }
        }
        let key = (host.clone(), words.iter().take(3).map(|word| (*word).to_owned()).collect::<Vec<_>>());
        if let Some(earlier) = keys.insert(key, import.items.len() - 1) {
            replace(&mut import.items[earlier], &position);
        }
    }
    import.finish()
}

/// Leaves out a service that a later line replaces.
fn replace(earlier: &mut ImportedItem, by: &Position) {
    if let ImportedItem::Served(service) = earlier {
        let (at, name) = (service.position.clone(), service.name.clone());
        *earlier = ImportedItem::Left(at, name, format!("{by} replaces it"));
    }
}

/// The entries of a file, each with the number of its first line. A line that begins with a space
/// continues the one before.
fn entries(text: &str) -> Vec<(usize, String)> {
    let mut entries: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_indented = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        match entries.last_mut() {
            Some((last, entry))
                if is_indented
                    && *last + entry.matches('\n').count() == number
                    && !entry.is_empty()
                    && !entry.starts_with('#')
                    && !line.trim_start().starts_with('#') =>
            {
                entry.push('\n');
                entry.push_str(line.trim());
            }
            _ => entries.push((number + 1, line.trim().to_owned())),
        }
    }
    entries
}

/// Whose inetd a file is for, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// FreeBSD and NetBSD: `tcp` is IPv4.
    Ipv4,
    /// OpenBSD, Debian and GNU: `tcp` is IPv4 and IPv6.
    Both,
}

impl Dialect {
    /// Limits after a slash or a colon tell.
    fn of(entries: &[(usize, String)]) -> Dialect {
        let flags = entries.iter().filter_map(|(_, entry)| entry.split_whitespace().nth(3));
        let starts = ["nowait/", "wait/", "nowait:", "wait:"];
        match flags.into_iter().any(|flags| starts.iter().any(|start| flags.starts_with(start))) {
            true => Dialect::Ipv4,
            false => Dialect::Both,
        }
    }
}

/// One line: service, socket type, protocol, flags, user, program, arguments from its name on.
fn one(
    words: &[&str],
    position: &Position,
    host: Option<&str>,
    dialect: Dialect,
    world: &dyn World,
) -> Result<ImportedService, String> {
    let [service, kind, protocol, flags, user, program, words @ ..] = words else {
        return Err("it has fewer than six columns".into());
    };
    if *kind != "stream" {
        return Err(format!("its socket type is {kind}, and tine serves connections"));
    }
    let (protocol, buffers) = protocol.split_once(',').unwrap_or((protocol, ""));
    let family = match (protocol, buffers) {
        ("tcp", _) if dialect == Dialect::Ipv4 => Some("0.0.0.0"),
        // GNU writes both names for both families.
        ("tcp6", "tcp") | ("tcp" | "tcp46", _) => None,
        ("tcp4", _) => Some("0.0.0.0"),
        ("tcp6" | "tcp6only", _) => Some("[::]"),
        ("unix", _) => {
            let flags = Flags::parse(flags)?;
            let mut found = with_program("unix", service, position, program, words)?;
            unix(&mut found, service)?;
            flags.apply(&mut found);
            identity(&mut found, user)?;
            return Ok(found);
        }
        _ => return Err(format!("its protocol is {protocol}, and tine serves TCP")),
    };
    let flags = Flags::parse(flags)?;
    let (hosts, name) = match service.rsplit_once(':') {
        Some((hosts, name)) => (Some(hosts).filter(|hosts| *hosts != "*"), name),
        None => (host, *service),
    };
    let number =
        port(name, world).ok_or_else(|| format!("there is no port of the name {name}; write a number"))?;
    let mut found = with_program(name, service, position, program, words)?;
    match (hosts, family) {
        (Some(hosts), Some(family)) => of_family(&mut found, hosts, number, family == "[::]", world)?,
        (Some(hosts), None) => {
            found.listen = hosts.split(',').map(|host| listen(unbracketed(host), number)).collect();
        }
        (None, Some(family)) => found.listen = vec![format!("{family}:{number}")],
        (None, None) => found.listen = vec![number.to_string()],
    }
    if family == Some("[::]") {
        found.set("bind-ipv6-only", "ipv6-only");
    }
    buffer_sizes(&mut found, buffers);
    flags.apply(&mut found);
    identity(&mut found, user)?;
    Ok(found)
}

/// The addresses of these hosts that are of the family of the line: inetd listens on no other.
fn of_family(
    found: &mut ImportedService,
    hosts: &str,
    port: u16,
    is_ipv6: bool,
    world: &dyn World,
) -> Result<(), String> {
    let family = if is_ipv6 { "IPv6" } else { "IPv4" };
    for host in hosts.split(',').map(unbracketed) {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                found.note(format!("{host} is looked up once, here"));
                world.addresses(host)
            }
        };
        let count = found.listen.len();
        let own = addresses.iter().filter(|address| address.is_ipv6() == is_ipv6);
        found.listen.extend(own.map(|address| listen(&address.to_string(), port)));
        if found.listen.len() == count {
            found.note(format!("{host} has no address of {family}, the family of its protocol"));
        }
    }
    if found.listen.is_empty() {
        return Err(format!("{hosts} has no address of {family}, the family of its protocol"));
    }
    Ok(())
}

/// A host without the brackets around an IPv6 address.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn with_program(
    name: &str,
    service: &str,
    position: &Position,
    program: &str,
    words: &[&str],
) -> Result<ImportedService, String> {
    if program == "internal" {
        let built_in = crate::services::find(name).map(|service| service.name);
        let built_in = built_in.ok_or_else(|| format!("{name} is not built into tine"))?;
        return Ok(ImportedService::new(name, position.clone(), ServedBy::BuiltIn(built_in)));
    }
    if !program.starts_with('/') {
        return Err(format!("{program} is no path from / on: inetd does not find it"));
    }
    let arguments = words.iter().skip(1).map(|word| (*word).to_owned());
    let all = std::iter::once(program.to_owned()).chain(arguments).collect();
    let name = if name == "unix" { service.rsplit('/').next().unwrap_or(name) } else { name };
    let mut found = ImportedService::new(name, position.clone(), ServedBy::Program(all));
    // Without a name, it gets the last part of its path.
    let last = program.rsplit('/').next().unwrap_or(program);
    let argv0 = words.first().copied().unwrap_or(last);
    if argv0 != program {
        found.set("argv0", argv0);
    }
    // inetd gives it the socket as standard error, too.
    found.set("stderr", "client");
    found.set("cwd", "/");
    // inetd leaves the program of a client that is gone alone.
    found.set("client-gone", "leave");
    Ok(found)
}

#[cfg(test)]
mod tests;
