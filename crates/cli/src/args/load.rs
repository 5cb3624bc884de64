//! `tine load`: options.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use tine_load::plan::sources::Block;
use tine_load::plan::{Arrivals, Close, Mode, Population};
use tine_load::units::parse_rate;
use tine_load::verdict::threshold::Threshold;

use super::bus::{LoadAgent, Together};
use super::client::FIELD_N;
use super::program::size;
use super::proxy_header::Proxy;
use super::{duration, positive};

/// `tine load`.
#[derive(Args, Debug)]
#[command(after_help = CODES)]
pub struct Load {
    /// The mode of the connections, or what to do with results
    #[command(subcommand)]
    pub command: LoadCommand,
}

const CODES: &str = "Exit codes: 0 done, 1 a result could not be written, 3 wrong bytes, 4 the \
measurement is invalid or inconclusive, 99 a limit is not kept (--fail-if) or a comparison found a \
regression, 100 usage error, 111 nothing could be reached, 130 interrupted.";

const FORMS: &str = "ADDRESS is PORT (of this host), HOST:PORT, [IPV6]:PORT, [IPV6%INTERFACE]:PORT, \
unix:PATH, unix:@NAME, vsock:PORT (of this machine) or vsock:CID:PORT. REPLY is echo (the \
bytes sent), none, end (any bytes up to the end of the stream), bytes:N, re:REGEX (found in the \
reply), or a text with \\n \\r \\t \\0 \\\\ (text:TEXT if it is one of those words).\nLIMIT is a \
figure (rate, errors, in-flight, sent, received, min, mean, p50, p90, p99, p99.9, p99.99, max, \
connect.p99, first-byte.p99, uncorrected.p99), < or >, and a value: 'p99>5ms', 'rate<1000/s', \
'errors>0', 'errors>1%'.\nExit codes: 0 done, 1 a result could not be written, 3 wrong bytes, 4 the \
measurement is invalid, 99 a limit is not kept, 100 usage error, 111 nothing could be reached, 130 \
interrupted.";

/// The modes, and the commands for results.
#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// Connect, send a request, wait for the response, close
    #[command(alias = "TCP_CRR", after_help = FORMS)]
    Crr(Measured),
    /// Connect and close
    #[command(alias = "TCP_CC", after_help = FORMS)]
    Cc(Measured),
    /// Send requests and wait for responses on kept connections
    #[command(alias = "TCP_RR", after_help = FORMS)]
    Rr(Measured),
    /// Send bytes as fast as possible, and read whatever arrives
    #[command(alias = "TCP_STREAM", after_help = FORMS)]
    Stream(Measured),
    /// Send a long message, and check every byte that comes back, and the end of the stream
    #[command(after_help = FORMS)]
    Echo(Measured),
    /// Hold connections; each exchanges a message from time to time (--think), or none (--size 0)
    #[command(after_help = FORMS)]
    Hold(Measured),
    /// Send one byte at a time (--pace) and read as slowly, with a small receive buffer
    #[command(after_help = FORMS)]
    Slow(Measured),
    /// Reset connections, each at the next stage: connecting, connected, request half sent, request
    /// sent, reply begun
    #[command(after_help = FORMS)]
    Reset(Measured),
    /// Connect and send nothing, until the server or the stop ends the connection
    #[command(after_help = FORMS)]
    Silent(Measured),
    /// Several of these modes at once
    #[command(after_help = FORMS)]
    Mix(Mixed),
    /// Compare two results
    Compare(Compare),
    /// Measure two servers in turn until it is clear which is faster
    Ab(Box<Ab>),
    /// Add up results of clients that ran at the same time
    Merge(Merge),
    /// Run parts of loads that are started with --bus on another machine
    Agent(LoadAgent),
    /// Fork the workers of an agent, which starts this command
    #[command(hide = true)]
    Runner,
}

/// A load of several modes.
#[derive(Args, Debug)]
pub struct Mixed {
    /// The modes, and the weight of each in the number of connections
    #[arg(
        long,
        value_name = "MODE=WEIGHT,…",
        value_delimiter = ',',
        default_value = "crr=5,echo=2,slow=1,reset=1,silent=1"
    )]
    pub mix: Vec<Population>,

    /// The load.
    #[command(flatten)]
    pub measured: Measured,
}

