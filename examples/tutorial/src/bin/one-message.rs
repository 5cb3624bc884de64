//! Sends a line, and prints what the server answers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

fn main() -> io::Result<()> {
    let text = std::env::args().nth(1).unwrap_or("hello".into());
    let mut stream = TcpStream::connect("127.0.0.1:9999")?;
    stream.write_all(format!("{text}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}
