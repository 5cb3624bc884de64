//! Settings that change while the server serves: their values, what stores them, and what the start
//! of the server decides about them.

use super::Settings;
use crate::admission::limits::WhenLimited;
use crate::ipc::setting::{Refusal, Setting, SettingValue};
use crate::log::LogLevel;

/// What the start of a server decides about later changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtStart {
    values: [SettingValue; Setting::ALL.len()],
    has_buckets: bool,
    /// Clients beyond a limit are delayed; the limits per source and per prefix are queued for.
    delays: bool,
    queues_sources: bool,
    queues_prefixes: bool,
    has_workers: bool,
    has_master: bool,
}

impl Settings {
    /// The value of a setting.
    pub(crate) fn value(&self, setting: Setting) -> SettingValue {
        let count = |number: Option<usize>| SettingValue::of_number(number.map(|number| number as u64));
        let (limits, timeouts) = (&self.limits, &self.timeouts);
        match setting {
            Setting::Limits => SettingValue::of_mode(limits.mode),
            Setting::MaxConnections => count(Some(self.max_connections)),
            Setting::MaxConnectionsPerSource => count(limits.max_per_source),
            Setting::MaxConnectionsPerPrefix => count(limits.max_per_prefix),
            Setting::RatePerSource => SettingValue::of_rate(limits.rates.source),
            Setting::RatePerPrefix => SettingValue::of_rate(limits.rates.prefix),
            Setting::MaxConnectionsPerSourceFleet => count(limits.fleet.max_per_source),
            Setting::RatePerSourceFleet => SettingValue::of_rate(limits.fleet.rate_per_source),
            Setting::DrainTimeout => SettingValue::of_time(Some(self.drain_timeout)),
            Setting::IdleTimeout => SettingValue::of_time(timeouts.idle),
            Setting::MaxLifetime => SettingValue::of_time(timeouts.lifetime),
            Setting::FirstByteTimeout => SettingValue::of_time(timeouts.first_byte),
            Setting::LogLevel => SettingValue::of_level(self.log_level),
        }
    }

    /// Stores a value that the setting has.
    pub(crate) fn store(&mut self, setting: Setting, value: SettingValue) {
        let (limits, timeouts) = (&mut self.limits, &mut self.timeouts);
        match setting {
            Setting::Limits => limits.mode = value.mode(),
            Setting::MaxConnections => self.max_connections = value.count().unwrap_or(self.max_connections),
            Setting::MaxConnectionsPerSource => limits.max_per_source = value.count(),
            Setting::MaxConnectionsPerPrefix => limits.max_per_prefix = value.count(),
            Setting::RatePerSource => limits.rates.source = value.rate(),
            Setting::RatePerPrefix => limits.rates.prefix = value.rate(),
            Setting::MaxConnectionsPerSourceFleet => limits.fleet.max_per_source = value.count(),
            Setting::RatePerSourceFleet => limits.fleet.rate_per_source = value.rate(),
            Setting::DrainTimeout => self.drain_timeout = value.time().unwrap_or(self.drain_timeout),
            Setting::IdleTimeout => timeouts.idle = value.time(),
            Setting::MaxLifetime => timeouts.lifetime = value.time(),
            Setting::FirstByteTimeout => timeouts.first_byte = value.time(),
            Setting::LogLevel => self.log_level = value.level(),
        }
    }

    /// What these settings decide about later changes.
    pub(crate) fn at_start(&self) -> AtStart {
        let limits = &self.limits;
        let delays = matches!(limits.when_limited, WhenLimited::Delay { .. });
        AtStart {
            values: Setting::ALL.map(|setting| self.value(setting)),
            has_buckets: limits.have_buckets(),
            delays,
            queues_sources: limits.delays(),
            queues_prefixes: limits.delays() && limits.limits_prefixes(),
            has_workers: self.reuse > 1,
            has_master: self.master.is_some(),
        }
    }
}

impl AtStart {
    /// The value of a setting at the start.
    pub(crate) fn value(&self, setting: Setting) -> SettingValue {
        self.values[setting.index()]
    }

