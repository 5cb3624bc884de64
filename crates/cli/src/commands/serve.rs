//! `tine serve`: from what was typed to a server that runs.

use std::io::IsTerminal;
use std::process::ExitCode;

use tine::{
    Connection, Error, Format, HandlerError, Identity, KillMode, Level, Program, Server, Stderr, Terminal,
    Timeouts,
};

use crate::args::program::ProgramArgs;
use crate::args::{self, LogFormat, Serve, Service, WhenFull};
use crate::services;

/// Serves until stopped.
pub fn run(args: Serve) -> Result<ExitCode, Error> {
    close_strays(args.ready_fd);
    let handler = handler(args.service);
    let program = program(&args.program);
    let hint = hint(&args);
    let server = server(args)?;
    if let Some(hint) = hint {
        eprintln!("{}", hint.text(&server));
    }
    match program {
        Some(program) => server.run_program(program)?,
        None => server.run(handler)?,
    }
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
        .max_connections_per_source(args.max_connections_per_source.map(|most| most as usize))
        .when_full(when_full(args.when_full))
        .backlog(args.backlog)?
        .spares(args.spares as usize)
        .reuse(args.reuse)
        .drain_timeout(args.drain_timeout)
        .timeouts(Timeouts {
            idle: args.idle_timeout,
            lifetime: args.max_lifetime,
            first_byte: args.first_byte_timeout,
        })
        .identity(identity)
        .titles(args.titles)
        .handler_prints(false)
        .print_ports(args.print_ports)
        .log(format(args.log), level(args.verbose, args.quiet));
    Ok(server)
}

/// The program that was named, if one was.
fn program(args: &ProgramArgs) -> Option<Program> {
    if args.program.is_empty() {
        return None;
    }
    let mut program = Program::new(&args.program)
        .clear_env(args.clear_env)
        .directory(args.cwd.clone())
        .umask(args.umask)
        .nice(args.nice)
        .stderr(match args.stderr {
            args::program::Stderr::Server => Stderr::Server,
            args::program::Stderr::Log => Stderr::Log,
            args::program::Stderr::Client => Stderr::Client,
            args::program::Stderr::Null => Stderr::Null,
        })
        .terminal(match (args.pty, args.line_buffered) {
            (true, _) => Terminal::Full,
            (false, true) => Terminal::Output,
            (false, false) => Terminal::None,
        })
        .kill_mode(match args.kill_mode {
            args::program::KillMode::Process => KillMode::Process,
            args::program::KillMode::Group => KillMode::Group,
            args::program::KillMode::All => KillMode::All,
        });
    for (name, value) in &args.env {
        let value = value.clone().map(Into::into).or_else(|| std::env::var_os(name));
        if let Some(value) = value {
            program = program.env(name, value);
        }
    }
    Some(args.limits.0.iter().fold(program, |program, limit| program.limit(*limit)))
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
struct Hint(String);

fn hint(args: &Serve) -> Option<Hint> {
    let for_people = args.log == LogFormat::Text && !args.quiet && std::io::stderr().is_terminal();
    let what = match args.program.program.first() {
        Some(program) => program.to_string_lossy().into_owned(),
        None => format!("{:?}", args.service).to_lowercase(),
    };
    for_people.then_some(Hint(what))
}

impl Hint {
    fn text(&self, server: &Server) -> String {
        let service = &self.0;
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
