//! The runner of an agent: a process that forks load workers. It is one of its own, as only a
//! process of one thread may fork, and an async runtime has several.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tine_sys::helper_command::end_with_this_thread;
use tokio::sync::mpsc::Sender;

use crate::channel::{Incoming, Order, Said, pair, tell_at_once};
use crate::events::Happening;

/// A runner. It is killed when it is dropped, and when this process ends.
#[derive(Debug)]
pub(super) struct Runner {
    child: Child,
    channel: OwnedFd,
}

impl Runner {
    /// Starts a runner by a command, whose standard input is the channel. What it says comes into
    /// the queue, with its number.
    ///
    /// # Errors
    /// EAGAIN, EMFILE, ENOMEM; ENOENT if the program is gone.
    pub(super) fn start(command: &[String], number: u64, queue: Sender<Happening>) -> io::Result<Runner> {
        let (channel, other) = pair()?;
        let (program, words) = command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        // Ctrl-C is for the agent, which stops the runner.
        command.args(words).stdin(other).stdout(Stdio::null()).process_group(0);
        end_with_this_thread(&mut command);
        let reader = channel.try_clone()?;
        let child = command.spawn()?;
        std::thread::spawn(move || read(&reader, number, &queue));
        Ok(Runner { child, channel })
    }

    /// Gives an order.
    ///
    /// # Errors
    /// EPIPE if it has ended; EAGAIN if it does not read.
    pub(super) fn order(&self, order: &Order) -> io::Result<()> {
        tell_at_once(&self.channel, order)
    }

    /// Asks it to stop and to report.
    pub(super) fn terminate(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // The id is not reused, as it is not reaped.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Its workers end with it, and then the channel, which ends the thread that reads it. A
        // killed process ends at once, so the wait is short.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts what a runner says into the queue, up to the end of the channel.
fn read(channel: &OwnedFd, number: u64, queue: &Sender<Happening>) {
    let mut incoming = Incoming::default();
    loop {
        let said = incoming.next::<Said>(channel).unwrap_or(None);
        let is_end = said.is_none();
        if queue.blocking_send(Happening::Runner(number, said)).is_err() || is_end {
            return;
        }
    }
}