/// A load, its limits, and the files for its results.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Measured {
    /// Addresses to connect to; connections go to each in turn
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<String>,

    /// The load.
    #[command(flatten)]
    pub options: Options,

    /// The agents on other machines.
    #[command(flatten)]
    pub together: Together,

    /// Exit with code 99 if this holds; may be repeated [default for echo: errors>0]
    #[arg(long, value_name = "LIMIT")]
    pub fail_if: Vec<Threshold>,

    /// Files for results, and what is printed.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// A load.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections at the same time, over all processes [default: 16 per process; 1024 with --rate;
    /// hold: 1000]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: Option<u32>,

    /// Number of processes [default: one per processor]
    #[arg(short = 'p', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub processes: Option<u32>,

    /// Arrivals over all processes, as in 5000/s, 30/min or 100/h, at planned times whatever the
    /// server does (open loop); without it, each connection continues when the server has replied
    /// (closed loop)
    #[arg(short = 'R', long, value_name = "N/s", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// Distribution of the arrivals of an open loop
    #[arg(long, value_name = "DISTRIBUTION", value_parser = arrivals(), default_value = "constant", requires = "rate")]
    pub arrivals: Arrivals,

    /// Measured time [default: 10s, or until all --requests are done]
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = positive)]
    pub duration: Option<Duration>,

    /// Total number of connections, or of exchanges for rr and hold
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// Time at the start that the figures leave out
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub warmup: Duration,

    /// Time over which the load grows to its full size
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub ramp: Duration,

    /// Exchanges on each connection [default: 1; for rr and hold unlimited]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub per_connection: Option<u64>,

    /// Which side closes a connection, and how
    #[arg(long, value_name = "SIDE", value_parser = close(), default_value = "fin-client")]
    pub close: Close,

    /// Half-close after the last request of a connection, and expect the end of the stream after
    /// the reply; for crr
    #[arg(long)]
    pub half_close: bool,

    /// Send this text, with \n \r \t \0 \\
    #[arg(short, long, value_name = "TEXT", group = "content", allow_hyphen_values = true)]
    pub message: Option<String>,

    #[arg(long, value_name = "TEXT", group = "content", allow_hyphen_values = true, help = template_help())]
    /// A message with numbers.
    pub template: Option<String>,

    /// Send this number of self-describing bytes, as in 64, 16K, 1G [default: 64; echo: 1M; stream:
    /// unlimited]
    #[arg(long, value_name = "BYTES", group = "content", value_parser = size)]
    pub size: Option<u64>,

    /// The expected reply
    #[arg(long, value_name = "REPLY", default_value = "echo", allow_hyphen_values = true)]
    pub expect: String,

    /// Pause between two exchanges of a connection [default: none; hold: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub think: Option<Duration>,

    /// Time between two bytes for slow
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = positive)]
    pub pace: Duration,

    /// Timeout for connecting, and for an exchange; for echo, stream and slow: for progress
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive)]
    pub timeout: Duration,

    /// Connect from these addresses in turn; may be repeated [default: the kernel chooses; on IPv4
    /// loopback also 127.77.0.1 to 127.77.0.3 when no port is left]
    #[arg(long, value_name = "CIDR")]
    pub source: Vec<Block>,

    /// Connect to all addresses of a host name in turn [default: to the first one that answers]
    #[arg(long)]
    pub all_addresses: bool,

    /// The header of the PROXY protocol.
    #[command(flatten)]
    pub proxy: Proxy,

    /// Lateness of the client, at the 99th percentile of arrivals, above which an open loop is
    /// invalid
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = positive)]
    pub max_lateness: Duration,

    /// Seed of the bytes sent and of random choices
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

/// Files for results, and what is printed.
#[derive(Args, Debug)]
pub struct Outputs {
    /// Write the whole result to FILE (format: docs/load.schema.json); - replaces the summary
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the distribution of latencies to FILE, for the tools of HdrHistogram
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,

