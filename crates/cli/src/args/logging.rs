//! The log.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap::builder::PossibleValuesParser;
use tine::{Access, LogFormat, LogLevel, LogTarget, Privacy, Server, Services};

use super::access::allowed;
use super::choice;
use crate::error::Error;

/// Above the options of the log, which concern the server as a whole.
pub const HEADING: &str = "Log";

/// The options of the log.
#[derive(ClapArgs, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct LogOptions {
    /// Format of the log, one line per event; off: no log
    #[arg(long, value_name = "FORMAT", default_value_t, value_parser = choice::<LogFormat>(LogFormat::NAMES))]
    pub log: LogFormat,

    /// Where the log goes: standard error, the system log (RFC 5424, /dev/log), or the journal with
    /// a field for each key [default: stderr]
    #[arg(long, value_name = "TARGET", value_parser = PossibleValuesParser::new(["stderr", "syslog", "journal"]))]
    pub log_target: Option<String>,

    /// File to which the log is appended instead; HUP opens it again
    #[arg(long, value_name = "PATH", conflicts_with = "log_target")]
    pub log_file: Option<PathBuf>,

    /// Also log the bytes that connections receive, shortened and escaped
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,

    /// Log only errors and warnings
    #[arg(short, long)]
    pub quiet: bool,

    /// Show the addresses of clients as they are, as their block (IPv4 /24, IPv6 /48), or hashed
    /// with a key of this start: in the log, in lists and in titles
    #[arg(long, value_name = "HOW", default_value_t, value_parser = choice::<Privacy>(Privacy::NAMES))]
    pub privacy: Privacy,
}

/// The options of the log that a service has for itself.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Log of connections")]
pub struct ConnectionLogOptions {
    /// Log connections from these addresses only if they fail, as for health checks; may be
    /// repeated [an address, a block as in 192.0.2.0/24, any, or uid:USER over Unix sockets]
    #[arg(long, value_name = "CIDR")]
    pub log_exclude: Vec<String>,
}

impl ConnectionLogOptions {
    /// The server with these options.
    ///
    /// # Errors
    /// An address is invalid.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        Ok(match self.excluded()? {
            Some(clients) => server.log_exclude(clients),
            None => server,
        })
    }

    /// The clients whose connections are logged only if they fail, if there are any.
    ///
    /// # Errors
    /// As [`ConnectionLogOptions::apply`].
    pub fn excluded(&self) -> Result<Option<Access>, Error> {
        allowed(&self.log_exclude)
    }
}

impl LogOptions {
    /// The server with this log, wherever that goes.
    #[must_use]
    pub fn apply(&self, server: Server) -> Server {
        server.log_format(self.log).log_level(self.level()).privacy(self.privacy)
    }

    /// Where the log goes.
    #[must_use]
    pub fn target(&self) -> LogTarget {
        match (&self.log_file, self.log_target.as_deref()) {
            (Some(path), _) => LogTarget::File(path.clone()),
            (None, Some("syslog")) => LogTarget::Syslog,
            (None, Some("journal")) => LogTarget::Journal,
            (None, _) => LogTarget::Stderr,
        }
    }

    /// The services with this log of their master.
    #[must_use]
    pub fn apply_to_all(&self, services: Services) -> Services {
        services.log_format(self.log).log_level(self.level()).log_target(self.target())
    }

    /// Which events are logged.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        match (self.verbose, self.quiet) {
            (true, _) => LogLevel::Verbose,
            (false, true) => LogLevel::Quiet,
            (false, false) => LogLevel::Normal,
        }
    }

    /// Whether the log is read at a terminal.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        let is_here = self.target() == LogTarget::Stderr;
        is_here && self.log == LogFormat::Text && !self.quiet && std::io::stderr().is_terminal()
    }
}
