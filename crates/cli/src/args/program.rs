//! A program that is executed for each connection, and its environment.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args as ClapArgs, FromArgMatches};
use tine::{KillMode, Program, Resource, Stderr, Terminal};

use super::warm::WarmOptions;
use super::{choice, yes_or_no};

/// Above the options that need a program.
pub const HEADING: &str = "A program for each connection";

/// The program and its environment.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct ProgramOptions {
    /// Execute this program for each connection, with the socket as standard input and output. No
    /// shell
    #[arg(value_name = "PROGRAM", last = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,

    /// What it is executed with.
    #[command(flatten)]
    pub execution: ExecutionOptions,

    /// Whether to set HOME, USER, LOGNAME and SHELL to those of the user that it runs as
    /// (SetLoginEnvironment= of systemd.exec(5)): yes, no [default: yes with --user]
    #[arg(long, value_name = "BOOL", requires = "program", value_parser = yes_or_no())]
    pub set_login_environment: Option<bool>,

    /// Destination of standard error: the server's (server), the log, line by line with the
    /// connection's id (log), the client, or nowhere (null)
    #[arg(long, value_name = "DESTINATION", requires = "program", default_value_t, value_parser = choice::<Stderr>(Stderr::NAMES))]
    pub stderr: Stderr,

    /// Give it a terminal as standard input, output and error
    #[arg(long, requires = "program", conflicts_with = "line_buffered")]
    pub pty: bool,

    /// Give it a terminal without lines: bytes arrive as they come, control characters included. It
    /// does not notice the end of the client's stream
    #[arg(long, requires = "program", conflicts_with_all = ["pty", "line_buffered"])]
    pub pty_raw: bool,

    /// Rows of the terminal (TTYRows= of systemd.exec(5))
    #[arg(long, value_name = "N", requires = "program", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    pub tty_rows: u16,

    /// Columns of the terminal (TTYColumns= of systemd.exec(5))
    #[arg(long, value_name = "N", requires = "program", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    pub tty_columns: u16,

    /// Give it a terminal as standard output, so that the C library writes line by line
    #[arg(long, requires = "program")]
    pub line_buffered: bool,

    /// Discard input that it has not read when it exits, for at most 2 s, so that no reset destroys
    /// the end of its answer. A second process waits for that
    #[arg(long, requires = "program")]
    pub lingering_close: bool,

    /// What to do with its descendants when it exits by itself: nothing (process), end its process
    /// group (group), or end all of them (all)
    #[arg(long, value_name = "MODE", requires = "program", default_value_t, value_parser = choice::<KillMode>(KillMode::NAMES))]
    pub kill_mode: KillMode,

    /// Create a cgroup for each connection in this directory of the v2 hierarchy, so that no
    /// descendant can escape from being killed
    #[arg(long, value_name = "DIRECTORY", requires = "program")]
    pub cgroup: Option<PathBuf>,

    /// Look up the client's host name before, in the connection's own process, for TCPREMOTEHOST
    /// and for rules about host names (=host.example.com, =.example.com)
    #[arg(long, requires = "program")]
    pub reverse_dns: bool,

    /// Also set REMOTE_HOST to the client's address, as xinetd does; with --reverse-dns to its host
    /// name, if it has one
    #[arg(long, requires = "program")]
    pub remote_host: bool,

    /// Resource limits.
    #[command(flatten)]
    pub limits: ResourceLimits,

    /// A warm start.
    #[command(flatten)]
    pub warm: WarmOptions,
}

/// What a program is executed with, by `tine serve` and by `tine warm-check`.
#[derive(ClapArgs, Debug)]
#[group(skip)]
pub struct ExecutionOptions {
    /// Set an environment variable; NAME alone passes the server's value on, for --clear-env
    #[arg(long = "env", value_name = "NAME=VALUE", requires = "program", value_parser = variable)]
    pub env: Vec<(String, Option<String>)>,

    /// Remove an environment variable, also one that --env sets (UnsetEnvironment= of
    /// systemd.exec(5))
    #[arg(long = "unset-env", value_name = "NAME", requires = "program", value_parser = variable_name)]
    pub unset_env: Vec<String>,

