//! What the server tells those that started it: that it is ready (the pid file, the ports on
//! standard output, a newline on a descriptor as for s6, the message of sd_notify(3)), that it is
//! alive, that it stops. Runs in the master, or in a single supervisor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use sd_notify::NotifyState;

use crate::error::{Error, ErrorKind, next_move, one_line};
use crate::lifecycle::pid_file::PidFile;
use crate::lifecycle::startup::StartSender;

/// The receivers of the notification, besides a service manager that set `NOTIFY_SOCKET`.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Print each port on standard output, which then becomes `/dev/null`.
    pub(crate) ports: bool,
    /// The original standard output, once [`Ready::prepare`] has replaced it.
    stdout: Option<OwnedFd>,
    /// Write a newline to this descriptor, then close it.
    pub(crate) descriptor: Option<OwnedFd>,
    /// Where the pid file is written.
    pub(crate) pid_path: Option<PathBuf>,
    pid_file: Option<PidFile>,
    /// The master, where it waits for this process.
    master: Option<StartSender>,
    watchdog: Option<Watchdog>,
    /// An older process reports that this one serves.
    takes_over: bool,
    /// Reloads and replacements that are in progress.
    reloads: usize,
    /// The status that the service manager was told is that the last one has failed.
    has_failed: bool,
    /// A newer process serves.
    is_replaced: bool,
    is_stopping: bool,
}

/// The keep-alive messages that a service manager expects (sd_watchdog_enabled(3)).
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Ready {
    /// Notifies the master only, if it waits.
    pub(crate) fn to_master(master: Option<StartSender>) -> Ready {
        Ready { master, ..Ready::default() }
    }

    /// Whether the master waits for this process.
    pub(crate) fn has_master(&self) -> bool {
        self.master.is_some()
    }

    /// Every process of this service can serve: waits until those of all services can. False if the
    /// master has ended.
    pub(crate) fn entered(&self) -> bool {
        self.master.as_ref().is_none_or(|master| {
            master.entered();
            master.wait()
        })
    }

    /// Tells the master why this service cannot start.
    pub(crate) fn failed(&self, error: &Error) {
        self.master.iter().for_each(|master| master.failed(error));
    }

    /// Replaces standard output by `/dev/null`, before the first fork: no process of the server
    /// keeps the original one open, so that its reader sees the end of the file after the ports.
    pub(crate) fn prepare(&mut self, lowest: i32) -> Result<(), Error> {
        if !self.ports {
            return Ok(());
        }
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let null = null.map_err(|why| {
            let why = why.into();
            Error::system("cannot open /dev/null", &why, next_move::of_null_device(&why))
        })?;
        let kept = fcntl_dupfd_cloexec(rustix::stdio::stdout(), lowest)
            .and_then(|kept| rustix::stdio::dup2_stdout(null).map(|()| kept));
        self.stdout = Some(kept.map_err(cannot_print)?);
        Ok(())
    }

    /// Writes the pid file, before any other notification.
    pub(crate) fn write_pid_file(&mut self) -> Result<(), Error> {
        let Some(path) = &self.pid_path else { return Ok(()) };
        let written = PidFile::write(path).map_err(|why| {
            let what = format!("cannot write the pid file {}", path.display());
            Error::system(what, &why, next_move::of_file(&why))
        });
        self.pid_file = Some(written?);
        Ok(())
    }

    /// Notifies every receiver that clients can connect.
    pub(crate) fn notify(&mut self, ports: impl IntoIterator<Item = u32>) -> Result<(), Error> {
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
        if let Some(master) = self.master.take() {
            master.entered();
        }
        // Without a receiver at NOTIFY_SOCKET, only the message is lost.
        if !self.takes_over {
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        // Twice as often as the service manager expects it, as sd_watchdog_enabled(3) recommends.
        let interval = sd_notify::watchdog_enabled().map(|time| time / 2);
        let interval = interval.filter(|_| has_service_manager());
        self.watchdog = interval.map(|interval| Watchdog { interval, next: Instant::now() });
        Ok(())
    }

    /// When [`Ready::keep_alive`] is due.
    pub(crate) fn keep_alive_at(&self) -> Option<Instant> {
        self.watchdog.map(|watchdog| watchdog.next)
    }

    /// Tells a service manager with a watchdog that the server is alive, when that is due.
    pub(crate) fn keep_alive(&mut self) {
        let now = Instant::now();
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.next <= now
        {
            watchdog.next = now + watchdog.interval;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }

    /// Tells the service manager that the server reads its configuration again, or is replaced.
    /// Each call is followed by one that says that it has ended.
    pub(crate) fn reloading(&mut self) {
        self.reloads += 1;
        if let Ok(monotonic) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[NotifyState::Reloading, monotonic]);
        }
    }

    /// Tells the service manager that a reload has ended, once none is in progress; and why it has
    /// failed.
    pub(crate) fn ready_again(&mut self, failure: Option<&str>) {
        self.reloads = self.reloads.saturating_sub(1);
        if self.reloads > 0 {
            return;
        }
        let had_failed = std::mem::replace(&mut self.has_failed, failure.is_some());
        let _ = match (failure, had_failed) {
            (None, false) => sd_notify::notify(&[NotifyState::Ready]),
            (failure, _) => {
                let status = one_line(failure.unwrap_or_default());
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)])
            }
        };
    }

    /// A replacement cannot begin. A service manager that has asked for it, by a signal, waits for
    /// both messages (`Type=notify-reload` in systemd.service(5)); a command is answered.
    pub(crate) fn not_begun(&mut self, asked_by: Option<i32>, failure: &str) {
        if asked_by.is_none() && !self.is_replaced && !self.is_stopping {
            self.reloading();
            self.ready_again(Some(failure));
        }
    }

    /// Tells the service manager that another process serves, which it watches from now on, unless
    /// this one stays until that ends. What follows is told by the other process.
    pub(crate) fn replaced(&mut self, pid: i32, stays: bool) {
        self.is_replaced = true;
        match u32::try_from(pid) {
            Ok(pid) if !stays => {
                self.watchdog = None;
                let _ = sd_notify::notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
            }
            _ => self.ready_again(None),
        }
    }

    /// This process takes over from another one, which reports that to the service manager.
    pub(crate) fn takes_over(&mut self) {
        self.takes_over = true;
    }

    /// Notifies the service manager that the server drains.
    pub(crate) fn stopping(&mut self) {
        self.is_stopping = true;
        if self.is_replaced {
            return;
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

/// Whether a service manager wants to hear from this process (sd_notify(3)).
pub(crate) fn has_service_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn print_ports(stdout: &OwnedFd, ports: impl IntoIterator<Item = u32>) -> Result<(), Errno> {
    let lines: String = ports.into_iter().map(|port| format!("{port}\n")).collect();
    // Less than PIPE_BUF, so that a pipe takes all of it (pipe(7)).
    rustix::io::write(stdout, lines.as_bytes()).map(drop)
}

fn cannot_print(why: Errno) -> Error {
    let next = "redirect standard output to a reader or a file, or do not print the ports";
    Error::new(ErrorKind::Readiness, "cannot print the port on standard output", next).because(&why.into())
}
