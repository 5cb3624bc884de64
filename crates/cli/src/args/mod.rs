//! The command line: the commands, and the options of `tine serve` by subject, each with its help, its
//! default and its effect. The options of the smaller commands are beside their code, in `commands/`.

pub mod access;
pub mod identity;
pub mod limits;
pub mod load;
pub mod logging;
pub mod processes;
pub mod program;
pub mod readiness;
mod serve;
pub mod sockets;
pub mod times;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::exit;

use crate::commands::check::Check;
use crate::commands::describe::{Completions, Man};
use crate::commands::explain::Explain;
use crate::commands::import::Import;
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
    /// Validate a configuration, and print it as it is understood
    Check(Check),
    /// Show which rule of a configuration decides about a client, and which limits apply
    Explain(Explain),
    /// Convert the configuration of another super-server, and list what has no equivalent
    Import(Import),
    /// Print a manual page, generated from the same text as --help
    Man(Man),
    /// Print completions for a shell
    Completions(Completions),
}

/// `tine client`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXCHANGE, args_override_self = true)]
pub struct Client {
    /// Where to connect to; connections are dealt out over several
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<String>,

    /// Send this again and again instead of standard input; {n} is the number of the message, {c} of the
    /// connection, from 0, and \\n \\r \\t \\0 \\\\ stand for what they do in C
    #[arg(short, long, value_name = "TEMPLATE", value_parser = tine_load::plan::text::Template::parse)]
    pub message: Option<tine_load::plan::text::Template>,

    /// Time from one message to the next
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration, requires = "message")]
    pub every: Duration,

    /// Messages on each connection [default: no end]
    #[arg(long, value_name = "N", requires = "message", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Check that what comes back is what was sent
    #[arg(long, requires = "message")]
    pub expect_echo: bool,

    /// Connections in all, each in a process of its own
    #[arg(short = 'c', long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Bundle the connections in this many processes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=30_000))]
    pub processes: Option<u32>,

    /// How long to wait for a connection to be made, and for the rest after the last message
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub wait: Duration,

    /// Do not print what comes back, nor the summary
    #[arg(short, long)]
    pub quiet: bool,
}

const EXCHANGE: &str = "Without --message, standard input goes to the server and what comes back to standard output; after the \
end of input, the rest is waited for.\nExit codes: 0 done, 3 a reply differs from what was sent (--expect-echo), 100 \
used wrongly, 111 a connection failed, 130 interrupted.";

/// A value of the library that has a text form.
pub fn parsed<T: FromStr<Err = tine::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: tine::Error| error.to_string())
}

/// A value of the library that has a name, one of these.
fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = tine::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
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

/// Prints a message of clap. Help and versions are not errors; an error is one line, with exit code 100.
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
    eprintln!("tine: {}; see `tine --help`, or `tine COMMAND --help`", said(error));
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
