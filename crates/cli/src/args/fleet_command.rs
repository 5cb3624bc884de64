//! `tine fleet`: the nodes of a fleet, over their bus.

use std::time::Duration;

use clap::{Args, Subcommand};
use tine::cli::Prefix;
use tine_bus::names::Name;

use super::bus::BusOptions;
use super::{parsed, positive};
use crate::exit;

/// `tine fleet`.
#[derive(Args, Debug)]
#[command(after_help = exit::help("fleet"))]
pub struct Fleet {
    /// What to do.
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// The commands about a fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Show what the nodes do
    Status(FleetQuestion),
    /// List the connections of all nodes
    List(FleetQuestion),
    /// Close later connections of an address block at once, on all nodes
    Ban(FleetBan),
    /// Lift a ban, on all nodes
    Unban(FleetUnban),
    /// Stop the server of a node as TERM does; of a server with several services, the one of the
    /// fleet. It has to obey the fleet (tine serve --bus-control)
    Drain(FleetDrain),
}

/// Which fleet.
#[derive(Args, Clone, Debug)]
pub struct FleetTarget {
    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// The fleet, as its servers have it (tine serve --fleet)
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = name)]
    pub fleet: Name,
}

/// `tine fleet status` and `tine fleet list`.
#[derive(Args, Debug)]
#[command(mut_arg("bus", |bus| bus.required(true)), after_help = exit::help("fleet"))]
pub struct FleetQuestion {
    /// Print one array of JSON, in whose objects is the node
    #[arg(long)]
    pub json: bool,

    /// The fleet.
    #[command(flatten)]
    pub target: FleetTarget,
}

/// `tine fleet ban`.
#[derive(Args, Debug)]
#[command(mut_arg("bus", |bus| bus.required(true)), after_help = exit::help("fleet"))]
pub struct FleetBan {
    /// Address block whose later connections are closed at once
    #[arg(value_name = "CIDR", value_parser = parsed::<Prefix>)]
    pub block: Prefix,

    /// Time after which the ban ends [default: until it is lifted]
    #[arg(long = "for", value_name = "DURATION", value_parser = positive)]
    pub time: Option<Duration>,

    /// The fleet.
    #[command(flatten)]
    pub target: FleetTarget,
}

/// `tine fleet unban`.
#[derive(Args, Debug)]
#[command(mut_arg("bus", |bus| bus.required(true)), after_help = exit::help("fleet"))]
pub struct FleetUnban {
    /// Address block, as it was banned
    #[arg(value_name = "CIDR", value_parser = parsed::<Prefix>)]
    pub block: Prefix,

    /// The fleet.
    #[command(flatten)]
    pub target: FleetTarget,
}

/// `tine fleet drain`.
#[derive(Args, Debug)]
#[command(mut_arg("bus", |bus| bus.required(true)), after_help = exit::help("fleet"))]
pub struct FleetDrain {
    /// The node (tine serve --name)
    #[arg(value_name = "NODE", value_parser = name)]
    pub node: Name,

    /// The fleet.
    #[command(flatten)]
    pub target: FleetTarget,
}

/// A name of a fleet or a node.
fn name(text: &str) -> Result<Name, String> {
    let why = "write letters, digits and hyphens, 64 at most";
    Name::try_from(text.to_owned()).map_err(|_| why.to_owned())
}
