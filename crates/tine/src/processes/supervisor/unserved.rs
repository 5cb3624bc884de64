//! Clients on their way between two processes, both of which were killed in a stop.

use super::Supervisor;
use crate::admission::reason::Reason;
use crate::connection::handler::Handler;

/// Why a proxy is closed whose client is not served.
const SERVER_STOPS: &str = "the server stops";

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Closes the clients in the channels of proxy reader and delayer, and logs them. No forker is
    /// left that could serve them.
    pub(super) fn reject_clients_in_channels(&mut self) {
        if let Some(reader) = &self.channels.proxy_reader {
            while let Ok(Some((_socket, arrival))) = reader.arrivals.receiver.receive() {
                self.log.reject_proxy(&arrival.proxy, Reason::Proxy.name(), SERVER_STOPS);
            }
            while let Ok(Some((_socket, client))) = reader.identified.receive() {
                let proxy = client.proxied.map_or(client.peer, |proxied| proxied.proxy);
                self.log.reject_proxy(&proxy, Reason::Proxy.name(), SERVER_STOPS);
            }
        }
        if let Some(delayer) = &self.channels.delayer {
            for channel in [&delayer.arrivals.receiver, &delayer.released] {
                while let Ok(Some((_socket, client))) = channel.receive() {
                    self.log.reject(&client.peer, client.proxied.as_ref(), client.reason.name());
                }
            }
        }
    }
}
