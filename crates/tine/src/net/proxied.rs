//! What is known of a client that a proxy speaks for, beside its address.

use std::net::SocketAddr;

use super::peer::Peer;

/// Words of an encoded value, for shared memory and messages.
pub(crate) const PROXIED_WORDS: usize = 7;

/// A client whose proxy has sent a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proxied {
    /// The proxy's own address, the other end of the socket.
    pub(crate) proxy: Peer,
    /// The address that the client connected to. `None` if the header has no addresses: those of
    /// the socket hold.
    pub(crate) local: Option<SocketAddr>,
    /// Bytes of the header, at least one. They count as received in the kernel's table of sockets.
    pub(crate) header: u32,
}

impl Proxied {
    /// Encodes the value, or that there is none.
    pub(crate) fn to_words(proxied: Option<&Proxied>) -> [u64; PROXIED_WORDS] {
        let Some(Proxied { proxy, local, header }) = proxied else { return [0; PROXIED_WORDS] };
        let [a, b, c] = proxy.to_words();
        let [d, e, f] = local.map_or([0; 3], |local| Peer::Tcp(local).to_words());
        [a, b, c, d, e, f, u64::from(*header)]
    }

    /// The reverse of [`Proxied::to_words`].
    pub(crate) fn from_words([a, b, c, d, e, f, header]: [u64; PROXIED_WORDS]) -> Option<Proxied> {
        let local = match Peer::from_words([d, e, f]) {
            Peer::Tcp(local) => Some(local),
            Peer::Unix(_) | Peer::Vsock { .. } => None,
        };
        let header = u32::try_from(header).unwrap_or(u32::MAX);
        (header > 0).then(|| Proxied { proxy: Peer::from_words([a, b, c]), local, header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_in_words() {
        let address = |text: &str| text.parse().expect(text);
        for proxied in [
            None,
            Some(Proxied { proxy: Peer::Unix(None), local: None, header: 15 }),
            Some(Proxied { proxy: Peer::Tcp(address("192.0.2.1:4711")), local: None, header: u32::MAX }),
            Some(Proxied {
                proxy: Peer::Tcp(address("[2001:db8::1]:4711")),
                local: Some(address("[::]:0")),
                header: 28,
            }),
        ] {
            assert_eq!(Proxied::from_words(Proxied::to_words(proxied.as_ref())), proxied);
        }
    }
}
