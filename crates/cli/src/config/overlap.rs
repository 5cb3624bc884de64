//! Addresses that cannot be listened on together, found before the first one is bound.

use std::net::{IpAddr, SocketAddr};

use tine::cli::{is_overlap, resolve};
use tine::{Address, BindIpv6Only};
use tine_sys::vsock::VsockAddress;

use crate::args::Serve;
use crate::error::Error;

/// An address as it will be listened on.
#[derive(Clone, Debug)]
pub struct Claim {
    address: Address,
    /// Of a host name, the first socket address, or none if it was not looked up.
    socket: Option<SocketAddr>,
    bind_ipv6_only: BindIpv6Only,
    reuse_port: bool,
    device: Option<String>,
}

impl Claim {
    /// The addresses that these options ask for, with ranges of ports written out. Looks up no
    /// host.
    ///
    /// # Errors
    /// An address is invalid.
    pub fn of(args: &Serve) -> Result<Vec<Claim>, Error> {
        let mut claims = Vec::new();
        for text in &args.addresses {
            claims.extend(Address::parse_range(text)?.into_iter().map(|address| Claim {
                socket: numeric(&address),
                address,
                bind_ipv6_only: args.sockets.bind_ipv6_only,
                reuse_port: args.sockets.reuse_port,
                device: args.sockets.bind_to_device.clone(),
            }));
        }
        Ok(claims)
    }

    /// The same for each socket address of its host.
    ///
    /// # Errors
    /// The host name does not resolve.
    pub fn resolved(self) -> Result<Vec<Claim>, Error> {
        match &self.address {
            Address::Tcp { host, port } => {
                let sockets = resolve(host, *port)?;
                Ok(sockets.into_iter().map(|socket| Claim { socket: Some(socket), ..self.clone() }).collect())
            }
            _ => Ok(vec![self]),
        }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is the wildcard address of IPv4, and its port.
    #[must_use]
    pub fn ipv4_wildcard(&self) -> Option<u16> {
        let socket = self.socket.filter(|socket| socket.is_ipv4() && socket.ip().is_unspecified());
        socket.map(|socket| socket.port())
    }

    /// Whether both cannot be listened on.
    #[must_use]
    pub fn excludes(&self, other: &Claim) -> bool {
        if matches!(self.address, Address::Tcp { port: 0, .. }) {
            return false;
        }
        if let (Some(own), Some(others)) = (self.vsock(), other.vsock()) {
            return own.port != VsockAddress::PORT_ANY && own.overlaps(others);
        }
        let (Some(own), Some(others)) = (self.socket, other.socket) else {
            return self.address == other.address;
        };
        let devices_differ = self.device.is_some() && other.device.is_some() && self.device != other.device;
        let shared = self.reuse_port && other.reuse_port;
        is_overlap(own, others)
            && !shared
            && !devices_differ
            && !self.leaves_room(other)
            && !other.leaves_room(self)
    }

    fn vsock(&self) -> Option<VsockAddress> {
        match self.address {
            Address::Vsock { cid, port } => Some(VsockAddress { cid, port }),
            _ => None,
        }
    }

    /// Whether it is an IPv6 wildcard that leaves the other address, one of IPv4, alone.
    fn leaves_room(&self, other: &Claim) -> bool {
        let (Some(own), Some(others)) = (self.socket, other.socket) else { return false };
        own.is_ipv6()
            && others.is_ipv4()
            && match self.bind_ipv6_only {
                BindIpv6Only::Ipv6Only => true,
                BindIpv6Only::Default => others.ip().is_unspecified(),
                _ => false,
            }
    }
}

/// The socket address, where no host has to be looked up.
fn numeric(address: &Address) -> Option<SocketAddr> {
    let Address::Tcp { host, port } = address else { return None };
    host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip.to_canonical(), *port))
}

/// What to do about two addresses that exclude each other.
#[must_use]
pub fn next_move(one: &Claim, other: &Claim) -> &'static str {
    match (one.socket, other.socket) {
        (Some(one), Some(other)) if one.is_ipv4() != other.is_ipv4() => {
            "[::] accepts IPv4 clients, too: set bind-ipv6-only to ipv6-only, or leave one of them out"
        }
        _ => "leave one of them out, or give it another address",
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    fn claim(words: &[&str]) -> Claim {
        let command = Serve::augment_args(clap::Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(words).expect("valid options");
        let serve = Serve::from_arg_matches(&matches).expect("valid options");
        Claim::of(&serve).expect("valid addresses").swap_remove(0)
    }

    #[test]
    fn addresses_that_exclude_each_other() {
        for (one, other, expected) in [
            (&["127.0.0.1:1"][..], &["127.0.0.1:1"][..], true),
            (&["127.0.0.1:0"], &["127.0.0.1:0"], false),
            (&["0.0.0.0:1"], &["127.0.0.1:1"], true),
            (&["0.0.0.0:1"], &["[::]:1"], false),
            (&["0.0.0.0:1"], &["1"], false),
            (&["127.0.0.1:1"], &["1"], true),
            (&["127.0.0.1:1"], &["--bind-ipv6-only", "ipv6-only", "1"], false),
            (&["0.0.0.0:1"], &["--bind-ipv6-only", "both", "1"], true),
            (&["--bind-ipv6-only", "ipv6-only", "1"], &["[::1]:1"], true),
            (&["--reuse-port", "127.0.0.1:1"], &["--reuse-port", "127.0.0.1:1"], false),
            (&["--reuse-port", "127.0.0.1:1"], &["127.0.0.1:1"], true),
            (&["--bind-to-device", "a", "1"], &["--bind-to-device", "b", "1"], false),
            (&["--bind-to-device", "a", "1"], &["1"], true),
            (&["host:1"], &["host:1"], true),
            (&["host:1"], &["other:1"], false),
            (&["unix:/a"], &["unix:/a"], true),
            (&["unix:/a"], &["unix:@a"], false),
            (&["fd:a"], &["fd:a"], true),
            (&["vsock:5"], &["vsock:2:5"], true),
            (&["vsock:2:5"], &["vsock:2:5"], true),
            (&["vsock:2:5"], &["vsock:3:5"], false),
            (&["vsock:5"], &["vsock:6"], false),
            (&["vsock:4294967295"], &["vsock:4294967295"], false),
            (&["vsock:5"], &["5"], false),
            (&["[::ffff:127.0.0.1]:1"], &["127.0.0.1:1"], true),
        ] {
            let (one, other) = (claim(one), claim(other));
            let both = (one.excludes(&other), other.excludes(&one));
            assert_eq!(both, (expected, expected), "{one:?} {other:?}");
        }
    }
}
