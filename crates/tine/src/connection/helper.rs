//! Helper processes of a handler.

use std::fmt;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tine_sys::process::{Alone, How, Side, exit_now, fork, reap, wait_for};

use super::Connection;
use crate::error::HandlerError;
use crate::lifecycle::outcome::ExitReport;
use crate::system::parent::kill_with;

/// A process that a handler has started, under the limits of its connection: the same user, jail
/// and cgroup.
///
/// It ends with the value: dropping it kills the process and reaps it. It also ends with the
/// process of the connection, whatever ends that.
#[must_use = "dropping it ends the process"]
pub struct Helper {
    pid: Pid,
    is_reaped: bool,
}

/// How a helper has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HelperEnd {
    /// It exited with this code. That of a function is 0 if it succeeded.
    Exited(i32),
    /// This signal has ended it.
    Signaled(i32),
}

impl Connection {
    /// Starts a helper that runs a function, in a copy of this process: what the function changes
    /// in memory, this process does not see, but shared state ([`crate::shared`]) is shared. The
    /// exit code is 0 if it succeeds.
    ///
    /// ```no_run
    /// # fn handle(connection: tine::Connection) -> Result<(), tine::HandlerError> {
    /// let helper = connection.spawn_with(|| {
    ///     // What may crash.
    ///     Ok(())
    /// })?;
    /// println!("the helper has ended: {:?}", helper.wait()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// This process has several threads ([`io::ErrorKind::Unsupported`]): start an executable
    /// instead ([`Connection::spawn`]). EAGAIN at a limit on processes, ENOMEM; the jail forbids
    /// it.
    pub fn spawn_with<F>(&self, work: F) -> io::Result<Helper>
    where
        F: FnOnce() -> Result<(), HandlerError>,
    {
        let refused =
            |why| io::Error::new(io::ErrorKind::Unsupported, format!("cannot fork a helper: {why}"));
        let alone = Alone::check().map_err(refused)?;
        let parent = rustix::process::getpid();
        match fork(&alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => Ok(Helper::of(pid)),
            Side::Child(_) => {
                tine_shared::server::enter_helper();
                let _ = rustix::thread::set_name(c"tine: helper");
                exit_now(match kill_with(parent) {
                    Ok(()) => run(work),
                    Err(_) => 111,
                })
            }
        }
    }

    /// Starts a helper that executes a program.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Helper> {
        tine_sys::helper_command::end_with_this_thread(command);
        let child = command.spawn()?;
        Ok(Helper::of(child.id().cast_signed()))
    }
}

/// Runs the function of a helper. Returns the exit code.
fn run(work: impl FnOnce() -> Result<(), HandlerError>) -> i32 {
    let report = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => ExitReport::Done,
        Ok(Err(error)) => ExitReport::from_error(&error),
        Err(thrown) => ExitReport::from_panic(&*thrown),
    };
    // `_exit` would lose a line without a newline.
    let _ = io::stdout().flush();
    report.exit_code()
}

impl Helper {
    fn of(pid: i32) -> Helper {
        match Pid::from_raw(pid) {
            Some(pid) => Helper { pid, is_reaped: false },
            None => unreachable!("a fork returns the id of a process to its parent"),
        }
    }

    /// The id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits until the helper has ended.
    ///
    /// # Errors
    /// ECHILD if something else has reaped it.
    pub fn wait(mut self) -> io::Result<HelperEnd> {
        self.is_reaped = true;
        wait_for(self.pid.as_raw_pid()).map(HelperEnd::from)
    }

    /// How the helper has ended; `None` while it runs.
    ///
    /// # Errors
    /// ECHILD if something else has reaped it.
    pub fn try_wait(&mut self) -> io::Result<Option<HelperEnd>> {
        let ended = reap(self.pid.as_raw_pid())?;
        self.is_reaped |= ended.is_some();
        Ok(ended.map(|ended| HelperEnd::from(ended.how)))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = wait_for(self.pid.as_raw_pid());
        }
    }
}

impl From<How> for HelperEnd {
    fn from(how: How) -> HelperEnd {
        match how {
            How::Exited(code) => HelperEnd::Exited(code),
            How::Signaled(signal) => HelperEnd::Signaled(signal),
        }
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").field("id", &self.id()).finish_non_exhaustive()
    }
}
