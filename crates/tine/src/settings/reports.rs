//! The settings of what a server reports: its log, what it tells operators, and that it is ready.

use std::path::PathBuf;

use super::Server;
use super::control::Control;
use crate::admission::access::Access;
use crate::log::{LogFormat, LogLevel, LogTarget};
use crate::net::privacy::Privacy;

/// Log, control and readiness.
impl Server {
    /// Sets the control socket. Default: none.
    #[must_use]
    pub fn control(mut self, control: Control) -> Server {
        self.settings.control = control;
        self
    }

    /// Sets the number of connections that have ended of which the control socket tells. Default:
    /// 1000.
    #[must_use]
    pub fn history(mut self, connections: usize) -> Server {
        self.settings.history = connections;
        self
    }

    /// Sets the directory of crash reports: files about connections that have ended by a signal or
    /// a panic, of which the last 100 are kept, each of at most 64 KiB. With several services, each
    /// has a directory of its own in it. What is missing is made, for the user of the connections.
    /// Standard error of handlers and programs then goes through a process that remembers its last
    /// lines. Default: none.
    #[must_use]
    pub fn crash_dir(mut self, directory: impl Into<PathBuf>) -> Server {
        self.settings.crash_dir = Some(directory.into());
        self
    }

    /// Sets where the log goes. Default: standard error. Other targets are written by a process of
    /// their own; one that cannot be opened ends the start.
    #[must_use]
    pub fn log_target(mut self, target: LogTarget) -> Server {
        self.log.target = target;
        self
    }

    /// Sets the format of the log. Default: text.
    #[must_use]
    pub fn log_format(mut self, format: LogFormat) -> Server {
        self.log.format = format.into();
        self
    }

    /// Sets which events are logged. Default: all.
    #[must_use]
    pub fn log_level(mut self, level: LogLevel) -> Server {
        self.log.level = level;
        self
    }

    /// Sets how the addresses of clients and proxies are shown: in the log, by the control socket
    /// and in titles. Filters of the control socket compare the addresses themselves. Default: as
    /// they are.
    #[must_use]
    pub fn privacy(mut self, privacy: Privacy) -> Server {
        privacy.prepare();
        self.settings.privacy = privacy;
        self
    }

    /// Excludes the clients that these rules allow from the log: their connections are logged only
    /// if they fail. They are counted as all others. For health checks of load balancers. Default:
    /// no client. Clients over Unix sockets are named by their user.
    #[must_use]
    pub fn log_exclude(mut self, clients: Access) -> Server {
        self.settings.limits.log_exclude = Some(clients.compiled());
        self
    }

    /// Sets whether the server prints the port of each TCP address on standard output when it is
    /// ready; standard output then becomes `/dev/null`. Default: false.
    #[must_use]
    pub fn print_ports(mut self, print: bool) -> Server {
        self.ready.ports = print;
        self
    }

    /// Sets the number of an inherited descriptor that the server writes a newline to, and closes,
    /// when it is ready (the convention of s6). Default: none.
    #[must_use]
    pub fn ready_descriptor(mut self, number: i32) -> Server {
        self.settings.ready_descriptor = Some(number);
        self
    }

    /// Sets the file that holds the process id of the server while it serves (`PIDFile=`,
    /// systemd.service(5)). It is written before readiness is reported, in place of an older one,
    /// and removed at the end. Default: none.
    #[must_use]
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Server {
        self.ready.pid_path = Some(path.into());
        self
    }
}
