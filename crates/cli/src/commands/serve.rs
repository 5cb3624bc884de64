//! `tine serve`: from the options to a running server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use tine::cli::{
    InheritedSockets, Replacement, Takeover, linked, listen_on_inherited, observed, observed_services,
    replaceable, replaceable_services, wait_for_addresses,
};
use tine::{Address, BindIpv6Only, Server, Services};

use crate::args::Serve;
use crate::args::control::ControlOptions;
use crate::args::observe::Agent;
use crate::config::overlap::{Claim, next_move};
use crate::config::{Config, ServerConfig, ServiceConfig};
use crate::diagnostics::diagnostic;
use crate::error::Error;

/// The address without any ADDRESS.
const DEFAULT_ADDRESS: &str = "[::]:9999";

/// Serves until the server is stopped. `typed` has the options that were given.
///
/// With a takeover, this process replaces another server: see `Takeover`.
pub(crate) fn run(args: Serve, typed: ArgMatches, mut takeover: Option<Takeover>) -> Result<ExitCode, Error> {
    let served = match args.config.clone() {
        Some(file) => serve_file(&file, args, &typed, &mut takeover),
        None => {
            drop(typed);
            serve_one(args, &mut takeover)
        }
    };
    if let (Err(error), Some(takeover)) = (&served, &takeover) {
        takeover.failed(&error.to_string(), error.exit_code());
    }
    served.map(|()| ExitCode::SUCCESS)
}

/// Serves one service, as described by the options.
fn serve_one(args: Serve, takeover: &mut Option<Takeover>) -> Result<(), Error> {
    close_strays(args.readiness.ready_fd, takeover.as_ref());
    takeover.as_mut().map(Takeover::receive).transpose()?;
    let server = args.apply(args.readiness.apply(Server::new()), &args.log)?.log_target(args.log.target());
    let server = listening(server, &args)?;
    let name = name_of(&args, &server);
    let server = args.control.apply(server, &name)?;
    args.haproxy.check()?;
    let agent = args.haproxy.haproxy_agent.as_deref();
    let agents: Vec<Agent> =
        agent.map(|address| Agent { address, service: None, position: None }).into_iter().collect();
    let server = observed(server, args.observe.observation(&shown_name(&args.control, &name), &agents)?);
    let link = args.fleet.link(args.control.name.as_deref(), &name, args.of_fleet(None))?;
    let server = linked(server, link);
    if args.log.is_interactive() {
        diagnostic!("{}", hint(&args, &server));
    }
    let replacement = Replacement::by(std::env::args_os()).timeout(args.control.upgrade_timeout);
    let server = replaceable(server, replacement, takeover.take());
    let (program, handler) = (args.program.program(), args.service.handler);
    drop(args);
    match program {
        Some(program) => server.run_program(program)?,
        None => server.run(handler)?,
    }
    Ok(())
}

/// Serves the services of a file.
fn serve_file(
    file: &Path,
    args: Serve,
    typed: &ArgMatches,
    takeover: &mut Option<Takeover>,
) -> Result<(), Error> {
    let config = Config::read(file)?.with_typed(args, typed)?;
    let server_wide = &config.server;
    close_strays(server_wide.readiness.ready_fd, takeover.as_ref());
    takeover.as_mut().map(Takeover::receive).transpose()?;
    let replacement = Replacement::by(std::env::args_os()).configuration(&config.text);
    let replacement = replacement.timeout(server_wide.control.upgrade_timeout);
    if takeover.as_ref().is_some_and(|takeover| replacement.is_unchanged(takeover)) {
        return Ok(());
    }
    let mut inherited = InheritedSockets::receive()?;
    let claims = claims(&config)?;
    if let Some(name) = unclaimed(&inherited, &claims) {
        return Err(Error::usage(
            format_args!("a socket was inherited (LISTEN_FDS), and no service listens on fd:{name}"),
            "name it in a service, or start the server without socket activation",
        ));
    }
    let mut services = server_wide.readiness.apply_to_all(server_wide.log.apply_to_all(Services::new()));
    // Every fault is found before the first address is bound.
    let servers: Vec<Server> =
        config.services.iter().map(|service| checked(service, server_wide)).collect::<Result<_, _>>()?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    services = server_wide.control.apply_to_all(services, &name)?;
    server_wide.observe.check()?;
    for (service, server) in config.services.iter().zip(servers) {
        let server = server_wide.control.apply_records(server);
        // An address that the machine does not have yet keeps no other service from starting.
        let server = bound(wait_for_addresses(server), &service.args, &claims, &mut inherited);
        let server = server.map_err(|error| error.within(&service.position))?;
        let of_fleet = service.args.of_fleet(Some(&service.name));
        let link = server_wide.fleet.link(server_wide.control.name.as_deref(), &name, of_fleet);
        let server = linked(server, link.map_err(|error| error.within(&service.position))?);
        if server_wide.log.is_interactive() {
            diagnostic!("{}: {}", service.name, hint(&service.args, &server));
        }
        services = match service.args.program.program() {
            Some(program) => services.program(&service.name, server, program),
            None => services.service(&service.name, server, service.args.service.handler),
        };
    }
    let agents: Vec<Agent> = config.services.iter().filter_map(agent_of).collect();
    let observation = server_wide.observe.observation(&shown_name(&server_wide.control, &name), &agents)?;
    services = observed_services(services, observation);
    drop(config);
    Ok(replaceable_services(services, replacement, takeover.take()).run()?)
}

