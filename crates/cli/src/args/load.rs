//! `tine load`, as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tine_load::plan::Population;
use tine_load::plan::sources::Block;
use tine_load::verdict::threshold::Threshold;

use super::program::size;
use super::{duration, positive};

/// `tine load`.
#[derive(Args, Debug)]
#[command(after_help = CODES)]
pub struct Load {
    /// What connections do, or what to do with results.
    #[command(subcommand)]
    pub what: What,
}

const CODES: &str = "Exit codes: 0 done, 1 a result could not be written, 3 wrong bytes, 4 the measurement is invalid or inconclusive, 99 a \
limit is not kept (--fail-if) or a comparison found a regression, 100 used wrongly, 111 nothing could be reached, 130 interrupted.";

const MEANINGS: &str = "ADDRESS is HOST:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME. WHAT is echo (what was sent), none, end (anything, up to \
the end of the stream), bytes:N, re:REGEX (found in the reply), or the text itself, with \\n \\r \\t \\0 \\\\ (text:TEXT where it is one of those \
words).\nA limit is a figure (rate, errors, in-flight, sent, received, min, mean, p50, p90, p99, p99.9, p99.99, max, connect.p99, first-byte.p99, \
uncorrected.p99), < or >, and a value: 'p99>5ms', 'rate<1000/s', 'errors>0', 'errors>1%'.\nExit codes: 0 done, 1 a result could not be written, 3 wrong \
bytes, 4 the measurement is invalid, 99 a limit is not kept, 100 used wrongly, 111 nothing could be reached, 130 interrupted.";

/// The modes, and what is done with results.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Connect, send a request, wait for its response, close; again and again
    #[command(alias = "TCP_CRR", after_help = MEANINGS)]
    Crr(Measured),
    /// Connect and close
    #[command(alias = "TCP_CC", after_help = MEANINGS)]
    Cc(Measured),
    /// Requests and responses on connections that are kept
    #[command(alias = "TCP_RR", after_help = MEANINGS)]
    Rr(Measured),
    /// Send bytes as fast as they go, and read whatever comes
    #[command(alias = "TCP_STREAM", after_help = MEANINGS)]
    Stream(Measured),
    /// Send much, and check every byte that comes back, and the end of the stream
    #[command(after_help = MEANINGS)]
    Echo(Measured),
    /// Hold connections; each exchanges a message now and then (--think), or none (--size 0)
    #[command(after_help = MEANINGS)]
    Hold(Measured),
    /// Send one byte at a time (--pace), and read as slowly, with a small receive buffer
    #[command(after_help = MEANINGS)]
    Slow(Measured),
    /// Reset each connection, in turn while it is made, made, half of the request sent, all sent, answered in part
    #[command(after_help = MEANINGS)]
    Reset(Measured),
    /// Connect and say nothing, until the server or the stop ends it
    #[command(after_help = MEANINGS)]
    Silent(Measured),
    /// Several of these at once
    #[command(after_help = MEANINGS)]
    Mix(Mixed),
    /// Set two results side by side
    Compare(Compare),
    /// Measure two servers in turn until it is clear which is faster
    Ab(Box<Ab>),
    /// Add up results of parts that ran at the same time, exactly
    Merge(Merge),
}

/// A load of several modes.
#[derive(Args, Debug)]
pub struct Mixed {
    /// The modes, with their parts of the connections
    #[arg(
        long,
        value_name = "MODE=WEIGHT,…",
        value_delimiter = ',',
        default_value = "crr=5,echo=2,slow=1,reset=1,silent=1"
    )]
    pub mix: Vec<Population>,

    /// The rest.
    #[command(flatten)]
    pub measured: Measured,
}

/// A load and where its results go.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Measured {
    /// Where to connect to; connections are dealt out over several
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<String>,

    /// The load.
    #[command(flatten)]
    pub options: Options,

    /// Fail with exit code 99 if this is so; may be repeated [default in echo: errors>0]
    #[arg(long, value_name = "LIMIT")]
    pub fail_if: Vec<Threshold>,

    /// Where results go.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// A load.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections at a time, over all processes [default: 16 for each process; 1024 with --rate; hold: 1000]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: Option<u32>,

    /// Processes that load [default: one for each processor]
    #[arg(short = 'p', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub processes: Option<u32>,

    /// Begin so many a second in all, whatever the server does (open loop), as in 5000/s; without it, each connection
    /// goes on when its server has answered (closed loop)
    #[arg(short = 'R', long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<f64>,

    /// How arrivals follow each other in an open loop
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Arrivals::Constant, requires = "rate")]
    pub arrivals: Arrivals,

    /// How long to measure [default: 10s, or until all --requests are done]
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = positive)]
    pub duration: Option<Duration>,

    /// Connections in all, or exchanges in rr and hold, then stop
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// Leave so much out of the figures at the beginning
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub warmup: Duration,

    /// Grow to the full load over so long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub ramp: Duration,

    /// Exchanges on each connection [default: 1; in rr and hold no end]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub per_connection: Option<u64>,

    /// Who ends a connection: the client in order, the server, or the client by a reset
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Close::FinClient)]
    pub close: Close,

    /// Send this, with \n \r \t \0 \\
    #[arg(short, long, value_name = "TEXT", group = "what", allow_hyphen_values = true)]
    pub message: Option<String>,

    /// Send this, with {n} for the number of the exchange on its connection and {c} for that of the connection
    #[arg(long, value_name = "TEXT", group = "what", allow_hyphen_values = true)]
    pub template: Option<String>,

    /// Send so many bytes that say where they belong, as in 64, 16K, 1G [default: 64; echo: 1M; stream: no end]
    #[arg(long, value_name = "BYTES", group = "what", value_parser = size)]
    pub size: Option<u64>,

    /// What is to come back
    #[arg(long, value_name = "WHAT", default_value = "echo", allow_hyphen_values = true)]
    pub expect: String,

    /// Rest between two exchanges of a connection [default: none; hold: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub think: Option<Duration>,

    /// Time from one byte to the next in slow
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = positive)]
    pub pace: Duration,

    /// How long connecting may take, and an exchange; in echo, stream and slow: how long nothing may come
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive)]
    pub timeout: Duration,

    /// Connect from these addresses in turn; may be repeated [default: what the kernel chooses; on IPv4 loopback
    /// also 127.77.0.1 to 3 when it has no ports left]
    #[arg(long, value_name = "CIDR")]
    pub source: Vec<Block>,

    /// How late 1 of 100 arrivals may begin before an open loop counts as invalid
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = positive)]
    pub max_lateness: Duration,

    /// What bytes and random choices are a function of
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

