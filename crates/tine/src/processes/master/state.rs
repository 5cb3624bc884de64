//! What the master does after an event. No system call here.

use std::time::{Duration, Instant};

use crate::lifecycle::backoff::RestartBackoff;

/// An event of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MasterEvent {
    /// SIGTERM, SIGINT or SIGPWR.
    StopRequested,
    /// SIGQUIT.
    EndRequested,
    /// The supervisor of this service has ended.
    Ended(usize),
    /// An operator stops this service alone.
    DrainRequested(usize),
    /// That of this service has ended after the last of its connections.
    Completed(usize),
    /// A newer generation serves.
    Replaced,
    /// The process that belongs to the whole server has died.
    Abandoned,
    /// Time has passed.
    Tick,
}

/// An action of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MasterAction {
    /// Start the supervisor of this service.
    Start(usize),
    /// Close the listeners: the supervisors have theirs.
    CloseListeners,
    /// Close the listeners of this service: it accepts no more client.
    CloseListenersOf(usize),
    /// Send TERM to the supervisor of this service.
    StopService(usize),
    /// Send TERM to every supervisor: it drains, or goes on to the next step of its stop.
    Stop,
    /// Send QUIT to every supervisor: it ends its connections.
    End,
    /// Kill every supervisor; the processes that they started are killed with them.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MasterPhase {
    Serving,
    /// A newer generation serves; the supervisors finish.
    Replaced,
    /// The supervisors got TERM, and are killed at the deadline.
    Stopping {
        deadline: Instant,
    },
    Killed,
    Over,
}

/// The state of the master.
#[derive(Debug)]
pub(super) struct MasterState {
    phase: MasterPhase,
    services: Vec<RestartBackoff>,
    /// Services that were stopped by an operator.
    drained: Vec<bool>,
    stop_within: Duration,
}

