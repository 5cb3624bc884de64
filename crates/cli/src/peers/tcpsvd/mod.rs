//! `tcpsvd` of ipsvd (tcpsvd(8)), with the variables of busybox' besides.

mod instruct;
mod options;
mod prepare;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tine::cli::Dialect;
use tine::{Identity, Program};

use super::{Failure, Plan, cdb, client, listener, ucspi};
use crate::exit;
use options::TcpsvdOptions;
use prepare::Preparation;
use ucspi::Verbosity;

/// Serves until SIGTERM.
pub(super) fn main(words: &mut dyn Iterator<Item = OsString>) -> Result<(), Failure> {
    let options = TcpsvdOptions::parse(words).map_err(|error| {
        let version = match error {
            options::UsageError::Version => concat!("tine ", env!("CARGO_PKG_VERSION"), "\n"),
            options::UsageError::Other => "",
        };
        // A usage error is not permanent, unlike with other UCSPI tools.
        Failure::system(format!("{version}usage: tcpsvd{}\n", options::USAGE))
    })?;
    let fatal = |code: u8, text: String| Failure::new(code, format!("tcpsvd: fatal: {text}"));
    let identity = options
        .user
        .as_deref()
        .map(identity)
        .transpose()
        .map_err(|user| fatal(exit::USAGE, format!("unknown user/group: {user}")))?;
    let port = listener::port(&options.port)
        .ok_or_else(|| fatal(exit::USAGE, format!("unknown port number or name: {}", options.port)))?;
    let ip = address(&options.host)
        .ok_or_else(|| fatal(exit::USAGE, format!("unable to look up ip address: {}", options.host)))?;
    let socket = listener::tcp(SocketAddr::new(ip, port), options.backlog, true, false)
        .map_err(|why| fatal(exit::SYSTEM, format!("unable to bind socket: {}", listener::reason(&why))))?;
    let system = |error: tine::Error| fatal(exit::SYSTEM, error.to_string());
    let plan = Plan {
        socket,
        program: program(&options),
        dialect: Dialect::Tcpsvd,
        verbosity: if options.verbosity > 0 { Verbosity::Verbose } else { Verbosity::Errors },
        limit: options.limit,
        identity,
    };
    let exact = exact_sources().map_err(system)?;
    let (server, program) = plan.server().map_err(system)?;
    let server = server.no_delay(false).backlog(options.backlog).net_block_sizes(exact, exact);
    server.run_program(program).map_err(system)
}

/// The block sizes of single addresses: connections are counted for each.
fn exact_sources() -> Result<tine::NetBlockSize, tine::Error> {
    "32:128".parse()
}

fn program(options: &TcpsvdOptions) -> Program {
    let preparation = Preparation::new(options);
    Program::new(&options.program).prepare(move |incoming| preparation.receive(incoming))
}

fn address(host: &str) -> Option<IpAddr> {
    match host {
        "" | "0" => Some(Ipv4Addr::UNSPECIFIED.into()),
        host => listener::address_of(host),
    }
}

/// `USER`, `USER:GROUP…`, or `:UID:GID…`: without other groups. The error is the text.
fn identity(text: &str) -> Result<Identity, String> {
    let unknown = || text.to_owned();
    let (is_numeric, names) = match text.strip_prefix(':') {
        Some(names) => (true, names),
        None => (false, text),
    };
    let mut names = names.split(':');
    let user = names.next().unwrap_or_default();
    let groups: Vec<&str> = names.collect();
    if is_numeric {
        let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        let uid = number(user)?;
        let groups = groups.iter().map(|group| number(group)).collect::<Result<Vec<_>, _>>()?;
        let gid = groups
            .first()
            .copied()
            .map_or_else(|| Identity::of_user(user).map(|found| found.gid).map_err(|_| unknown()), Ok)?;
        return Ok(Identity::from_ids(Some(uid), gid, if groups.is_empty() { vec![gid] } else { groups }));
    }
    let found = match groups.first() {
        Some(group) => Identity::of_user_and_group(user, group),
        None => Identity::of_user(user),
    };
    let found = found.map_err(|_| unknown())?;
    match groups.is_empty() {
        true => {
            let gid = found.gid;
            Ok(Identity::from_ids(found.uid, gid, vec![gid]))
        }
        false => found.with_groups(&groups.join(",")).map_err(|_| unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups() {
        for (text, meant) in [
            (":7:8", Some((7, 8, vec![8]))),
            (":7:8:9", Some((7, 8, vec![8, 9]))),
            ("root", Some((0, 0, vec![0]))),
            ("root:1:2", Some((0, 1, vec![1, 2]))),
            (":x:8", None),
            ("no-such-user", None),
            ("root:no-such-group", None),
        ] {
            let found = identity(text).ok();
            let found = found.map(|found| (found.uid.unwrap_or_default(), found.gid, found.groups));
            assert_eq!(found, meant, "{text}");
        }
    }
}
