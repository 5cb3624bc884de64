//! A process for each connection. Fault: one child is reaped for each SIGCHLD.

use std::ffi::c_int;
use std::io;
use std::net::TcpListener;
use std::process::exit;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

/// A signal handler may call few functions (signal-safety(7)): waitpid(2) and write(2) are two.
extern "C" fn reap(_: c_int) {
    if !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {
        let text = "reaped a child\n";
        // SAFETY: the text is as long as it says.
        unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
    }
}

fn main() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(reap), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler calls what a handler may call.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
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
            ForkResult::Parent { .. } => drop(stream),
        }
    }
}
