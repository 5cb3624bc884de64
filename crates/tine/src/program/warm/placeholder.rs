//! The connection that a program is started with: addresses that no client has, and that can be
//! recognised in its memory.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Addresses and an id by chance: a value of the program's own is not mistaken for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
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
    /// A placeholder from random bytes.
    pub(super) fn of(random: [u8; 40]) -> Placeholder {
        let word = |at: usize| u16::from_be_bytes([random[at], random[at + 1]]);
        let address = |first: usize| {
            // Of the addresses for documentation (RFC 3849). Each part by chance has four digits,
            // so that the text is as written here, without `::`.
            let part = |number: usize| word(first + 2 * number) | 0x1000;
            Ipv6Addr::new(0x2001, 0xdb8, part(0), part(1), part(2), part(3), part(4), part(5))
        };
        // Two ranges, as the two ports must differ.
        let (local, remote) = (20_000 + word(24) % 10_000, 50_000 + word(26) % 10_000);
        let id = (0..8).fold(0, |id: u64, at| id << 8 | u64::from(random[28 + at]));
        Placeholder {
            local: SocketAddr::new(address(0).into(), local),
            remote: SocketAddr::new(address(12).into(), remote),
            id: 1_000_000_000_000_000_000 + id % 1_000_000_000_000_000_000,
        }
    }

    /// What is searched for in the memory of the program: the values of the variables as texts, and
    /// the addresses as numbers.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let text = |names, value: String| Token { names, is_short: value.len() < 8, bytes: value.into() };
        let binary = |names, address: IpAddr| match address {
            IpAddr::V6(address) => Some(Token { names, bytes: address.octets().into(), is_short: false }),
            IpAddr::V4(_) => None,
        };
        let (local, remote) = (self.local, self.remote);
        let mut tokens = vec![
            text(ADDRESSES, remote.ip().to_string()),
            text(&["TCPREMOTEPORT", "REMOTE_PORT"], remote.port().to_string()),
            text(&["TCPLOCALIP"], local.ip().to_string()),
            text(&["TCPLOCALPORT"], local.port().to_string()),
            text(&["TINE_CONNECTION"], self.id.to_string()),
        ];
        tokens.extend(binary(ADDRESSES, remote.ip()));
        tokens.extend(binary(&["TCPLOCALIP"], local.ip()));
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_texts_of_fixed_lengths() {
        for byte in [0, 1, 0x7f, 0xff] {
            let placeholder = Placeholder::of([byte; 40]);
            let tokens = placeholder.tokens();
            let lengths: Vec<usize> = tokens.iter().map(|token| token.bytes.len()).collect();
            assert_eq!(lengths, [38, 5, 38, 5, 19, 16, 16], "{placeholder:?}");
            assert_ne!(placeholder.local.port(), placeholder.remote.port());
            assert!(tokens.iter().all(|token| token.is_short == (token.bytes.len() == 5)));
        }
    }
}