/// Where results go.
#[derive(Args, Debug)]
pub struct Outputs {
    /// Write everything to FILE, as docs/load.schema.json describes it; - for standard output instead of the text
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the distribution of latencies to FILE, as HdrHistogram's tools read it
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,

    /// Write what happened in each second to FILE
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Write one page with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// No live view on a terminal
    #[arg(long)]
    pub no_tui: bool,

    /// Print neither live view nor summary
    #[arg(short, long)]
    pub quiet: bool,
}

/// `--arrivals`, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At equal distances
    Constant,
    /// Independently of each other
    Poisson,
}

/// `--close`, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Close {
    /// The client closes first
    FinClient,
    /// The server is waited for
    FinServer,
    /// The client resets
    Rst,
}

/// `tine load compare`.
#[derive(Args, Debug)]
pub struct Compare {
    /// The result to compare with, as --json wrote it
    #[arg(value_name = "A.json")]
    pub before: PathBuf,

    /// The result to judge
    #[arg(value_name = "B.json")]
    pub after: PathBuf,

    /// How much worse B may be
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    pub tolerance: f64,
}

/// `tine load merge`.
#[derive(Args, Debug)]
pub struct Merge {
    /// Results, as --json wrote them
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Fail with exit code 99 if this is so; may be repeated
    #[arg(long, value_name = "LIMIT")]
    pub fail_if: Vec<Threshold>,

    /// Where results go.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// `tine load ab`.
#[derive(Args, Debug)]
#[command(
    after_help = "A command is split into words as a shell does it (quotes, no variables); each {port} in it is replaced by a port of \
127.0.0.1 on which it is to listen. Servers are started afresh for each round, in blocks ABBA or BAAB by chance. The difference is a mean of \
logarithms of ratios, one for each pair, with its 95 % interval (Student's t); A against A in the same blocks says how much is noise.\n\
Exit codes: 0 precise enough, 3 wrong bytes, 4 not so after --max-pairs, or a round was invalid; 99 B is certainly worse than --tolerance allows; 100 used \
wrongly; 111 a server did not start; 130 interrupted."
)]
pub struct Ab {
    /// The server to compare with
    #[arg(long, value_name = "COMMAND")]
    pub a: String,

    /// The server to judge
    #[arg(long, value_name = "COMMAND")]
    pub b: String,

    /// What connections do
    #[arg(long, value_name = "MODE", default_value = "crr", value_parser = mode)]
    pub mode: tine_load::plan::Mode,

    /// Stop when the interval is narrower than this on both sides
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = percent)]
    pub precision: f64,

    /// Pairs at most
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub max_pairs: u32,

    /// How much worse B may be
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    pub tolerance: f64,

    /// The load of each round; --duration is 2s if not said otherwise, --warmup is 500ms
    #[command(flatten)]
    pub options: Options,

    /// Write all rounds and the comparison to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Do not print each round
    #[arg(short, long)]
    pub quiet: bool,
}

/// `5000/s`, `5000`, `2.5k/s`.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, factor) = match number.strip_suffix('k') {
        Some(number) => (number, 1000.0),
        None => (number, 1.0),
    };
    let rate = number.parse().ok().map(|number: f64| number * factor);
    rate.filter(|rate| *rate > 0.0 && *rate <= 1e8)
        .ok_or_else(|| "write a number a second, as in 5000/s".to_owned())
}

/// `5%`, as a part of one.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let number = number.filter(|number: &f64| *number > 0.0 && *number < 100.0);
    number.map(|number| number / 100.0).ok_or_else(|| "write a percentage, as in 5%".to_owned())
}

fn mode(text: &str) -> Result<tine_load::plan::Mode, String> {
    text.parse().map(|one: Population| one.mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_percentages() {
        for (text, value) in [("5000/s", 5000.0), ("0.5", 0.5), ("2.5k/s", 2500.0)] {
            assert_eq!(rate(text), Ok(value), "{text}");
        }
        for text in ["", "/s", "0", "-1/s", "fast", "inf", "NaN"] {
            rate(text).expect_err(text);
        }
        assert_eq!((percent("5%"), percent("2.5")), (Ok(0.05), Ok(0.025)));
        for text in ["", "%", "0%", "100%", "-1%", "x"] {
            percent(text).expect_err(text);
        }
    }
}
