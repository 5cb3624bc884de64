//! A process for each connection. A signal that a child has ended is an event, as a client is, and
//! all children that have ended are reaped then.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::exit;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

fn main() -> io::Result<()> {
    let signals = SigSet::from(Signal::SIGCHLD);
    signals.thread_block()?;
    let ended = SignalFd::new(&signals)?;
    let listener = TcpListener::bind("127.0.0.1:9999")?;
    println!("listening on 127.0.0.1:9999");
    loop {
        let wanted = PollFlags::POLLIN;
        let mut events = [PollFd::new(ended.as_fd(), wanted), PollFd::new(listener.as_fd(), wanted)];
        poll(&mut events, PollTimeout::NONE)?;
        let [has_ended, has_client] = events.map(|event| event.any() == Some(true));
        if has_ended {
            ended.read_signal()?;
            reap()?;
        }
        if has_client {
            let (stream, _) = listener.accept()?;
            // SAFETY: this process has one thread.
            if let ForkResult::Child = unsafe { fork() }? {
                drop(listener);
                signals.thread_unblock()?;
                exit(i32::from(echo(stream).is_err()));
            }
        }
    }
}

/// Reaps all children that have ended.
fn reap() -> io::Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            // Others live, or there is none.
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(status) => println!("reaped: {status:?}"),
            Err(why) => return Err(why.into()),
        }
    }
}
