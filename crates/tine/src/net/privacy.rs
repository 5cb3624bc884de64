//! The addresses of clients as a server shows them: in its log, to operators and in `ps`.
//!
//! Whatever shows a peer does it by [`Privacy::show`].

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use crate::error::named;
use crate::net::peer::Peer;

/// How a server shows the addresses of clients and proxies: in its log, to operators, and in the
/// titles of processes. Programs and handlers get them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Privacy {
    /// As they are, with the port.
    #[default]
    None,
    /// As the block that they are in, without the port: an IPv4 /24, an IPv6 /48.
    Truncate,
    /// As a text that is the same for one address until the server stops, without the port. Its key
    /// is chosen at random when the server starts, and is nowhere but in its memory.
    Hash,
}

named!(Privacy { None = "none", Truncate = "truncate", Hash = "hash" });

/// The key of the hashes. Processes forked from the one that made it have the same.
static KEY: OnceLock<RandomState> = OnceLock::new();

impl Privacy {
    /// Makes what showing needs. Runs before the first fork, so that all processes of the server
    /// show an address the same way.
    pub(crate) fn prepare(self) {
        if self == Privacy::Hash {
            KEY.get_or_init(RandomState::new);
        }
    }

    /// A peer, to be shown.
    pub(crate) fn show(self, peer: Peer) -> ShownPeer {
        ShownPeer { privacy: self, peer }
    }
}

/// A peer as outputs of a server have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownPeer {
    privacy: Privacy,
    peer: Peer,
}

impl fmt::Display for ShownPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.privacy, self.peer) {
            (Privacy::Truncate, Peer::Tcp(address)) => truncated(address.ip(), f),
            (Privacy::Hash, Peer::Tcp(address)) => {
                let hash = KEY.get_or_init(RandomState::new).hash_one(address.ip());
                // 48 bits: two of a million addresses share a text with a probability of 0.2 %.
                write!(f, "client-{:012x}", hash >> 16)
            }
            // A user of this machine, or a virtual machine of it, has no address.
            (_, peer) => peer.fmt(f),
        }
    }
}

fn truncated(ip: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match ip {
        IpAddr::V4(ip) => write!(f, "{}/24", Ipv4Addr::from_bits(ip.to_bits() & !0 << 8)),
        IpAddr::V6(ip) => write!(f, "{}/48", Ipv6Addr::from_bits(ip.to_bits() & !0 << 80)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Peer {
        Peer::Tcp(text.parse().expect(text))
    }

    #[test]
    fn addresses_are_truncated_to_blocks_without_a_port() {
        for (peer, shown) in [
            (tcp("192.0.2.77:4711"), "192.0.2.0/24"),
            (tcp("[2001:db8:1:2:3:4:5:6]:4711"), "2001:db8:1::/48"),
            (tcp("[fe80::1%3]:4711"), "fe80::/48"),
            (Peer::Unix(None), "unix"),
            (Peer::Vsock { cid: 3, port: 5 }, "vsock:3:5"),
        ] {
            assert_eq!(Privacy::Truncate.show(peer).to_string(), shown);
            assert_eq!(Privacy::None.show(peer).to_string(), peer.to_string());
        }
    }

    #[test]
    fn a_hash_is_that_of_the_address() {
        let show = |text: &str| Privacy::Hash.show(tcp(text)).to_string();
        let shown = show("192.0.2.77:1");
        assert_eq!((shown.len(), &shown[..7]), (19, "client-"));
        assert!(shown[7..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{shown}");
        assert_eq!(shown, show("192.0.2.77:2"), "the port makes no difference");
        assert_ne!(shown, show("192.0.2.78:1"));
        assert_eq!(Privacy::Hash.show(Peer::Unix(None)).to_string(), "unix");
    }
}
