//! Limits on connections, and what happens to clients beyond them.

use std::time::Duration;

use clap::Args as ClapArgs;
use tine::{LimitsMode, NetBlockSize, Penalties, Rate, Server, WhenFull, WhenLimited, defaults};
use tine_load::plan::text::unescape;

use super::{choice, number, parsed, positive, shown};
use crate::args::access::allowed;
use crate::error::Error;

/// The limits.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Maximum number of concurrent connections, over all addresses
    #[arg(short = 'c', long, value_name = "N", default_value_t = defaults::MAX_CONNECTIONS, value_parser = number::<usize>(1, 4_194_304))]
    pub max_connections: usize,

    /// What to do with the next client at --max-connections: let it wait in the backlog (wait), or
    /// send TEXT, with \n \r \t \0 \\, and the end of the stream (reject, reject=TEXT)
    #[arg(long, value_name = "ACTION", default_value = "wait", value_parser = when_full)]
    pub when_full: WhenFull,

    /// Serve N connections in all, then accept no more, let them end, and exit with code 0; clients
    /// that are denied or rejected do not count
    #[arg(long, value_name = "N", value_parser = number::<u64>(1, u64::MAX))]
    pub exit_after: Option<u64>,

    /// Maximum number of concurrent connections of one source (an IPv4 address, an IPv6 /64, a user
    /// over a Unix socket)
    #[arg(long, value_name = "N", value_parser = number::<usize>(1, u32::MAX.into()))]
    pub max_connections_per_source: Option<usize>,

    /// Maximum number of concurrent connections of one prefix (an IPv4 /24, an IPv6 /56, a user
    /// over a Unix socket)
    #[arg(long, value_name = "N", value_parser = number::<usize>(1, u32::MAX.into()))]
    pub max_connections_per_prefix: Option<usize>,

    /// Whether limits per source and prefix, access rules and penalties are enforced; or only
    /// reported, as a dry run: clients that they would delay or reject are counted, logged and
    /// served
    #[arg(long, value_name = "MODE", default_value_t = LimitsMode::Enforce, value_parser = choice::<LimitsMode>(LimitsMode::NAMES))]
    pub limits: LimitsMode,

    /// Size of a source in bits, of IPv4 and of IPv6
    #[arg(long, value_name = "BITS:BITS", default_value_t = defaults::SOURCE_BLOCK_SIZE, value_parser = parsed::<NetBlockSize>)]
    pub per_source_net_block_size: NetBlockSize,

    /// Size of a prefix in bits, of IPv4 and of IPv6
    #[arg(long, value_name = "BITS:BITS", default_value_t = defaults::PREFIX_BLOCK_SIZE, value_parser = parsed::<NetBlockSize>)]
    pub per_prefix_net_block_size: NetBlockSize,

    /// Maximum rate of new connections of one source, as in 10/s, 100/min, or 10/s:50 to allow a
    /// burst of 50
    #[arg(long, value_name = "RATE", value_parser = parsed::<Rate>)]
    pub rate_per_source: Option<Rate>,

    /// Maximum rate of new connections of one prefix
    #[arg(long, value_name = "RATE", value_parser = parsed::<Rate>)]
    pub rate_per_prefix: Option<Rate>,

    /// Name of the fleet: servers with the same bus and fleet share bans, penalties and the limits
    /// of the fleet [default: the name of the service in a configuration, or "default"]
    #[arg(long, value_name = "NAME", value_parser = super::control::server_name)]
    pub fleet: Option<String>,

    /// Maximum number of concurrent connections of one source over all nodes of the fleet (--bus);
    /// a client over this limit is rejected
    #[arg(long, value_name = "N", value_parser = number::<usize>(1, 1_000_000))]
    pub max_connections_per_source_fleet: Option<usize>,

    /// Maximum rate of new connections of one source over all nodes of the fleet (--bus); a client
    /// over this limit is rejected
    #[arg(long, value_name = "RATE", value_parser = parsed::<Rate>)]
    pub rate_per_source_fleet: Option<Rate>,

    /// What to do with a client that exceeds a limit of its source or prefix: queue it until the
    /// limit admits it (delay), send TEXT, by default that of --when-full, and the end of the
    /// stream (reject, reject=TEXT), or send the end of the stream (close)
    #[arg(long, value_name = "ACTION", default_value = "reject", value_parser = when_limited)]
    pub when_limited: WhenLimited,

    /// Maximum number of delayed clients; beyond it, the newest client of the longest queue is
    /// rejected
    #[arg(long, value_name = "N", default_value_t = defaults::MAX_DELAYED, value_parser = number::<usize>(1, 16_384))]
    pub max_delayed: usize,

    /// Maximum time a client is delayed; then it is rejected
    #[arg(long, value_name = "DURATION", default_value = shown(defaults::DELAY_TIMEOUT), value_parser = positive)]
    pub delay_timeout: Duration,

    /// Reject a source for some time after its connections crash, time out or send nothing, as
    /// sshd_config(5) does [yes, no, or times as in 'crash:90s noauth:0 max:1h']
    #[arg(long, value_name = "PENALTIES", default_value = "no", value_parser = penalties)]
    pub per_source_penalties: PenaltySetting,

    /// Never penalize these addresses; may be repeated [for clients of Unix sockets, uid:USER]
    #[arg(long, value_name = "CIDR")]
    pub per_source_penalty_exempt_list: Vec<String>,
}

