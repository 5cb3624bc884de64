//! `tcpserver`: called by this name, tine has the options of that tool
//! (cr.yp.to/ucspi-tcp/tcpserver.html), its environment, its log lines and its exit codes.

mod ident;
mod options;
mod prepare;
mod rules;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use tine::cli::log_as_tcpserver;
use tine::{ClientGone, Identity, LogFormat, LogLevel, Program, Server};

use crate::exit;
use options::{TcpserverOptions, Verbosity};
use prepare::Preparation;

/// The maximum length of a label of a host name (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Whether a command is called by this name, in whatever folder.
pub(crate) fn is_meant(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new("tcpserver"))
}

/// Serves until SIGTERM.
pub(crate) fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let options = match TcpserverOptions::parse(words, variable) {
        Ok(options) => options,
        Err(()) => {
            eprintln!("tcpserver: usage: {}", options::USAGE);
            return ExitCode::from(exit::USAGE);
        }
    };
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            if options.verbosity > Verbosity::Quiet {
                eprintln!("tcpserver: fatal: {fatal}");
            }
            ExitCode::from(exit::SYSTEM)
        }
    }
}

fn serve(options: &TcpserverOptions) -> Result<(), String> {
    let port = port(&options.port)?;
    let address = SocketAddr::new(address(&options.host)?, port);
    let socket = TcpListener::bind(address).map_err(|why| format!("unable to bind: {}", reason(&why)))?;
    let identity = identity(options)?;
    let plain = |error: tine::Error| error.to_string();
    let mut server = Server::from_listener(socket)
        .map_err(plain)?
        .no_delay(!options.delays)
        .backlog(options.backlog)
        .max_connections(options.limit)
        .print_ports(options.prints_port)
        .leave_connections(true)
        .client_gone(ClientGone::Leave);
    if let Some(identity) = identity {
        server = server.identity(identity);
    }
    server = match options.verbosity {
        Verbosity::Quiet => server.log_format(LogFormat::Off),
        Verbosity::Errors => log_as_tcpserver(server),
        Verbosity::Verbose => log_as_tcpserver(server).log_level(LogLevel::Verbose),
    };
    server.run_program(program(options)).map_err(plain)
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

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) => Ok(port),
        Err(_) => tine::cli::service_port(text)
            .ok_or_else(|| format!("unable to figure out port number for {text}")),
    }
}

fn address(host: &str) -> Result<IpAddr, String> {
    if matches!(host, "" | "0") {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    if host.split('.').any(|label| label.len() > LONGEST_LABEL) {
        return Err(format!("temporarily unable to figure out IP address for {host}: protocol error"));
    }
    let found = tine::cli::resolve(host, 0).map_err(|_| format!("no IP address for {host}"))?;
    // tcpserver prefers IPv4.
    let best = found.iter().find(|address| address.is_ipv4()).or(found.first());
    best.map(SocketAddr::ip).ok_or_else(|| format!("no IP address for {host}"))
}

/// The user and group of the program. A missing permission is reported before the address is bound.
fn identity(options: &TcpserverOptions) -> Result<Option<Identity>, String> {
    let may = |wanted: Option<u32>, own: u32| {
        wanted.is_none_or(|wanted| wanted == own) || rustix::process::geteuid().is_root()
    };
    let refused = |what: &str| Err(format!("unable to set {what}: permission denied"));
    if !may(options.gid, rustix::process::getegid().as_raw()) {
        return refused("gid");
    }
    if !may(options.uid, rustix::process::geteuid().as_raw()) {
        return refused("uid");
    }
    let gid = options.gid.unwrap_or_else(|| rustix::process::getegid().as_raw());
    // The supplementary groups are dropped, as setgroups(1, &gid) does.
    let groups = options.gid.into_iter().collect();
    let named = options.uid.is_some() || options.gid.is_some();
    Ok(named.then(|| Identity::from_ids(options.uid, gid, groups)))
}

/// An error of the system in the words of tcpserver.
fn reason(why: &std::io::Error) -> String {
    match why.kind() {
        std::io::ErrorKind::AddrInUse => "address already used".into(),
        std::io::ErrorKind::AddrNotAvailable => "address not available".into(),
        std::io::ErrorKind::PermissionDenied => "access denied".into(),
        _ => tine::cli::reason(why),
    }
}