    /// Why a setting does not get a value while the server serves, if so. `counts_bytes`: the
    /// kernel tells the bytes of sockets.
    pub(crate) fn refusal(
        &self,
        setting: Setting,
        value: SettingValue,
        counts_bytes: bool,
    ) -> Option<Refusal> {
        let exceeds_start = value.number() > self.value(setting).number();
        let is_limit = value != SettingValue::NONE;
        let refusals = match setting {
            _ if !setting.has(value) => [(true, Refusal::NoValue); 2],
            Setting::Limits | Setting::MaxLifetime => return None,
            Setting::MaxConnections => {
                [(self.has_workers, Refusal::Workers), (exceeds_start, Refusal::AboveStart)]
            }
            Setting::MaxConnectionsPerSource => {
                [(is_limit && self.delays && !self.queues_sources, Refusal::NotQueued); 2]
            }
            Setting::MaxConnectionsPerPrefix => {
                [(is_limit && self.delays && !self.queues_prefixes, Refusal::NotQueued); 2]
            }
            Setting::RatePerSource => [(is_limit && !self.has_buckets, Refusal::NoBuckets); 2],
            Setting::RatePerPrefix => [
                (is_limit && !self.has_buckets, Refusal::NoBuckets),
                (is_limit && self.delays && !self.queues_prefixes, Refusal::NotQueued),
            ],
            Setting::MaxConnectionsPerSourceFleet | Setting::RatePerSourceFleet => {
                let had_none = self.value(setting) == SettingValue::NONE;
                [(is_limit && had_none, Refusal::NoFleetTable); 2]
            }
            Setting::DrainTimeout => [(self.has_master && exceeds_start, Refusal::MasterWaits); 2],
            Setting::IdleTimeout | Setting::FirstByteTimeout => {
                [(is_limit && !counts_bytes, Refusal::NoByteCounts); 2]
            }
            Setting::LogLevel => {
                let is_verbose = value.level() == LogLevel::Verbose;
                [(is_verbose && exceeds_start, Refusal::NoBytesLogged); 2]
            }
        };
        refusals.into_iter().find(|(refuses, _)| *refuses).map(|(_, refusal)| refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fleet::FleetLimits;
    use crate::admission::limits::{Limits, LimitsMode};
    use crate::admission::rate::{Rate, Rates};

    fn value(setting: Setting, text: &str) -> SettingValue {
        setting.parse(text).expect(text)
    }

    #[test]
    fn each_setting_is_stored_and_shown() {
        let mut settings = Settings::default();
        for setting in Setting::ALL {
            assert_eq!(setting.show(settings.value(setting)), setting.default_text(), "{}", setting.name());
        }
        for (setting, text) in Setting::ALL.into_iter().zip([
            "report", "7", "3", "none", "1/s", "5/min:7", "20", "9/s", "9s", "2m", "none", "1s", "quiet",
        ]) {
            settings.store(setting, value(setting, text));
            assert_eq!(setting.show(settings.value(setting)), setting.show(value(setting, text)));
        }
        assert_eq!((settings.limits.mode, settings.max_connections), (LimitsMode::Report, 7));
    }

    #[test]
    fn what_cannot_take_effect_is_refused() {
        let plain = Settings::default();
        let rate = Rates { source: Some(Rate::new(1, std::time::Duration::from_secs(1))), prefix: None };
        let rated = Settings { limits: Limits { rates: rate, ..Limits::default() }, ..plain.clone() };
        let delay = |limits: Limits| Settings {
            limits: Limits { when_limited: WhenLimited::DELAY, ..limits },
            ..Settings::default()
        };
        let unlimited = delay(Limits::default());
        let delayed = delay(Limits { max_per_source: Some(1), ..Limits::default() });
        let fleet = FleetLimits { max_per_source: Some(3), rate_per_source: None };
        let of_fleet = Settings { limits: Limits { fleet, ..Limits::default() }, ..plain.clone() };
        let workers = Settings { reuse: 5, spares: 1, ..plain.clone() };
        let service = Settings { master: Some(rustix::process::getpid()), ..plain.clone() };
        for (settings, name, text, refusal) in [
            (&plain, "limits", "report", None),
            (&plain, "max-connections", "1024", None),
            (&plain, "max-connections", "1025", Some(Refusal::AboveStart)),
            (&workers, "max-connections", "5", Some(Refusal::Workers)),
            (&plain, "max-connections-per-source", "5", None),
            (&unlimited, "max-connections-per-source", "5", Some(Refusal::NotQueued)),
            (&unlimited, "max-connections-per-source", "none", None),
            (&delayed, "max-connections-per-source", "5", None),
            (&delayed, "max-connections-per-prefix", "5", Some(Refusal::NotQueued)),
            (&plain, "rate-per-source", "1/s", Some(Refusal::NoBuckets)),
            (&rated, "rate-per-source", "9/s", None),
            (&rated, "rate-per-prefix", "9/s", None),
            (&delayed, "rate-per-source", "9/s", None),
            (&delayed, "rate-per-prefix", "9/s", Some(Refusal::NotQueued)),
            (&plain, "max-connections-per-source-fleet", "9", Some(Refusal::NoFleetTable)),
            (&plain, "max-connections-per-source-fleet", "none", None),
            (&of_fleet, "max-connections-per-source-fleet", "9", None),
            (&of_fleet, "rate-per-source-fleet", "9/s", Some(Refusal::NoFleetTable)),
            (&plain, "drain-timeout", "1h", None),
            (&service, "drain-timeout", "1h", Some(Refusal::MasterWaits)),
            (&service, "drain-timeout", "1s", None),
            (&plain, "idle-timeout", "1s", None),
        ] {
            let setting = Setting::of_name(name).expect(name);
            let refused = settings.at_start().refusal(setting, value(setting, text), true);
            assert_eq!(refused, refusal, "{name}={text}");
        }
        for (setting, text, refusal) in [
            (Setting::IdleTimeout, "1s", Some(Refusal::NoByteCounts)),
            (Setting::IdleTimeout, "none", None),
            (Setting::MaxLifetime, "1s", None),
        ] {
            assert_eq!(plain.at_start().refusal(setting, value(setting, text), false), refusal);
        }
        let junk = SettingValue([7, 7]);
        assert_eq!(plain.at_start().refusal(Setting::Limits, junk, true), Some(Refusal::NoValue));
    }
}
