//! What may be typed: the only place that knows the command line.

pub mod load;
pub mod program;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use tine_load::text::unescape;

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
#[command(after_help = CHECKED)]
pub struct Check {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `tine explain`.
#[derive(ClapArgs, Debug)]
#[command(
    after_help = "It is decided as when serving. Exit codes: 0 explained, 100 the configuration or the address is wrong."
)]
pub struct Explain {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The client's address
    #[arg(value_name = "PEER")]
    pub peer: std::net::IpAddr,

    /// As if it were this time: 12:30 (today), 'Sat 12:30' or 2026-11-24T12:30, local time [default: now]
    #[arg(long, value_name = "TIME", value_parser = parsed::<tine::Moment>)]
    pub at: Option<tine::Moment>,

    /// As if this were the name of its host [default: looked up where a service asks for names]
    #[arg(long, value_name = "HOST")]
    pub name: Option<String>,
}

/// `tine import`.
#[derive(ClapArgs, Debug)]
#[command(after_help = IMPORTED)]
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
pub struct Man {
    /// The command to describe, as in `load crr`; all of tine without one
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `tine completions`.
#[derive(ClapArgs, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

/// `tine serve`.
#[derive(ClapArgs, Debug)]
#[command(after_help = ADDRESSES, args_override_self = true)]
pub struct Serve {
    /// Where to listen [default: [::]:9999, or the sockets in LISTEN_FDS]
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<String>,

    /// Serve what this file describes: many services, with the options of this command as its keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to do with each connection
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Service::Echo, conflicts_with = "program")]
    pub service: Service,

    /// Connections served at a time, over all addresses
    #[arg(short = 'c', long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub max_connections: u32,

    /// Connections of one source at a time (an address of IPv4, a /64 of IPv6); who has as many is treated
    /// as --when-limited says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_source: Option<u32>,

    /// The same for a prefix: a /24 of IPv4, a /56 of IPv6
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_prefix: Option<u32>,

    /// What counts as a source: bits of IPv4 and of IPv6
    #[arg(long, value_name = "BITS:BITS", default_value = "32:64", value_parser = parsed::<tine::NetBlockSize>)]
    pub per_source_net_block_size: tine::NetBlockSize,

    /// What counts as a prefix
    #[arg(long, value_name = "BITS:BITS", default_value = "24:56", value_parser = parsed::<tine::NetBlockSize>)]
    pub per_prefix_net_block_size: tine::NetBlockSize,

    /// How often one source address may come, as in 10/s, 100/min, or 10/s:50 where 50 may come at once after a rest
    #[arg(long, value_name = "RATE", value_parser = parsed::<tine::Rate>)]
    pub rate_per_source: Option<tine::Rate>,

    /// The same for a prefix
    #[arg(long, value_name = "RATE", value_parser = parsed::<tine::Rate>)]
    pub rate_per_prefix: Option<tine::Rate>,

    /// Whether a source whose connections crash, time out or never say a word may not come for a while, as sshd_config(5) has
    /// it [yes, no, or times as in 'crash:90s noauth:0 max:1h']
    #[arg(long, value_name = "WHAT", default_value = "no", value_parser = penalties)]
    pub per_source_penalties: Penalties,

    /// Never punish these addresses; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub per_source_penalty_exempt_list: Vec<String>,

    /// Serve these addresses, and nobody whom no rule allows; may be repeated [an address, a block as in 192.0.2.0/24,
    /// or any; with --reverse-dns, =HOST or =.DOMAIN]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<String>,

    /// Close connections from these addresses; the most specific rule of all decides; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub deny: Vec<String>,

    /// Allow and deny by the rules of FILE, written as for tcprules, and read again when it changes; may be repeated
    #[arg(long, value_name = "FILE")]
    pub rules: Vec<PathBuf>,

    /// Serve at these times of the day only, in local time, as in 08:00-17:00 or 'Mon-Fri 08:00-17:00'; may be repeated
    #[arg(long, value_name = "SPAN")]
    pub access_times: Vec<String>,

    /// What becomes of who is beyond a limit of its source or prefix: it waits for its chance, in turn with others (delay); or
    /// gets TEXT, by default that of --when-full, and the end of the stream (refuse, refuse=TEXT); or the end alone (close)
    #[arg(long, value_name = "WHAT", default_value = "refuse", value_parser = when_limited)]
    pub when_limited: WhenLimited,

    /// Clients that wait so at a time; beyond, the last of the longest line is refused
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub max_delayed: u32,

    /// How long a client waits so; then it is refused
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive)]
    pub delay_timeout: Duration,

    /// At the limit: let the next client wait in the backlog, or send it TEXT (with \n \r \t \0 \\)
    /// and end its stream [wait, refuse or refuse=TEXT]
    #[arg(long, value_name = "WHAT", default_value = "wait", value_parser = when_full)]
    pub when_full: WhenFull,

    /// Clients that the kernel keeps waiting
    #[arg(short = 'b', long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
    pub backlog: u32,

    /// Fresh processes that stand ready; 0 forks after accepting
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=32_768))]
    pub spares: u32,

    /// Connections that a process serves before it ends; more than 1 isolates less, and needs --spares
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub reuse: u64,

    /// Processes that accept and fork [default: 2, or 1 on one processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub forkers: Option<u32>,

    /// How long a stopping server lets connections finish
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// End a connection on which nothing has come or gone for so long
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub idle_timeout: Option<Duration>,

    /// End a connection that is so old
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub max_lifetime: Option<Duration>,

    /// End a connection whose client has sent nothing for so long after it was accepted
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub first_byte_timeout: Option<Duration>,

    /// Serve as this user, by name or number, once the addresses are bound
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Serve as this group, by name or number
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// The groups that it has beside its own: names or numbers with commas between, or none [default: those of the user]
    #[arg(long, value_name = "GROUPS")]
    pub supplementary_groups: Option<String>,

    /// One line per event on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,

    /// Log what connections receive, too, shortened and escaped
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,

    /// Log errors and warnings only
    #[arg(short, long)]
    pub quiet: bool,

    /// Show id and peer in each connection's command line (costs a page or more per connection)
    #[arg(long)]
    pub titles: bool,

    /// When ready, print each TCP port and a newline on standard output
    #[arg(short = '1', long)]
    pub print_ports: bool,

    /// When ready, write a newline to descriptor N and close it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    pub ready_fd: Option<i32>,

    /// A program instead of a service.
    #[command(flatten)]
    pub program: program::ProgramArgs,
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

