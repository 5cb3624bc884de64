//! Saying that the server is ready, to whoever waits for it.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use sd_notify::NotifyState;

use crate::error::Error;
use crate::net::listener::Listener;

/// Who is told, besides a service manager that set `NOTIFY_SOCKET`.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Print each port on standard output, which becomes `/dev/null`.
    pub(crate) ports: bool,
    /// What was standard output before.
    stdout: Option<OwnedFd>,
    /// Write a newline here, then close it (s6).
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Ready {
    /// Nobody is told but who waits at this descriptor.
    pub(crate) fn at(descriptor: Option<OwnedFd>) -> Ready {
        Ready { descriptor, ..Ready::default() }
    }

    /// Before the first fork: no process of the server keeps standard output open, so that whoever
    /// reads the ports sees the end after them.
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

    /// Clients can connect from now on.
    pub(crate) fn say<'a>(&mut self, listeners: impl IntoIterator<Item = &'a Listener>) -> Result<(), Error> {
        if let Some(stdout) = self.stdout.take() {
            print_ports(stdout, listeners).map_err(cannot_print)?;
        }
        if let Some(descriptor) = self.descriptor.take() {
            let said = rustix::io::write(&descriptor, b"\n");
            said.map_err(|why| {
                let next = "give --ready-fd a descriptor that is open for writing";
                Error::system("cannot say that the server is ready", &why.into(), next)
            })?;
        }
        // Whoever set NOTIFY_SOCKET and does not listen to it loses only the message.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        Ok(())
    }

    /// The server drains.
    pub(crate) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

fn print_ports<'a>(stdout: OwnedFd, listeners: impl IntoIterator<Item = &'a Listener>) -> Result<(), Errno> {
    let ports =
        listeners.into_iter().filter(|listener| !listener.repeats).filter_map(|listener| listener.port);
    let text: String = ports.map(|port| format!("{port}\n")).collect();
    // A few bytes: a pipe takes them as a whole.
    rustix::io::write(&stdout, text.as_bytes()).map(drop)
}

fn cannot_print(why: Errno) -> Error {
    Error::system("cannot print the port", &why.into(), "give standard output a reader, or leave out -1")
}
