//! Clients of a server under test.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketType};

use crate::wait::{TEST_TIMEOUT, wait_for_one};

/// A TCP client. Its reads and writes panic after [`TEST_TIMEOUT`].
pub struct Client {
    /// The connection.
    pub stream: TcpStream,
}

impl Client {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Panics
    /// If no socket listens on it.
    #[must_use]
    pub fn connect(port: u16) -> Client {
        Client::new(TcpStream::connect(("127.0.0.1", port)).expect("a listening port"))
    }

    /// Connects to a port of 127.0.0.1 from another address of 127.0.0.0/8.
    ///
    /// # Panics
    /// If no socket listens on it.
    #[must_use]
    pub fn from_source(address: &str, port: u16) -> Client {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let source = SocketAddr::new(address.parse().expect("an address"), 0);
        rustix::net::bind(&socket, &source).expect("loopback has every address of 127.0.0.0/8");
        rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).expect("a listening port");
        Client::new(TcpStream::from(socket))
    }

    fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
        stream.set_write_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Client { stream }
    }

    /// Its own address, the `peer` of its connection in the log.
    ///
    /// # Panics
    /// If the socket is closed.
    #[must_use]
    pub fn address(&self) -> String {
        self.stream.local_addr().expect("a bound socket").to_string()
    }

    /// Its own port.
    ///
    /// # Panics
    /// If the socket is closed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("a bound socket").port()
    }

    /// Sends all of these bytes.
    ///
    /// # Panics
    /// If the server does not receive them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.stream.write_all(bytes.as_ref()).expect("the server receives");
        self
    }

    /// Receives exactly these bytes.
    ///
    /// # Panics
    /// If others arrive, or fewer.
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let mut received = vec![0; bytes.as_ref().len()];
        self.stream.read_exact(&mut received).expect("a reply");
        assert_eq!(received, bytes.as_ref());
        self
    }

    /// Sends these bytes and receives them back.
    ///
    /// # Panics
    /// If others come back, or fewer.
    pub fn echo(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.send(bytes.as_ref()).expect(bytes)
    }

    /// Shuts the sending side down.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn half_close(&mut self) -> &mut Client {
        self.stream.shutdown(Shutdown::Write).expect("a connected socket");
        self
    }

    /// Receives up to the end of the stream.
    ///
    /// # Panics
    /// If the stream ends in a reset, or not at all.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("the end of the stream");
        bytes
    }

    /// As [`Client::read_to_end`], as text.
    ///
    /// # Panics
    /// As [`Client::read_to_end`]; or if the bytes are no text in UTF-8.
    pub fn read_text(&mut self) -> String {
        String::from_utf8(self.read_to_end()).expect("text in UTF-8")
    }

    /// Receives a line, and returns it without its newline.
    ///
    /// # Panics
    /// If the stream ends or is reset within the line, or the line is no text in UTF-8.
    pub fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte).expect("a line");
            if byte == *b"\n" {
                return String::from_utf8(line).expect("text in UTF-8");
            }
            line.push(byte[0]);
        }
    }

    /// Shuts the sending side down and receives up to the end of the stream: a complete exchange.
    ///
    /// # Panics
    /// As [`Client::read_to_end`].
    pub fn finish(&mut self) -> Vec<u8> {
        self.half_close().read_to_end()
    }

    /// Waits until the server has closed the connection, by an end of stream or a reset.
    ///
    /// # Panics
    /// If it stays open.
    pub fn expect_closed(&mut self) {
        let mut bytes = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }

    /// Asserts that nothing arrives for a moment: the client is kept waiting.
    ///
    /// # Panics
    /// If bytes or the end of the stream arrive.
    pub fn expect_silence(&mut self, moment: Duration) {
        self.stream.set_read_timeout(Some(moment)).expect("a socket option");
        let error = self.stream.read(&mut [0]).expect_err("nothing arrives");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    }

    /// Whether the server echoes a byte. A rejected client receives the end of the stream instead.
    ///
    /// # Panics
    /// If it receives anything else.
    #[must_use]
    pub fn is_served(mut self) -> bool {
        // A rejected client's connection may be closed by now.
        let _ = self.stream.write_all(b"x");
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        let read = self.stream.read_to_end(&mut reply);
        assert!(read.is_err() || reply.is_empty() || reply == b"x", "{reply:?}");
        reply == b"x"
    }

    /// Whether a server that echoes replies, and goes on with the connection; a rejected client is
    /// closed.
    pub fn is_answered(&mut self) -> bool {
        let mut reply = [0; 1];
        self.stream.write_all(b"x").is_ok() && self.stream.read_exact(&mut reply).is_ok() && reply == *b"x"
    }

    /// Removes the first of these clients that becomes readable, by a reply or the end of its
    /// stream. The server may serve clients that came at the same time in any order.
    ///
    /// # Panics
    /// If none becomes readable.
    #[must_use]
    pub fn take_first_readable(clients: &mut Vec<Client>) -> Client {
        let mut polled: Vec<_> =
            clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)).collect();
        wait_for_one(&mut polled);
        let first = polled.iter().position(|one| !one.revents().is_empty());
        clients.remove(first.expect("a readable client"))
    }

    /// Closes the connection with a reset.
    ///
    /// # Panics
    /// If the socket option cannot be set.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket option");
    }
}
