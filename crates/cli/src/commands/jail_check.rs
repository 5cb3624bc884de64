//! `tine jail-check`: what a jail gives on this system.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::cli::{JailLayer, jail_layers, try_jail};
use tine::{Jail, JailMode};

use crate::commands::describe::print;
use crate::config::Config;
use crate::control::text::columns;
use crate::error::Error;
use crate::exit;

/// `tine jail-check`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{AFTER_HELP}\n{}", exit::help("jail-check")))]
pub struct JailCheck {
    /// The configuration whose jails are checked [default: a full jail and a light one]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

const AFTER_HELP: &str = "Prints a line for each layer: on, partly, off (not asked for), or refused, with the cause and the next \
move. Then a process enters each jail and tries to break out of it.";

/// Prints the layers of the jails, and tries them.
pub(crate) fn run(args: &JailCheck) -> Result<ExitCode, Error> {
    let mut rows = Vec::new();
    let mut is_missing = false;
    let mut add = |service: &str, layers: Vec<JailLayer>| {
        for layer in layers {
            is_missing |= layer.is_missing();
            rows.push([service, layer.name, layer.state, &layer.detail].map(str::to_owned).to_vec());
        }
    };
    match &args.file {
        None => {
            for mode in [JailMode::Full, JailMode::Light] {
                let jail = Jail::new(mode);
                add(&format!("--jail={mode}"), jail_layers(&jail));
                try_jail(&jail)?;
            }
        }
        Some(file) => {
            let config = Config::read(file)?;
            for service in &config.services {
                let jail = service.args.jail.jail().map_err(|error| error.within(&service.position))?;
                add(&service.name, jail_layers(&jail));
                try_jail(&jail).map_err(|error| Error::from(error).within(&service.position))?;
            }
        }
    }
    let head = ["SERVICE", "LAYER", "STATE", "DETAIL"].map(str::to_owned).to_vec();
    rows.insert(0, head);
    print(columns(&rows).as_bytes())?;
    Ok(if is_missing { ExitCode::from(exit::MISSING) } else { ExitCode::SUCCESS })
}
