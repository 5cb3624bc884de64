//! How a copy goes on with its client, whose program was about to accept one.

use std::net::SocketAddr;

use rustix::net::AddressFamily;
use serde_json::{Value, json};
use tine_sys::plant::{Accepting, CopySteps};

use super::census::{Census, Duplicate};
use super::stop::AcceptCall;
use super::watch::Reached;
use crate::net::peer::Peer;

/// What the call of accept(2) does in each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptPlan {
    /// What it returns.
    pub(super) number: i32,
    pub(super) call: AcceptCall,
}

impl AcceptPlan {
    /// The plan for a program that was about to accept a client; `None` if it was not.
    pub(super) fn of(census: &Census) -> Option<AcceptPlan> {
        let Reached::Accept(call) = census.reached else { return None };
        // The kernel gives the lowest number that is free.
        let number = (0..).find(|number| !census.shown.open.contains(number))?;
        Some(AcceptPlan { number, call })
    }

    /// Has the call return a connection that the copy has received, of this client, and these
    /// listeners have no other.
    pub(super) fn write(
        &self,
        steps: &mut CopySteps,
        received: i32,
        listeners: &[Duplicate],
        peer: Option<Peer>,
    ) {
        steps.replace_listener(listeners.iter().map(|fd| (fd.number, fd.closes_on_exec)));
        let AcceptCall { flags, address, length, room, .. } = self.call;
        if let Some(peer) = peer.filter(|_| address != 0 && length != 0) {
            let bytes = socket_address(peer);
            let fitting = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            steps.write(address, &bytes[..fitting]);
            // The whole length, also where the rest did not fit (accept(2)).
            steps.write(length, &(bytes.len() as u32).to_ne_bytes());
        }
        let listeners = listeners.iter().map(|fd| fd.number).collect();
        steps.accept_last(Accepting { received, number: self.number, flags, listeners });
    }

    pub(super) fn to_json(self) -> Value {
        let AcceptCall { name, listener, flags, address, length, room } = self.call;
        json!([self.number, name, listener, flags, address, length, room])
    }

    /// The reverse of [`AcceptPlan::to_json`]; `None` for another text.
    pub(super) fn from_json(plan: &Value) -> Option<AcceptPlan> {
        let number = |at: usize| i32::try_from(plan[at].as_i64()?).ok();
        let name = ["accept", "accept4"].into_iter().find(|name| plan[1] == *name)?;
        let room = u32::try_from(plan[6].as_u64()?).ok()?;
        let (address, length) = (plan[4].as_u64()?, plan[5].as_u64()?);
        let call = AcceptCall { name, listener: number(2)?, flags: number(3)?, address, length, room };
        Some(AcceptPlan { number: number(0)?, call })
    }
}

/// The address of a client, as accept(2) tells it (ip(7), ipv6(7), unix(7), vsock(7)).
fn socket_address(peer: Peer) -> Vec<u8> {
    let family = |family: AddressFamily| family.as_raw().to_ne_bytes();
    match peer {
        Peer::Tcp(SocketAddr::V4(client)) => {
            [&family(AddressFamily::INET)[..], &client.port().to_be_bytes(), &client.ip().octets(), &[0; 8]]
                .concat()
        }
        Peer::Tcp(SocketAddr::V6(client)) => [
            &family(AddressFamily::INET6)[..],
            &client.port().to_be_bytes(),
            &client.flowinfo().to_be_bytes(),
            &client.ip().octets(),
            &client.scope_id().to_ne_bytes(),
        ]
        .concat(),
        // Without a name.
        Peer::Unix(_) => family(AddressFamily::UNIX).into(),
        Peer::Vsock { cid, port } => {
            let [port, cid] = [port, cid].map(u32::to_ne_bytes);
            [&family(AddressFamily::VSOCK)[..], &[0; 2], &port, &cid, &[0; 4]].concat()
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn plan() -> AcceptPlan {
        let call = AcceptCall { name: "accept4", listener: 3, flags: 2048, address: 9, length: 5, room: 16 };
        AcceptPlan { number: 4, call }
    }

    #[test]
    fn a_plan_is_the_same_as_a_text() {
        assert_eq!(AcceptPlan::from_json(&plan().to_json()), Some(plan()));
        for at in 0..7 {
            let mut other = plan().to_json();
            other[at] = json!("x");
            assert_eq!(AcceptPlan::from_json(&other), None, "{at}");
        }
    }

    #[test]
    fn addresses_are_as_the_kernel_tells_them() {
        use std::net::{TcpListener, TcpStream};
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("loopback");
            let _client = TcpStream::connect(listener.local_addr().expect("a socket")).expect("a listener");
            let (server, peer) = listener.accept().expect("a client");
            drop(server);
            let bytes = socket_address(Peer::Tcp(peer));
            let (length, ip) = match peer {
                SocketAddr::V4(peer) => (16, peer.ip().octets().to_vec()),
                SocketAddr::V6(peer) => (28, peer.ip().octets().to_vec()),
            };
            let at = if peer.is_ipv4() { 4 } else { 8 };
            assert_eq!((bytes.len(), &bytes[at..at + ip.len()]), (length, &ip[..]));
            assert_eq!(bytes[2..4], peer.port().to_be_bytes());
        }
        let of_vsock = socket_address(Peer::Vsock { cid: 3, port: 5 });
        assert_eq!(of_vsock, [40, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }
}
