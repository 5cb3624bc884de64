//! `s6-tcpserver` of s6-networking.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tine::cli::Dialect;
use tine::{Incoming, NetBlockSize, Peer, Prepared, Program};

use super::{Failure, Plan, ServerOptions, client, fatal, listener, ucspi, usage};
use crate::exit;
use ucspi::Verbosity;

const NAME: &str = "s6-tcpserver";

const USAGE: &str = "[ -q | -Q | -v ] [ -4 | -6 ] [ -d | -D ] [ -1 ] [ -c maxconn ] [ -C localmaxconn ] [ -b backlog ] \
[ -G gid,gid,... ] [ -g gid ] [ -u uid ] [ -U ] ip port prog...";

/// The arguments.
#[derive(Debug, PartialEq, Eq)]
struct TcpserverArguments {
    options: ServerOptions,
    address: SocketAddr,
    program: Vec<OsString>,
}

/// Serves until SIGTERM.
pub(in crate::peers) fn main(words: &mut dyn Iterator<Item = OsString>) -> Result<(), Failure> {
    let TcpserverArguments { options, address, program } =
        parse(words, |name| std::env::var(name).ok()).map_err(|()| usage(NAME, USAGE))?;
    let socket = listener::tcp(address, options.backlog, options.reuses, true).map_err(|why| {
        let (ip, port) = (address.ip(), address.port());
        let why = tine::cli::reason(&why);
        fatal(NAME, exit::SYSTEM, format!("unable to bind to ip {ip} port {port}: {why}"))
    })?;
    let system = |error: tine::Error| fatal(NAME, exit::SYSTEM, error);
    let (per_source, is_verbose) = (options.per_source, options.verbosity == Verbosity::Verbose);
    let limit = options.limit;
    let prepare = move |incoming: &Incoming| prepare(incoming, is_verbose, limit, per_source);
    let plan = Plan {
        socket,
        program: Program::new(program).prepare(prepare),
        dialect: Dialect::S6Tcpserver(per_source),
        verbosity: options.verbosity,
        limit,
        identity: options.identity(NAME)?,
    };
    let exact: NetBlockSize = "32:128".parse().map_err(system)?;
    let (server, program) = plan.server().map_err(system)?;
    let server = server
        .no_delay(false)
        .backlog(options.backlog)
        .max_connections_per_source(per_source)
        .net_block_sizes(exact, exact)
        .print_ports(options.announces);
    server.run_program(program).map_err(system)
}

fn parse(
    words: &mut dyn Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<TcpserverArguments, ()> {
    let mut words = words.peekable();
    let mut family = None;
    let options = ServerOptions::read(&mut words, b"", variable, |letter, _| match letter {
        b'4' | b'6' => {
            family = Some(letter);
            Ok(())
        }
        _ => Err(()),
    })?;
    let ip: IpAddr = ucspi::text(&mut words)?.parse().map_err(|_| ())?;
    let port: u16 = ucspi::text(&mut words)?.parse().map_err(|_| ())?;
    if family.is_some_and(|family| (family == b'4') != ip.is_ipv4()) {
        return Err(());
    }
    let program: Vec<OsString> = words.collect();
    let arguments = TcpserverArguments { options, address: SocketAddr::new(ip, port), program };
    if arguments.program.is_empty() { Err(()) } else { Ok(arguments) }
}

/// Logs the client. `TCPCONNNUM` is the number of connections that its address had before.
fn prepare(incoming: &Incoming, is_verbose: bool, limit: usize, per_source: usize) -> Prepared {
    let Peer::Tcp(remote) = incoming.peer else { return Prepared::new() };
    let (now, of_source) = (incoming.connections, incoming.connections_of_source);
    if is_verbose {
        let (ip, port, pid) = (remote.ip(), remote.port(), std::process::id());
        let accept = format!("accept {ip}_{port} pid {pid} count {of_source}/{per_source}");
        client::write_line(
            io::stderr(),
            &format!("s6-tcpserverd: info: {accept}\ns6-tcpserverd: info: status: {now}/{limit}"),
        );
    }
    Prepared::new().env("TCPCONNNUM", of_source.saturating_sub(1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let read = |line: &str| {
            parse(&mut line.split_whitespace().map(OsString::from), |_| None)
                .map(|arguments| (arguments.address.to_string(), arguments.program.len()))
        };
        for (line, meant) in [
            ("127.0.0.1 21 ftpd", ("127.0.0.1:21", 1)),
            ("-v -c 100 -- ::1 80 httpd -d /www", ("[::1]:80", 3)),
            ("-4 0.0.0.0 0 cat", ("0.0.0.0:0", 1)),
            ("-6 :: 0 cat", ("[::]:0", 1)),
        ] {
            assert_eq!(read(line), Ok((meant.0.to_owned(), meant.1)), "{line}");
        }
        for line in
            ["", "127.0.0.1 21", "localhost 21 cat", "127.0.0.1 ftp cat", "-6 127.0.0.1 21 cat", "-x 0 0 c"]
        {
            assert_eq!(read(line), Err(()), "{line}");
        }
    }
}
