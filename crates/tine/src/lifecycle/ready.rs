//! Readiness notification: the ports on standard output, a newline on a descriptor (s6), and the
//! message of sd_notify(3). Runs in the master, or in a single supervisor.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use sd_notify::NotifyState;

use crate::error::{Error, ErrorKind};

/// The receivers of the notification, besides a service manager that set `NOTIFY_SOCKET`.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Print each port on standard output, which then becomes `/dev/null`.
    pub(crate) ports: bool,
    /// The original standard output, once [`Ready::prepare`] has replaced it.
    stdout: Option<OwnedFd>,
    /// Write a newline to this descriptor, then close it.
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Ready {
    /// Notifies the process at the other end of this descriptor only.
    pub(crate) fn at(descriptor: Option<OwnedFd>) -> Ready {
        Ready { descriptor, ..Ready::default() }
    }

    /// Replaces standard output by `/dev/null`, before the first fork: no process of the server
    /// keeps the original one open, so that its reader sees the end of the file after the ports.
    pub(crate) fn prepare(&mut self, lowest: i32) -> Result<(), Error> {
        if !self.ports {
            return Ok(());
        }
        let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let kept = fcntl_dupfd_cloexec(rustix::stdio::stdout(), lowest)
            .and_then(|kept| rustix::stdio::dup2_stdout(null()?).map(|()| kept));
        self.stdout = Some(kept.map_err(cannot_print)?);
        Ok(())
    }

    /// Notifies every receiver that clients can connect.
    pub(crate) fn notify(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<(), Error> {
        if let Some(stdout) = self.stdout.take() {
            print_ports(&stdout, ports).map_err(cannot_print)?;
        }
        if let Some(descriptor) = self.descriptor.take() {
            rustix::io::write(&descriptor, b"\n").map_err(|why| {
                let next = "pass a readiness descriptor that is open for writing";
                let what = "cannot notify that the server is ready";
                Error::new(ErrorKind::Readiness, what, next).because(&why.into())
            })?;
        }
        // Without a receiver at NOTIFY_SOCKET, only the message is lost.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        Ok(())
    }

    /// Notifies the service manager that the server drains.
    pub(crate) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

fn print_ports(stdout: &OwnedFd, ports: impl IntoIterator<Item = u16>) -> Result<(), Errno> {
    let lines: String = ports.into_iter().map(|port| format!("{port}\n")).collect();
    // Less than PIPE_BUF, so that a pipe takes all of it (pipe(7)).
    rustix::io::write(stdout, lines.as_bytes()).map(drop)
}

fn cannot_print(why: Errno) -> Error {
    let next = "redirect standard output to a reader or a file, or do not print the ports";
    Error::new(ErrorKind::Readiness, "cannot print the port on standard output", next).because(&why.into())
}
