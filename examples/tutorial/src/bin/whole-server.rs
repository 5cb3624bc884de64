//! A process for each connection, with a limit, all children reaped, and a drain: on SIGTERM it
//! accepts no more, and ends when the last connection has ended.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::exit;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tine_tutorial::echo;

const LIMIT: usize = 100;

fn main() -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    signals.thread_block()?;
    let received = SignalFd::new(&signals)?;
    let mut listener = Some(TcpListener::bind("127.0.0.1:9999")?);
    println!("listening on 127.0.0.1:9999");
    let mut children = 0;
    while listener.is_some() || children > 0 {
        // At the limit, and in a drain, it waits for signals only.
        let accepting = listener.as_ref().filter(|_| children < LIMIT);
        let wanted = [Some(received.as_fd()), accepting.map(AsFd::as_fd)].into_iter().flatten();
        let mut events: Vec<_> = wanted.map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
        poll(&mut events, PollTimeout::NONE)?;
        let happened: Vec<_> = events.iter().map(|event| event.any() == Some(true)).collect();
        if happened[0]
            && let Some(signal) = received.read_signal()?
        {
            children -= reap();
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                listener = None;
                println!("draining {children} connections");
            }
        }
        // An error of fork(2), or ECONNABORTED, costs this client alone. The limit is well below
        // that on open files: at EMFILE, poll(2) would return again and again.
        if let Some(accepting) = &listener
            && happened.get(1) == Some(&true)
            && let Ok((stream, _)) = accepting.accept()
        {
            // SAFETY: this process has one thread.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => {
                    drop(listener);
                    signals.thread_unblock()?;
                    exit(i32::from(echo(stream).is_err()));
                }
                Ok(ForkResult::Parent { .. }) => children += 1,
                Err(why) => println!("no process for a client: {why}"),
            }
        }
    }
    println!("drained");
    Ok(())
}

/// Reaps all children that have ended, and returns their number.
fn reap() -> usize {
    let ended = || waitpid(None, Some(WaitPidFlag::WNOHANG));
    let is_one = |status: &_| !matches!(status, Ok(WaitStatus::StillAlive) | Err(_));
    std::iter::repeat_with(ended).take_while(is_one).count()
}
