//! Host names and addresses, through the name service switch of the system: by `getent`, for the
//! reason that `system/users.rs` gives; where that is missing, by the resolver in the binary.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::process::Signal;
use tine_sys::process::{Alone, How, Side, exit_now, fork, wait_for};
use tine_sys::resolver::{self, LookupError};

use crate::error::{Error, next_move};
use crate::system::users::getent;

/// The host name of an address, in lower case. A lookup can take many seconds: not for a process
/// that other connections depend on.
#[must_use]
pub fn host_name(address: IpAddr) -> Option<String> {
    if let Some(name) = hosts_file_first().and_then(|hosts| name_in(&hosts, address)) {
        return Some(name);
    }
    let records = getent("hosts", Some(&address.to_string()))?;
    let name = records.lines().next()?.split_whitespace().nth(1)?;
    Some(name.to_ascii_lowercase())
}

/// Whether a host name resolves to this address: the owner of an address can give it any name.
/// Takes as long as [`host_name`].
#[must_use]
pub fn leads_to(host: &str, address: IpAddr) -> bool {
    hosts_file_first().is_some_and(|hosts| addresses_in(&hosts, host).any(|found| found == address))
        || look_up(host, 0).is_ok_and(|all| all.iter().any(|found| found.ip() == address))
}

/// The host name of an address, if the name resolves back to the address and contains only
/// characters of host names: the owner of an address controls the answer. Takes as long as
/// [`host_name`].
#[must_use]
pub fn confirmed_name(address: IpAddr) -> Option<String> {
    host_name(address).filter(|name| is_plain(name) && leads_to(name, address))
}

/// Whether a name contains only characters of host names (RFC 1123, 2.1, and the underscore, which
/// is common).
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The addresses of a host by name, each once, in the system's order (RFC 6724).
pub(crate) fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let found = match getent("ahosts", Some(host)) {
        Some(lines) => match host_records(&lines, port) {
            found if found.is_empty() => Err(why_not_found(host)),
            found => Ok(found),
        },
        None => resolver::look_up(host)
            .map(|found| found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>()),
    };
    let found = found.map_err(|why| cannot_resolve(host, &why))?;
    let mut seen = BTreeSet::new();
    Ok(found.into_iter().filter(|address| seen.insert(*address)).collect())
}

/// Why `getent` has found no address: it does not say so. The resolver in the binary does, in a
/// process of its own, since it may crash. Where this process has threads, it cannot fork, and the
/// reason is unknown.
fn why_not_found(host: &str) -> LookupError {
    const UNKNOWN: LookupError = LookupError::Other(0);
    let forked = Alone::check().map(|alone| fork(&alone, Signal::CHILD.as_raw()));
    match forked {
        Ok(Ok(Side::Child(_fresh))) => exit_now(to_exit_code(resolver::look_up(host).err())),
        Ok(Ok(Side::Parent(child))) => match wait_for(child) {
            Ok(How::Exited(code)) => from_exit_code(code),
            _ => UNKNOWN,
        },
        _ => UNKNOWN,
    }
}

/// Codes of getaddrinfo(3) are negative and small; those from here on are error numbers.
const FIRST_ERRNO: i32 = 100;

/// The exit code for a result of the resolver: 0 if it has found addresses.
fn to_exit_code(error: Option<LookupError>) -> i32 {
    match error.map(|error| error.code()) {
        None => 0,
        Some((code, 0)) => -code,
        Some((_, errno)) => FIRST_ERRNO + errno,
    }
}

fn from_exit_code(code: i32) -> LookupError {
    match code {
        // Found now: the name servers answer again.
        0 => LookupError::Temporary,
        FIRST_ERRNO.. => LookupError::System(std::io::Error::from_raw_os_error(code - FIRST_ERRNO)),
        code => LookupError::of(-code, 0),
    }
}

fn cannot_resolve(host: &str, why: &LookupError) -> Error {
    let next = match why {
        LookupError::Unknown => "check the spelling and /etc/hosts, or use a numeric address",
        LookupError::Temporary => {
            "check the network and the name servers in /etc/resolv.conf and try again, or use a numeric address or /etc/hosts"
        }
        LookupError::Permanent => {
            "look for the cause at the name servers in /etc/resolv.conf (`getent ahosts NAME`), or use a numeric address or /etc/hosts"
        }
        LookupError::Memory => next_move::of_call(&Errno::NOMEM.into()),
        LookupError::System(why) => next_move::of_call(why),
        LookupError::Other(_) => {
            "check the spelling, /etc/hosts and the name servers, or use a numeric address"
        }
    };
    let why = match why {
        LookupError::Other(0) => "no address found".to_owned(),
        why => why.to_string(),
    };
    Error::system(format_args!("cannot resolve '{host}'"), &std::io::Error::other(why), next)
}

