//! Executes the next generation of a server. Runs in the first process of the old one.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::process::{PidfdFlags, Resource as RlimitResource, Rlimit, Signal, pidfd_open};
use tine_sys::exec::{CStrings, Execution, Group, Limit, Resource};
use tine_sys::process::{Alone, Fresh, Side, exit_now, fork, reap, wait_for};

use crate::error::reason;
use crate::ipc::handover::link::{Link, LinkMessage};
use crate::ipc::handover::takeover::VARIABLE;
use crate::lifecycle::outcome::Outcome;
use crate::settings::replacement::Replacement;
use crate::system::signal::signal_one;

/// The executable of this process, whatever has become of the file that it was started from.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Time that a process which has closed its link has to exit, before it is killed.
const EXIT_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Which binary the next generation executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    /// The one that this process executes.
    Own,
    /// The file that this process was started from, which may be another one by now.
    Started,
    /// Another file.
    Other(PathBuf),
}

impl Binary {
    /// Whether the same binary is to read the configuration again.
    pub(crate) fn is_own(&self) -> bool {
        *self == Binary::Own
    }

    pub(super) fn path(&self, replacement: &Replacement) -> PathBuf {
        match self {
            Binary::Own => OWN_EXECUTABLE.into(),
            Binary::Started => without_deleted(&replacement.executable),
            Binary::Other(path) => path.clone(),
        }
    }
}

/// The kernel adds a word to the path of an executable that was removed (proc(5)).
fn without_deleted(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)).into()
}

/// A process of the next generation.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) pid: i32,
    pub(super) link: Link,
}

impl Successor {
    /// Forks, and executes the binary with the arguments of this process.
    ///
    /// # Errors
    /// EAGAIN, ENOMEM, EMFILE. What fails in the new process is sent over the link.
    pub(super) fn start(
        alone: &Alone,
        binary: &Binary,
        replacement: &Replacement,
        open_files: Rlimit,
    ) -> std::io::Result<Successor> {
        let (own, theirs) = Link::pair()?;
        let parent = rustix::process::getpid().as_raw_pid();
        match fork(alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => Ok(Successor { pid, link: own }),
            Side::Child(fresh) => {
                drop(own);
                execute(&fresh, &binary.path(replacement), replacement, theirs, parent, open_files)
            }
        }
    }

    /// Waits until the process has ended, and tells how. One that has closed its link and lives on
    /// is killed.
    pub(super) fn collect(&self) -> String {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid)
            && let Ok(exit) = pidfd_open(pid, PidfdFlags::empty())
        {
            let exit = rustix::event::PollFd::new(&exit, rustix::event::PollFlags::IN);
            let _ = tine_sys::wait::until(&mut [exit], Some(std::time::Instant::now() + EXIT_WITHIN));
        }
        match reap(self.pid) {
            Ok(Some(ended)) => Outcome::new(ended.how, None).to_string(),
            _ => {
                self.kill();
                "it has closed its link".to_owned()
            }
        }
    }

    /// Kills the process and reaps it. Its children ask the kernel to be killed with it.
    pub(super) fn kill(&self) {
        // It is a child that is not reaped yet.
        let _ = signal_one(self.pid, Signal::KILL);
        let _ = wait_for(self.pid);
    }
}

/// Executes the binary. Runs in the new process; ends it with the reason on the link if that fails.
fn execute(
    fresh: &Fresh,
    path: &Path,
    replacement: &Replacement,
    link: Link,
    parent: i32,
    open_files: Rlimit,
) -> ! {
    tine_sys::signal::defaults(fresh);
    let mut arguments = CStrings::default();
    replacement.arguments.iter().for_each(|argument| arguments.push_bytes(argument.as_bytes()));
    let mut environment = environment(link.as_fd().as_raw_fd());
    // What this process has raised for itself.
    let limit = Limit {
        resource: Resource::Nofile,
        soft: open_files.current.unwrap_or(u64::MAX),
        hard: open_files.maximum.unwrap_or(u64::MAX),
    };
    let path_text = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let socket: OwnedFd = link.into();
    let why = Execution {
        path: &path_text,
        arguments: &mut arguments,
        environment: &mut environment,
        stdin: rustix::stdio::stdin(),
        stdout: rustix::stdio::stdout(),
        stderr: None,
        limits: &[limit],
        nice: 0,
        group: Group::Own,
        parent: Some(parent),
        cgroup: None,
        identity: None,
        kept: Some(socket.as_fd()),
        passed: None,
        jail: None,
    }
    .run();
    let text = format!(
        "cannot execute {}: {}; name an executable file of this machine",
        path.display(),
        reason(&why)
    );
    let _ = Link::from(socket).send(&LinkMessage::Failed { code: 100, text });
    exit_now(100)
}

/// The environment of this process, with the link; and with the id of the new process where a
/// service manager watches this one (`WATCHDOG_PID`, sd_watchdog_enabled(3)).
fn environment(link: i32) -> CStrings {
    let mut environment = CStrings::default();
    for (name, value) in std::env::vars_os() {
        let value = match name.to_str() {
            Some(VARIABLE) => continue,
            Some("WATCHDOG_PID") => std::process::id().to_string().into(),
            _ => value,
        };
        let variable = [&name.into_vec()[..], b"=", &value.into_vec()].concat();
        environment.push_bytes(&variable);
    }
    environment.push(format_args!("{VARIABLE}={link}"));
    environment
}

/// The limit of open files of this process now.
pub(crate) fn open_files() -> Rlimit {
    rustix::process::getrlimit(RlimitResource::Nofile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_an_executable_that_was_replaced() {
        for (path, expected) in [
            ("/usr/bin/tine", "/usr/bin/tine"),
            ("/usr/bin/tine (deleted)", "/usr/bin/tine"),
            ("/opt/a b/tine", "/opt/a b/tine"),
        ] {
            let replacement = Replacement { executable: path.into(), ..Replacement::by([]) };
            assert_eq!(Binary::Started.path(&replacement), PathBuf::from(expected));
            assert_eq!(Binary::Own.path(&replacement), PathBuf::from(OWN_EXECUTABLE));
        }
    }
}
