//! Answers each line with its length, for one client at a time. Fault: it takes what one read(2)
//! returns for a line.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(why) = answer(stream) {
            println!("a connection has failed: {why}");
        }
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(format!("a line of {length} bytes\n").as_bytes())?;
    }
}
