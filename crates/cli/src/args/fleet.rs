//! The fleet of a server: other nodes, with which it shares bans, penalties and limits.

use clap::Args as ClapArgs;
use tine::Identity;
use tine::cli::LinkSetup;
use tine_bus::fleet::LinkSettings;
use tine_bus::names::Name;

use super::bus::BusOptions;
use super::observe::NOBODY;
use crate::error::Error;

/// Above the options of the bus, which concern the server as a whole.
pub const HEADING: &str = "Fleet";

/// The options of the bus.
#[derive(ClapArgs, Clone, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct FleetOptions {
    /// The bus.
    #[command(flatten)]
    pub bus: BusOptions,

    /// Lets operators on the bus have this server drain (`tine fleet drain`)
    #[arg(long, requires = "bus")]
    pub bus_control: bool,

    /// User of the process that talks to the bus, never root [default: nobody, if root starts the
    /// server]
    #[arg(long, value_name = "USER", requires = "bus")]
    pub bus_user: Option<String>,
}

/// What a service has to do with a fleet.
#[derive(Clone, Copy, Debug)]
pub struct OfFleet<'a> {
    /// The name of the fleet, if the options have one.
    pub fleet: Option<&'a str>,
    /// The name of the service, in a server with several.
    pub service: Option<&'a str>,
    /// Whether there are limits over the fleet.
    pub has_limits: bool,
}

impl FleetOptions {
    /// Returns the link of a service to the other nodes, if there is a bus. `name` is the name of
    /// the server on this machine.
    ///
    /// # Errors
    /// The bus cannot be used as the options say; a file of credentials cannot be read; limits of a
    /// fleet, or its name, are given without a bus.
    pub fn link(&self, name: Option<&str>, default: &str, of: OfFleet) -> Result<Option<LinkSetup>, Error> {
        let Some(bus) = self.bus.bus() else { return self.without_bus(of) };
        let node = match name {
            Some(name) => name.to_owned(),
            None => format!("{}-{default}", host_name()),
        };
        let settings = LinkSettings {
            bus,
            fleet: Name::of(of.fleet.or(of.service).unwrap_or("default")),
            node: Name::of(&node),
            shares_use: of.has_limits,
            obeys: self.bus_control,
        };
        let settings = settings.to_text()?;
        Ok(Some(LinkSetup::new(settings).user(self.user()?).control(self.bus_control)))
    }

    fn without_bus(&self, of: OfFleet) -> Result<Option<LinkSetup>, Error> {
        match (of.fleet, of.has_limits) {
            (None, false) => Ok(None),
            _ => Err(Error::usage(
                "there is a fleet, or a limit of one, and no bus",
                "give the bus, too: --bus nats://HOST; a limit of this server alone is \
                 --max-connections-per-source or --rate-per-source",
            )),
        }
    }

    fn user(&self) -> Result<Option<Identity>, Error> {
        let user = match &self.bus_user {
            Some(name) => Identity::of_user(name)?,
            None if rustix::process::geteuid().is_root() => Identity::of_user("nobody")
                .unwrap_or_else(|_| Identity::from_ids(Some(NOBODY), NOBODY, Vec::new())),
            None => return Ok(None),
        };
        match user.uid {
            Some(0) => Err(Error::usage("the link does not run as root", "name another user: --bus-user")),
            _ => Ok(Some(user)),
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
