//! Names of hosts, looked up as the system is configured to: by `getent`, for the reason that `names.rs` gives; where that is
//! missing, by the resolver inside the binary.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::error::Error;
use crate::system::users::getent;

/// The name of a host by its address, in lower case, as the system is configured to find it. It may take long: not for a
/// process that others wait for.
#[must_use]
pub fn host_name(address: IpAddr) -> Option<String> {
    if let Some(name) = first_source().and_then(|hosts| name_in(&hosts, address)) {
        return Some(name);
    }
    let records = getent("hosts", Some(&address.to_string()))?;
    let name = records.lines().next()?.split_whitespace().nth(1)?;
    Some(name.to_ascii_lowercase())
}

/// Whether a name has this address among its own: whoever has an address can give it any name. It may take long, too.
#[must_use]
pub fn leads_to(host: &str, address: IpAddr) -> bool {
    first_source().is_some_and(|hosts| addresses_in(&hosts, host).any(|one| one == address))
        || look_up(host, 0).is_ok_and(|found| found.iter().any(|one| one.ip() == address))
}

/// The name of a host that leads back to its address, if it has one that a program can be told: who owns an address can give it
/// any name, with anything in it. It may take long, too.
#[must_use]
pub fn confirmed_name(address: IpAddr) -> Option<String> {
    host_name(address).filter(|name| is_plain(name) && leads_to(name, address))
}

/// Whether a name has nothing in it but what names of hosts are made of (RFC 1123, 2.1, and the underscore that many have).
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The addresses of a host by name, each once, in the system's order (RFC 6724).
pub(crate) fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let found = match getent("ahosts", Some(host)) {
        Some(lines) => host_records(&lines, port),
        None => (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
    };
    let mut seen = BTreeSet::new();
    let found: Vec<SocketAddr> = found.into_iter().filter(|address| seen.insert(*address)).collect();
    if found.is_empty() {
        return Err(Error::system(
            format_args!("cannot resolve '{host}'"),
            &std::io::Error::other("no such host is known"),
            "check the spelling, /etc/hosts and the name servers, or give the number",
        ));
    }
    Ok(found)
}

/// The lines of `getent ahosts`: an address, a socket type, sometimes the canonical name.
fn host_records(lines: &str, port: u16) -> Vec<SocketAddr> {
    lines
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// What `/etc/hosts` says, where the system is configured to look there first (nsswitch.conf(5)): a process fewer than asking
/// `getent` is.
fn first_source() -> Option<String> {
    let switch = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    is_files_first(&switch).then(|| std::fs::read_to_string("/etc/hosts").ok()).flatten()
}

/// Whether hosts are looked for in files before anywhere else, as they are where nothing is said.
fn is_files_first(switch: &str) -> bool {
    let sources = switch.lines().find_map(|line| line.trim_start().strip_prefix("hosts:"));
    matches!(sources.and_then(|sources| sources.split_whitespace().next()), None | Some("files"))
}

/// The lines of hosts(5): an address, and its names, the first of which is the canonical one.
fn hosts_in(hosts: &str) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &str>)> {
    hosts.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        Some((words.next()?.parse().ok()?, words))
    })
}

fn name_in(hosts: &str, address: IpAddr) -> Option<String> {
    let mut found = hosts_in(hosts).filter(|(known, _)| *known == address);
    found.find_map(|(_, mut names)| names.next()).map(str::to_ascii_lowercase)
}

fn addresses_in(hosts: &str, host: &str) -> impl Iterator<Item = IpAddr> {
    hosts_in(hosts).filter_map(move |(address, mut names)| {
        names.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_files() {
        let hosts = "127.0.0.1\tLocalhost loopback # 192.0.2.9 x\n\n# ::1 no\n::1 ip6-localhost localhost\n192.0.2.1\nnonsense x\n";
        for (address, name) in [
            ("127.0.0.1", Some("localhost")),
            ("::1", Some("ip6-localhost")),
            ("192.0.2.1", None),
            ("192.0.2.9", None),
        ] {
            assert_eq!(name_in(hosts, address.parse().expect(address)).as_deref(), name, "{address}");
        }
        let addresses: Vec<String> = addresses_in(hosts, "LOCALHOST").map(|one| one.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1"]);
        for (switch, first) in [
            ("", true),
            ("hosts: files dns", true),
            ("passwd: files\nhosts:\tdns files\n", false),
            ("hosts: mymachines files", false),
        ] {
            assert_eq!(is_files_first(switch), first, "{switch}");
        }
    }

    #[test]
    fn names_lead_to_their_addresses() {
        assert!(leads_to("localhost", [127, 0, 0, 1].into()));
        assert!(!leads_to("localhost", [192, 0, 2, 1].into()));
        assert!(!leads_to("no-such-host.invalid", [127, 0, 0, 1].into()));
        assert_eq!(host_name([127, 0, 0, 1].into()).as_deref(), Some("localhost"));
    }

    #[test]
    fn hosts() {
        let lines = "::1             STREAM localhost\n::1             DGRAM\n127.0.0.1       STREAM\n";
        let found = host_records(lines, 7);
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], "127.0.0.1:7".parse().expect("an address"));
        assert_eq!(look_up("no-such-host.invalid", 7).expect_err("unknown").exit_code(), 111);
        assert!(look_up("localhost", 7).expect("known").iter().all(|a| a.ip().is_loopback()));
    }
}
