//! Any bytes as the kernel's reply to a request for its table of sockets (sock_diag(7)): never a
//! panic, and never more sockets than the bytes have room for.
//!
//! The reader takes any socket. It has one end of a TCP connection here, the other end of which
//! sends the reply; a connected TCP socket ignores the netlink address of the request.

#![no_main]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/tine/src/watch/answers.rs"]
mod answers;
#[allow(dead_code)]
#[path = "../../crates/tine/src/watch/diag.rs"]
mod diag;

/// Bytes of a request.
const REQUEST: usize = 72;
/// The fewest bytes of a reply about one socket: its header and the fixed part.
const SHORTEST: usize = 16 + 72;

static KERNEL: LazyLock<Mutex<(TcpStream, diag::Diag)>> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let kernel =
        TcpStream::connect(listener.local_addr().expect("a bound socket")).expect("a listening port");
    let (reader, _) = listener.accept().expect("a client");
    kernel.set_nodelay(true).expect("a socket option");
    // At the end of the bytes the reader gets an error instead of waiting.
    reader.set_nonblocking(true).expect("a socket option");
    Mutex::new((kernel, diag::Diag::new(OwnedFd::from(reader))))
});

fuzz_target!(|reply: &[u8]| {
    let (kernel, reader) = &mut *KERNEL.lock().expect("no panic");
    kernel.write_all(reply).expect("room for a reply");
    let found = reader.connected(false, 80, true);
    kernel.read_exact(&mut [0; REQUEST]).expect("a request");
    if let Ok(sockets) = found {
        assert!(sockets.len() <= reply.len() / SHORTEST, "{sockets:?}");
    }
});
