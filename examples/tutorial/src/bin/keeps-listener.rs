//! A process for each connection. Fault: each child keeps the listener.

use std::io;
use std::net::TcpListener;
use std::process::exit;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

fn main() -> io::Result<()> {
    // SAFETY: no handler is called.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    loop {
        let (stream, _) = listener.accept()?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            // Here, drop(listener) is left out.
            ForkResult::Child => exit(i32::from(echo(stream).is_err())),
            ForkResult::Parent { .. } => drop(stream),
        }
    }
}
