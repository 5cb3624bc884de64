//! Three processes that accept from one listener, forked before the first client comes. A worker
//! that ends is replaced.

use std::io::{self, Write};
use std::net::TcpListener;

use nix::sys::wait::wait;
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

const WORKERS: usize = 3;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    for _ in 0..WORKERS {
        start(&listener)?;
    }
    loop {
        let status = wait()?;
        start(&listener)?;
        println!("{status:?}: started another worker");
    }
}

/// Forks a worker.
fn start(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => work(listener),
    }
}

/// Serves clients, one after the other, until this process is ended.
fn work(listener: &TcpListener) -> ! {
    let own = std::process::id();
    let mut count = 0;
    loop {
        count += 1;
        // An error of one client is no reason to end: the next one may do better.
        let answered = listener.accept().and_then(|(mut stream, _)| {
            stream.write_all(format!("client {count} of worker {own}\n").as_bytes())?;
            echo(stream)
        });
        if let Err(why) = answered {
            println!("a connection has failed: {why}");
        }
    }
}
