//! The options about a program and its surroundings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args as ClapArgs, FromArgMatches, ValueEnum};
use tine::Resource;

/// Above the options that need a program.
pub const HEADING: &str = "A program for each connection";

/// What is executed for each connection, and how it is surrounded.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = HEADING)]
pub struct ProgramArgs {
    /// Execute this for each connection, with the socket as its standard input and output. No shell
    #[arg(value_name = "PROGRAM", last = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,

    /// Set a variable of its environment; NAME alone takes the server's value, for --clear-env
    #[arg(long = "env", value_name = "NAME=VALUE", requires = "program", value_parser = variable)]
    pub env: Vec<(String, Option<String>)>,

    /// Start it with nothing of the server's environment
    #[arg(long, requires = "program")]
    pub clear_env: bool,

    /// What it finds as its own name [default: PROGRAM]
    #[arg(long, value_name = "NAME", requires = "program", allow_hyphen_values = true)]
    pub argv0: Option<String>,

    /// Its working directory [default: the server's]
    #[arg(long, value_name = "DIRECTORY", requires = "program")]
    pub cwd: Option<PathBuf>,

    /// Its file mode creation mask, in octal [default: the server's]
    #[arg(long, value_name = "MASK", requires = "program", value_parser = umask)]
    pub umask: Option<u32>,

    /// Added to its nice value
    #[arg(long, value_name = "N", requires = "program", default_value = "0", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-40..=40))]
    pub nice: i32,

    /// Where its standard error goes
    #[arg(long, value_name = "WHERE", requires = "program", value_enum, default_value_t = Stderr::Server)]
    pub stderr: Stderr,

    /// Give it a terminal as standard input, output and error, for programs that expect one
    #[arg(long, requires = "program", conflicts_with = "line_buffered")]
    pub pty: bool,

    /// Have it write line by line, by a terminal as its standard output
    #[arg(long, requires = "program")]
    pub line_buffered: bool,

    /// What becomes of its descendants once it has ended by itself: they go on, those in its process
    /// group are ended, all are
    #[arg(long, value_name = "MODE", requires = "program", value_enum, default_value_t = KillMode::Process)]
    pub kill_mode: KillMode,

    /// Give each connection a cgroup in this directory of the v2 hierarchy, so that all that its program
    /// starts is found and ended, whatever it does to hide
    #[arg(long, value_name = "DIRECTORY", requires = "program")]
    pub cgroup: Option<PathBuf>,

    /// Look up the name of the client's host before, in the connection's own process: TCPREMOTEHOST, and rules about names
    /// (=host.example.com, =.example.com)
    #[arg(long, requires = "program")]
    pub reverse_dns: bool,

    /// Tell it the client's address as REMOTE_HOST, too, as xinetd does; with --reverse-dns the name, if it has one
    #[arg(long, requires = "program")]
    pub remote_host: bool,

    /// Limits
    #[command(flatten)]
    pub limits: Limits,
}

/// `--stderr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stderr {
    /// The server's own
    Server,
    /// Lines of the log, with the connection's id
    Log,
    /// The client
    Client,
    /// Nowhere
    Null,
}

/// `--kill-mode`, as systemd's `KillMode=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KillMode {
    /// They go on
    Process,
    /// Those in its process group are ended
    Group,
    /// All are ended
    All,
}

/// `--limit-cpu` … `--limit-rttime`: systemd's `LimitCPU=` … `LimitRTTIME=`.
#[derive(Clone, Debug, Default)]
pub struct Limits(pub Vec<(Resource, u64, u64)>);

