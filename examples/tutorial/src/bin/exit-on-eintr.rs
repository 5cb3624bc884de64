//! A process for each connection. Fault: a signal ends the server, since it ends accept(2).

use std::ffi::c_int;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::exit;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::accept;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

extern "C" fn reap(_: c_int) {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
}

fn main() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(reap), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler calls what a handler may call.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    loop {
        // The accept of the standard library calls again after EINTR, and so hides the fault.
        let stream = TcpStream::from(accept(&listener)?);
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(listener);
                exit(i32::from(echo(stream).is_err()));
            }
            ForkResult::Parent { .. } => drop(stream),
        }
    }
}
