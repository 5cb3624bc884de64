//! `tcpserver` of ucspi-tcp (cr.yp.to/ucspi-tcp/tcpserver.html).

pub(crate) mod options;
mod prepare;
mod rules;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tine::Program;
use tine::cli::Dialect;

use super::{Failure, Plan, cdb, client, ident, listener, ucspi};
use crate::exit;
use options::TcpserverOptions;
use prepare::Preparation;
use ucspi::Verbosity;

/// The maximum length of a label of a host name (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Serves until SIGTERM.
pub(super) fn main(words: &mut dyn Iterator<Item = OsString>) -> Result<(), Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let options = TcpserverOptions::parse(words, variable)
        .map_err(|()| Failure::new(exit::USAGE, format!("tcpserver: usage: {}", options::USAGE)))?;
    serve(&options).map_err(|fatal| {
        let line = format!("tcpserver: fatal: {fatal}");
        Failure { code: exit::SYSTEM, line: Some(line).filter(|_| options.verbosity > Verbosity::Quiet) }
    })
}

fn serve(options: &TcpserverOptions) -> Result<(), String> {
    let port = listener::port(&options.port)
        .ok_or_else(|| format!("unable to figure out port number for {}", options.port))?;
    let address = SocketAddr::new(address(&options.host)?, port);
    let socket = listener::tcp(address, options.backlog, true, false)
        .map_err(|why| format!("unable to bind: {}", listener::reason(&why)))?;
    let identity = listener::identity(options.uid, options.gid, None)
        .map_err(|what| format!("unable to set {what}: permission denied"))?;
    let plan = Plan {
        socket,
        program: program(options),
        dialect: Dialect::Tcpserver,
        verbosity: options.verbosity,
        limit: options.limit,
        identity,
    };
    let plain = |error: tine::Error| error.to_string();
    let (server, program) = plan.server().map_err(plain)?;
    let server = server
        .banner(options.banner.as_slice())
        .no_delay(!options.delays)
        .backlog(options.backlog)
        .print_ports(options.prints_port);
    server.run_program(program).map_err(plain)
}

/// The program, with a preparation if names have to be looked up.
fn program(options: &TcpserverOptions) -> Program {
    let program = Program::new(&options.program);
    match Preparation::new(options) {
        Some(preparation) => program.prepare(move |incoming| preparation.receive(incoming)),
        // The name is given if it is not looked up.
        None => program.env("TCPLOCALHOST", options.local_name.clone().unwrap_or_default()),
    }
}

fn address(host: &str) -> Result<IpAddr, String> {
    if matches!(host, "" | "0") {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    if host.split('.').any(|label| label.len() > LONGEST_LABEL) {
        return Err(format!("temporarily unable to figure out IP address for {host}: protocol error"));
    }
    listener::address_of(host).ok_or_else(|| format!("no IP address for {host}"))
}
