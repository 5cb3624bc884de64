//! The options that an operator can change while a server serves: one table of their names and the
//! form of their values, which a control process parses, and supervisors get as words.

use std::time::Duration;

use crate::admission::limits::LimitsMode;
use crate::admission::rate::Rate;
use crate::error::Error;
use crate::log::LogLevel;

/// An option that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Limits,
    MaxConnections,
    MaxConnectionsPerSource,
    MaxConnectionsPerPrefix,
    RatePerSource,
    RatePerPrefix,
    MaxConnectionsPerSourceFleet,
    RatePerSourceFleet,
    DrainTimeout,
    IdleTimeout,
    MaxLifetime,
    FirstByteTimeout,
    LogLevel,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Mode,
    Count,
    OptionalCount,
    OptionalRate,
    Time,
    OptionalTime,
    Level,
}

/// A value in words, as orders and the board have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SettingValue(pub(crate) [u64; 2]);

/// Why an option does not get a value while the server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is none of the values of the option.
    NoValue,
    /// There are as many slots as connections at the start.
    AboveStart,
    /// Workers take their next client by themselves.
    Workers,
    /// Another operator changes it.
    Busy,
    /// A forker does not stop accepting.
    NoPause,
    /// Without a rate at the start there are no buckets.
    NoBuckets,
    /// Without the limit at the start there is no table of it.
    NoFleetTable,
    /// A client over this limit could not be queued.
    NotQueued,
    /// The master ends its services by the timeouts of the start.
    MasterWaits,
    /// The kernel does not tell the bytes of sockets.
    NoByteCounts,
    /// Received bytes are not logged by connections that are prepared at the start.
    NoBytesLogged,
}

impl SettingValue {
    /// No value: no limit, no timeout.
    pub(crate) const NONE: SettingValue = SettingValue([u64::MAX, 0]);

    pub(crate) fn of_number(number: Option<u64>) -> SettingValue {
        number.map_or(SettingValue::NONE, |number| SettingValue([number, 0]))
    }

    /// A time, of 584 years at most.
    pub(crate) fn of_time(time: Option<Duration>) -> SettingValue {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1);
        SettingValue::of_number(time.map(nanoseconds))
    }

    pub(crate) fn of_rate(rate: Option<Rate>) -> SettingValue {
        rate.map_or(SettingValue::NONE, |rate| SettingValue(rate.to_words()))
    }

    pub(crate) fn of_mode(mode: LimitsMode) -> SettingValue {
        SettingValue([u64::from(mode == LimitsMode::Report), 0])
    }

    pub(crate) fn of_level(level: LogLevel) -> SettingValue {
        SettingValue([level.to_word(), 0])
    }

    pub(crate) fn level(self) -> LogLevel {
        LogLevel::from_word(self.0[0]).unwrap_or_default()
    }

    pub(crate) fn number(self) -> Option<u64> {
        (self != SettingValue::NONE).then_some(self.0[0])
    }

    pub(crate) fn count(self) -> Option<usize> {
        self.number().and_then(|number| usize::try_from(number).ok())
    }

    pub(crate) fn time(self) -> Option<Duration> {
        self.number().map(Duration::from_nanos)
    }

    pub(crate) fn rate(self) -> Option<Rate> {
        if self == SettingValue::NONE { None } else { Rate::from_words(self.0) }
    }

    pub(crate) fn mode(self) -> LimitsMode {
        if self.0[0] == 1 { LimitsMode::Report } else { LimitsMode::Enforce }
    }
}

impl Setting {
    /// Every one, at the index by which orders name it.
    pub(crate) const ALL: [Setting; 13] = [
        Setting::Limits,
        Setting::MaxConnections,
        Setting::MaxConnectionsPerSource,
        Setting::MaxConnectionsPerPrefix,
        Setting::RatePerSource,
        Setting::RatePerPrefix,
        Setting::MaxConnectionsPerSourceFleet,
        Setting::RatePerSourceFleet,
        Setting::DrainTimeout,
        Setting::IdleTimeout,
        Setting::MaxLifetime,
        Setting::FirstByteTimeout,
        Setting::LogLevel,
    ];

