//! Options of a bus, over which several machines work together.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tine_bus::connect::{Bus, Secret};

use super::positive;

/// The bus.
#[derive(Args, Clone, Debug, Default)]
pub struct BusOptions {
    /// Work together over a NATS server, as in nats://HOST, nats://TOKEN@HOST:4222 or
    /// tls://USER:PASSWORD@HOST; servers of a cluster are separated by commas
    #[arg(long, value_name = "URL")]
    pub bus: Option<String>,

    /// File with the credentials for the bus: a JWT and a seed, as nsc writes them
    #[arg(long, value_name = "FILE", requires = "bus")]
    pub bus_credentials: Option<PathBuf>,

    /// File with the seed of the nkey for the bus
    #[arg(long, value_name = "FILE", requires = "bus", conflicts_with = "bus_credentials")]
    pub bus_nkey: Option<PathBuf>,

    /// File with the authorities of the bus's certificate; requires TLS [default: those of the
    /// system]
    #[arg(long, value_name = "FILE", requires = "bus")]
    pub bus_ca: Option<PathBuf>,
}

impl BusOptions {
    /// Returns the bus, if there is one.
    #[must_use]
    pub fn bus(&self) -> Option<Bus> {
        Some(Bus {
            url: self.bus.clone()?,
            credentials: self.bus_credentials.clone().map(Secret::File),
            nkey: self.bus_nkey.clone().map(Secret::File),
            ca: self.bus_ca.clone(),
        })
    }
}

/// How a load is run by agents on other machines.
#[derive(Args, Clone, Debug)]
pub struct Together {
    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// Number of agents on the bus (`tine load agent`) that run the load together; all other
    /// numbers are those of all agents
    #[arg(long, value_name = "N", requires = "bus", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub agents: Option<u32>,

    /// Start an agent by ssh(1) on each host of FILE, one in a line, and wait for as many agents,
    /// unless --agents says otherwise
    #[arg(long, value_name = "FILE", requires = "bus")]
    pub ssh_hosts: Option<PathBuf>,

    /// Number of agents that may be lost before the result is invalid
    #[arg(long, value_name = "N", requires = "bus", default_value = "0")]
    pub allow_lost: u32,

    /// Time in which the agents have to join
    #[arg(long, value_name = "DURATION", requires = "bus", default_value = "60s", value_parser = positive)]
    pub join_timeout: Duration,
}

/// `tine load agent`.
#[derive(Args, Debug)]
#[command(args_override_self = true, mut_arg("bus", |bus| bus.required(true)), after_help = CODES)]
pub struct LoadAgent {
    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// End after one run
    #[arg(long)]
    pub once: bool,

    /// End with code 111 if no run takes the agent within this time [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub join_timeout: Option<Duration>,

    /// Directory for a result, which is removed when the coordinator has it
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub results: PathBuf,

    /// Print only the error that ends it
    #[arg(short, long)]
    pub quiet: bool,
}

const CODES: &str = "An agent runs each load that a coordinator on the bus asks for, against any TCP \
address: permit the subjects tine.> only to users that may run loads.\nExit codes: 0 the run is over \
(--once), 100 usage error, 111 the bus cannot be used or no run has taken the agent, 130 interrupted.";
