//! Validation of the settings, in one place: the builder only stores. Nothing here changes a
//! setting.

use std::ffi::CString;
use std::time::Duration;

use super::{Server, Settings};
use crate::admission::access::compiled::CompiledRules;
use crate::admission::limits::WhenLimited;
use crate::admission::proxy::ProxyProtocol;
use crate::error::{Error, ErrorKind};
use crate::ipc::board::MAX_FORKERS;
use crate::net::listener::MAX_LISTENERS;
use crate::program::warm::Warm;
use crate::program::{Program, Terminal};

impl Settings {
    /// Validates the settings, and returns the file of the program, if there is one.
    pub(crate) fn check(&self) -> Result<Option<CString>, Error> {
        self.check_values()?;
        self.check_jail()?;
        let (identity, view) = (self.identity.as_ref(), self.jail.path_view());
        self.program.as_ref().map(|program| program.find(identity, view.as_ref())).transpose()
    }

    fn check_jail(&self) -> Result<(), Error> {
        let can_be_full = self.jail.wants_full() && self.jail_users()?.is_some();
        self.jail.check(self.serves_as_root() && !can_be_full)?;
        let stays = self.program.as_ref().is_some_and(Program::is_child);
        match stays && self.jail.is_without_init() {
            true => Err(Error::usage(
                "jail-init is no, and a terminal or lingering-close need a process between client and program",
                "leave one of them out",
            )),
            false => Ok(()),
        }
    }

    /// Refuses settings that are out of range or cannot be combined.
    pub(super) fn check_values(&self) -> Result<(), Error> {
        self.check_ranges()?;
        self.check_warm()?;
        self.limits.aggregations.check()?;
        self.socket.check()?;
        if self.reuse > 1 && !self.has_spares() {
            return Err(Error::new(
                ErrorKind::ReuseWithoutSpares,
                "processes cannot be reused, because there are no spares",
                "set the number of spares as well, as in `spares(32).reuse(1000)`",
            ));
        }
        if self.reuse > 1 && self.program.is_some() {
            return Err(Error::new(
                ErrorKind::ReuseWithProgram,
                "a process that executes a program cannot be reused",
                "do not set `reuse` for a program; `spares` are possible",
            ));
        }
        let looks_up = self.program.as_ref().is_some_and(|program| program.reverse_dns);
        if self.limits.rules.as_ref().is_some_and(CompiledRules::need_names) && !looks_up {
            return Err(Error::new(
                ErrorKind::HostNameRule,
                "access rules may use host names, but host names are not looked up",
                "have the program's process look them up (`Program::reverse_dns`)",
            ));
        }
        if self.limits.penalty_exempt.as_ref().is_some_and(CompiledRules::name_groups) {
            return Err(Error::usage(
                "a group cannot be exempt from penalties: the groups of a client are not known when its connection ends",
                "exempt users (`uid:USER`) or addresses",
            ));
        }
        Ok(())
    }

    /// Refuses a warm start of a program that a process of its connection has to execute, unless it
    /// may be executed for each connection instead.
    fn check_warm(&self) -> Result<(), Error> {
        let Some(program) = &self.program else { return Ok(()) };
        let Some(warm) = &program.warm else { return Ok(()) };
        check_warm_ranges(warm)?;
        if warm.is_only_way() && warm.or_cold {
            return Err(Error::usage(
                "a program that accepts its clients cannot be executed for a connection",
                "start it by copies alone (`--warm=yes`), or watch for another point (`--warm-until`)",
            ));
        }
        let beside = [
            (program.terminal != Terminal::None, "a terminal"),
            (program.lingering_close, "a lingering close"),
            (program.reverse_dns, "a lookup of host names (reverse DNS)"),
            (program.prepare.is_some(), "a prepare function"),
            (!self.banner.is_empty(), "a banner"),
            (self.has_spares(), "spares"),
        ];
        match beside.into_iter().find(|(is_set, _)| *is_set).filter(|_| !warm.or_cold) {
            Some((_, what)) => Err(Error::usage(
                format_args!("a program cannot be started warm with {what}"),
                "leave one of them out, or allow that it is executed for each connection (`--warm=try`, `Warm::or_cold`)",
            )),
            None => Ok(()),
        }
    }