impl MasterState {
    /// The state of a master whose services run; a stop takes `stop_within` at most.
    pub(super) fn new(services: usize, stop_within: Duration, now: Instant) -> MasterState {
        MasterState {
            phase: MasterPhase::Serving,
            services: vec![RestartBackoff::running(now); services],
            drained: vec![false; services],
            stop_within,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase != MasterPhase::Serving
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == MasterPhase::Over
    }

    /// When a tick is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.phase {
            MasterPhase::Stopping { deadline } => Some(deadline),
            _ => None,
        };
        self.services.iter().filter_map(RestartBackoff::due).chain(own).min()
    }

    /// The time until a service that has just ended is restarted.
    pub(super) fn restart_in(&self, service: usize, now: Instant) -> Option<Duration> {
        self.services[service].due().map(|due| due.saturating_duration_since(now))
    }

    /// Handles an event.
    pub(super) fn on(&mut self, event: MasterEvent, now: Instant) -> Vec<MasterAction> {
        match event {
            MasterEvent::StopRequested => self.stop(MasterAction::Stop, now),
            MasterEvent::EndRequested => self.stop(MasterAction::End, now),
            MasterEvent::Ended(service) => self.ended(service, now),
            MasterEvent::DrainRequested(service) => self.drain(service),
            MasterEvent::Completed(service) => self.completed(service),
            MasterEvent::Replaced => self.replaced(),
            MasterEvent::Abandoned => {
                self.phase = MasterPhase::Killed;
                vec![MasterAction::Kill]
            }
            MasterEvent::Tick => self.tick(now),
        }
    }

    /// No supervisor is started again.
    fn replaced(&mut self) -> Vec<MasterAction> {
        if self.phase != MasterPhase::Serving {
            return Vec::new();
        }
        self.phase = MasterPhase::Replaced;
        self.retire_waiting();
        vec![MasterAction::CloseListeners]
    }

    /// Services that wait for a restart have ended for good.
    fn retire_waiting(&mut self) {
        let waiting = self.services.iter_mut().filter(|backoff| backoff.due().is_some());
        waiting.for_each(RestartBackoff::retired);
        self.over_if_done();
    }

    /// Stops one service; with the last one, the server.
    fn drain(&mut self, service: usize) -> Vec<MasterAction> {
        if self.is_stopping() || std::mem::replace(&mut self.drained[service], true) {
            return Vec::new();
        }
        if self.services[service].due().is_some() {
            // It waits for its restart.
            self.services[service].retired();
            self.over_if_done();
        }
        vec![MasterAction::CloseListenersOf(service), MasterAction::StopService(service)]
    }

    /// Whether a service was stopped by an operator.
    pub(super) fn is_drained(&self, service: usize) -> bool {
        self.drained[service]
    }

    /// Whether a service has ended, and is not started again.
    pub(super) fn is_done(&self, service: usize) -> bool {
        self.services[service].is_done()
    }

    fn stop(&mut self, how: MasterAction, now: Instant) -> Vec<MasterAction> {
        match self.phase {
            MasterPhase::Serving | MasterPhase::Replaced => {
                self.phase = MasterPhase::Stopping { deadline: now + self.stop_within };
                self.retire_waiting();
                vec![MasterAction::CloseListeners, how]
            }
            MasterPhase::Stopping { .. } => vec![how],
            MasterPhase::Killed | MasterPhase::Over => Vec::new(),
        }
    }

    fn ended(&mut self, service: usize, now: Instant) -> Vec<MasterAction> {
        if !self.is_stopping() && !self.drained[service] {
            self.services[service].exited(now);
            return self.start_due(now);
        }
        self.services[service].retired();
        self.over_if_done();
        Vec::new()
    }

    fn completed(&mut self, service: usize) -> Vec<MasterAction> {
        let is_stopping = self.is_stopping();
        self.services[service].retired();
        self.over_if_done();
        if is_stopping { Vec::new() } else { vec![MasterAction::CloseListenersOf(service)] }
    }

    fn tick(&mut self, now: Instant) -> Vec<MasterAction> {
        match self.phase {
            MasterPhase::Stopping { deadline } if deadline <= now => {
                self.phase = MasterPhase::Killed;
                vec![MasterAction::Kill]
            }
            _ => self.start_due(now),
        }
    }

    fn start_due(&mut self, now: Instant) -> Vec<MasterAction> {
        let services = self.services.iter_mut().enumerate();
        let due =
            services.filter_map(|(service, backoff)| backoff.take_due(Some(now), now).then_some(service));
        due.map(MasterAction::Start).collect()
    }

    fn over_if_done(&mut self) {
        if self.services.iter().all(RestartBackoff::is_done) {
            self.phase = MasterPhase::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events at times in milliseconds, and compares the actions.
    fn play(script: &[(u64, MasterEvent, &[MasterAction])]) -> MasterState {
        let start = Instant::now();
        let mut state = MasterState::new(2, Duration::from_secs(20), start);
        for (at, event, actions) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(state.on(*event, now), *actions, "{event:?} at {at}");
        }
        state
    }

    const STOP: &[MasterAction] = &[MasterAction::CloseListeners, MasterAction::Stop];

    #[test]
    fn an_orderly_stop() {
        let state = play(&[
            (0, MasterEvent::StopRequested, STOP),
            (1, MasterEvent::Ended(1), &[]),
            (2, MasterEvent::Tick, &[]),
            (3, MasterEvent::Ended(0), &[]),
        ]);
        assert!(state.is_over());
    }

    #[test]
    fn a_server_that_is_replaced_restarts_nothing_and_can_be_stopped() {
        let state = play(&[
            (0, MasterEvent::Ended(0), &[MasterAction::Start(0)]),
            (1, MasterEvent::Ended(0), &[]),
            (2, MasterEvent::Replaced, &[MasterAction::CloseListeners]),
            (3, MasterEvent::Replaced, &[]),
            (1_000_000, MasterEvent::Tick, &[]),
            (1_000_001, MasterEvent::Ended(1), &[]),
        ]);
        assert!(state.is_over());
        let state = play(&[
            (0, MasterEvent::Replaced, &[MasterAction::CloseListeners]),
            (1, MasterEvent::StopRequested, STOP),
            (20_001, MasterEvent::Tick, &[MasterAction::Kill]),
        ]);
        assert!(!state.is_over());
        play(&[(0, MasterEvent::Abandoned, &[MasterAction::Kill]), (1, MasterEvent::StopRequested, &[])]);
    }

    #[test]
    fn every_further_signal_is_handed_on() {
        let state = play(&[
            (0, MasterEvent::StopRequested, STOP),
            (1, MasterEvent::StopRequested, &[MasterAction::Stop]),
            (2, MasterEvent::StopRequested, &[MasterAction::Stop]),
            (3, MasterEvent::Ended(0), &[]),
        ]);
        assert!(!state.is_over());
    }

    #[test]
    fn quit_is_handed_on() {
        play(&[
            (0, MasterEvent::EndRequested, &[MasterAction::CloseListeners, MasterAction::End]),
            (1, MasterEvent::EndRequested, &[MasterAction::End]),
        ]);
        play(&[(0, MasterEvent::StopRequested, STOP), (1, MasterEvent::EndRequested, &[MasterAction::End])]);
    }

    #[test]
    fn who_does_not_stop_is_killed() {
        let state = play(&[
            (0, MasterEvent::StopRequested, STOP),
            (1, MasterEvent::Ended(0), &[]),
            (19_999, MasterEvent::Tick, &[]),
            (20_000, MasterEvent::Tick, &[MasterAction::Kill]),
            (20_001, MasterEvent::StopRequested, &[]),
            (20_002, MasterEvent::Ended(1), &[]),
        ]);
        assert!(state.is_over());
    }

    #[test]
    fn a_service_that_has_ended_is_started_again() {
        let state = play(&[
            (0, MasterEvent::Ended(1), &[MasterAction::Start(1)]),
            (0, MasterEvent::Ended(1), &[]),
            (0, MasterEvent::Ended(0), &[MasterAction::Start(0)]),
            (99, MasterEvent::Tick, &[]),
            (100, MasterEvent::Tick, &[MasterAction::Start(1)]),
        ]);
        assert!(!state.is_stopping() && state.deadline().is_none());
    }

    #[test]
    fn a_service_that_is_completed_is_not_started_again() {
        let state = play(&[
            (0, MasterEvent::Completed(1), &[MasterAction::CloseListenersOf(1)]),
            (1, MasterEvent::Ended(0), &[MasterAction::Start(0)]),
            (20_000, MasterEvent::Tick, &[]),
            (20_001, MasterEvent::Completed(0), &[MasterAction::CloseListenersOf(0)]),
        ]);
        assert!(state.is_over());
        let state = play(&[
            (0, MasterEvent::Completed(0), &[MasterAction::CloseListenersOf(0)]),
            (1, MasterEvent::StopRequested, STOP),
            (2, MasterEvent::Completed(1), &[]),
        ]);
        assert!(state.is_over());
    }

    #[test]
    fn who_was_to_come_back_does_not_hold_up_the_stop() {
        let state = play(&[
            (0, MasterEvent::Ended(1), &[MasterAction::Start(1)]),
            (0, MasterEvent::Ended(1), &[]),
            (1, MasterEvent::StopRequested, STOP),
            (2, MasterEvent::Ended(0), &[]),
        ]);
        assert!(state.is_over());
    }
}
