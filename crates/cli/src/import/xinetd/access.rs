//! Which clients a service is for: the lists of xinetd, and the files of TCP wrappers.

use std::net::IpAddr;
use std::path::Path;

use super::super::World;
use super::super::addresses::{blocks, contains};
use super::super::has_wrapper_rules;
use super::super::service::{ImportedService, ServedBy};
use super::map::Attributes;

/// Where Debian has the wrapper of TCP wrappers (tcpd(8)).
const TCPD: &str = "/usr/sbin/tcpd";

/// The access rules. In tine the most specific one decides; in xinetd a client in `no_access` is
/// always rejected, so what it excludes may not be allowed.
///
/// # Errors
/// An entry cannot be expressed, and without it more clients would be served.
pub(super) fn rules(
    service: &mut ImportedService,
    attributes: &Attributes,
    world: &dyn World,
) -> Result<(), String> {
    // xinetd rejects clients at the limit.
    let has_action = service.keys.iter().any(|(key, _)| *key == "when-full");
    if service.keys.iter().any(|(key, _)| *key == "max-connections") && !has_action {
        service.set("when-full", "reject");
    }
    let mut lists = [Vec::new(), Vec::new()];
    for (list, name) in lists.iter_mut().zip(["only_from", "no_access"]) {
        for entry in attributes.all(name) {
            match blocks(entry) {
                // The name of such a block is empty to xinetd, and no client has it.
                Some(_) if entry.ends_with("/128") && name == "only_from" => {
                    service.note(format!("only_from: {entry}, which no client of xinetd matches"));
                }
                Some(found) => list.extend(found),
                None => named(service, name, entry, list, world)?,
            }
        }
        list.sort();
        list.dedup();
    }
    let [mut allow, deny] = lists;
    allow.retain(|block| !deny.iter().any(|denied| denied == block || contains(denied, block)));
    if let Some((allowed, denied)) = deny.iter().find_map(|denied| {
        let allowed = allow.iter().find(|allowed| precedes(allowed, denied))?;
        Some((allowed, denied))
    }) {
        return Err(format!(
            "its no_access has {denied}, which would not apply to clients of its only_from, {allowed}"
        ));
    }
    if attributes.0.is_given("only_from") && allow.is_empty() {
        // Nobody is left.
        service.set_list("deny", deny.into_iter().chain(["any".to_owned()]).collect());
        return Ok(());
    }
    service.set_list("allow", allow);
    service.set_list("deny", deny);
    Ok(())
}

/// Whether a rule that allows is applied to some clients before one that denies: exact addresses
/// first, then names of hosts, blocks, and domains, the longest first. A denied block that is
/// inside an allowed one is the more specific.
fn precedes(allowed: &str, denied: &str) -> bool {
    let rank = |rule: &str| match rule.strip_prefix('=') {
        None if rule.contains('/') => (2, 0),
        None => (0, 0),
        Some(name) if name.starts_with('.') => (3, usize::MAX - name.len()),
        Some(_) => (1, 0),
    };
    let has_name = allowed.starts_with('=') || denied.starts_with('=');
    has_name && rank(allowed) < rank(denied)
}

/// An entry that is not an address: the name of a host, a domain or a network.
fn named(
    service: &mut ImportedService,
    name: &str,
    entry: &str,
    list: &mut Vec<String>,
    world: &dyn World,
) -> Result<(), String> {
    let denies = name == "no_access";
    let looks_up = matches!(service.served_by, ServedBy::Program(_));
    let addresses = if entry.starts_with('.') { Vec::new() } else { world.addresses(entry) };
    if entry.starts_with('.') || !addresses.is_empty() {
        if !looks_up && denies {
            return Err(format!("{name} = {entry}: host names are looked up only for programs"));
        }
        if !looks_up {
            service.note(format!("{name}: {entry}: host names are looked up only for programs"));
            return Ok(());
        }
        // xinetd compares the host name of each client.
        list.push(format!("={}", entry.to_ascii_lowercase()));
        if !service.keys.iter().any(|(key, _)| *key == "reverse-dns") {
            service.set_yes("reverse-dns");
        }
    } else if addresses.is_empty() && denies {
        return Err(format!("{name} = {entry} is neither an address nor a known host"));
    } else if addresses.is_empty() {
        service.note(format!("{name}: {entry}, neither an address nor a known host"));
    }
    if denies && !addresses.is_empty() {
        service.note(format!("{name}: {entry} is looked up once, here"));
        list.extend(addresses.iter().map(IpAddr::to_string));
    }
    Ok(())
}

/// Applies hosts.allow and hosts.deny, where they have rules, by tcpd(8) in front of the program:
/// xinetd asks them about each client (hosts_access(5)).
///
/// # Errors
/// That is not possible, and without it more clients would be served.
pub(super) fn libwrap(
    service: &mut ImportedService,
    attributes: &Attributes,
    world: &dyn World,
) -> Result<(), String> {
    let is_tcpd = attributes.one("server").is_some_and(|server| server.rsplit('/').next() == Some("tcpd"));
    if attributes.has("flags", "NOLIBWRAP") || is_tcpd || !has_wrapper_rules(world) {
        return Ok(());
    }
    let cannot = |why: &str| Err(format!("the rules of hosts.allow and hosts.deny cannot be kept: {why}"));
    if attributes.0.is_given("libwrap") {
        return cannot("it has a name of its own there (libwrap)");
    }
    if attributes.has("flags", "NAMEINARGS") {
        return cannot("its program has another name");
    }
    if attributes.0.is_given("redirect") {
        return cannot("it redirects its clients");
    }
    let (ServedBy::Program(words), Some(server)) = (&mut service.served_by, attributes.one("server")) else {
        return cannot("it has no program");
    };
    if world.read(Path::new(TCPD)).is_err() {
        return cannot("there is no /usr/sbin/tcpd");
    }
    words[0] = TCPD.into();
    if attributes.one("banner_success").is_some() {
        service.notes.push("banner_success: a client that tcpd denies gets it, too".into());
    }
    service.keys.retain(|(key, _)| *key != "argv0");
    service.set("argv0", server);
    Ok(())
}
