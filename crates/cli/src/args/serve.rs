//! `tine serve`: its options, by subject.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tine::Server;

use super::access::AccessOptions;
use super::banner::BannerOptions;
use super::control::ControlOptions;
use super::fleet::{FleetOptions, OfFleet};
use super::haproxy::HaproxyOptions;
use super::identity::IdentityOptions;
use super::jail::JailOptions;
use super::limits::LimitOptions;
use super::logging::{ConnectionLogOptions, LogOptions};
use super::observe::ObserveOptions;
use super::processes::ProcessOptions;
use super::program::ProgramOptions;
use super::proxy::ProxyOptions;
use super::readiness::ReadinessOptions;
use super::sockets::SocketOptions;
use super::times::TimeOptions;
use crate::error::Error;
use crate::exit;
use crate::services::{self, BuiltIn};

/// `tine serve`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{ADDRESSES}\n{}", exit::help("serve")), args_override_self = true)]
pub struct Serve {
    /// Addresses to listen on [default: [::]:9999, or the sockets in LISTEN_FDS]
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<String>,

    /// Serve the services of this file; its keys are the options of this command
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The built-in service
    #[arg(long, value_name = "NAME", default_value = services::TABLE[0].name, conflicts_with = "program", value_parser = services::parser())]
    pub service: &'static BuiltIn,

    /// The banner.
    #[command(flatten)]
    pub banner: BannerOptions,

    /// Limits.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// Access rules.
    #[command(flatten)]
    pub access: AccessOptions,

    /// The PROXY protocol.
    #[command(flatten)]
    pub proxy: ProxyOptions,

    /// HAProxy.
    #[command(flatten)]
    pub haproxy: HaproxyOptions,

    /// Timeouts.
    #[command(flatten)]
    pub times: TimeOptions,

    /// Listening sockets.
    #[command(flatten)]
    pub sockets: SocketOptions,

    /// Processes.
    #[command(flatten)]
    pub processes: ProcessOptions,

    /// User and groups.
    #[command(flatten)]
    pub identity: IdentityOptions,

    /// The jail.
    #[command(flatten)]
    pub jail: JailOptions,

    /// The log.
    #[command(flatten)]
    pub log: LogOptions,

    /// The log of connections.
    #[command(flatten)]
    pub connection_log: ConnectionLogOptions,

    /// Control.
    #[command(flatten)]
    pub control: ControlOptions,

    /// The observer.
    #[command(flatten)]
    pub observe: ObserveOptions,

    /// The fleet.
    #[command(flatten)]
    pub fleet: FleetOptions,

    /// Readiness.
    #[command(flatten)]
    pub readiness: ReadinessOptions,

    /// A program instead of a built-in service.
    #[command(flatten)]
    pub program: ProgramOptions,
}

const ADDRESSES: &str = "ADDRESS is PORT (all addresses), HOST:PORT, [IPV6]:PORT, [IPV6%ZONE]:PORT, unix:PATH, unix:@NAME, vsock:PORT \
(all CIDs), vsock:CID:PORT, or fd:NAME for inherited sockets; PORT is a number, the name of a service, or a range, FIRST-LAST; with port 0, the \
kernel chooses a port.\nTERM and INT drain the server; a second signal ends the connections, a third kills them.";

impl Serve {
    /// What the service has to do with a fleet; `service` is its name, in a server with several.
    #[must_use]
    pub fn of_fleet<'a>(&'a self, service: Option<&'a str>) -> OfFleet<'a> {
        let has_limits = self.limits.are_of_fleet();
        OfFleet { fleet: self.limits.fleet.as_deref(), service, has_limits }
    }

    /// The server with the options of its service. The log can be that of the server as a whole.
    ///
    /// # Errors
    /// A user, a group, a rule or a file is missing or invalid.
    pub fn apply(&self, server: Server, log: &LogOptions) -> Result<Server, Error> {
        let server = self.limits.apply(self.banner.apply(server)?)?;
        let server = self.access.apply(server, self.program.reverse_dns)?;
        let server = self.proxy.apply(server)?;
        let server = self.connection_log.apply(server)?;
        let server = self.jail.apply(self.identity.apply(server)?)?;
        let server = self.sockets.apply(server)?;
        let server = self.processes.apply(self.times.apply(server));
        // No built-in service prints.
        Ok(log.apply(server).flush_stdout(false))
    }
}
