//! Aggregation: which part of a client's address identifies its source or prefix, for limits and
//! penalties. A client of a Unix socket has no address: its user is both.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::admission::access::prefix::{Prefix, mask};
use crate::error::Error;
use crate::net::peer::{Peer, UNIX_WITH_CREDENTIALS, VSOCK};

/// The prefix lengths of a block, for IPv4 and IPv6, written as in sshd's `PerSourceNetBlockSize`
/// (sshd_config(5)): `32:64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetBlockSize {
    ipv4: u8,
    ipv6: u8,
}

impl NetBlockSize {
    /// The default size of a source: a single IPv4 address, an IPv6 /64, since one subscriber
    /// controls all addresses of a /64 (RFC 6177).
    pub const SOURCE: NetBlockSize = NetBlockSize { ipv4: 32, ipv6: 64 };
    /// The default size of a prefix: an IPv4 /24, an IPv6 /56.
    pub const PREFIX: NetBlockSize = NetBlockSize { ipv4: 24, ipv6: 56 };

    /// The source of this size that contains an address, as in `192.0.2.0/24`.
    #[must_use]
    pub fn source_of(self, address: IpAddr) -> String {
        Aggregation { kind: BlockKind::Source, size: self }.block_text(address)
    }

    /// The prefix of this size that contains an address, as in `192.0.2.0/24`.
    #[must_use]
    pub fn prefix_of(self, address: IpAddr) -> String {
        Aggregation { kind: BlockKind::Prefix, size: self }.block_text(address)
    }
}

impl fmt::Display for NetBlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ipv4, self.ipv6)
    }
}

/// Parses `32:64`: the prefix lengths for IPv4 and IPv6.
impl FromStr for NetBlockSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<NetBlockSize, Error> {
        let length = |text: &str, max: u8| text.parse().ok().filter(|bits| (1..=max).contains(bits));
        let lengths =
            text.split_once(':').and_then(|(ipv4, ipv6)| Some((length(ipv4, 32)?, length(ipv6, 128)?)));
        let (ipv4, ipv6) = lengths.ok_or_else(|| {
            let next = "write the prefix lengths for IPv4 (1 to 32) and IPv6 (1 to 128), as in 32:64";
            Error::usage(format_args!("invalid size of address blocks '{text}'"), next)
        })?;
        Ok(NetBlockSize { ipv4, ipv6 })
    }
}

/// Whether a block is a source or a prefix. A source and a prefix of the same size are different
/// blocks, with a token bucket each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum BlockKind {
    Source,
    Prefix,
}

/// The kind and size of the blocks that a limit counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Aggregation {
    kind: BlockKind,
    size: NetBlockSize,
}

/// The aggregations for the limits per source and per prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aggregations {
    pub(crate) source: Aggregation,
    pub(crate) prefix: Aggregation,
}

impl Aggregations {
    /// Aggregations of these sizes, which are not checked ([`Aggregations::check`]).
    pub(crate) fn new(source: NetBlockSize, prefix: NetBlockSize) -> Aggregations {
        Aggregations {
            source: Aggregation { kind: BlockKind::Source, size: source },
            prefix: Aggregation { kind: BlockKind::Prefix, size: prefix },
        }
    }

    /// Rejects a prefix block that is smaller than the source block.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (source, prefix) = (self.source.size, self.prefix.size);
        if prefix.ipv4 > source.ipv4 || prefix.ipv6 > source.ipv6 {
            return Err(Error::usage(
                "the prefix block is smaller than the source block",
                "give the prefix as many bits as the source, or fewer",
            ));
        }
        Ok(())
    }
}

impl Default for Aggregations {
    fn default() -> Aggregations {
        Aggregations::new(NetBlockSize::SOURCE, NetBlockSize::PREFIX)
    }
}

/// A network block, or a user of this machine, that a limit counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) aggregation: Aggregation,
    /// The words of a peer with the block's first address, without the port; or of one with the
    /// user's id, without group and process. The family is in the last word, so an address and a
    /// user are never the same block.
    words: [u64; 3],
}

