//! The PROXY protocol: proxies that speak for clients.

use std::time::Duration;

use clap::Args as ClapArgs;
use tine::{ProxyOthers, ProxyProtocol, Server, defaults};

use super::{choice, positive, shown};
use crate::error::Error;

/// The options of the PROXY protocol.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "PROXY protocol")]
pub struct ProxyOptions {
    /// Take the PROXY protocol, version 1 or 2, of clients from these addresses: each must send a
    /// header, whose addresses are those of its connection; may be repeated [an address, a block as
    /// in 192.0.2.0/24, or unix for clients over Unix sockets]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub proxy_from: Vec<String>,

    /// What to do with all other clients: close them unread (reject), or serve them without looking
    /// for a header (serve)
    #[arg(long, value_name = "ACTION", default_value_t = ProxyOthers::Reject, value_parser = choice::<ProxyOthers>(ProxyOthers::NAMES))]
    pub proxy_others: ProxyOthers,

    /// Maximum time for a PROXY header; then the proxy is closed
    #[arg(long, value_name = "DURATION", default_value = shown(defaults::PROXY_TIMEOUT), value_parser = positive)]
    pub proxy_timeout: Duration,
}

impl ProxyOptions {
    /// The server with these proxies.
    ///
    /// # Errors
    /// An address is invalid.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        if self.proxy_from.is_empty() {
            return Ok(server);
        }
        let proxies = ProxyProtocol::new().others(self.proxy_others).timeout(self.proxy_timeout);
        let proxies = self.proxy_from.iter().try_fold(proxies, |proxies, block| proxies.proxies(block));
        Ok(server.proxy_protocol(proxies?))
    }
}
