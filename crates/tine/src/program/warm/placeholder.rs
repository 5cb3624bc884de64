//! The connection that a program is started with: addresses that no client has, and that can be
//! recognised in its memory.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::net::peer::{Credentials, Peer};

/// The kinds of sockets that clients connect over: programs get other variables for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientKind {
    #[default]
    Tcp,
    Unix,
    Vsock,
}

/// Addresses and an id by chance: a value of the program's own is not mistaken for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    /// The client.
    pub(super) peer: Peer,
    /// The server's address, over TCP.
    pub(super) local: Option<SocketAddr>,
    pub(super) id: u64,
}

/// A value of the placeholder, as a program can have copied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The variables that have the value.
    pub(super) names: &'static [&'static str],
    pub(super) bytes: Vec<u8>,
    /// Whether it is too short to be recognised without what is around it.
    pub(super) is_short: bool,
}

/// The variables that have the address of the client.
const ADDRESSES: &[&str] = &["TCPREMOTEIP", "REMOTE_ADDR", "REMOTE_HOST"];

impl Placeholder {
    /// A placeholder for such a client, from random bytes.
    pub(super) fn of(kind: ClientKind, random: [u8; 40]) -> Placeholder {
        let word = |at: usize| u16::from_be_bytes([random[at], random[at + 1]]);
        let address = |first: usize| {
            // Of the addresses for documentation (RFC 3849). Each part by chance has four digits,
            // so that the text is as written here, without `::`.
            let part = |number: usize| word(first + 2 * number) | 0x1000;
            Ipv6Addr::new(0x2001, 0xdb8, part(0), part(1), part(2), part(3), part(4), part(5))
        };
        // Numbers of ten digits, none of which is another one.
        let long = |range: u32, at: usize| {
            let chance = u32::from(word(at)) << 16 | u32::from(word(at + 2));
            range * 100_000_000 + chance % 100_000_000
        };
        // Two ranges, as the two ports must differ.
        let (local, remote) = (20_000 + word(24) % 10_000, 50_000 + word(26) % 10_000);
        let id = (0..8).fold(0, |id: u64, at| id << 8 | u64::from(random[28 + at]));
        let peer = match kind {
            ClientKind::Tcp => Peer::Tcp(SocketAddr::new(address(12).into(), remote)),
            ClientKind::Unix => Peer::Unix(Some(Credentials {
                uid: long(40, 0),
                gid: long(41, 4),
                pid: i32::try_from(long(20, 8)).ok(),
            })),
            ClientKind::Vsock => Peer::Vsock { cid: long(40, 0), port: long(41, 4) },
        };
        Placeholder {
            peer,
            local: (kind == ClientKind::Tcp).then(|| SocketAddr::new(address(0).into(), local)),
            id: 1_000_000_000_000_000_000 + id % 1_000_000_000_000_000_000,
        }
    }

    /// What is searched for in the memory of the program: the values of the variables as texts, and
    /// the addresses as numbers.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let mut tokens = match self.peer {
            Peer::Tcp(remote) => of_addresses(self.local, remote),
            Peer::Unix(credentials) => credentials.map_or(Vec::new(), |Credentials { uid, gid, pid }| {
                let pid = pid.map(|pid| text(&["UNIXREMOTEPID"], pid));
                let ids = [text(&["UNIXREMOTEEUID"], uid), text(&["UNIXREMOTEEGID"], gid)];
                ids.into_iter().chain(pid).collect()
            }),
            Peer::Vsock { cid, port } => vec![
                text(&["REMOTE_ADDR", "REMOTE_HOST"], format_args!("vsock:{cid}")),
                text(&["REMOTE_PORT"], port),
            ],
        };
        tokens.push(text(&["TINE_CONNECTION"], self.id));
        tokens
    }
}

fn text(names: &'static [&'static str], value: impl ToString) -> Token {
    let bytes = value.to_string().into_bytes();
    Token { names, is_short: bytes.len() < 8, bytes }
}

fn of_addresses(local: Option<SocketAddr>, remote: SocketAddr) -> Vec<Token> {
    let binary = |names, address: IpAddr| match address {
        IpAddr::V6(address) => Some(Token { names, bytes: address.octets().into(), is_short: false }),
        IpAddr::V4(_) => None,
    };
    let mut tokens =
        vec![text(ADDRESSES, remote.ip()), text(&["TCPREMOTEPORT", "REMOTE_PORT"], remote.port())];
    tokens.extend(binary(ADDRESSES, remote.ip()));
    if let Some(local) = local {
        tokens.extend([text(&["TCPLOCALIP"], local.ip()), text(&["TCPLOCALPORT"], local.port())]);
        tokens.extend(binary(&["TCPLOCALIP"], local.ip()));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_texts_of_fixed_lengths() {
        for byte in [0, 1, 0x7f, 0xff] {
            for (kind, expected) in [
                (ClientKind::Tcp, &[38, 5, 16, 38, 5, 16, 19][..]),
                (ClientKind::Unix, &[10, 10, 10, 19]),
                (ClientKind::Vsock, &[16, 10, 19]),
            ] {
                let placeholder = Placeholder::of(kind, [byte; 40]);
                let tokens = placeholder.tokens();
                let lengths: Vec<usize> = tokens.iter().map(|token| token.bytes.len()).collect();
                assert_eq!(lengths, expected, "{placeholder:?}");
                assert!(tokens.iter().all(|token| token.is_short == (token.bytes.len() == 5)));
            }
        }
    }
}