/// The name of a server without a configuration: its first port, or the name of its Unix socket.
fn name_of(args: &Serve, server: &Server) -> String {
    if let Some(address) = server.local_addresses().first() {
        return address.port().to_string();
    }
    let path = args.addresses.first().and_then(|address| address.strip_prefix("unix:"));
    let stem = path.and_then(|path| Path::new(path).file_stem());
    stem.unwrap_or_default().to_string_lossy().trim_start_matches('@').to_owned()
}

/// The name that is shown for a server: that of an option, or its own.
fn shown_name(control: &ControlOptions, name: &str) -> String {
    control.name.clone().unwrap_or_else(|| name.to_owned())
}

/// The agent of HAProxy of a service, if it has one.
fn agent_of(service: &ServiceConfig) -> Option<Agent<'_>> {
    let address = service.args.haproxy.haproxy_agent.as_deref()?;
    Some(Agent { address, service: Some(&service.name), position: Some(&service.position) })
}

/// A service without its addresses, validated.
pub(crate) fn checked(service: &ServiceConfig, server_wide: &ServerConfig) -> Result<Server, Error> {
    let server = service.args.apply(Server::new(), &server_wide.log).and_then(|server| {
        service.args.haproxy.check()?;
        match service.args.program.program() {
            Some(program) => server.check_program(&program)?,
            None => server.check()?,
        }
        Ok(server.log_level(service.level(&server_wide.log)))
    });
    server.map_err(|error| error.within(&service.position))
}

/// Closes descriptors that the parent left open by mistake, so that no connection inherits them.
fn close_strays(ready: Option<i32>, takeover: Option<&Takeover>) {
    let passed =
        std::env::var("LISTEN_FDS").ok().and_then(|number| number.parse().ok()).unwrap_or(0_usize).min(1024);
    let meant: Vec<i32> = (3..).take(passed).chain(ready).chain(takeover.map(Takeover::number)).collect();
    tine_sys::fd::close_strays(&meant);
}

/// The server at the given addresses, or on the inherited sockets.
fn listening(server: Server, args: &Serve) -> Result<Server, Error> {
    let mut inherited = InheritedSockets::receive()?;
    let claims = Claim::of(args)?;
    for (number, claim) in claims.iter().enumerate() {
        if let Some(other) = claims[..number].iter().find(|other| claim.excludes(other)) {
            return Err(Error::usage(
                format_args!("{} and {} cannot be listened on together", other.address(), claim.address()),
                next_move(claim, other),
            ));
        }
    }
    match (unclaimed(&inherited, &claims), claims.first()) {
        (Some(_), Some(claim)) => Err(Error::usage(
            format_args!(
                "sockets were inherited (LISTEN_FDS), but an address is given, too: {}",
                claim.address()
            ),
            "leave the address out or name the sockets (fd:NAME), or start the server without socket activation",
        )),
        (Some(_), None) => Ok(listen_on_inherited(server, &mut inherited, None)?),
        (None, None) => Ok(server.bind_also(DEFAULT_ADDRESS)?),
        (None, Some(_)) => bound(server, args, &claims, &mut inherited),
    }
}

/// The addresses of all services.
fn claims(config: &Config) -> Result<Vec<Claim>, Error> {
    let mut all = Vec::new();
    for service in &config.services {
        all.extend(Claim::of(&service.args).map_err(|error| error.within(&service.position))?);
    }
    Ok(all)
}

/// An inherited socket that no address names.
fn unclaimed(inherited: &InheritedSockets, claims: &[Claim]) -> Option<String> {
    let is_claimed = |name: &str| {
        claims.iter().any(|claim| matches!(claim.address(), Address::Inherited(claimed) if claimed == name))
    };
    inherited.names().find(|name| !is_claimed(name)).map(str::to_owned)
}

/// The server at the addresses of its options. `all` are the addresses of every service: beside an
/// IPv4 wildcard, the IPv6 wildcard of the same port accepts IPv6 clients only.
fn bound(
    mut server: Server,
    args: &Serve,
    all: &[Claim],
    inherited: &mut InheritedSockets,
) -> Result<Server, Error> {
    let clients = args.sockets.bind_ipv6_only;
    for claim in Claim::of(args)? {
        server = match claim.address() {
            Address::Inherited(name) => listen_on_inherited(server, inherited, Some(name))?,
            Address::Tcp { host, port } if host == "::" && clients == BindIpv6Only::Default => {
                let beside = *port != 0 && all.iter().any(|other| other.ipv4_wildcard() == Some(*port));
                let now = if beside { BindIpv6Only::Ipv6Only } else { clients };
                server.bind_ipv6_only(now).bind_also(&claim.address().to_string())?.bind_ipv6_only(clients)
            }
            address => server.bind_also(&address.to_string())?,
        };
    }
    Ok(server)
}

/// What to try next, for a reader at a terminal.
fn hint(args: &Serve, server: &Server) -> String {
    let what = match args.program.program.first() {
        Some(program) => program.to_string_lossy().into_owned(),
        None => args.service.name.to_owned(),
    };
    match server.local_addresses().first().map(SocketAddr::port) {
        Some(port) => format!(
            "{what} on {server}, a process for each connection. Try, in another terminal: tine client \
             localhost:{port} (or: nc localhost {port}). Ctrl-C stops."
        ),
        None => format!("{what} on {server}, a process for each connection. Ctrl-C stops."),
    }
}
