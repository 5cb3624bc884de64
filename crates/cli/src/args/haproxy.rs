//! What HAProxy in front of a service asks.

use clap::Args as ClapArgs;
use tine::Address;

use crate::error::Error;

/// Above the options about HAProxy.
pub const HEADING: &str = "HAProxy";

/// The options about HAProxy.
#[derive(ClapArgs, Clone, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct HaproxyOptions {
    /// Address that answers agent checks of HAProxy for this service: its weight by free places, or
    /// drain, maint or stopped: HOST:PORT, [IPV6]:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub haproxy_agent: Option<String>,
}

impl HaproxyOptions {
    /// Validates the options, without binding an address.
    ///
    /// # Errors
    /// The address is none, or one on which no agent can listen.
    pub fn check(&self) -> Result<(), Error> {
        let Some(address) = &self.haproxy_agent else { return Ok(()) };
        match address.parse::<Address>()? {
            Address::Tcp { .. } | Address::Unix(_) | Address::Abstract(_) => Ok(()),
            _ => Err(Error::usage(
                format_args!("--haproxy-agent {address}: the agent listens on TCP or Unix sockets only"),
                "write HOST:PORT, [IPV6]:PORT or unix:PATH",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_listens_on_tcp_and_unix_sockets() {
        for (address, is_possible) in [
            ("9998", true),
            ("0.0.0.0:9998", true),
            ("[::1]:0", true),
            ("unix:/run/agent", true),
            ("unix:@agent", true),
            ("vsock:7", false),
            ("fd:web", false),
            ("", false),
            ("localhost:", false),
        ] {
            let options = HaproxyOptions { haproxy_agent: Some(address.to_owned()) };
            let checked = options.check();
            assert_eq!(checked.is_ok(), is_possible, "{address}: {checked:?}");
        }
        assert!(HaproxyOptions::default().check().is_ok());
    }
}
