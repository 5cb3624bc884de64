//! Proxies of 127.0.0.1 that send PROXY headers, written by hand.

use crate::client::Client;
use crate::names::PROXY_READER;
use crate::procfs;
use crate::server::Server;
use crate::wait::wait_until;

/// The first bytes of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A server that takes the headers of 127.0.0.1, in a mode, with more options.
#[must_use]
pub fn behind_proxies(options: &[&str], mode: &[&str]) -> Server {
    Server::serve(&[&["--proxy-from", "127.0.0.1"], options, mode].concat())
}

/// A header of version 1 for a client of an address.
#[must_use]
pub fn line(source: &str) -> String {
    format!("PROXY TCP4 {source} 198.51.100.1 4711 25\r\n")
}

/// A header of version 2 with a command, a family, and addresses or other bytes.
///
/// # Panics
/// If it has more than 65,535 of the latter.
#[must_use]
pub fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a header").to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Addresses of version 2 over IPv4, with the ports 4711 and 25.
#[must_use]
pub fn ipv4(source: [u8; 4]) -> Vec<u8> {
    [&source[..], &[198, 51, 100, 1], &4711u16.to_be_bytes(), &25u16.to_be_bytes()].concat()
}

/// A proxy that has sent a header for a client of this address.
#[must_use]
pub fn proxied(server: &Server, source: &str) -> Client {
    let mut client = server.connect();
    client.send(line(source));
    client
}

/// The process id of the proxy reader.
#[must_use]
pub fn proxy_reader(server: &Server) -> i32 {
    wait_until("the proxy reader runs", || Some(server.named(PROXY_READER).first()?.pid))
}

/// Waits until the proxy reader has the connections of these proxies. It may have others, too: it
/// closes its descriptor of one whose header it has read a little later than that one is served.
///
/// # Panics
/// If it does not get them.
pub fn wait_until_read(server: &Server, proxies: &[&Client]) {
    wait_until("the proxies are read", || {
        let has = procfs::tcp_sockets(proxy_reader(server));
        let has_one = |proxy: &&Client| has.iter().any(|socket| socket.peer_port == proxy.port());
        proxies.iter().all(has_one).then_some(())
    });
}
