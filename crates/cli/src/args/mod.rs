//! What may be typed: the only place that knows the command line.

pub mod load;
pub mod program;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::exit;

pub use serve::{Serve, Service, WhenFull, WhenLimited};

/// Serves every TCP connection in a process of its own, and puts such servers to the test.
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
    /// Serve: a process for every connection
    Serve(Box<Serve>),
    /// Talk to a server: by hand, through a pipe, or with a message every so often
    Client(Client),
    /// Load a server from many connections and processes, check and judge what it does
    Load(Box<load::Load>),
    /// Look whether a configuration can be served, and print it as it is understood
    Check(Check),
    /// Say which rule of a configuration decides about a client
    Explain(Explain),
    /// Print the configuration that means the same as another super-server's, and name what has no equivalent
    Import(Import),
    /// Print a manual page, made from the same text as --help
    Man(Man),
    /// Print completions for a shell
    Completions(Completions),
}

/// `tine check`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{CHECKED}\n{}", exit::help("check")))]
pub struct Check {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `tine explain`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("The server decides in the same way.\n{}", exit::help("explain")))]
pub struct Explain {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The client's address
    #[arg(value_name = "PEER")]
    pub peer: std::net::IpAddr,

    /// As if it were this time: 12:30 (today), 'Sat 12:30' or 2026-11-24T12:30, local time [default: now]
    #[arg(long, value_name = "TIME", value_parser = parsed::<tine::cli::Moment>)]
    pub at: Option<tine::cli::Moment>,

    /// As if this were the name of its host [default: looked up where a service asks for names]
    #[arg(long, value_name = "HOST")]
    pub name: Option<String>,
}

/// `tine import`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{IMPORTED}\n{}", exit::help("import")))]
pub struct Import {
    /// Whose it is
    #[arg(value_name = "KIND", value_enum)]
    pub kind: ImportKind,

    /// The configuration; what it includes is read, too
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Import services that are disabled, too
    #[arg(long)]
    pub all: bool,
}

/// The super-servers whose configurations are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportKind {
    /// xinetd.conf(5)
    Xinetd,
    /// inetd.conf, of the BSDs, of GNU, of Debian
    Inetd,
}

/// `tine man`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("man"))]
pub struct Man {
    /// The command to describe, as in `load crr`; all of tine without one
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `tine completions`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("completions"))]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
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
    #[arg(short, long, value_name = "TEMPLATE", value_parser = tine_load::text::Template::parse)]
    pub message: Option<tine_load::text::Template>,

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

const IMPORTED: &str = "A comment beside each service lists what has no equivalent. Validate the result with `tine check`, \
which also looks up users and programs.";

const CHECKED: &str = "Looks up users, groups, programs, directories and hosts, and binds no address. Prints an equivalent \
configuration with the values of all keys in effect.";

/// A value of the library that has a text form.
fn parsed<T: FromStr<Err = tine::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: tine::Error| error.to_string())
}

/// A value of the library that has a name, one of these.
fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = tine::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// `500ms`, `10s`, `5min`. A bare 0 is a duration, too.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|why| format!("{why}; write 500ms, 10s or 5min"))
}

/// A duration that is not zero.
pub fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.is_zero() { Err("it cannot be zero".into()) } else { Ok(time) })
}

/// Prints what clap has to say. Help and version are no errors; the rest is one line, exit code 100.
pub fn explain(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Whoever asked for help and closed the pipe has read enough.
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

/// What clap says is wrong, in one line.
pub fn said(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraphs: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said: Vec<&str> = paragraphs
        .iter()
        .map(|line| line.trim_start_matches("error: "))
        .filter(|line| !line.starts_with("For more information") && !line.starts_with("Usage:"))
        .collect();
    said.join("; ")
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
    fn durations() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("5min", 300_000), ("0s", 0), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1 fortnight"] {
            duration(text).expect_err(text);
        }
    }
}
