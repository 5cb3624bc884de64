//! `tine check`: whether a configuration can be served, and what it means.

use std::process::ExitCode;

use tine::{Address, cli::resolve};

use crate::error::Error;

use crate::args::Check;
use crate::commands::describe::print;
use crate::commands::serve::checked;
use crate::config::{Config, Service};

/// Prints the configuration as it is understood, or every fault that is left once it can be read.
pub fn run(args: &Check) -> Result<ExitCode, Error> {
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

/// What cannot be listened on, as far as can be told without doing it.
fn hosts(service: &Service) -> Vec<Error> {
    let look = |text: &String| match text.parse::<Address>()? {
        Address::Tcp { host, port } => resolve(&host, port).map(drop),
        _ => Ok(()),
    };
    let addresses = service.args.addresses.iter();
    addresses
        .filter_map(|text| look(text).err())
        .map(|error| Error::from(error).within(&service.place))
        .collect()
}
