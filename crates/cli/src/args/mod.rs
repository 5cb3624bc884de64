//! The command line: the commands, and the options of `tine serve` by subject, each with its help,
//! its default and its effect. The options of the smaller commands are beside their code, in
//! `commands/`.

pub mod access;
pub mod banner;
pub mod bus;
pub mod client;
pub mod control;
pub mod demo;
pub mod fleet;
pub mod fleet_command;
pub mod haproxy;
pub mod identity;
pub mod jail;
pub mod limits;
pub mod load;
pub mod logging;
pub mod observe;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod proxy_header;
pub mod readiness;
mod serve;
pub mod sockets;
pub mod times;
pub mod warm;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::diagnostics::diagnostic;
use crate::exit;

use crate::commands::check::Check;
use crate::commands::describe::{Completions, Man};
use crate::commands::explain::Explain;
use crate::commands::import::Import;
use crate::commands::jail_check::JailCheck;
use crate::commands::warm_check::WarmCheck;
use crate::control::crashes::Crashes;
use crate::control::list::List;
use crate::control::logs::Logs;
use crate::control::replace::{Reload, Upgrade};
use crate::control::set::Set;
use crate::control::show::Show;
use crate::control::status::Status;
use crate::control::steer::{Ban, Bans, Kill, OfService, Unban};
use crate::control::top::Top;
pub use client::Client;
pub use serve::Serve;

/// Serves every TCP connection in a process of its own, and tests such servers
#[derive(Debug, Parser)]
#[command(name = "tine", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: one process per connection
    Serve(Box<Serve>),
    /// Talk to a server: interactively, through a pipe, or with repeated messages
    Client(Client),
    /// Load a server with many connections and processes, check its answers, and judge the result
    Load(Box<load::Load>),
    /// Show step by step how a process per connection works, with a server and a few clients
    Demo(demo::Demo),
    /// Validate a configuration, and print it as it is understood
    Check(Check),
    /// Show which rule of a configuration decides about a client, and which limits apply
    Explain(Explain),
    /// Show which protections of a jail this system gives, and try to break out of it
    JailCheck(JailCheck),
    /// Show whether a program could be started once and copied for each connection, and what is in
    /// the way
    WarmCheck(WarmCheck),
    /// Convert the configuration of another super-server or jail, and list what has no equivalent
    Import(Import),
    /// Show what a running server does
    Status(Status),
    /// List the connections of a running server, or those that have ended
    List(List),
    /// Watch the processes and connections of a running server on the whole terminal
    Top(Top),
    /// Show a connection, its processes, its socket and its log
    Show(Show),
    /// Print the last lines of the log, and those that follow
    Logs(Logs),
    /// Show the reports of connections that have crashed, by cause, or one of them
    Crashes(Crashes),
    /// End connections, and wait until they have ended
    Kill(Kill),
    /// Close later connections of an address block at once
    Ban(Ban),
    /// Lift a ban
    Unban(Unban),
    /// List the bans
    Bans(Bans),
    /// Stop accepting; clients wait in the backlog
    #[command(after_help = exit::help("pause"))]
    Pause(OfService),
    /// Accept again
    #[command(after_help = exit::help("resume"))]
    Resume(OfService),
    /// Stop the server as TERM does, and wait until it has stopped
    #[command(after_help = exit::help("drain"))]
    Drain(OfService),
    /// Change an option of a running server, or list those that can be changed
    Set(Set),
    /// Read the configuration again, without refusing or ending a connection
    Reload(Reload),
    /// Replace the binary of a running server, without refusing or ending a connection
    Upgrade(Upgrade),
    /// Show, list, ban and drain over all nodes of a fleet
    Fleet(fleet_command::Fleet),
    /// Print a manual page, generated from the same text as --help
    Man(Man),
    /// Print completions for a shell
    Completions(Completions),
}

/// A value of the library that has a text form.
pub fn parsed<T: FromStr<Err = tine::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: tine::Error| error.to_string())
}

/// A value of the library that has a name, one of these.
pub(crate) fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = tine::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// `yes` or `no`.
fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

/// A number in a range.
fn number<T>(least: u64, most: u64) -> RangedU64ValueParser<T>
where
    T: TryFrom<u64> + Clone + Send + Sync,
{
    RangedU64ValueParser::new().range(least..=most)
}

/// A duration as an option has it.
fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// `500ms`, `10s`, `5min`. A bare 0 is a duration, too.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|why| format!("{why}; write 500ms, 10s or 5min"))
}

/// A duration that is not zero.
pub fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.is_zero() { Err("it cannot be zero".into()) } else { Ok(time) })
}

/// Prints a message of clap. Help and versions are not errors; an error is one line, with exit code
/// 100.
pub fn explain(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that closed the pipe has read enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(exit::USAGE);
    }
    diagnostic!("tine: {}; see `tine --help`, or `tine COMMAND --help`", said(error));
    ExitCode::from(exit::USAGE)
}

/// The message of an error of clap, in one line.
pub fn said(error: &clap::Error) -> String {
    one_line(&error.to_string())
}

/// Joins the paragraphs of a message with semicolons, and the items of its lists with commas.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with("For more information") && !line.starts_with("Usage:"));
    let mut joined = String::new();
    let mut in_list = false;
    for line in lines.map(|line| line.trim_start_matches("error: ")) {
        let separator = match (joined.ends_with(':'), in_list && !line.starts_with("tip: ")) {
            (true, _) => " ",
            (false, true) => ", ",
            (false, false) if joined.is_empty() => "",
            (false, false) => "; ",
        };
        in_list = separator == " " || separator == ", ";
        joined.push_str(separator);
        joined.push_str(line);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn messages_of_clap_become_one_line() {
        use clap::CommandFactory;
        for (words, meant) in [
            (&["tine", "client"][..], "the following required arguments were not provided: <ADDRESS>..."),
            (&["tine", "import"], "the following required arguments were not provided: <FORMAT>, <FILE>"),
            (
                &["tine", "serve", "--log", "xml"],
                "invalid value 'xml' for '--log <FORMAT>'; [possible values: text, json, off]",
            ),
            (
                &["tine", "serve", "--backlogs", "1"],
                "unexpected argument '--backlogs' found; tip: a similar argument exists: '--backlog'; tip: to pass '--backlogs' as a value, use '-- --backlogs'",
            ),
        ] {
            let error = Args::command().try_get_matches_from(words).expect_err("used wrongly");
            assert_eq!(said(&error), meant, "{words:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("5min", 300_000), ("0s", 0), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1 fortnight"] {
            duration(text).expect_err(text);
        }
    }
}
