//! Tries what precedes the execution of a program, before the server is ready.

use std::io;

use rustix::stdio::{stdin, stdout};
use tine_sys::exec::{CgroupEntry, Execution, Group};

use super::launch::Launcher;
use super::{Terminal, relay};
use crate::error::{Error, reason};
use crate::system::users::Identity;

impl Launcher<'_> {
    /// Makes the changes to this process that precede the execution: its cgroup, user, limits, nice
    /// value and terminal. The process has to exit afterwards.
    ///
    /// # Errors
    /// One of them is not possible.
    pub(crate) fn try_out(&mut self, cgroup: Option<&CgroupEntry>) -> Result<(), Error> {
        let cannot =
            |why: &io::Error, next| Error::system("cannot prepare the execution of the program", why, next);
        let program = self.image.program;
        if program.terminal != Terminal::None
            && let Err(why) = relay::open(program.terminal, program.terminal_size)
        {
            let why = io::Error::new(why.kind(), format!("its terminal: {}", reason(&why)));
            return Err(cannot(&why, "mount devpts on /dev/pts, or use no terminal"));
        }
        let execution = Execution {
            path: &self.path,
            arguments: &mut self.image.arguments,
            environment: &mut self.image.environment,
            stdin: stdin(),
            stdout: stdout(),
            stderr: None,
            limits: &self.image.program.limits,
            nice: self.image.program.nice,
            group: Group::Own,
            parent: None,
            cgroup,
            identity: self.image.identity.map(Identity::to_ids),
        };
        execution.prepare().map_err(|why| cannot(&why, "change this setting, or start the server as root"))
    }
}
