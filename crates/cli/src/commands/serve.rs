//! `tine serve`: from what was typed to a server that runs.

use std::io::IsTerminal;
use std::process::ExitCode;

use tine::{Connection, Error, Format, HandlerError, Identity, Level, Server};

use crate::args::{LogFormat, Serve, Service, WhenFull};
use crate::services;

/// Serves until stopped.
pub fn run(args: Serve) -> Result<ExitCode, Error> {
    close_strays(args.ready_fd);
    let handler = handler(args.service);
    let hint = hint(&args);
    let server = server(args)?;
    if let Some(hint) = hint {
        eprintln!("{}", hint.text(&server));
    }
    server.run(handler)?;
    Ok(ExitCode::SUCCESS)
}

/// Closes what whoever started this left open by mistake: no connection is to have it.
fn close_strays(ready: Option<i32>) {
    let passed =
        std::env::var("LISTEN_FDS").ok().and_then(|number| number.parse().ok()).unwrap_or(0_usize).min(1024);
    let meant: Vec<i32> = (3..).take(passed).chain(ready).collect();
    if let Ok(alone) = tine_sys::process::Alone::check() {
        tine_sys::fd::close_strays(&alone, &meant);
    }
}

fn server(args: Serve) -> Result<Server, Error> {
    let identity = Identity::look_up(args.user.as_deref(), args.group.as_deref())?;
    let inherited = Server::inherited()?;
    let mut server = match (inherited, args.addresses.as_slice()) {
        (Some(_), [address, ..]) => {
            return Err(Error::usage(
                format_args!("sockets were inherited (LISTEN_FDS), and there is an address, too: {address}"),
                "leave the address out, or start the server without socket activation",
            ));
        }
        (Some(server), []) => server,
        (None, []) => Server::bind("[::]:9999")?,
        (None, [first, more @ ..]) => {
            let first = Server::bind(first)?;
            more.iter().try_fold(first, |server, address| server.and_bind(address))?
        }
    };
    if let Some(number) = args.ready_fd {
        server = server.ready_descriptor(number)?;
    }
    if let Some(forkers) = args.forkers {
        server = server.forkers(forkers as usize);
    }
    let server = server
        .max_connections(args.max_connections as usize)
        .when_full(when_full(args.when_full))
        .backlog(args.backlog)?
        .spares(args.spares as usize)
        .reuse(args.reuse)
        .drain_timeout(args.drain_timeout)
        .identity(identity)
        .titles(args.titles)
        .handler_prints(false)
        .print_ports(args.print_ports)
        .log(format(args.log), level(args.verbose, args.quiet));
    Ok(server)
}

fn when_full(typed: WhenFull) -> tine::WhenFull {
    match typed {
        WhenFull::Wait => tine::WhenFull::Wait,
        WhenFull::Refuse(text) => tine::WhenFull::Refuse(text),
    }
}

fn format(typed: LogFormat) -> Format {
    match typed {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Off => Format::Off,
    }
}

fn level(verbose: bool, quiet: bool) -> Level {
    match (verbose, quiet) {
        (true, _) => Level::Verbose,
        (false, true) => Level::Quiet,
        (false, false) => Level::Normal,
    }
}

fn handler(service: Service) -> fn(Connection) -> Result<(), HandlerError> {
    match service {
        Service::Echo => services::echo,
        Service::Discard => services::discard,
        Service::Chargen => services::chargen,
        Service::Daytime => services::daytime,
        Service::Time => services::time,
    }
}

/// What to try next, for a person at a terminal.
struct Hint(Service);

fn hint(args: &Serve) -> Option<Hint> {
    let for_people = args.log == LogFormat::Text && !args.quiet && std::io::stderr().is_terminal();
    for_people.then_some(Hint(args.service))
}

impl Hint {
    fn text(&self, server: &Server) -> String {
        let service = format!("{:?}", self.0).to_lowercase();
        let port = server.local_addresses().first().map(std::net::SocketAddr::port);
        match port {
            Some(port) => format!(
                "{service} on {server}, a process for each connection. Try, in another terminal: tine client \
                 localhost:{port} (or: nc localhost {port}). Ctrl-C stops."
            ),
            None => format!("{service} on {server}, a process for each connection. Ctrl-C stops."),
        }
    }
}
