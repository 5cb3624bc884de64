//! `tine serve`: from what was typed to a server that runs.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use tine::{
    Access, AccessRules, Connection, HandlerError, Identity, KillMode, LogFormat, LogLevel, Program, Server,
    Services, Stderr, Terminal,
};

use crate::args::program::ProgramArgs;
use crate::args::{self, Serve, Service as BuiltIn, WhenFull};
use crate::config::{Config, Service};
use crate::error::Error;
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
        server = server.ready_descriptor(number);
    }
    let server = configured(server, &args, log(&args))?;
    if is_for_people(&args) {
        eprintln!("{}", hint(&args, &server));
    }
    let (program, service) = (program(&args.program), args.service);
    drop(args);
    match program {
        Some(program) => server.run_program(program)?,
        None => server.run(handler(service))?,
    }
    Ok(())
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
    let mut tree =
        Services::new().log_format(log(wide).0).log_level(log(wide).1).print_ports(wide.print_ports);
    if let Some(number) = wide.ready_fd {
        tree = tree.ready_descriptor(number);
    }
    // All that can be wrong is found before the first address is bound.
    let servers: Vec<Server> =
        config.services.iter().map(|service| checked(service, wide)).collect::<Result<_, _>>()?;
    for (service, server) in config.services.iter().zip(servers) {
        let server =
            service.args.addresses.iter().try_fold(server, |server, address| server.bind_also(address));
        let server = server.map_err(|error| Error::from(error).within(&service.place))?;
        if is_for_people(wide) {
            eprintln!("{}: {}", service.name, hint(&service.args, &server));
        }
        tree = match program(&service.args.program) {
            Some(program) => tree.program(&service.name, server, program),
            None => tree.service(&service.name, server, handler(service.args.service)),
        };
    }
    Ok(tree.run()?)
}

/// A service that listens nowhere yet, once everything else about it is known to be right.
pub fn checked(service: &Service, wide: &Serve) -> Result<Server, Error> {
    let server = configured(Server::new(), &service.args, log(wide)).and_then(|server| {
        match program(&service.args.program) {
            Some(program) => server.check_program(&program)?,
            None => server.check()?,
        }
        Ok(server)
    });
    server.map_err(|error| error.within(&service.place))
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

/// A server at the addresses that were typed, or on the sockets that were inherited.
fn listening(args: &Serve) -> Result<Server, Error> {
    match (Server::inherited()?, args.addresses.as_slice()) {
        (Some(_), [address, ..]) => Err(Error::usage(
            format_args!("sockets were inherited (LISTEN_FDS), and there is an address, too: {address}"),
            "leave the address out, or start the server without socket activation",
        )),
        (Some(server), []) => Ok(server),
        (None, []) => Ok(Server::bind("[::]:9999")?),
        (None, addresses) => {
            Ok(addresses.iter().try_fold(Server::new(), |server, address| server.bind_also(address))?)
        }
    }
}

/// The server with what was typed about its service.
fn configured(
    mut server: Server,
    args: &Serve,
    (format, level): (LogFormat, LogLevel),
) -> Result<Server, Error> {
    if let Some(forkers) = args.forkers {
        server = server.forkers(forkers as usize);
    }
    if let Some(most) = args.max_connections_per_source {
        server = server.max_connections_per_source(most as usize);
    }
    if let Some(most) = args.max_connections_per_prefix {
        server = server.max_connections_per_prefix(most as usize);
    }
    if let Some(rate) = args.rate_per_source {
        server = server.rate_per_source(rate);
    }
    if let Some(rate) = args.rate_per_prefix {
        server = server.rate_per_prefix(rate);
    }
    if let Some(access) = access(args)? {
        server = server.access(access);
    }
    if let Some(penalties) = args.per_source_penalties.0 {
        server = server.penalties(penalties);
    }
    if let Some(exempt) = exempt(args)? {
        server = server.penalty_exempt(exempt);
    }
    if let Some(time) = args.idle_timeout {
        server = server.idle_timeout(time);
    }
    if let Some(time) = args.max_lifetime {
        server = server.max_lifetime(time);
    }
    if let Some(time) = args.first_byte_timeout {
        server = server.first_byte_timeout(time);
    }
    if let Some(identity) = identity(args)? {
        server = server.identity(identity);
    }
    Ok(server
        .max_connections(args.max_connections as usize)
        .net_block_sizes(args.per_source_net_block_size, args.per_prefix_net_block_size)
        .when_full(when_full(args.when_full.clone()))
        .when_limited(when_limited(args))
        .backlog(args.backlog)
        .spares(args.spares as usize)
        .reuse(args.reuse)
        .drain_timeout(args.drain_timeout)
        .titles(args.titles)
        .flush_stdout(false)
        .log_format(format)
        .log_level(level))
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
    let identity = match (&args.user, &args.group) {
        (Some(user), Some(group)) => Some(Identity::of_user_and_group(user, group)?),
        (Some(user), None) => Some(Identity::of_user(user)?),
        (None, Some(group)) => Some(Identity::of_group(group)?),
        (None, None) => None,
    };
    match (identity, &args.supplementary_groups) {
        (identity, None) => Ok(identity),
        (Some(identity), Some(groups)) => Ok(Some(identity.with_groups(groups)?)),
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
        .reverse_dns(args.reverse_dns)
        .remote_host(args.remote_host)
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
    if let Some(name) = &args.argv0 {
        program = program.argv0(name);
    }
    if let Some(directory) = &args.cwd {
        program = program.directory(directory);
    }
    if let Some(directory) = &args.cgroup {
        program = program.cgroup(directory);
    }
    if let Some(mask) = args.umask {
        program = program.umask(mask);
    }
    for (name, value) in &args.env {
        let value = value.clone().map(Into::into).or_else(|| std::env::var_os(name));
        if let Some(value) = value {
            program = program.env(name, value);
        }
    }
    Some(
        args.limits
            .0
            .iter()
            .fold(program, |program, (resource, soft, hard)| program.limit(*resource, *soft, *hard)),
    )
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

/// The format and the level of the log.
fn log(args: &Serve) -> (LogFormat, LogLevel) {
    let level = match (args.verbose, args.quiet) {
        (true, _) => LogLevel::Verbose,
        (false, true) => LogLevel::Quiet,
        (false, false) => LogLevel::Normal,
    };
    (args.log, level)
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
