//! The options of `tine serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use tine_load::text::unescape;

use super::program::ProgramArgs;
use super::{choice, duration, parsed, positive};
use crate::exit;
use tine::LogFormat;

/// `tine serve`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{ADDRESSES}\n{}", exit::help("serve")), args_override_self = true)]
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
    /// gets TEXT, by default that of --when-full, and the end of the stream (reject, reject=TEXT); or the end alone (close)
    #[arg(long, value_name = "WHAT", default_value = "reject", value_parser = when_limited)]
    pub when_limited: WhenLimited,

    /// Clients that wait so at a time; beyond, the last of the longest line is refused
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub max_delayed: u32,

    /// How long a client waits so; then it is refused
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive)]
    pub delay_timeout: Duration,

    /// At the limit: let the next client wait in the backlog, or send it TEXT (with \n \r \t \0 \\)
    /// and end its stream [wait, reject or reject=TEXT]
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
    #[arg(long, value_name = "FORMAT", default_value_t, value_parser = choice::<LogFormat>(LogFormat::NAMES))]
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
    pub program: ProgramArgs,
}

const ADDRESSES: &str = "ADDRESS is PORT (all addresses), HOST:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME; with port 0 the \
kernel chooses a port.\nTERM and INT drain the server; a second signal ends the connections, a third kills them.";

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

/// `--when-full`, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// `wait`
    Wait,
    /// `reject` or `reject=TEXT`, unescaped
    Reject(Vec<u8>),
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
    /// `reject`, or `reject=TEXT`, unescaped
    Reject(Option<Vec<u8>>),
    /// `close`
    Close,
}

fn when_limited(text: &str) -> Result<WhenLimited, String> {
    match rejection(text) {
        Some(text) => Ok(WhenLimited::Reject(text.map(unescape).transpose()?)),
        None if text == "delay" => Ok(WhenLimited::Delay),
        None if text == "close" => Ok(WhenLimited::Close),
        None => Err("write delay, reject, reject=TEXT or close".into()),
    }
}

fn when_full(text: &str) -> Result<WhenFull, String> {
    match rejection(text) {
        Some(text) => text.map_or(Ok(Vec::new()), unescape).map(WhenFull::Reject),
        None if text == "wait" => Ok(WhenFull::Wait),
        None => Err("write wait, reject or reject=TEXT".into()),
    }
}

/// The text in `reject=TEXT`, `Some(None)` for `reject` alone. `refuse` is the former spelling.
fn rejection(text: &str) -> Option<Option<&str>> {
    let rest = text.strip_prefix("reject").or_else(|| text.strip_prefix("refuse"))?;
    if rest.is_empty() { Some(None) } else { rest.strip_prefix('=').map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_texts() {
        for (text, meant) in [
            ("wait", Ok(WhenFull::Wait)),
            ("reject", Ok(WhenFull::Reject(vec![]))),
            ("reject=", Ok(WhenFull::Reject(vec![]))),
            ("refuse=no", Ok(WhenFull::Reject(b"no".to_vec()))),
            ("reject=a=b", Ok(WhenFull::Reject(b"a=b".to_vec()))),
            (r"reject=\n\r\t\0\\", Ok(WhenFull::Reject(b"\n\r\t\0\\".to_vec()))),
            ("reject=é", Ok(WhenFull::Reject("é".as_bytes().to_vec()))),
        ] {
            assert_eq!(when_full(text), meant, "{text}");
        }
        for text in ["", "WAIT", "wait=1", "reject=\\", "reject=\\x", "drop", "rejected"] {
            when_full(text).expect_err(text);
        }
    }
}
