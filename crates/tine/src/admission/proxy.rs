//! The proxies that speak for clients by the PROXY protocol: which addresses they have, and what
//! happens to a client of any other address.

use std::net::IpAddr;
use std::time::Duration;

use crate::admission::access::prefix::Prefix;
use crate::error::{Error, named};
use crate::net::peer::Peer;

/// The default of [`ProxyProtocol::timeout`]: HAProxy's `doc/proxy-protocol.txt` (section 2)
/// advises at least 3 seconds, to cover a retransmission.
pub const PROXY_TIMEOUT: Duration = Duration::from_secs(3);

/// The proxies of which a server takes the PROXY protocol, versions 1 and 2.
///
/// A client of one of these addresses must send a header first, whose addresses are those of the
/// connection then. The header of any other client is never looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    blocks: Vec<Prefix>,
    /// Clients of Unix sockets are proxies.
    unix: bool,
    others: ProxyOthers,
    pub(crate) timeout: Duration,
}

/// What happens to clients of other addresses than those of the proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyOthers {
    /// They are closed; nothing that they send is read.
    #[default]
    Reject,
    /// They are served like the clients of a server without proxies.
    Serve,
}

named!(ProxyOthers { Reject = "reject", Serve = "serve" });

/// What to do with an accepted client before admission decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screening {
    /// Its own address counts.
    Direct,
    /// It is a proxy, which must send a header.
    Proxy,
    /// It is rejected.
    Reject,
}

impl Default for ProxyProtocol {
    fn default() -> ProxyProtocol {
        ProxyProtocol {
            blocks: Vec::new(),
            unix: false,
            others: ProxyOthers::default(),
            timeout: PROXY_TIMEOUT,
        }
    }
}

impl ProxyProtocol {
    /// No proxy yet.
    #[must_use]
    pub fn new() -> ProxyProtocol {
        ProxyProtocol::default()
    }

    /// Adds the proxies of a block of addresses (`192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`), or
    /// those that connect over Unix sockets (`unix`).
    ///
    /// # Errors
    /// The text is neither.
    pub fn proxies(mut self, block: &str) -> Result<ProxyProtocol, Error> {
        match block {
            "unix" => self.unix = true,
            block => self.blocks.push(block.parse()?),
        }
        Ok(self)
    }

    /// Sets what happens to all other clients. Default: they are rejected.
    #[must_use]
    pub fn others(mut self, others: ProxyOthers) -> ProxyProtocol {
        self.others = others;
        self
    }

    /// Sets how long a proxy may take for its header. Default: 3 s.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> ProxyProtocol {
        self.timeout = time;
        self
    }

    /// Whether there is no proxy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && !self.unix
    }

    /// What to do with an accepted client.
    #[inline]
    pub(crate) fn screen(&self, peer: Peer) -> Screening {
        let is_proxy = match peer {
            Peer::Tcp(address) => self.contains(address.ip()),
            Peer::Unix(_) => self.unix,
            Peer::Vsock { .. } => false,
        };
        match (is_proxy, self.others) {
            (true, _) => Screening::Proxy,
            (false, ProxyOthers::Serve) => Screening::Direct,
            (false, ProxyOthers::Reject) => Screening::Reject,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = Prefix::of(address);
        self.blocks.iter().any(|block| block.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proxies_and_of_others() {
        let proxies = |blocks: &[&str]| {
            let none = Ok(ProxyProtocol::new());
            blocks.iter().fold(none, |proxies, block| proxies?.proxies(block)).expect("blocks")
        };
        let blocks = proxies(&["192.0.2.0/24", "2001:db8::1"]);
        let unix = proxies(&["unix"]);
        let serving = blocks.clone().others(ProxyOthers::Serve);
        for (proxies, peer, screening) in [
            (&blocks, "192.0.2.255:1", Screening::Proxy),
            (&blocks, "192.0.3.1:1", Screening::Reject),
            (&blocks, "[2001:db8::1]:1", Screening::Proxy),
            (&blocks, "[2001:db8::2]:1", Screening::Reject),
            (&blocks, "unix", Screening::Reject),
            (&serving, "192.0.2.1:1", Screening::Proxy),
            (&serving, "192.0.3.1:1", Screening::Direct),
            (&serving, "unix", Screening::Direct),
            (&unix, "192.0.2.1:1", Screening::Reject),
            (&unix, "unix", Screening::Proxy),
        ] {
            let peer = peer.parse().map_or(Peer::Unix(None), Peer::Tcp);
            assert_eq!(proxies.screen(peer), screening, "{peer}");
        }
        assert!(ProxyProtocol::new().is_empty() && !unix.is_empty() && !blocks.is_empty());
    }

    #[test]
    fn a_block_that_is_none_is_an_error() {
        for text in ["", "host", "192.0.2.1/24", "192.0.2.0/33", "unix:/run/x"] {
            ProxyProtocol::new().proxies(text).expect_err(text);
        }
    }
}
