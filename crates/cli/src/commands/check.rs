//! `tine check`: validates a configuration without serving it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::Server;
use tine::cli::{JailLayer, jail_layers};

use crate::commands::describe::print;
use crate::commands::serve::checked;
use crate::config::overlap::Claim;
use crate::config::{Config, ServiceConfig, clash};
use crate::diagnostics::diagnostic;
use crate::error::Error;
use crate::exit;

/// `tine check`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{AFTER_HELP}\n{}", exit::help("check")))]
pub struct Check {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

const AFTER_HELP: &str = "Looks up users, groups, programs, directories and hosts, and binds no address. Prints an equivalent \
configuration with the values of all keys in effect.";

/// Prints the configuration as it is understood, or every fault.
pub(crate) fn run(args: &Check) -> Result<ExitCode, Error> {
    let config = Config::read(&args.file)?;
    let log = Server::new().log_target(config.server.log.target()).check();
    let mut faults: Vec<Error> = log.err().map(Error::from).into_iter().collect();
    for service in &config.services {
        faults.extend(checked(service, &config.server).err());
        faults.extend(hosts(service));
    }
    faults.extend(overlaps(&config));
    faults.extend(config.server.observe.check().err());
    let last = faults.pop();
    faults.iter().for_each(|fault| diagnostic!("tine: {fault}"));
    match last {
        Some(last) => Err(last),
        None => print(format!("{config}{}", jails(&config)).as_bytes()),
    }
}

/// What is in force of the jails, as comments.
fn jails(config: &Config) -> String {
    let mut text = String::new();
    for service in &config.services {
        let Ok(jail) = service.args.jail.jail() else { continue };
        for JailLayer { name, state, detail } in jail_layers(&jail) {
            let _ = writeln!(text, "# jail of {}: {name} {state}: {detail}", service.name);
        }
    }
    text
}

/// The addresses that do not resolve.
fn hosts(service: &ServiceConfig) -> Vec<Error> {
    let claims = Claim::of(&service.args).unwrap_or_default();
    let failed = claims.into_iter().filter_map(|claim| claim.resolved().err());
    failed.map(|error| error.within(&service.position)).collect()
}

/// The addresses that exclude each other once their hosts are looked up.
fn overlaps(config: &Config) -> Vec<Error> {
    let mut seen: Vec<(Claim, &ServiceConfig)> = Vec::new();
    let mut faults = Vec::new();
    for service in &config.services {
        let claims = Claim::of(&service.args).unwrap_or_default();
        for claim in claims.into_iter().filter_map(|claim| claim.resolved().ok()).flatten() {
            faults.extend(clash(&claim, service, seen.iter().map(|(other, service)| (other, *service))));
            seen.push((claim, service));
        }
    }
    faults
}
