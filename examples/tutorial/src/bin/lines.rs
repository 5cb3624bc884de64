//! Answers each line with its length, for one client at a time, however the lines arrive.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// The longest line. Without a limit, a client without newlines takes all memory.
const LONGEST: u64 = 1000;

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
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        match line.last() {
            None => return Ok(()),
            Some(b'\n') => stream.write_all(format!("a line of {length} bytes\n").as_bytes())?,
            Some(_) => return Err(io::Error::other("a line without an end")),
        }
    }
}
