//! Echo for one client at a time. An error of one connection ends that connection alone.

use std::io;
use std::net::TcpListener;

use tine_tutorial::echo;

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
