//! `tine serve`: from what was typed to a server that runs.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use tine::{
    Access, AccessRules, Connection, Error, Format, HandlerError, Identity, KillMode, Level, Program, Server,
    Services, Stderr, Terminal, Timeouts,
};

use crate::args::program::ProgramArgs;
use crate::args::{self, LogFormat, Serve, Service as BuiltIn, WhenFull};
use crate::config::{Config, Service};
use crate::services;

/// Serves until stopped; `typed` says which options were given.
pub fn run(args: Serve, typed: ArgMatches) -> Result<ExitCode, Error> {
    match args.config.clone() {
        Some(file) => many(&file, args, &typed)?,
        None => {
            drop(typed);
            one(args)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One service, as typed.
fn one(args: Serve) -> Result<(), Error> {
    close_strays(args.ready_fd);
    let mut server = listening(&args)?.print_ports(args.print_ports);
    if let Some(number) = args.ready_fd {
        server = server.ready_descriptor(number)?;
    }
    let server = configured(server, &args, log(&args))?;
    if is_for_people(&args) {
        eprintln!("{}", hint(&args, &server));
    }
    let (program, service) = (program(&args.program), args.service);
    drop(args);
    match program {
        Some(program) => server.run_program(program),
        None => server.run(handler(service)),
    }
}

/// The services of a file.
fn many(file: &Path, args: Serve, typed: &ArgMatches) -> Result<(), Error> {
    let config = Config::read(file)?.with_typed(args, typed)?;
    let wide = &config.server;
    close_strays(wide.ready_fd);
    if Server::inherited()?.is_some() {
        return Err(Error::usage(
            "sockets were inherited (LISTEN_FDS), and the configuration names its own addresses",
            "start the server without socket activation, or serve those sockets without --config",
        ));
    }
    let mut tree = Services::new().log(log(wide).0, log(wide).1).print_ports(wide.print_ports);
    if let Some(number) = wide.ready_fd {
        tree = tree.ready_descriptor(number)?;
    }
    // All that can be wrong is found before the first address is bound.
    let servers: Vec<Server> =
        config.services.iter().map(|service| checked(service, wide)).collect::<Result<_, _>>()?;
    for (service, server) in config.services.iter().zip(servers) {
        let server =
            service.args.addresses.iter().try_fold(server, |server, address| server.and_bind(address));
        let server = server.map_err(|error| error.within(&service.place))?;
        if is_for_people(wide) {
            eprintln!("{}: {}", service.name, hint(&service.args, &server));
        }
        tree = match program(&service.args.program) {
            Some(program) => tree.program(&service.name, server, program),
            None => tree.service(&service.name, server, handler(service.args.service)),
        };
    }
    tree.run()
}

/// A service that listens nowhere yet, once everything else about it is known to be right.
pub fn checked(service: &Service, wide: &Serve) -> Result<Server, Error> {
    let server = configured(Server::new(), &service.args, log(wide)).and_then(|server| {
        server.check(program(&service.args.program).as_ref())?;
        Ok(server)
    });
    server.map_err(|error| error.within(&service.place))
}

/// Closes what whoever started this left open by mistake: no connection is to have it.
fn close_strays(ready: Option<i32>) {
    let passed =
        std::env::var("LISTEN_FDS").ok().and_then(|number| number.parse().ok()).unwrap_or(0_usize).min(1024);
    let meant: Vec<i32> = (3..).take(passed).chain(ready).collect();
    tine_sys::fd::close_strays(&meant);
}

/// A server at the addresses that were typed, or on the sockets that were inherited.
fn listening(args: &Serve) -> Result<Server, Error> {
    match (Server::inherited()?, args.addresses.as_slice()) {
        (Some(_), [address, ..]) => Err(Error::usage(
            format_args!("sockets were inherited (LISTEN_FDS), and there is an address, too: {address}"),
            "leave the address out, or start the server without socket activation",
        )),
        (Some(server), []) => Ok(server),
        (None, []) => Server::bind("[::]:9999"),
        (None, addresses) => {
            addresses.iter().try_fold(Server::new(), |server, address| server.and_bind(address))
        }
    }
}

/// The server with what was typed about its service.
fn configured(mut server: Server, args: &Serve, (format, level): (Format, Level)) -> Result<Server, Error> {
    if let Some(forkers) = args.forkers {
        server = server.forkers(forkers as usize);
    }
    let server = server
        .max_connections(args.max_connections as usize)
        .max_connections_per_source(args.max_connections_per_source.map(|most| most as usize))
        .max_connections_per_prefix(args.max_connections_per_prefix.map(|most| most as usize))
        .net_block_sizes(args.per_source_net_block_size, args.per_prefix_net_block_size)?
        .rates(args.rate_per_source, args.rate_per_prefix)
        .access(access(args)?.as_ref())
        .penalties(args.per_source_penalties.0, exempt(args)?.as_ref())
        .when_full(when_full(args.when_full.clone()))
        .when_limited(when_limited(args))
        .backlog(args.backlog)?
        .spares(args.spares as usize)
        .reuse(args.reuse)
        .drain_timeout(args.drain_timeout)
        .timeouts(Timeouts {
            idle: args.idle_timeout,
            lifetime: args.max_lifetime,
            first_byte: args.first_byte_timeout,
        })
        .identity(identity(args)?)
        .titles(args.titles)
        .handler_prints(false)
        .log(format, level);
    Ok(server)
}

/// Who may come, where anything is said about it.
pub fn access(args: &Serve) -> Result<Option<Access>, Error> {
    let rules = AccessRules::new().reverse_dns(args.program.reverse_dns);
    let rules = args.allow.iter().try_fold(rules, |rules, block| rules.allow(block))?;
    let rules = args.deny.iter().try_fold(rules, |rules, block| rules.deny(block))?;
    let rules = args.rules.iter().try_fold(rules, |rules, path| rules.file(path))?;
    let rules = args.access_times.iter().try_fold(rules, |rules, span| rules.times(span))?;
    if rules.is_empty() { Ok(None) } else { Ok(Some(rules.build())) }
}

/// Who it is to run as, where that is said.
fn identity(args: &Serve) -> Result<Option<Identity>, Error> {
    let identity = Identity::look_up(args.user.as_deref(), args.group.as_deref())?;
    match (identity, &args.supplementary_groups) {
        (identity, None) => Ok(identity),
        (Some(identity), Some(groups)) => identity.with_groups(groups).map(Some),
        (None, Some(_)) => Err(Error::usage(
            "supplementary groups are for who it is to run as, and that is not said",
            "name a user or a group (--user, --group)",
        )),
    }
}

/// Who is never punished, where anybody is named.
pub fn exempt(args: &Serve) -> Result<Option<Access>, Error> {
    let named = &args.per_source_penalty_exempt_list;
    let rules = named.iter().try_fold(AccessRules::new(), |rules, block| rules.allow(block))?;
    if rules.is_empty() { Ok(None) } else { Ok(Some(rules.build())) }
}

/// The program that was named, if one was.
fn program(args: &ProgramArgs) -> Option<Program> {
    if args.program.is_empty() {
        return None;
    }
    let mut program = Program::new(&args.program)
        .clear_env(args.clear_env)
        .argv0(args.argv0.clone().map(Into::into))
        .reverse_dns(args.reverse_dns)
        .remote_host(args.remote_host)
        .directory(args.cwd.clone())
        .cgroup(args.cgroup.clone())
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
        WhenFull::Reject(text) => tine::WhenFull::Reject(text),
    }
}

fn when_limited(args: &Serve) -> tine::WhenLimited {
    match &args.when_limited {
        args::WhenLimited::Delay => {
            tine::WhenLimited::Delay { max_clients: args.max_delayed as usize, timeout: args.delay_timeout }
        }
        args::WhenLimited::Reject(text) => tine::WhenLimited::Reject(text.clone()),
        args::WhenLimited::Close => tine::WhenLimited::Close,
    }
}

/// How the log looks, and how much it says.
fn log(args: &Serve) -> (Format, Level) {
    let format = match args.log {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Off => Format::Off,
    };
    let level = match (args.verbose, args.quiet) {
        (true, _) => Level::Verbose,
        (false, true) => Level::Quiet,
        (false, false) => Level::Normal,
    };
    (format, level)
}

fn handler(service: BuiltIn) -> fn(Connection) -> Result<(), HandlerError> {
    match service {
        BuiltIn::Echo => services::echo,
        BuiltIn::Discard => services::discard,
        BuiltIn::Chargen => services::chargen,
        BuiltIn::Daytime => services::daytime,
        BuiltIn::Time => services::time,
    }
}

/// Whether somebody reads the log at a terminal.
fn is_for_people(args: &Serve) -> bool {
    args.log == LogFormat::Text && !args.quiet && std::io::stderr().is_terminal()
}

/// What to try next.
fn hint(args: &Serve, server: &Server) -> String {
    let what = match args.program.program.first() {
        Some(program) => program.to_string_lossy().into_owned(),
        None => format!("{:?}", args.service).to_lowercase(),
    };
    match server.local_addresses().first().map(SocketAddr::port) {
        Some(port) => format!(
            "{what} on {server}, a process for each connection. Try, in another terminal: tine client \
             localhost:{port} (or: nc localhost {port}). Ctrl-C stops."
        ),
        None => format!("{what} on {server}, a process for each connection. Ctrl-C stops."),
    }
}