    /// Write counts for each second to FILE
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Write a page with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Show no live view on a terminal
    #[arg(long)]
    pub no_tui: bool,

    /// Print neither live view nor summary
    #[arg(short, long)]
    pub quiet: bool,
}

/// `tine load compare`.
#[derive(Args, Debug)]
pub struct Compare {
    /// The result to compare with, written by --json
    #[arg(value_name = "A.json")]
    pub before: PathBuf,

    /// The result to judge
    #[arg(value_name = "B.json")]
    pub after: PathBuf,

    /// Amount by which B may be worse
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    pub tolerance: f64,
}

/// `tine load merge`.
#[derive(Args, Debug)]
pub struct Merge {
    /// Results written by --json
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Exit with code 99 if this holds; may be repeated
    #[arg(long, value_name = "LIMIT")]
    pub fail_if: Vec<Threshold>,

    /// Files for results, and what is printed.
    #[command(flatten)]
    pub outputs: Outputs,
}

const ROUNDS: &str = "A command is run by /bin/sh; each {port} in it is replaced by a port of 127.0.0.1 \
on which the server must listen. Servers are restarted for each round. Rounds come in blocks ABBA or \
BAAB, at random. The result is the geometric mean of the ratios of all pairs, with its 95 % interval \
(Student's t); the ratio of A to A in the same blocks shows the noise.\nExit codes: 0 precise enough, 3 \
wrong bytes, 4 not precise enough after --max-pairs, 99 B is worse than --tolerance allows, 100 usage \
error, 111 a server did not start, 130 interrupted.";

/// `tine load ab`.
#[derive(Args, Debug)]
#[command(after_help = ROUNDS)]
pub struct Ab {
    /// The server to compare with
    #[arg(long, value_name = "COMMAND")]
    pub a: String,

    /// The server to judge
    #[arg(long, value_name = "COMMAND")]
    pub b: String,

    /// The mode of the connections
    #[arg(long, value_name = "MODE", default_value = "crr", value_parser = mode)]
    pub mode: Mode,

    /// Stop when both ends of the interval are this close to the mean
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = percent)]
    pub precision: f64,

    /// Maximum number of pairs
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub max_pairs: u32,

    /// Amount by which B may be worse
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    pub tolerance: f64,

    /// The load of each round; the default of --duration is 2s, that of --warmup 500ms.
    #[command(flatten)]
    pub options: Options,

    /// Write all rounds and the comparison to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Do not print the rounds
    #[arg(short, long)]
    pub quiet: bool,
}

fn template_help() -> String {
    format!(
        "Send this text, with {FIELD_N} for the number of the exchange on its connection and {{c}} for the \
         number of the connection"
    )
}

/// Parses `5%`, as a part of 1.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let number = number.filter(|number: &f64| *number > 0.0 && *number < 100.0);
    number.map(|number| number / 100.0).ok_or_else(|| "write a percentage, as in 5%".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map(|one: Population| one.mode)
}

fn arrivals() -> impl TypedValueParser<Value = Arrivals> {
    one_of(&Arrivals::ALL, &["Equal intervals", "Independent arrivals (Poisson process)"])
}

fn close() -> impl TypedValueParser<Value = Close> {
    one_of(&Close::ALL, &["The client closes first", "The server closes first", "The client resets"])
}

/// Parses a name from a table, with a line of help for each.
fn one_of<T: Copy + Send + Sync + 'static>(
    table: &'static [(T, &'static str)],
    help: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    let values = table.iter().zip(help).map(|((_, name), help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values.collect::<Vec<_>>()).map(|name| {
        let found = table.iter().find(|(_, one)| *one == name);
        found.expect("clap accepts the names of the table only").0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_parsed() {
        assert_eq!((percent("5%"), percent("2.5")), (Ok(0.05), Ok(0.025)));
        for text in ["", "%", "0%", "100%", "-1%", "x"] {
            percent(text).expect_err(text);
        }
    }

    #[test]
    fn every_value_of_an_option_has_help() {
        assert_eq!(arrivals().possible_values().map_or(0, Iterator::count), Arrivals::ALL.len());
        assert_eq!(close().possible_values().map_or(0, Iterator::count), Close::ALL.len());
    }
}
