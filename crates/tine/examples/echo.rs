//! Step 1: a server in ten lines. Sends back the received bytes.
//!
//! `cargo run -p tine --example echo -- 127.0.0.1:9999`, then `nc localhost 9999`

use std::io::{Read, Write};

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    tine::Server::bind(&address)?.max_connections(10_000).print_ports(true).run(|mut connection| {
        let mut buffer = [0; 16 * 1024];
        loop {
            match connection.read(&mut buffer)? {
                0 => return Ok(()),
                n => connection.write_all(&buffer[..n])?,
            }
        }
    })
}
