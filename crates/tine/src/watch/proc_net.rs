//! The connected TCP sockets of this network namespace, as `/proc/net/tcp` and `/proc/net/tcp6`
//! list them (proc(5)): without byte counts, and slower than sock_diag(7), since each look reads
//! all sockets of the namespace.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::diag::SocketInfo;

/// A line about a connected socket.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    port: u16,
    peer: (IpAddr, u16),
    inode: u64,
}

/// The connected sockets with these families (IPv6 or not) and local ports, by inode, without
/// counts and answers.
///
/// # Errors
/// Those of reading the files.
pub(super) fn connected(ports: &[(bool, u16)]) -> io::Result<HashMap<u64, SocketInfo>> {
    let mut found = HashMap::new();
    for (ipv6, file) in [(false, "/proc/self/net/tcp"), (true, "/proc/self/net/tcp6")] {
        let ports: Vec<u16> = ports.iter().filter(|port| port.0 == ipv6).map(|port| port.1).collect();
        // A kernel without IPv6 does not have the second.
        if ipv6 && ports.is_empty() {
            continue;
        }
        let table = std::fs::read_to_string(file)?;
        let lines = table.lines().skip(1).filter_map(parse).filter(|line| ports.contains(&line.port));
        found.extend(lines.map(|line| {
            let info = SocketInfo::of_peer(line.peer);
            (line.inode, info)
        }));
    }
    Ok(found)
}

/// Parses a line; `None` if its socket listens, waits for the end of old segments, or has been
/// closed by its process.
fn parse(line: &str) -> Option<Line> {
    // linux/tcp_states.h: TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV, and a request's SYN_RECV.
    const NOT_CONNECTED: [u8; 5] = [6, 7, 10, 12, 3];
    let mut fields = line.split_whitespace();
    let (_, port) = endpoint(fields.nth(1)?)?;
    let peer = endpoint(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    // tx_queue:rx_queue, tr:when, retrnsmt, uid, timeout, inode.
    let inode = fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)?;
    (!NOT_CONNECTED.contains(&state)).then_some(Line { port, peer, inode })
}

/// An address in hexadecimal words, each in the order of bytes of this machine, and a port.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 16]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(Ipv6Addr::from(bytes)).to_canonical(),
        Err(_) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn lines_of_connected_sockets() {
        let line = "   1: 0100007F:1F90 0100007F:C350 ST 00000000:00000000 00:00000000 00000000     0        0 INODE 1 0";
        for (state, inode, expected) in [
            ("01", "4711", true),
            ("08", "4711", true),
            ("0A", "4711", false),
            ("06", "0", false),
            ("01", "0", false),
            ("x", "4711", false),
        ] {
            let line = line.replace("ST", state).replace("INODE", inode);
            // The words of a machine of the other order of bytes differ.
            let peer = (IpAddr::from(0x0100_007f_u32.to_ne_bytes()), 50_000);
            let expected = expected.then_some(Line { port: 8080, peer, inode: 4711 });
            assert_eq!(parse(&line), expected, "{line}");
        }
        assert_eq!(parse("  sl  local_address"), None);
    }

    #[test]
    fn a_connected_socket_is_listed_and_its_listener_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a port");
            let local = listener.local_addr().expect("bound");
            let client = TcpStream::connect(local).expect("listens");
            let (server, _) = listener.accept().expect("a client");
            let inode =
                |number: i32| std::fs::metadata(format!("/proc/self/fd/{number}")).expect("open").ino();
            let own = inode(std::os::fd::AsRawFd::as_raw_fd(&server));
            let found = connected(&[(local.is_ipv6(), local.port())]).expect("/proc is mounted");
            let peer = client.local_addr().expect("bound");
            assert_eq!(found.get(&own).map(|info| info.peer), Some((peer.ip(), peer.port())));
            assert_eq!(found.len(), 1, "only sockets of the port that are connected");
            assert!(!connected(&[]).expect("/proc is mounted").contains_key(&own));
        }
    }
}