    /// The name of the option, the form of its values, and its default.
    fn row(self) -> (&'static str, Form, &'static str) {
        match self {
            Setting::Limits => ("limits", Form::Mode, "enforce"),
            Setting::MaxConnections => ("max-connections", Form::Count, "1024"),
            Setting::MaxConnectionsPerSource => ("max-connections-per-source", Form::OptionalCount, "none"),
            Setting::MaxConnectionsPerPrefix => ("max-connections-per-prefix", Form::OptionalCount, "none"),
            Setting::RatePerSource => ("rate-per-source", Form::OptionalRate, "none"),
            Setting::RatePerPrefix => ("rate-per-prefix", Form::OptionalRate, "none"),
            Setting::MaxConnectionsPerSourceFleet => {
                ("max-connections-per-source-fleet", Form::OptionalCount, "none")
            }
            Setting::RatePerSourceFleet => ("rate-per-source-fleet", Form::OptionalRate, "none"),
            Setting::DrainTimeout => ("drain-timeout", Form::Time, "7s"),
            Setting::IdleTimeout => ("idle-timeout", Form::OptionalTime, "none"),
            Setting::MaxLifetime => ("max-lifetime", Form::OptionalTime, "none"),
            Setting::FirstByteTimeout => ("first-byte-timeout", Form::OptionalTime, "none"),
            Setting::LogLevel => ("log-level", Form::Level, "normal"),
        }
    }

    /// The setting with this name.
    ///
    /// # Errors
    /// There is none: the text has the names that there are.
    pub(crate) fn of_name(name: &str) -> Result<Setting, String> {
        let known = Setting::ALL.into_iter().find(|setting| setting.name() == name);
        known.ok_or_else(|| {
            let names = Setting::ALL.map(Setting::name).join(", ");
            format!("'{name}' cannot be set while the server serves; these can: {names}")
        })
    }

    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// The value of a server without the option.
    pub(crate) fn default_text(self) -> &'static str {
        self.row().2
    }

    /// The values that it takes, for operators.
    pub(crate) fn takes(self) -> &'static str {
        match self.row().1 {
            Form::Mode => "enforce or report",
            Form::Count => "a number, up to that of the start",
            Form::OptionalCount => "a number, or none",
            Form::OptionalRate => "a rate, as in 10/s:50, or none",
            Form::Time => "a time, as in 10s",
            Form::OptionalTime => "a time, as in 10s, or none",
            Form::Level => "quiet, normal or verbose",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Reads a value.
    ///
    /// # Errors
    /// The text is none of the values of this setting.
    pub(crate) fn parse(self, text: &str) -> Result<SettingValue, String> {
        let bad = || format!("{} is {}, not '{text}'", self.name(), self.takes());
        let (_, form, _) = self.row();
        let is_optional = matches!(form, Form::OptionalCount | Form::OptionalRate | Form::OptionalTime);
        if is_optional && text == "none" {
            return Ok(SettingValue::NONE);
        }
        let said = |error: Error| format!("{}: {error}", self.name());
        let value = match form {
            Form::Mode => SettingValue::of_mode(text.parse().map_err(said)?),
            Form::Count | Form::OptionalCount => {
                SettingValue::of_number(Some(text.parse().map_err(|_| bad())?))
            }
            Form::OptionalRate => SettingValue::of_rate(Some(text.parse().map_err(said)?)),
            Form::Time | Form::OptionalTime => {
                SettingValue::of_time(Some(humantime::parse_duration(text).map_err(|_| bad())?))
            }
            Form::Level => SettingValue::of_level(text.parse().map_err(|_| bad())?),
        };
        if self.has(value) { Ok(value) } else { Err(bad()) }
    }

    /// Whether this is one of its values. Words can come from a control process that has been taken
    /// over.
    pub(crate) fn has(self, value: SettingValue) -> bool {
        let is_none = value == SettingValue::NONE;
        let [first, second] = value.0;
        match self.row().1 {
            Form::Mode => matches!(value.0, [0 | 1, 0]),
            Form::Count => (1..=u32::MAX.into()).contains(&first) && second == 0,
            Form::OptionalCount => is_none || (1..=u32::MAX.into()).contains(&first) && second == 0,
            Form::OptionalRate => is_none || Rate::from_words(value.0).is_some(),
            Form::Time => !is_none && second == 0,
            Form::OptionalTime => is_none || first > 0 && second == 0,
            Form::Level => LogLevel::from_word(first).is_some() && second == 0,
        }
    }

    /// A value as it is written.
    pub(crate) fn show(self, value: SettingValue) -> String {
        let shown = match self.row().1 {
            Form::Mode => Some(value.mode().to_string()),
            Form::Level => Some(value.level().to_string()),
            Form::Count | Form::OptionalCount => value.number().map(|number| number.to_string()),
            Form::OptionalRate => value.rate().map(|rate| rate.to_string()),
            Form::Time | Form::OptionalTime => {
                value.time().map(|time| humantime::format_duration(time).to_string())
            }
        };
        shown.unwrap_or_else(|| "none".to_owned())
    }
}

