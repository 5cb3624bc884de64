//! A warm start: the point that a program is copied at, for `tine serve` and `tine warm-check`, and
//! when there is a new template.

use std::time::Duration;

use clap::Args as ClapArgs;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tine::cli::WarmCheckSettings;
use tine::{Warm, WarmAllow, WarmUntil};

use super::{choice, positive};

/// Above the options of a warm start.
pub const HEADING: &str = "Warm start of the program";

/// The time after which there is a new template, if only a number of connections is given.
const RENEW_EVERY: Duration = Duration::from_secs(600);

/// Whether a program is started warm, and how.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = HEADING,
    mut_arg("warm_until", |arg| arg.requires("warm")),
    mut_arg("warm_timeout", |arg| arg.requires("warm")),
    mut_arg("warm_allow", |arg| arg.requires("warm")),
    mut_arg("warm_renew", |arg| arg.requires("warm")))]
pub struct WarmOptions {
    /// Whether to execute the program once, stop it at its first use of the connection, and copy it
    /// for each connection: yes (also without a value), where a program that cannot be copied is an
    /// error at the start; try, where such a program is executed for each connection; no
    #[arg(long, value_name = "MODE", requires = "program", require_equals = true, num_args = 0..=1,
        default_value = "no", default_missing_value = "yes", value_parser = mode())]
    pub warm: WarmMode,

    /// The point, and what is allowed there.
    #[command(flatten)]
    pub point: WarmPoint,

    /// Execute it anew after N connections, and when DURATION has passed (10min, if it is left out)
    #[arg(long, value_name = "N[,DURATION]", default_value = "1000,10min", value_parser = renewal)]
    pub warm_renew: (u64, Duration),
}

/// The point that a program is copied at, and what is allowed there.
#[derive(ClapArgs, Debug)]
#[group(skip)]
pub struct WarmPoint {
    /// The point: the first use of the connection, or a look at the path /.tine/ready or
    /// /.tine/ready/variables (use); the look alone (call); the call of accept(2) of a program that
    /// accepts its clients itself, from descriptor 0 or 3 (accept). The second path says that the
    /// program renews its own copies of the variables after the look
    #[arg(long, value_name = "POINT", default_value_t, value_parser = choice::<WarmUntil>(WarmUntil::NAMES))]
    pub warm_until: WarmUntil,

    /// Time that the program has up to that point
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive)]
    pub warm_timeout: Duration,

    /// Kinds of hindrances that are no reason against it, as the copies of this program do not meet
    /// in them
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = choice::<WarmAllow>(WarmAllow::NAMES))]
    pub warm_allow: Vec<WarmAllow>,
}

/// Whether a program is started warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmMode {
    /// It has to be.
    Yes,
    /// It is where it can be.
    Try,
    /// It is executed for each connection.
    No,
}

impl WarmOptions {
    /// How the program is started warm; `None` if it is executed for each connection.
    #[must_use]
    pub fn warm(&self) -> Option<Warm> {
        let (connections, time) = self.warm_renew;
        let warm = Warm::new()
            .until(self.point.warm_until)
            .timeout(self.point.warm_timeout)
            .allow(self.point.warm_allow.iter().copied())
            .renew(connections, time);
        match self.warm {
            WarmMode::Yes => Some(warm),
            WarmMode::Try => Some(warm.or_cold(true)),
            WarmMode::No => None,
        }
    }
}

impl WarmPoint {
    /// What a check is asked.
    #[must_use]
    pub fn settings(&self) -> WarmCheckSettings {
        WarmCheckSettings {
            until: self.warm_until,
            timeout: self.warm_timeout,
            allowed: self.warm_allow.clone(),
        }
    }
}

fn mode() -> impl TypedValueParser<Value = WarmMode> {
    PossibleValuesParser::new(["yes", "try", "no"]).map(|word| match word.as_str() {
        "yes" => WarmMode::Yes,
        "try" => WarmMode::Try,
        _ => WarmMode::No,
    })
}

/// `N` or `N,DURATION`.
fn renewal(text: &str) -> Result<(u64, Duration), String> {
    let (number, time) = match text.split_once(',') {
        None => (text, RENEW_EVERY),
        Some((number, time)) => (number, positive(time)?),
    };
    match number.parse() {
        Ok(0) => Err("the number of connections cannot be 0".into()),
        Ok(number) => Ok((number, time)),
        Err(_) => Err("write a number of connections, as 1000, or with a time, as 1000,10min".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Serve, said};
    use clap::FromArgMatches;

    /// The warm start of `tine serve` with these options and a program.
    fn parsed(options: &[&str]) -> Result<Option<Warm>, String> {
        let words = [options, &["--", "cat"]].concat();
        let command = Serve::augment_args(clap::Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| said(&error))?;
        let serve = Serve::from_arg_matches(&matches).map_err(|error| said(&error))?;
        Ok(serve.program.warm.warm())
    }

    #[test]
    fn options_become_a_warm_start() {
        let minute = Duration::from_secs(60);
        for (options, warm) in [
            (&[][..], None),
            (&["--warm=no"], None),
            (&["--warm=no", "--warm-until", "call"], None),
            (&["--warm"], Some(Warm::new())),
            (&["--warm=yes"], Some(Warm::new())),
            (&["--warm=try"], Some(Warm::new().or_cold(true))),
            (&["--warm", "--warm-until", "call"], Some(Warm::new().until(WarmUntil::Call))),
            (&["--warm", "--warm-timeout=1min"], Some(Warm::new().timeout(minute))),
            (
                &["--warm", "--warm-allow", "epoll,eventfd", "--warm-allow=pipe"],
                Some(Warm::new().allow([WarmAllow::Epoll, WarmAllow::Eventfd, WarmAllow::Pipe])),
            ),
            (&["--warm", "--warm-renew=5"], Some(Warm::new().renew(5, RENEW_EVERY))),
            (&["--warm", "--warm-renew=5,1min"], Some(Warm::new().renew(5, minute))),
        ] {
            assert_eq!(parsed(options), Ok(warm), "{options:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (options, words) in [
            (&["--warm=maybe"][..], "[possible values: yes, try, no]"),
            (&["--warm-until=call"], "--warm[=<MODE>]"),
            (&["--warm-timeout=5s"], "--warm[=<MODE>]"),
            (&["--warm-allow=pipe"], "--warm[=<MODE>]"),
            (&["--warm-renew=5"], "--warm[=<MODE>]"),
            (&["--warm", "--warm-until=later"], "[possible values: use, call, accept]"),
            (&["--warm", "--warm-timeout=0"], "it cannot be zero"),
            (&["--warm", "--warm-allow=threads"], "possible values: eventfd, epoll"),
            (&["--warm", "--warm-renew=0"], "cannot be 0"),
            (&["--warm", "--warm-renew=0,1min"], "cannot be 0"),
            (&["--warm", "--warm-renew=5,0s"], "it cannot be zero"),
            (&["--warm", "--warm-renew=5,"], "write 500ms, 10s or 5min"),
            (&["--warm", "--warm-renew=,5s"], "write a number of connections"),
            (&["--warm", "--warm-renew=10min"], "write a number of connections"),
        ] {
            let error = parsed(options).expect_err("it is refused");
            assert!(error.contains(words), "{options:?}: {error}");
        }
    }
}