    /// Start with an empty environment instead of the server's
    #[arg(long, requires = "program")]
    pub clear_env: bool,

    /// The program's argv[0] [default: PROGRAM]
    #[arg(long, value_name = "NAME", requires = "program", allow_hyphen_values = true)]
    pub argv0: Option<String>,

    /// Working directory [default: the server's]
    #[arg(long, value_name = "DIRECTORY", requires = "program")]
    pub cwd: Option<PathBuf>,

    /// File mode creation mask, in octal [default: the server's]
    #[arg(long, value_name = "MASK", requires = "program", value_parser = umask)]
    pub umask: Option<u32>,

    /// Number added to the server's nice value
    #[arg(long, value_name = "N", requires = "program", default_value = "0", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-40..=40))]
    pub nice: i32,
}

impl ProgramOptions {
    /// The program, if there is one.
    #[must_use]
    pub fn program(&self) -> Option<Program> {
        if self.program.is_empty() {
            return None;
        }
        let mut program = self
            .execution
            .program(&self.program)
            .reverse_dns(self.reverse_dns)
            .remote_host(self.remote_host)
            .stderr(self.stderr)
            .terminal(self.terminal())
            .terminal_size(self.tty_rows, self.tty_columns)
            .lingering_close(self.lingering_close)
            .kill_mode(self.kill_mode)
            .warm(self.warm.warm());
        if let Some(directory) = &self.execution.cwd {
            program = program.directory(directory);
        }
        if let Some(directory) = &self.cgroup {
            program = program.cgroup(directory);
        }
        if let Some(set) = self.set_login_environment {
            program = program.login_environment(set);
        }
        Some(self.limits.apply(program))
    }

    fn terminal(&self) -> Terminal {
        match (self.pty, self.pty_raw, self.line_buffered) {
            (true, _, _) => Terminal::Full,
            (_, true, _) => Terminal::Raw,
            (_, _, true) => Terminal::Output,
            (false, false, false) => Terminal::None,
        }
    }
}

impl ExecutionOptions {
    /// A program with this environment, in the server's working directory.
    #[must_use]
    pub fn program(&self, words: &[OsString]) -> Program {
        let mut program = Program::new(words).clear_env(self.clear_env).nice(self.nice);
        if let Some(name) = &self.argv0 {
            program = program.argv0(name);
        }
        if let Some(mask) = self.umask {
            program = program.umask(mask);
        }
        for (name, value) in &self.env {
            let value = value.clone().map(Into::into).or_else(|| std::env::var_os(name));
            if let Some(value) = value {
                program = program.env(name, value);
            }
        }
        self.unset_env.iter().fold(program, |program, name| program.env_remove(name))
    }
}

/// `--limit-cpu` … `--limit-rttime`: systemd's `LimitCPU=` … `LimitRTTIME=`.
#[derive(Clone, Debug, Default)]
pub struct ResourceLimits(Vec<(Resource, u64, u64)>);

impl ResourceLimits {
    /// The program with these limits.
    #[must_use]
    pub fn apply(&self, program: Program) -> Program {
        self.0.iter().fold(program, |program, (resource, soft, hard)| program.limit(*resource, *soft, *hard))
    }
}

impl FromArgMatches for ResourceLimits {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let limit = |name: &&str| {
            let (soft, hard) = *matches.get_one::<(u64, u64)>(&format!("limit-{name}"))?;
            Some((name.parse().ok()?, soft, hard))
        };
        Ok(ResourceLimits(Resource::NAMES.iter().filter_map(limit).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ResourceLimits::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ClapArgs for ResourceLimits {
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
        ResourceLimits::augment_args(command)
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

/// `SOFT:HARD`, or one value for both.
fn limit(name: &str, text: &str) -> Result<(u64, u64), String> {
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

fn variable_name(text: &str) -> Result<String, String> {
    match variable(text) {
        Ok((name, None)) => Ok(name),
        _ => Err("write the NAME alone".into()),
    }
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
        assert_eq!(variable_name("A"), Ok("A".into()));
        variable_name("A=b").expect_err("a value");
    }
}