const IMPORTED: &str = "What has no equivalent stands in a comment at its service. Look at the result with `tine check`, which looks for users and \
programs, too.\nExit codes: 0 imported, 100 the file cannot be read, or there is nothing in it that can be served.";

const CHECKED: &str = "Looks for users, groups, programs, directories and hosts, and binds no address. What it prints is a \
configuration that means the same, with every value that is in force.\nExit codes: 0 it can be served, 100 it cannot, 111 \
the system said no.";

const ADDRESSES: &str = "ADDRESS is PORT (all addresses), HOST:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME; port 0 lets the \
kernel choose.\nTERM or INT drains, a second one ends the connections, a third kills. Exit codes: 0 done, 100 used \
wrongly, 111 the system said no.";

/// The built-in services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// Send back what comes (RFC 862)
    Echo,
    /// Throw away what comes (RFC 863)
    Discard,
    /// Send characters for ever (RFC 864)
    Chargen,
    /// Send the date and time for people (RFC 867)
    Daytime,
    /// Send the seconds since 1900, 32 bits (RFC 868)
    Time,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// TIME EVENT key=value …, coloured on a terminal
    Text,
    /// One JSON object a line
    Json,
    /// No log
    Off,
}

/// `--when-full`, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// `wait`
    Wait,
    /// `refuse` or `refuse=TEXT`, unescaped
    Refuse(Vec<u8>),
}

/// `--per-source-penalties`, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalties(pub Option<tine::Penalties>);

fn penalties(text: &str) -> Result<Penalties, String> {
    match text {
        "no" => Ok(Penalties(None)),
        "yes" => Ok(Penalties(Some(tine::Penalties::default()))),
        text => parsed(text).map(|own| Penalties(Some(own))),
    }
}

/// `--when-limited`, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenLimited {
    /// `delay`
    Delay,
    /// `refuse`, or `refuse=TEXT`, unescaped
    Refuse(Option<Vec<u8>>),
    /// `close`
    Close,
}

fn when_limited(text: &str) -> Result<WhenLimited, String> {
    match text.split_once('=') {
        None if text == "delay" => Ok(WhenLimited::Delay),
        None if text == "close" => Ok(WhenLimited::Close),
        None if text == "refuse" => Ok(WhenLimited::Refuse(None)),
        Some(("refuse", text)) => Ok(WhenLimited::Refuse(Some(unescape(text)?))),
        _ => Err("write delay, refuse, refuse=TEXT or close".into()),
    }
}

/// What reads itself.
fn parsed<T: std::str::FromStr<Err = tine::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: tine::Error| error.to_string())
}

fn when_full(text: &str) -> Result<WhenFull, String> {
    match text.split_once('=') {
        None if text == "wait" => Ok(WhenFull::Wait),
        None if text == "refuse" => Ok(WhenFull::Refuse(Vec::new())),
        Some(("refuse", text)) => unescape(text).map(WhenFull::Refuse),
        _ => Err("write wait, refuse or refuse=TEXT".into()),
    }
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
        return ExitCode::from(100);
    }
    eprintln!("tine: {}; see `tine --help`, or `tine COMMAND --help`", said(error));
    ExitCode::from(100)
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
    fn refusal_texts() {
        for (text, meant) in [
            ("wait", Ok(WhenFull::Wait)),
            ("refuse", Ok(WhenFull::Refuse(vec![]))),
            ("refuse=", Ok(WhenFull::Refuse(vec![]))),
            ("refuse=a=b", Ok(WhenFull::Refuse(b"a=b".to_vec()))),
            (r"refuse=\n\r\t\0\\", Ok(WhenFull::Refuse(b"\n\r\t\0\\".to_vec()))),
            ("refuse=é", Ok(WhenFull::Refuse("é".as_bytes().to_vec()))),
        ] {
            assert_eq!(when_full(text), meant, "{text}");
        }
        for text in ["", "WAIT", "wait=1", "refuse=\\", "refuse=\\x", "drop"] {
            when_full(text).expect_err(text);
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
