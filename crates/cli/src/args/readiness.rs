//! Notification that the server is ready.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tine::{Server, Services};

use super::number;

/// Above the options of readiness, which concern the server as a whole.
pub const HEADING: &str = "Readiness";

/// The options of readiness.
#[derive(ClapArgs, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct ReadinessOptions {
    /// Print the number of each TCP and vsock port on a line of standard output when the server is
    /// ready
    #[arg(short = '1', long)]
    pub print_ports: bool,

    /// Write a newline to descriptor N and close it when the server is ready
    #[arg(long, value_name = "N", value_parser = number::<i32>(3, i32::MAX as u64))]
    pub ready_fd: Option<i32>,

    /// Write the process id of the server to this file before it is ready, and remove the file at
    /// the end (PIDFile= of systemd.service(5))
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

impl ReadinessOptions {
    /// The server with these notifications.
    #[must_use]
    pub fn apply(&self, server: Server) -> Server {
        let server = server.print_ports(self.print_ports);
        let server = match &self.pid_file {
            Some(path) => server.pid_file(path),
            None => server,
        };
        match self.ready_fd {
            Some(number) => server.ready_descriptor(number),
            None => server,
        }
    }

    /// The services with these notifications.
    #[must_use]
    pub fn apply_to_all(&self, services: Services) -> Services {
        let services = services.print_ports(self.print_ports);
        let services = match &self.pid_file {
            Some(path) => services.pid_file(path),
            None => services,
        };
        match self.ready_fd {
            Some(number) => services.ready_descriptor(number),
            None => services,
        }
    }
}
