//! A child takes a lock and dies. The lock is one of the kernel (flock(2)), which opens it.

use std::fs::File;
use std::io;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, fork};

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or("lock".into());
    // SAFETY: this process has one thread.
    if let ForkResult::Child = unsafe { fork() }? {
        // Opened after the fork: such a lock belongs to what open(2) has made, which a parent and
        // its child share.
        let _held = lock(File::create(path)?)?;
        raise(Signal::SIGKILL)?;
        unreachable!("nobody survives SIGKILL");
    }
    wait()?;
    let _held = lock(File::create(path)?)?;
    println!("the lock is free");
    Ok(())
}

/// Waits for the lock on a file, and takes it for as long as the value lives.
fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, why)| why.into())
}