impl LimitOptions {
    /// The server with these limits.
    ///
    /// # Errors
    /// An exempt address is invalid, or there is no such user.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        let mut server = server
            .max_connections(self.max_connections)
            .when_full(self.when_full.clone())
            .net_block_sizes(self.per_source_net_block_size, self.per_prefix_net_block_size)
            .when_limited(self.when_limited())
            .limits(self.limits);
        if let Some(connections) = self.exit_after {
            server = server.exit_after(connections);
        }
        if let Some(connections) = self.max_connections_per_source {
            server = server.max_connections_per_source(connections);
        }
        if let Some(connections) = self.max_connections_per_prefix {
            server = server.max_connections_per_prefix(connections);
        }
        if let Some(rate) = self.rate_per_source {
            server = server.rate_per_source(rate);
        }
        if let Some(rate) = self.rate_per_prefix {
            server = server.rate_per_prefix(rate);
        }
        if let Some(connections) = self.max_connections_per_source_fleet {
            server = server.max_connections_per_source_fleet(connections);
        }
        if let Some(rate) = self.rate_per_source_fleet {
            server = server.rate_per_source_fleet(rate);
        }
        if let Some(penalties) = self.per_source_penalties.0 {
            server = server.penalties(penalties);
        }
        if let Some(exempt) = self.exempt()? {
            server = server.penalty_exempt(exempt);
        }
        Ok(server)
    }

    /// Whether there are limits over a fleet.
    #[must_use]
    pub fn are_of_fleet(&self) -> bool {
        self.max_connections_per_source_fleet.is_some() || self.rate_per_source_fleet.is_some()
    }

    /// `--when-limited` with the limits of the delay queue.
    #[must_use]
    pub fn when_limited(&self) -> WhenLimited {
        match self.when_limited {
            WhenLimited::Delay { .. } => {
                WhenLimited::Delay { max_clients: self.max_delayed, timeout: self.delay_timeout }
            }
            ref other => other.clone(),
        }
    }

    /// The clients that get no penalty, if there are any.
    ///
    /// # Errors
    /// An address is invalid, or there is no such user.
    pub fn exempt(&self) -> Result<Option<tine::Access>, Error> {
        allowed(&self.per_source_penalty_exempt_list)
    }
}

/// `--per-source-penalties`: none with `no`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltySetting(pub Option<Penalties>);

fn penalties(text: &str) -> Result<PenaltySetting, String> {
    match text {
        "no" => Ok(PenaltySetting(None)),
        "yes" => Ok(PenaltySetting(Some(Penalties::default()))),
        text => parsed(text).map(|own| PenaltySetting(Some(own))),
    }
}

fn when_limited(text: &str) -> Result<WhenLimited, String> {
    match rejection(text) {
        Some(text) => Ok(WhenLimited::Reject(text.map(unescape).transpose()?)),
        None if text == "delay" => Ok(WhenLimited::DELAY),
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

    #[test]
    fn limited_clients() {
        for (text, meant) in [
            ("delay", Ok(WhenLimited::DELAY)),
            ("close", Ok(WhenLimited::Close)),
            ("reject", Ok(WhenLimited::Reject(None))),
            ("refuse=a", Ok(WhenLimited::Reject(Some(b"a".to_vec())))),
        ] {
            assert_eq!(when_limited(text), meant, "{text}");
        }
        for text in ["", "wait", "delayed", "close=1"] {
            when_limited(text).expect_err(text);
        }
    }
}
