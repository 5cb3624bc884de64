//! Sends ten million bytes to each client, one at a time. Fault: it calls write(2) once.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(why) = send(stream) {
            println!("a connection has failed: {why}");
        }
    }
}

fn send(mut stream: TcpStream) -> io::Result<()> {
    let bytes = vec![b'x'; 10_000_000];
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    let length = stream.write(&bytes)?;
    println!("sent all: {}", length == bytes.len());
    Ok(())
}
