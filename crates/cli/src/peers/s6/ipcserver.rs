//! `s6-ipcserver` of s6: a super-server for a Unix socket.

use std::ffi::OsString;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tine::cli::{Dialect, path_of_client, reason};
use tine::{Incoming, Peer, Prepared, Program};

use super::{Failure, Plan, ServerOptions, client, fatal, listener, usage};
use crate::exit;
use crate::peers::ucspi::Verbosity;

const NAME: &str = "s6-ipcserver";

const USAGE: &str = "[ -1 ] [ -q | -Q | -v ] [ -d | -D ] [ -P | -p ] [ -a perms ] [ -c maxconn ] [ -C localmaxconn ] \
[ -b backlog ] [ -G gidlist ] [ -g gid ] [ -u uid ] [ -U ] path prog...";

/// The variables of a connection that tine sets over a Unix socket, and s6 does not.
const OTHERS: [&str; 4] = ["UNIXREMOTEEUID", "UNIXREMOTEEGID", "UNIXREMOTEPID", "REMOTE_ADDR"];

/// The arguments.
#[derive(Debug, PartialEq, Eq)]
struct IpcserverArguments {
    options: ServerOptions,
    /// `-a`
    mode: u32,
    /// `-p`, `-P`
    asks_credentials: bool,
    path: PathBuf,
    program: Vec<OsString>,
}

/// Serves until SIGTERM.
pub(in crate::peers) fn main(words: &mut dyn Iterator<Item = OsString>) -> Result<(), Failure> {
    let arguments = parse(words, |name| std::env::var(name).ok()).map_err(|()| usage(NAME, USAGE))?;
    let IpcserverArguments { options, mode, asks_credentials, path, program } = arguments;
    let socket = listener::unix(&path, mode, options.backlog, options.reuses).map_err(|why| {
        let why = reason(&why);
        fatal(NAME, exit::SYSTEM, format!("unable to bind to {}: {why}", path.display()))
    })?;
    let system = |error: tine::Error| fatal(NAME, exit::SYSTEM, error);
    // Without credentials, connections are not counted by user.
    let per_user = asks_credentials.then_some(options.per_source);
    let logged = (options.verbosity == Verbosity::Verbose).then_some(options.limit);
    let prepare = move |incoming: &Incoming| prepare(incoming, per_user, logged);
    let plan = Plan {
        socket,
        program: Program::new(program).prepare(prepare),
        dialect: Dialect::S6Ipcserver(per_user),
        verbosity: options.verbosity,
        limit: options.limit,
        identity: options.identity(NAME)?,
    };
    let (server, program) = plan.server().map_err(system)?;
    let server = server.backlog(options.backlog);
    let server = match per_user {
        // With as many as the server may have, a user cannot have more.
        Some(connections) if connections < options.limit => server.max_connections_per_source(connections),
        _ => server,
    };
    let server = match options.announces {
        true => server.ready_descriptor(detach_stdout().map_err(|why| {
            fatal(NAME, exit::SYSTEM, format!("unable to write to standard output: {}", reason(&why)))
        })?),
        false => server,
    };
    server.run_program(program).map_err(system)
}

/// Moves standard output to another descriptor, the number of which it returns. `/dev/null` takes
/// its place: the number must not become that of a socket.
fn detach_stdout() -> io::Result<RawFd> {
    let moved = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdout(std::fs::File::options().write(true).open("/dev/null")?)?;
    Ok(moved.into_raw_fd())
}

fn parse(
    words: &mut dyn Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<IpcserverArguments, ()> {
    let mut words = words.peekable();
    let (mut mode, mut asks_credentials) = (0o777, true);
    let options = ServerOptions::read(&mut words, b"a", variable, |letter, value| {
        match (letter, value) {
            (b'a', Some(value)) => {
                let value = value.into_string().map_err(|_| ())?;
                mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o777).ok_or(())?;
            }
            (b'p', _) => asks_credentials = true,
            (b'P', _) => asks_credentials = false,
            _ => return Err(()),
        }
        Ok(())
    })?;
    let path = PathBuf::from(words.next().filter(|path| !path.is_empty()).ok_or(())?);
    let program: Vec<OsString> = words.collect();
    if program.is_empty() {
        return Err(());
    }
    Ok(IpcserverArguments { options, mode, asks_credentials, path, program })
}

/// Describes the client. `per_user`: the limit of a user, `None` with `-P`. `logged`: the limit for
/// the status line, with `-v`.
fn prepare(incoming: &Incoming, per_user: Option<usize>, logged: Option<usize>) -> Prepared {
    let client = match (per_user, incoming.peer) {
        (Some(_), Peer::Unix(credentials)) => credentials,
        _ => None,
    };
    let of_user = incoming.connections_of_source;
    if let Some(limit) = logged {
        let (pid, now) = (std::process::id(), incoming.connections);
        let ids = client.map_or_else(|| "?:?".into(), |client| format!("{}:{}", client.uid, client.gid));
        let count = client.map_or_else(|| "?".into(), |_| of_user.to_string());
        let per_user = per_user.unwrap_or(limit);
        let allow = format!("s6-ipcserverd: info: allow {ids} pid {pid} count {count}/{per_user}");
        let status = format!("s6-ipcserverd: info: status: {now}/{limit}");
        client::write_line(io::stderr(), &format!("{allow}\n{status}"));
    }
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let before = client.map(|_| of_user.saturating_sub(1).to_string()).unwrap_or_default();
    let prepared = OTHERS.iter().fold(Prepared::new(), |prepared, name| prepared.env_remove(*name));
    prepared
        .env("PROTO", "IPC")
        .env("IPCREMOTEEUID", number(client.map(|client| client.uid)))
        .env("IPCREMOTEEGID", number(client.map(|client| client.gid)))
        .env("IPCCONNNUM", before)
        .env("IPCREMOTEPATH", OsString::from_vec(path_of_client(incoming).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let read = |line: &str| {
            parse(&mut line.split_whitespace().map(OsString::from), |_| None)
                .map(|found| (found.mode, found.asks_credentials, found.path.display().to_string()))
        };
        for (line, meant) in [
            ("/run/s cat", (0o777, true, "/run/s")),
            ("-a 0700 -P /run/s cat -u", (0o700, false, "/run/s")),
            ("-Pp -a 660 -c 5 s cat", (0o660, true, "s")),
        ] {
            assert_eq!(read(line), Ok((meant.0, meant.1, meant.2.to_owned())), "{line}");
        }
        for line in ["", "/run/s", "-a 8 s cat", "-a 1000 s cat", "-4 s cat"] {
            assert_eq!(read(line), Err(()), "{line}");
        }
    }
}