/// The block of a peer, given as words ([`Peer::to_words`]); `None` for a peer of a Unix socket
/// whose user is not known.
pub(crate) fn block_of(words: [u64; 3], aggregation: Aggregation) -> Option<Block> {
    let without_port = words[2] & !0xff_ff00;
    let mask = match words[2] & 0xff {
        // The machine is source and prefix, whatever the port is.
        VSOCK => return Some(Block { aggregation, words: [words[0], 0, VSOCK] }),
        4 => mask(96 + aggregation.size.ipv4),
        6 => mask(aggregation.ipv6_bits(words[0])),
        UNIX_WITH_CREDENTIALS => {
            return Some(Block { aggregation, words: [words[0], 0, UNIX_WITH_CREDENTIALS] });
        }
        _ => return None,
    };
    Some(Block { aggregation, words: [words[0] & (mask >> 64) as u64, words[1] & mask as u64, without_port] })
}

impl Aggregation {
    fn block_text(self, address: IpAddr) -> String {
        let block = Peer::Tcp((address.to_canonical(), 0).into()).block(self);
        block.map_or_else(String::new, |block| block.to_string())
    }

    /// The prefix length for an IPv6 address, given its first 64 bits.
    fn ipv6_bits(self, start: u64) -> u8 {
        let is_link_local = start >> 54 == 0xfe80 >> 6;
        // The hosts of a link share its /64, so each link-local address is a source.
        if is_link_local && self.kind == BlockKind::Source { 128 } else { self.size.ipv6 }
    }
}

impl Peer {
    /// The block of this peer; `None` for a peer of a Unix socket whose user is not known.
    pub(crate) fn block(self, aggregation: Aggregation) -> Option<Block> {
        block_of(self.to_words(), aggregation)
    }
}

impl Block {
    /// The network of a block of addresses; `None` for a user or a machine.
    pub(crate) fn network(&self) -> Option<Prefix> {
        let Peer::Tcp(first) = Peer::from_words(self.words) else { return None };
        let bits = if first.is_ipv4() {
            self.aggregation.size.ipv4
        } else {
            self.aggregation.ipv6_bits(self.words[0])
        };
        Some(Prefix::new(first.ip(), bits))
    }
}

