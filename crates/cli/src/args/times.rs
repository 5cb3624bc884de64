//! Times, and numbers of bytes, after which connections are closed.

use std::time::Duration;

use clap::Args as ClapArgs;
use tine::{ClientGone, Server, defaults};

use super::program::size;
use super::{choice, duration, positive, shown};

/// The timeouts.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Timeouts")]
pub struct TimeOptions {
    /// Close a connection after this time without traffic in either direction
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub idle_timeout: Option<Duration>,

    /// Close a connection this long after it was accepted
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub max_lifetime: Option<Duration>,

    /// Close a connection whose client has received more than this, as 10M; looked at 20 times a
    /// second
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_output: Option<u64>,

    /// Close a connection whose client has sent nothing this long after it was accepted
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub first_byte_timeout: Option<Duration>,

    /// What to do with a connection whose client is gone, when its program or service does not
    /// notice: end it (end), or leave it alone as inetd and tcpserver do (leave)
    #[arg(long, value_name = "ACTION", default_value_t, value_parser = choice::<ClientGone>(ClientGone::NAMES))]
    pub client_gone: ClientGone,

    /// Time for which a server that is to stop still accepts clients, and tells load balancers that
    /// it drains (/readyz, --haproxy-agent)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub drain_delay: Duration,

    /// Maximum time for connections to finish when the server stops
    #[arg(long, value_name = "DURATION", default_value = shown(defaults::DRAIN_TIMEOUT), value_parser = duration)]
    pub drain_timeout: Duration,

    /// Maximum time for connections to finish once the server was reloaded or upgraded, and newer
    /// processes accept the clients [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub upgrade_drain_timeout: Option<Duration>,
}

impl TimeOptions {
    /// The server with these timeouts.
    #[must_use]
    pub fn apply(&self, server: Server) -> Server {
        let server = server.drain_delay(self.drain_delay).drain_timeout(self.drain_timeout);
        let server = server.client_gone(self.client_gone);
        let mut server = server.upgrade_drain_timeout(self.upgrade_drain_timeout);
        if let Some(time) = self.idle_timeout {
            server = server.idle_timeout(time);
        }
        if let Some(time) = self.max_lifetime {
            server = server.max_lifetime(time);
        }
        if let Some(bytes) = self.max_output {
            server = server.max_output(bytes);
        }
        if let Some(time) = self.first_byte_timeout {
            server = server.first_byte_timeout(time);
        }
        server
    }
}
