//! A process for each connection, at most two at a time. Further clients wait in the backlog.

use std::io;
use std::net::TcpListener;
use std::process::exit;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

const LIMIT: usize = 2;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    let mut children = 0;
    loop {
        // At the limit, this waits; below it, it only looks.
        while reap(children == LIMIT)? {
            children -= 1;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(why) if children > 0 && is_shortage(&why) => {
                println!("{why}: waiting until a child has ended");
                reap(true)?;
                children -= 1;
                continue;
            }
            Err(why) => return Err(why),
        };
        // SAFETY: this process has one thread.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(listener);
                exit(i32::from(echo(stream).is_err()));
            }
            Ok(ForkResult::Parent { .. }) => children += 1,
            // EAGAIN, ENOMEM: this client is closed, and the server goes on.
            Err(why) => println!("no process for a client: {why}"),
        }
    }
}

/// Reaps one child. False if none has ended.
fn reap(waits: bool) -> io::Result<bool> {
    let flags = (!waits).then_some(WaitPidFlag::WNOHANG);
    match waitpid(None, flags) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(false),
        Ok(_) => Ok(true),
        Err(why) => Err(why.into()),
    }
}

/// Whether this process, or the system, has too few descriptors or too little memory now.
fn is_shortage(why: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM]
        .iter()
        .any(|errno| why.raw_os_error() == Some(*errno as i32))
}
