//! Changes settings for operators, while the server serves.

use super::role::Role;
use super::state::ServerEvent;
use super::{LOG_LEVEL, Supervisor};
use crate::connection::handler::Handler;
use crate::ipc::setting::{Setting, SettingValue};
use crate::ipc::steering::OrderAnswer;
use crate::watch::diag::Diag;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Changes a setting for clients that are accepted from now on; timeouts also for the
    /// connections that there are. `None`: the answer follows.
    pub(super) fn set(
        &mut self,
        pid: i32,
        setting: Setting,
        value: SettingValue,
        events: &mut Vec<ServerEvent>,
    ) -> Option<OrderAnswer> {
        let floor = &self.first_server_fd;
        self.watcher.require_diag(|| floor.duplicate(Diag::socket().ok()?).ok());
        if let Some(refusal) = self.at_start.refusal(setting, value, self.watcher.counts_bytes()) {
            return Some(OrderAnswer::Refused(refusal));
        }
        if setting == Setting::MaxConnections {
            return self.set_maximum(pid, value);
        }
        self.settings.store(setting, value);
        match setting {
            Setting::Limits => {
                self.memory.board.set_limits_mode(value.mode());
                self.wake_delayer_always();
            }
            Setting::MaxConnections
            | Setting::MaxConnectionsPerSource
            | Setting::MaxConnectionsPerPrefix
            | Setting::RatePerSource
            | Setting::RatePerPrefix
            | Setting::MaxConnectionsPerSourceFleet
            | Setting::RatePerSourceFleet => {
                self.memory.board.set_source_limits(self.settings.limits.of_sources());
                if value != SettingValue::NONE {
                    // It rejects the clients, and logs those that are reported.
                    events.push(ServerEvent::RoleNeeded(Role::Rejector));
                }
                self.wake_delayer_always();
                self.change_fleet_limits();
            }
            Setting::DrainTimeout => {
                events.push(ServerEvent::DrainTimeoutSet(self.settings.drain_timeout));
            }
            Setting::IdleTimeout | Setting::MaxLifetime | Setting::FirstByteTimeout => {
                self.watcher.set_rules(self.settings.watch_rules());
            }
            Setting::LogLevel => self.memory.flags.set(LOG_LEVEL, value.level().to_word()),
        }
        Some(OrderAnswer::Done(1))
    }

    /// Wakes the delayer: clients that wait can be admitted by the new limits.
    fn wake_delayer_always(&self) {
        if let Some(delayer) = &self.channels.delayer {
            delayer.wakeup.wake();
        }
    }
}
