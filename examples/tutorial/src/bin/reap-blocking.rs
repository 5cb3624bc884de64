//! A process for each connection. Fault: the parent waits for each child before it accepts again.

use std::io;
use std::net::TcpListener;
use std::process::exit;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
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
                waitpid(child, None)?;
            }
        }
    }
}
