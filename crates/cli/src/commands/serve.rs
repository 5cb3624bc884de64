//! `tine serve`: from the options to a running server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use tine::{Server, Services};

use crate::args::Serve;
use crate::config::{Config, ServerConfig, ServiceConfig};
use crate::error::Error;

/// The address without any ADDRESS.
const DEFAULT_ADDRESS: &str = "[::]:9999";

/// Serves until the server is stopped. `typed` has the options that were given.
pub(crate) fn run(args: Serve, typed: ArgMatches) -> Result<ExitCode, Error> {
    match args.config.clone() {
        Some(file) => serve_file(&file, args, &typed)?,
        None => {
            drop(typed);
            serve_one(args)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Serves one service, as described by the options.
fn serve_one(args: Serve) -> Result<(), Error> {
    close_strays(args.readiness.ready_fd);
    let server = args.apply(args.readiness.apply(listening(&args)?), &args.log)?;
    if args.log.is_interactive() {
        eprintln!("{}", hint(&args, &server));
    }
    let (program, handler) = (args.program.program(), args.service.handler);
    drop(args);
    match program {
        Some(program) => server.run_program(program)?,
        None => server.run(handler)?,
    }
    Ok(())
}

/// Serves the services of a file.
fn serve_file(file: &Path, args: Serve, typed: &ArgMatches) -> Result<(), Error> {
    let config = Config::read(file)?.with_typed(args, typed)?;
    let server_wide = &config.server;
    close_strays(server_wide.readiness.ready_fd);
    if Server::inherited()?.is_some() {
        return Err(Error::usage(
            "the configuration has its own addresses, and sockets were inherited (LISTEN_FDS)",
            "start the server without socket activation, or serve those sockets without --config",
        ));
    }
    let mut services = server_wide.readiness.apply_to_all(server_wide.log.apply_to_all(Services::new()));
    // Every fault is found before the first address is bound.
    let servers: Vec<Server> =
        config.services.iter().map(|service| checked(service, server_wide)).collect::<Result<_, _>>()?;
    for (service, server) in config.services.iter().zip(servers) {
        let addresses = &service.args.addresses;
        let server = addresses.iter().try_fold(server, |server, address| server.bind_also(address));
        let server = server.map_err(|error| Error::from(error).within(&service.position))?;
        if server_wide.log.is_interactive() {
            eprintln!("{}: {}", service.name, hint(&service.args, &server));
        }
        services = match service.args.program.program() {
            Some(program) => services.program(&service.name, server, program),
            None => services.service(&service.name, server, service.args.service.handler),
        };
    }
    Ok(services.run()?)
}

/// A service without its addresses, validated.
pub(crate) fn checked(service: &ServiceConfig, server_wide: &ServerConfig) -> Result<Server, Error> {
    let server = service.args.apply(Server::new(), &server_wide.log).and_then(|server| {
        match service.args.program.program() {
            Some(program) => server.check_program(&program)?,
            None => server.check()?,
        }
        Ok(server)
    });
    server.map_err(|error| error.within(&service.position))
}

/// Closes descriptors that the parent left open by mistake, so that no connection inherits them.
fn close_strays(ready: Option<i32>) {
    let passed =
        std::env::var("LISTEN_FDS").ok().and_then(|number| number.parse().ok()).unwrap_or(0_usize).min(1024);
    let meant: Vec<i32> = (3..).take(passed).chain(ready).collect();
    tine_sys::fd::close_strays(&meant);
}

/// A server at the given addresses, or on the inherited sockets.
fn listening(args: &Serve) -> Result<Server, Error> {
    match (Server::inherited()?, args.addresses.as_slice()) {
        (Some(_), [address, ..]) => Err(Error::usage(
            format_args!("sockets were inherited (LISTEN_FDS), but an address is given, too: {address}"),
            "leave the address out, or start the server without socket activation",
        )),
        (Some(server), []) => Ok(server),
        (None, []) => Ok(Server::bind(DEFAULT_ADDRESS)?),
        (None, addresses) => {
            Ok(addresses.iter().try_fold(Server::new(), |server, address| server.bind_also(address))?)
        }
    }
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
