//! A client as tutorials have it: it sends a message with a zero byte at its end, reads the reply,
//! waits, and repeats this without end and without handling signals. Usage: chatter PORT
//! MILLISECONDS

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let argument = |at: usize| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut stream = TcpStream::connect(("127.0.0.1", argument(1)))?;
    let mut reply = [0; 1024];
    for number in 0.. {
        stream.write_all(format!("data : {number}\n\0").as_bytes())?;
        let received = stream.read(&mut reply)?;
        if received == 0 {
            print!("server closed...");
            break;
        }
        println!("recv server : {}", String::from_utf8_lossy(&reply[..received]));
        std::thread::sleep(Duration::from_millis(argument(2).into()));
    }
    Ok(())
}
