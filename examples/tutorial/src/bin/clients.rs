//! Clients that are processes: each talks to one of several servers, all at the same time.
//!
//! usage: clients NUMBER ADDRESS...

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::exit;

use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{ForkResult, fork};

const MESSAGES: usize = 3;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((number, addresses)) = words.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        eprintln!("usage: clients NUMBER ADDRESS...");
        exit(2);
    };
    let number: usize = number.parse().map_err(io::Error::other)?;
    for client in 0..number {
        // SAFETY: this process has one thread.
        if let ForkResult::Child = unsafe { fork() }? {
            let address = &addresses[client % addresses.len()];
            exit(match talk(client, address) {
                Ok(()) => 0,
                Err(why) => {
                    // In one call: lines of several processes do not mix.
                    let line = format!("client {client}, {address}: {why}\n");
                    io::stderr().write_all(line.as_bytes())?;
                    1
                }
            });
        }
    }
    let mut failed = 0;
    for _ in 0..number {
        if !matches!(wait()?, WaitStatus::Exited(_, 0)) {
            failed += 1;
        }
    }
    println!("{number} clients, {failed} failed");
    exit(i32::from(failed > 0));
}

/// Sends messages, and checks that each comes back.
fn talk(client: usize, address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    for message in 0..MESSAGES {
        let sent = format!("message {message} of client {client}\n");
        stream.write_all(sent.as_bytes())?;
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received)?;
        if received != sent.as_bytes() {
            return Err(io::Error::other("other bytes came back"));
        }
    }
    Ok(())
}