/// Writes the block as `192.0.2.0/24`, a user as `uid:1000`, a machine as `vsock:3`.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network(), Peer::from_words(self.words)) {
            (Some(network), _) => network.fmt(f),
            (None, Peer::Vsock { cid, .. }) => write!(f, "vsock:{cid}"),
            (None, user) => user.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str, aggregation: Aggregation) -> Option<Block> {
        Peer::Tcp(text.parse().expect(text)).block(aggregation)
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_64_without_the_port() {
        let source = |text: &str| block(text, Aggregations::default().source);
        assert_eq!(source("192.0.2.1:80"), source("192.0.2.1:65535"));
        assert_ne!(source("192.0.2.1:80"), source("192.0.2.2:80"));
        assert_ne!(source("[fe80::1%1]:80"), source("[fe80::1%2]:80"));
        assert_eq!(Peer::Unix(None).block(Aggregations::default().source), None);
        assert_eq!(source("[2001:db8:0:1::1]:80"), source("[2001:db8:0:1:2:3:4:5]:80"));
        assert_ne!(source("[2001:db8:0:1::1]:80"), source("[2001:db8:0:2::1]:80"));
        assert_ne!(source("[fe80::1%1]:80"), source("[fe80::2%1]:80"));
    }

    #[test]
    fn a_user_is_a_source_and_a_prefix_that_no_address_can_be() {
        use crate::net::peer::Credentials;
        let Aggregations { source, prefix } = Aggregations::default();
        let user = |uid, gid, pid| Peer::Unix(Some(Credentials { uid, gid, pid }));
        for uid in [0, 4, 6, 1000, u32::MAX - 1] {
            let peer = user(uid, 7, Some(1));
            let block = peer.block(source).expect("a user");
            assert_eq!(Some(block), user(uid, 8, None).block(source));
            assert_ne!(Some(block), user(uid ^ 1, 7, Some(1)).block(source));
            assert_ne!(Some(block), peer.block(prefix));
            assert_eq!((block.to_string(), block.to_string()), (format!("uid:{uid}"), peer.to_string()));
            let [high, low] = [uid >> 16, uid & 0xffff].map(|half| half as u16);
            for address in [
                Peer::Tcp((std::net::Ipv4Addr::from_bits(uid), 7).into()),
                Peer::Tcp(([0, 0, high, low, 0, 0, 0, 0], 7).into()),
                Peer::Tcp(([0, 0, 0, 0, 0, 0, high, low], 7).into()),
            ] {
                assert_ne!(address.block(source), Some(block), "{address}");
            }
        }
    }

    #[test]
    fn a_prefix_contains_several_sources() {
        let prefix = |text: &str| block(text, Aggregations::default().prefix);
        assert_eq!(prefix("192.0.2.1:80"), prefix("192.0.2.255:81"));
        assert_ne!(prefix("192.0.2.1:80"), prefix("192.0.3.1:80"));
        assert_eq!(prefix("[2001:db8:0:1::1]:80"), prefix("[2001:db8:0:ff::1]:80"));
        assert_ne!(prefix("[2001:db8:0:1::1]:80"), prefix("[2001:db8:0:100::1]:80"));
    }

    #[test]
    fn a_machine_is_a_source_that_no_address_is() {
        let Aggregations { source, prefix } = Aggregations::default();
        let of = |cid, port, aggregation| Peer::Vsock { cid, port }.block(aggregation);
        assert_eq!(of(3, 1, source), of(3, 2, source));
        assert_ne!(of(3, 1, source), of(4, 1, source));
        assert_ne!(of(3, 1, source), of(3, 1, prefix));
        for address in ["0.0.0.3:1", "[::3]:1", "[0:0:0:3::]:1"] {
            assert_ne!(of(3, 1, source), block(address, source));
            assert_ne!(of(3, 1, prefix), block(address, prefix));
        }
        assert_eq!(
            of(u32::MAX, 9, prefix).map(|block| block.to_string()).as_deref(),
            Some("vsock:4294967295")
        );
    }

    #[test]
    fn sizes_are_parsed_and_invalid_ones_rejected() {
        for (text, address, expected) in [
            ("32:64", "192.0.2.77", "192.0.2.77"),
            ("24:56", "192.0.2.77", "192.0.2.0/24"),
            ("9:1", "192.255.2.77", "192.128.0.0/9"),
            ("32:64", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("32:128", "2001:db8:1:2:3::4", "2001:db8:1:2:3::4"),
            ("24:56", "::ffff:192.0.2.77", "192.0.2.0/24"),
            ("32:64", "fe80::1", "fe80::1"),
        ] {
            let size: NetBlockSize = text.parse().expect(text);
            assert_eq!(size.source_of(address.parse().expect(address)), expected);
        }
        for text in ["", "32", "32:", ":64", "0:64", "33:64", "32:0", "32:129", "a:b", "32:64:1"] {
            assert_eq!(text.parse::<NetBlockSize>().expect_err(text).exit_code(), 100, "{text}");
        }
        let size = |text: &str| text.parse::<NetBlockSize>().expect(text);
        assert!(Aggregations::new(size("24:56"), size("24:48")).check().is_ok());
        assert!(Aggregations::new(size("24:56"), size("25:48")).check().is_err());
        // A source and a prefix of the same size are different blocks.
        let both = Aggregations::new(size("32:64"), size("32:64"));
        assert_ne!(block("192.0.2.1:80", both.source), block("192.0.2.1:80", both.prefix));
    }
}
