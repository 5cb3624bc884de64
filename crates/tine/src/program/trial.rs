//! Tries what precedes the execution of a program, before the server is ready.

use std::io;

use rustix::stdio::{stdin, stdout};
use tine_sys::exec::{CgroupEntry, Execution, Group};

use super::launch::Launcher;
use super::{Terminal, relay};
use crate::error::{Error, next_move, reason};
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
            let next = next_move::of_terminal(&why);
            let why = io::Error::new(why.kind(), format!("its terminal: {}", reason(&why)));
            return Err(cannot(&why, next));
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
            kept: None,
            passed: None,
            jail: Some(&self.image.jail),
        };
        execution.prepare().map_err(|why| cannot(&why, next_of_preparation(&why)))
    }
}

/// The next move after a change that is not possible. The text of the error names the change: that
/// of the cgroup, the user, a limit or the nice value.
fn next_of_preparation(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::PermissionDenied => "change this setting, or start the server as root",
        io::ErrorKind::InvalidInput => {
            "choose a value that the kernel and this user namespace permit (/proc/self/uid_map)"
        }
        // Of a cgroup, or of a user with all processes that are permitted.
        io::ErrorKind::WouldBlock => {
            "raise cgroup.max.descendants and pids.max of the directories above the cgroup, or `ulimit -u`"
        }
        _ => next_move::of_call(why),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_change_that_is_not_possible_has_the_next_move_of_its_cause() {
        for (number, words) in [
            (Errno::PERM, "as root"),
            (Errno::ACCESS, "as root"),
            (Errno::INVAL, "choose a value"),
            (Errno::AGAIN, "cgroup.max.descendants"),
            (Errno::NOMEM, "free memory"),
            (Errno::NOSYS, "seccomp"),
            (Errno::MFILE, "ulimit -n"),
        ] {
            let why = io::Error::from(number);
            assert!(next_of_preparation(&why).contains(words), "{number:?}");
        }
    }
}