    fn check_ranges(&self) -> Result<(), Error> {
        at_least_one("max_connections", Some(self.max_connections))?;
        at_least_one("max_connections_per_source", self.limits.max_per_source)?;
        at_least_one("max_connections_per_prefix", self.limits.max_per_prefix)?;
        at_least_one("exit_after", self.exit_after.and_then(|most| usize::try_from(most).ok()))?;
        at_least_one("reuse", usize::try_from(self.reuse).ok())?;
        if self.banner.len() > Server::MAX_BANNER {
            return Err(Error::usage(
                format_args!("the banner has {} bytes", self.banner.len()),
                format_args!("shorten it to {} bytes", Server::MAX_BANNER),
            ));
        }
        if !(1..=MAX_FORKERS).contains(&self.forkers) {
            return Err(Error::usage(
                format_args!("forkers is {}", self.forkers),
                format_args!("choose 1 to {MAX_FORKERS}"),
            ));
        }
        if let WhenLimited::Delay { max_clients, timeout } = self.limits.when_limited {
            at_least_one("WhenLimited::Delay max_clients", Some(max_clients))?;
            not_zero("WhenLimited::Delay timeout", Some(timeout))?;
        }
        self.limits.proxy.as_ref().map_or(Ok(()), check_proxies)?;
        not_zero("idle_timeout", self.timeouts.idle)?;
        not_zero("max_lifetime", self.timeouts.lifetime)?;
        not_zero("first_byte_timeout", self.timeouts.first_byte)
    }
}

/// Refuses a service without an address, or with too many.
pub(crate) fn check_listeners(number: usize) -> Result<(), Error> {
    match number {
        0 => Err(Error::new(
            ErrorKind::NoAddress,
            "the server has no address to listen on",
            "bind one (`Server::bind`, `Server::bind_also`)",
        )),
        1..=MAX_LISTENERS => Ok(()),
        more => Err(Error::usage(
            format_args!("{more} listening sockets are more than {MAX_LISTENERS}"),
            "serve some of the addresses by another server",
        )),
    }
}

fn check_proxies(proxies: &ProxyProtocol) -> Result<(), Error> {
    if proxies.is_empty() {
        return Err(Error::usage(
            "the PROXY protocol has no proxies",
            "name their addresses (`ProxyProtocol::proxies`)",
        ));
    }
    not_zero("ProxyProtocol::timeout", Some(proxies.timeout))
}

fn check_warm_ranges(warm: &Warm) -> Result<(), Error> {
    at_least_one("the number of connections of Warm::renew", usize::try_from(warm.renew_after).ok())?;
    not_zero("the time of Warm::renew", Some(warm.renew_every))?;
    not_zero("Warm::timeout", Some(warm.check.timeout))
}

fn at_least_one(name: &str, value: Option<usize>) -> Result<(), Error> {
    match value {
        Some(0) => Err(Error::usage(format_args!("{name} is 0"), "choose 1 or more")),
        _ => Ok(()),
    }
}

