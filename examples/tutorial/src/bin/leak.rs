//! A process for each connection. Fault: the parent keeps its descriptor of each connection.

use std::io;
use std::net::TcpListener;
use std::process::exit;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

fn main() -> io::Result<()> {
    // The kernel reaps: enough for a parent that does not ask how its children ended.
    // SAFETY: no handler is called.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    let mut forgotten = Vec::new();
    loop {
        let (stream, _) = listener.accept()?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(listener);
                exit(i32::from(echo(stream).is_err()));
            }
            // What a program in C does that does not call close(2).
            ForkResult::Parent { .. } => forgotten.push(stream),
        }
    }
}
