//! Echo for one client at a time. Fault: it takes what it has read for a text that ends with a zero
//! byte, as functions of C such as strlen(3) do.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(why) = echo(stream) {
            println!("a connection has failed: {why}");
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
        let length = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
        stream.write_all(&buffer[..length])?;
    }
}