impl FromArgMatches for Limits {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let limit = |name: &&str| {
            let (soft, hard) = *matches.get_one::<(u64, u64)>(&format!("limit-{name}"))?;
            Some((name.parse().ok()?, soft, hard))
        };
        Ok(Limits(Resource::NAMES.iter().filter_map(limit).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Limits::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ClapArgs for Limits {
    fn augment_args(command: clap::Command) -> clap::Command {
        Resource::NAMES.iter().fold(command, |command, name| {
            let name = *name;
            let option = Arg::new(format!("limit-{name}"))
                .long(format!("limit-{name}"))
                .value_name("SOFT[:HARD]")
                .requires("program")
                .help(format!("Limit{} of systemd.exec(5): {}", name.to_uppercase(), unit(name).1))
                .value_parser(move |text: &str| limit(name, text));
            command.arg(option)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Limits::augment_args(command)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Seconds,
    Number,
}

fn unit(name: &str) -> (Unit, &'static str) {
    match name {
        "cpu" => (Unit::Seconds, "processor time, as 10s; or infinity"),
        "fsize" | "data" | "stack" | "core" | "rss" | "as" | "memlock" | "msgqueue" => {
            (Unit::Bytes, "bytes, as 64M; or infinity")
        }
        "rttime" => (Unit::Number, "microseconds; or infinity"),
        _ => (Unit::Number, "a number; or infinity"),
    }
}

/// `SOFT`, which then is the hard limit, too, or `SOFT:HARD`.
pub fn limit(name: &str, text: &str) -> Result<(u64, u64), String> {
    let one = |text: &str| match (text, unit(name).0) {
        ("infinity", _) => Ok(u64::MAX),
        (_, Unit::Bytes) => size(text),
        (_, Unit::Seconds) if text.bytes().any(|byte| !byte.is_ascii_digit()) => {
            super::duration(text).map(|time| time.as_secs_f64().ceil() as u64)
        }
        _ => text.parse().map_err(|_| format!("'{text}' is no number, nor infinity")),
    };
    match text.split_once(':') {
        None => one(text).map(|both| (both, both)),
        Some((soft, hard)) => match (one(soft)?, one(hard)?) {
            (soft, hard) if soft > hard => Err("the soft limit is above the hard one".into()),
            both => Ok(both),
        },
    }
}

/// `64K`, `32M`: powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size; write a number of bytes, or 64K, 32M, 4G");
    let (digits, power) = match text.bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 2),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 3),
        Some(b'T' | b't') => (&text[..text.len() - 1], 4),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << (10 * power)).ok_or_else(bad)
}

fn umask(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| "write it in octal, as 022 or 077".into())
}

fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        None => (text, None),
        Some((name, value)) => (name, Some(value.to_owned())),
    };
    if name.is_empty() || text.contains('\0') {
        return Err("write NAME=VALUE, or NAME".into());
    }
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_units_and_two_values() {
        for (name, text, both) in [
            ("nofile", "100", (100, 100)),
            ("nofile", "100:200", (100, 200)),
            ("as", "64M", (64 << 20, 64 << 20)),
            ("as", "1G:infinity", (1 << 30, u64::MAX)),
            ("cpu", "10", (10, 10)),
            ("cpu", "1500ms", (2, 2)),
            ("nproc", "infinity", (u64::MAX, u64::MAX)),
        ] {
            assert_eq!(limit(name, text), Ok(both), "{name} {text}");
        }
        for (name, text) in [
            ("nofile", ""),
            ("nofile", "9K"),
            ("nofile", "2:1"),
            ("as", "1X"),
            ("as", "99999999T"),
            ("cpu", "1 year:"),
        ] {
            limit(name, text).expect_err(text);
        }
    }

    #[test]
    fn masks_and_variables() {
        assert_eq!((umask("022"), umask("0")), (Ok(0o22), Ok(0)));
        for text in ["", "8", "1000", "x"] {
            umask(text).expect_err(text);
        }
        assert_eq!(variable("A=b=c d"), Ok(("A".into(), Some("b=c d".into()))));
        assert_eq!(variable("A"), Ok(("A".into(), None)));
        assert_eq!(variable("A="), Ok(("A".into(), Some(String::new()))));
        variable("=b").expect_err("no name");
    }
}
