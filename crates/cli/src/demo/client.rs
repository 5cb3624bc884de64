//! A client of the server: this process has its socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};

use tine::cli::next_move;

use super::wait::{Stop, Waiter, missing};
use crate::error::Error;

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    /// Its own address: the `peer` of its connection in the log.
    pub(super) address: SocketAddrV4,
}

/// How a client sees the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The end of the stream: a FIN.
    Fin,
    /// An error: a RST.
    Reset,
}

impl Client {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Errors
    /// As connect(2).
    pub(super) fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        match stream.local_addr()? {
            std::net::SocketAddr::V4(address) => Ok(Client { stream, address }),
            std::net::SocketAddr::V6(_) => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Sends a message and receives it back. Returns the number of bytes that came back.
    ///
    /// # Errors
    /// Other bytes come back, or fewer, or Ctrl-C.
    pub(super) fn echo(&mut self, waiter: &Waiter, message: &str) -> Result<usize, Stop> {
        let broken = |why: io::Error| {
            let what = format!("client {} cannot exchange a message", self.address);
            Stop::from(Error::system(what, &why, next_move::of_call(&why)))
        };
        self.stream.write_all(message.as_bytes()).map_err(broken)?;
        let what = format!("the reply to client {}", self.address);
        let mut received = Vec::new();
        while received.len() < message.len() {
            waiter.readable(&self.stream, &what)?;
            let mut part = [0; 1024];
            match self.stream.read(&mut part).map_err(broken)? {
                0 => return Err(missing(what)),
                read => received.extend_from_slice(&part[..read]),
            }
        }
        match received == message.as_bytes() {
            true => Ok(received.len()),
            false => Err(missing(format_args!("{what}: other bytes came back"))),
        }
    }

    /// Ends the sending direction: the server sees the end of the stream, and this client can still
    /// read.
    ///
    /// # Errors
    /// As shutdown(2).
    pub(super) fn half_close(&self) -> Result<(), Error> {
        self.stream.shutdown(Shutdown::Write).map_err(|why| {
            let what = format!("client {} cannot half-close", self.address);
            Error::system(what, &why, next_move::of_call(&why))
        })
    }

    /// Waits for the end of the connection.
    ///
    /// # Errors
    /// More bytes come, or nothing, or Ctrl-C.
    pub(super) fn end(&mut self, waiter: &Waiter) -> Result<End, Stop> {
        let what = format!("the end of the connection of client {}", self.address);
        waiter.readable(&self.stream, &what)?;
        match self.stream.read(&mut [0; 1024]) {
            Ok(0) => Ok(End::Fin),
            Ok(_) => Err(missing(format_args!("{what}: bytes came instead"))),
            Err(why) if why.kind() == ErrorKind::ConnectionReset => Ok(End::Reset),
            Err(why) => Err(Error::system(what, &why, next_move::of_call(&why)).into()),
        }
    }
}