impl Refusal {
    /// Every one, at the index by which answers name it.
    pub(crate) const ALL: [Refusal; 11] = [
        Refusal::NoValue,
        Refusal::AboveStart,
        Refusal::Workers,
        Refusal::Busy,
        Refusal::NoPause,
        Refusal::NoBuckets,
        Refusal::NoFleetTable,
        Refusal::NotQueued,
        Refusal::MasterWaits,
        Refusal::NoByteCounts,
        Refusal::NoBytesLogged,
    ];

    /// What an operator is told.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Refusal::NoValue => "it does not have this value",
            Refusal::AboveStart => {
                "it cannot exceed the value of the start, for which the server has slots; restart with more"
            }
            Refusal::Workers => {
                "it cannot change in a server with --reuse, whose workers take clients by themselves"
            }
            Refusal::Busy => "another command changes it; repeat this one",
            Refusal::NoPause => {
                "a process does not stop accepting, so nothing is changed; `tine status` has the forkers, look for a stopped one (`ps`)"
            }
            Refusal::NoBuckets => {
                "the server was started without a rate, and has no buckets; restart with --rate-per-source or --rate-per-prefix"
            }
            Refusal::NoFleetTable => {
                "the server was started without this limit, and has no table for it; restart with it"
            }
            Refusal::NotQueued => {
                "the server was started without such a limit, and has no delay queue for it; restart with one, or without --when-limited delay"
            }
            Refusal::MasterWaits => {
                "in a server with several services, it cannot exceed the value of the start, by which the master stops them"
            }
            Refusal::NoByteCounts => "the kernel does not tell the bytes of sockets here (sock_diag)",
            Refusal::NoBytesLogged => {
                "the server was started without --verbose, so connections do not log what they receive; restart with it"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_indices_and_defaults() {
        for (index, setting) in Setting::ALL.into_iter().enumerate() {
            assert_eq!((setting.index(), Setting::of_name(setting.name())), (index, Ok(setting)));
            let default = setting.parse(setting.default_text()).expect("a value");
            assert_eq!(setting.show(default), setting.default_text());
        }
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
        let unknown = Setting::of_name("backlog").expect_err("no such setting");
        assert!(unknown.starts_with("'backlog' cannot be set") && unknown.contains("limits, max-"));
    }

    #[test]
    fn values_are_parsed_and_shown() {
        for (name, text, shown) in [
            ("limits", "report", "report"),
            ("max-connections", "7", "7"),
            ("max-connections-per-source", "none", "none"),
            ("max-connections-per-prefix", "1", "1"),
            ("rate-per-source", "60/min:100", "1/s:100"),
            ("rate-per-prefix", "none", "none"),
            ("max-connections-per-source-fleet", "20", "20"),
            ("rate-per-source-fleet", "10/s:50", "10/s:50"),
            ("drain-timeout", "0", "0s"),
            ("idle-timeout", "90s", "1m 30s"),
            ("max-lifetime", "none", "none"),
            ("log-level", "quiet", "quiet"),
        ] {
            let setting = Setting::of_name(name).expect(name);
            let value = setting.parse(text).expect(text);
            assert_eq!(setting.show(value), shown);
            assert!(setting.has(value), "{name} {text}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for (name, text) in [
            ("limits", "off"),
            ("limits", "none"),
            ("max-connections", "0"),
            ("max-connections", "none"),
            ("max-connections", "5000000000"),
            ("max-connections-per-source", "-1"),
            ("max-connections-per-source", ""),
            ("rate-per-source", "10"),
            ("drain-timeout", "none"),
            ("drain-timeout", "soon"),
            ("idle-timeout", "0s"),
            ("log-level", "none"),
        ] {
            let said = Setting::of_name(name).expect(name).parse(text).expect_err(text);
            assert!(said.starts_with(name), "{said}");
        }
        for words in [[2, 0], [0, 1], [u64::MAX, 0]] {
            assert!(!Setting::Limits.has(SettingValue(words)), "{words:?}");
        }
        assert!(!Setting::RatePerSource.has(SettingValue([0, 5])));
    }
}