fn not_zero(name: &str, value: Option<Duration>) -> Result<(), Error> {
    match value {
        Some(Duration::ZERO) => Err(Error::usage(format_args!("{name} is zero"), "choose a longer time")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::block::{Aggregations, NetBlockSize};
    use crate::admission::limits::Limits;
    use crate::net::options::SocketOptions;
    use crate::watch::Timeouts;

    fn kind(settings: &Settings) -> Option<ErrorKind> {
        settings.check_values().err().map(|error| error.kind())
    }

    #[test]
    fn values_out_of_range_are_refused_and_never_changed() {
        let ok = Settings::default();
        assert_eq!(kind(&ok), None);
        let zero = Some(Duration::ZERO);
        let delay = |max_clients, timeout| WhenLimited::Delay { max_clients, timeout };
        let second = Duration::from_secs(1);
        let with = |limits| Settings { limits, ..Settings::default() };
        let limits = Limits::default;
        let proxies = ProxyProtocol::new().proxies("unix").expect("a kind of proxy");
        for (name, settings) in [
            ("max_connections is 0", Settings { max_connections: 0, ..ok.clone() }),
            ("max_connections_per_source is 0", with(Limits { max_per_source: Some(0), ..limits() })),
            ("max_connections_per_prefix is 0", with(Limits { max_per_prefix: Some(0), ..limits() })),
            ("exit_after is 0", Settings { exit_after: Some(0), ..ok.clone() }),
            ("reuse is 0", Settings { reuse: 0, ..ok.clone() }),
            (
                "backlog is 4294967295",
                Settings { socket: SocketOptions { backlog: u32::MAX, ..ok.socket.clone() }, ..ok.clone() },
            ),
            ("forkers is 0", Settings { forkers: 0, ..ok.clone() }),
            ("forkers is 100", Settings { forkers: 100, ..ok.clone() }),
            (
                "the banner has 65537 bytes",
                Settings { banner: vec![b'x'; Server::MAX_BANNER + 1], ..ok.clone() },
            ),
            ("has no proxies", with(Limits { proxy: Some(ProxyProtocol::new()), ..limits() })),
            (
                "ProxyProtocol::timeout is zero",
                with(Limits { proxy: Some(proxies.timeout(Duration::ZERO)), ..limits() }),
            ),
            ("max_clients is 0", with(Limits { when_limited: delay(0, second), ..limits() })),
            ("timeout is zero", with(Limits { when_limited: delay(1, Duration::ZERO), ..limits() })),
            (
                "idle_timeout is zero",
                Settings { timeouts: Timeouts { idle: zero, ..Timeouts::default() }, ..ok.clone() },
            ),
            (
                "max_lifetime is zero",
                Settings { timeouts: Timeouts { lifetime: zero, ..Timeouts::default() }, ..ok.clone() },
            ),
            (
                "first_byte_timeout is zero",
                Settings { timeouts: Timeouts { first_byte: zero, ..Timeouts::default() }, ..ok.clone() },
            ),
            (
                "smaller than the source",
                with(Limits {
                    aggregations: Aggregations::new(NetBlockSize::PREFIX, NetBlockSize::SOURCE),
                    ..limits()
                }),
            ),
        ] {
            let error = settings.check_values().expect_err(name);
            assert!(error.to_string().contains(name), "{name}: {error}");
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{name}");
        }
    }

    #[test]
    fn combinations_that_cannot_be_served_are_refused() {
        let reuse = Settings { reuse: 2, ..Settings::default() };
        assert_eq!(kind(&reuse), Some(ErrorKind::ReuseWithoutSpares));
        assert_eq!(kind(&Settings { spares: 1, ..reuse }), None);
    }

    fn cat() -> Program {
        Program::new(["cat"])
    }

    /// A server of a program that is started warm.
    fn warm(program: Program, warm: Warm) -> Settings {
        Settings { program: Some(program.warm(Some(warm))), ..Settings::default() }
    }

    #[test]
    fn a_warm_start_has_numbers_and_times_above_zero() {
        let second = Duration::from_secs(1);
        assert_eq!(kind(&warm(cat(), Warm::new())), None);
        assert_eq!(kind(&warm(cat(), Warm::new().renew(1, second).timeout(second))), None);
        for (name, settings) in [
            ("connections of Warm::renew is 0", Warm::new().renew(0, second)),
            ("time of Warm::renew is zero", Warm::new().renew(1, Duration::ZERO)),
            ("Warm::timeout is zero", Warm::new().timeout(Duration::ZERO)),
        ] {
            for or_cold in [false, true] {
                let settings = warm(cat(), settings.clone().or_cold(or_cold));
                let error = settings.check_values().expect_err(name);
                assert!(error.to_string().contains(name), "{name}: {error}");
                assert_eq!(error.kind(), ErrorKind::InvalidValue, "{name}");
            }
        }
    }

    #[test]
    fn a_program_that_its_connection_has_to_execute_cannot_be_started_warm() {
        let plain = |program| warm(program, Warm::new());
        for (what, settings) in [
            ("a terminal", plain(cat().terminal(Terminal::Full))),
            ("a terminal", plain(cat().terminal(Terminal::Raw))),
            ("a terminal", plain(cat().terminal(Terminal::Output))),
            ("a lingering close", plain(cat().lingering_close(true))),
            ("reverse DNS", plain(cat().reverse_dns(true))),
            ("a prepare function", plain(cat().prepare(|_| crate::program::Prepared::new()))),
            ("a banner", Settings { banner: b"hello".to_vec(), ..plain(cat()) }),
            ("spares", Settings { spares: 1, ..plain(cat()) }),
        ] {
            let error = settings.check_values().expect_err(what);
            let said = error.to_string();
            assert!(said.contains("cannot be started warm with") && said.contains(what), "{what}: {said}");
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{what}");
            let program = |warm| settings.program.clone().map(|program| program.warm(warm));
            for allowed in [None, Some(Warm::new().or_cold(true))] {
                let settings = Settings { program: program(allowed.clone()), ..settings.clone() };
                assert_eq!(kind(&settings), None, "{what} {allowed:?}");
            }
        }
    }

    #[test]
    fn the_number_of_listeners() {
        let kind = |number| check_listeners(number).err().map(|error| error.kind());
        assert_eq!(kind(0), Some(ErrorKind::NoAddress));
        assert_eq!((kind(1), kind(64)), (None, None));
        assert_eq!(kind(65), Some(ErrorKind::InvalidValue));
    }
}
