//! A process for each connection, noted in a table. Fault: it ends when the table is full.

use std::io;
use std::net::TcpListener;
use std::process::exit;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, fork};
use tine_tutorial::echo;

fn main() -> io::Result<()> {
    // SAFETY: no handler is called.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    let mut table = [None::<Pid>; 2];
    let mut count = 0;
    loop {
        let (stream, _) = listener.accept()?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(listener);
                exit(i32::from(echo(stream).is_err()));
            }
            ForkResult::Parent { child } => {
                drop(stream);
                table[count] = Some(child);
                count += 1;
            }
        }
    }
}
