//! `tine check`: validates a configuration without serving it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::{Address, cli::resolve};

use crate::commands::describe::print;
use crate::commands::serve::checked;
use crate::config::{Config, ServiceConfig};
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
    let mut faults: Vec<Error> = Vec::new();
    for service in &config.services {
        faults.extend(checked(service, &config.server).err());
        faults.extend(hosts(service));
    }
    let last = faults.pop();
    faults.iter().for_each(|fault| eprintln!("tine: {fault}"));
    match last {
        Some(last) => Err(last),
        None => print(config.to_string().as_bytes()),
    }
}

/// The addresses that are invalid or do not resolve.
fn hosts(service: &ServiceConfig) -> Vec<Error> {
    let look_up = |text: &String| match text.parse::<Address>()? {
        Address::Tcp { host, port } => resolve(&host, port).map(drop),
        _ => Ok(()),
    };
    let addresses = service.args.addresses.iter();
    addresses
        .filter_map(|text| look_up(text).err())
        .map(|error| Error::from(error).within(&service.position))
        .collect()
}