/// The lines of `getent ahosts`: an address, a socket type, sometimes the canonical name.
fn host_records(lines: &str, port: u16) -> Vec<SocketAddr> {
    lines
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// The text of `/etc/hosts`, if the system searches it first (nsswitch.conf(5)): that saves a
/// `getent` process.
fn hosts_file_first() -> Option<String> {
    let switch = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    is_files_first(&switch).then(|| std::fs::read_to_string("/etc/hosts").ok()).flatten()
}

/// Whether nsswitch.conf(5) has `files` as the first source of hosts, which is the default.
fn is_files_first(switch: &str) -> bool {
    let sources = switch.lines().find_map(|line| line.trim_start().strip_prefix("hosts:"));
    matches!(sources.and_then(|sources| sources.split_whitespace().next()), None | Some("files"))
}

/// The entries of hosts(5): an address and its names, the canonical one first.
fn hosts_in(hosts: &str) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &str>)> {
    hosts.lines().filter_map(|line| {
        let mut fields = line.split('#').next()?.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields))
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
    fn entries_of_the_hosts_file() {
        let hosts = "127.0.0.1\tLocalhost loopback # 192.0.2.9 x\n\n\
            # ::1 no\n::1 ip6-localhost localhost\n192.0.2.1\nnonsense x\n";
        for (address, name) in [
            ("127.0.0.1", Some("localhost")),
            ("::1", Some("ip6-localhost")),
            ("192.0.2.1", None),
            ("192.0.2.9", None),
        ] {
            assert_eq!(name_in(hosts, address.parse().expect(address)).as_deref(), name, "{address}");
        }
        let addresses: Vec<String> =
            addresses_in(hosts, "LOCALHOST").map(|found| found.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1"]);
        for (switch, expected) in [
            ("", true),
            ("hosts: files dns", true),
            ("passwd: files\nhosts:\tdns files\n", false),
            ("hosts: mymachines files", false),
        ] {
            assert_eq!(is_files_first(switch), expected, "{switch}");
        }
    }

    #[test]
    fn names_resolve_to_their_addresses() {
        assert!(leads_to("localhost", [127, 0, 0, 1].into()));
        assert!(!leads_to("localhost", [192, 0, 2, 1].into()));
        assert!(!leads_to("no-such-host.invalid", [127, 0, 0, 1].into()));
        assert_eq!(host_name([127, 0, 0, 1].into()).as_deref(), Some("localhost"));
    }

    #[test]
    fn each_failure_has_its_next_move() {
        use std::io::Error as IoError;

        let memory = next_move::of_call(&Errno::NOMEM.into());
        let descriptors = next_move::of_call(&Errno::MFILE.into());
        for (error, why, next) in [
            (LookupError::Unknown, "unknown host", "check the spelling and /etc/hosts"),
            (
                LookupError::Temporary,
                "the name servers fail temporarily",
                "check the network and the name servers",
            ),
            (LookupError::Permanent, "the name servers fail", "look for the cause at the name servers"),
            (LookupError::Memory, "out of memory", memory),
            (LookupError::System(IoError::from(Errno::MFILE)), "too many open files", descriptors),
            (LookupError::Other(-8), "getaddrinfo error -8", "check the spelling, /etc/hosts and"),
            (LookupError::Other(0), "no address found", "check the spelling, /etc/hosts and"),
        ] {
            // As it comes back from the process that looks it up.
            let error = match error {
                LookupError::Other(0) => error,
                error => from_exit_code(to_exit_code(Some(error))),
            };
            let error = cannot_resolve("host", &error);
            let text = error.to_string();
            assert!(text.starts_with(&format!("cannot resolve 'host': {why}; {next}")), "{text}");
            assert_eq!(error.exit_code(), 111);
        }
        assert!(matches!(from_exit_code(to_exit_code(None)), LookupError::Temporary));
    }

    #[test]
    fn lines_of_getent() {
        let lines = "::1             STREAM localhost\n::1             DGRAM\n127.0.0.1       STREAM\n";
        let found = host_records(lines, 7);
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], "127.0.0.1:7".parse().expect("an address"));
        assert_eq!(look_up("no-such-host.invalid", 7).expect_err("an unknown host").exit_code(), 111);
        assert!(look_up("localhost", 7).expect("known").iter().all(|a| a.ip().is_loopback()));
    }
}
