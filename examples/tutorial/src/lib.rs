//! What the programs of the tutorial have in common: the work for one client.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Sends back what the client sends, until it sends no more (RFC 862). In the process that serves
/// the client.
///
/// # Errors
/// The connection has ended in another way, such as a reset.
pub fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}
