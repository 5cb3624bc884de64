//! Other super-servers: called by the name of one, tine has its options, environment, log lines and
//! exit codes. docs/compatibility.md lists them.

mod cdb;
mod client;
mod ident;
mod listener;
pub(crate) mod s6;
pub(crate) mod tcpserver;
mod tcpsvd;
pub(crate) mod ucspi;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use tine::cli::{Dialect, log_as};
use tine::{ClientGone, Identity, LogFormat, LogLevel, Program, Server};

use crate::diagnostics::diagnostic;
use crate::exit;
use ucspi::Verbosity;

/// A name by which tine can be called.
pub(crate) struct PeerName {
    name: &'static str,
    main: fn(&mut dyn Iterator<Item = OsString>) -> Result<(), Failure>,
}

/// All names.
static TABLE: [PeerName; 5] = [
    PeerName { name: "tcpserver", main: tcpserver::main },
    PeerName { name: "tcpsvd", main: tcpsvd::main },
    PeerName { name: "s6-tcpserver", main: s6::tcpserver::main },
    PeerName { name: "s6-tcpserver-access", main: s6::access::main },
    PeerName { name: "s6-ipcserver", main: s6::ipcserver::main },
];

/// The entry for the name by which a command was called, in whatever folder; `None` for `tine`.
pub(crate) fn find(called: &OsStr) -> Option<&'static PeerName> {
    let name = Path::new(called).file_name()?;
    TABLE.iter().find(|entry| name == entry.name)
}

impl PeerName {
    /// Serves with these arguments until SIGTERM.
    pub(crate) fn run(&self, mut words: impl Iterator<Item = OsString>) -> ExitCode {
        match (self.main)(&mut words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure { code, line }) => {
                line.into_iter().for_each(|line| diagnostic!("{line}"));
                ExitCode::from(code)
            }
        }
    }
}

/// Why a command ends: the exit code, and the line on standard error.
#[derive(Debug)]
struct Failure {
    code: u8,
    line: Option<String>,
}

impl Failure {
    fn new(code: u8, line: impl Into<String>) -> Failure {
        Failure { code, line: Some(line.into()) }
    }

    /// A temporary error of the system.
    fn system(line: impl Into<String>) -> Failure {
        Failure::new(exit::SYSTEM, line)
    }
}

/// What a super-server does, in terms of tine.
struct Plan {
    socket: OwnedFd,
    program: Program,
    dialect: Dialect,
    verbosity: Verbosity,
    limit: usize,
    identity: Option<Identity>,
}

impl Plan {
    /// The server. As with all these super-servers, programs outlive it, and go on when their
    /// clients are gone.
    fn server(self) -> Result<(Server, Program), tine::Error> {
        let mut server = Server::from_listener(self.socket)?
            .max_connections(self.limit)
            .leave_connections(true)
            .client_gone(ClientGone::Leave);
        if let Some(identity) = self.identity {
            server = server.identity(identity);
        }
        server = match self.verbosity {
            Verbosity::Quiet => server.log_format(LogFormat::Off),
            Verbosity::Errors => log_as(server, self.dialect),
            Verbosity::Verbose => log_as(server, self.dialect).log_level(LogLevel::Verbose),
        };
        Ok((server, self.program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options that the page of compatibility names for tine: everywhere but in the first cell of a
    /// table, which has those of the other tool.
    fn named_options(page: &str) -> std::collections::BTreeSet<String> {
        let ours = |line: &str| match line.strip_prefix("| ") {
            Some(row) => row.split_once(" | ").map_or("", |(_, rest)| rest).to_owned(),
            None => line.to_owned(),
        };
        let text: String = page.lines().map(|line| ours(line) + "\n").collect();
        let words = text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let words = words.iter().flat_map(|word| word.split([' ', '\n', '=']));
        words.filter(|word| word.len() > 2 && word.starts_with("--")).map(str::to_owned).collect()
    }

    #[test]
    fn the_options_that_the_page_names_exist() {
        use clap::CommandFactory;
        let page = include_str!("../../../../docs/compatibility.md");
        let named = named_options(page);
        assert!(named.len() > 40, "{named:?}");
        let command = crate::args::Args::command();
        let known: std::collections::BTreeSet<String> = command
            .get_subcommands()
            .flat_map(|command| command.get_arguments())
            .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
            .collect();
        let unknown: Vec<&String> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "docs/compatibility.md names options that do not exist: {unknown:?}");
        for entry in &TABLE {
            assert!(page.contains(&format!("| `{}` |", entry.name)), "{}", entry.name);
        }
    }

    #[test]
    fn names_are_found_in_any_folder() {
        for (called, name) in [
            ("tcpserver", Some("tcpserver")),
            ("/usr/bin/tcpsvd", Some("tcpsvd")),
            ("./s6-tcpserver", Some("s6-tcpserver")),
            ("/a/s6-tcpserver-access", Some("s6-tcpserver-access")),
            ("s6-ipcserver", Some("s6-ipcserver")),
            ("tine", None),
            ("tcpserver2", None),
            ("tcpserver/tine", None),
            ("", None),
        ] {
            assert_eq!(find(OsStr::new(called)).map(|entry| entry.name), name, "{called}");
        }
    }
}
