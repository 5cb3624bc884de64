//! What the top does about an event. No system call here.

use std::time::{Duration, Instant};

use crate::lifecycle::backoff::RestartBackoff;

/// What happens to the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGTERM or SIGINT.
    StopRequested,
    /// The supervisor of this service has ended.
    Ended(usize),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start the supervisor of this service.
    Start(usize),
    /// Close the listeners: the services have theirs.
    CloseListeners,
    /// Ask every service to stop, once more.
    Ask,
    /// Kill every supervisor; what they started goes with them.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// They have been asked to stop, and are killed at the deadline.
    Stopping {
        deadline: Instant,
    },
    Killed,
    Over,
}

/// The state of the top.
#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    services: Vec<RestartBackoff>,
    patience: Duration,
}

impl State {
    /// So many services, all of them running; the slowest needs so long to stop.
    pub(super) fn new(services: usize, patience: Duration, now: Instant) -> State {
        State { phase: Phase::Serving, services: vec![RestartBackoff::running(now); services], patience }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase != Phase::Serving
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The time at which a tick is wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Stopping { deadline } => Some(deadline),
            _ => None,
        };
        self.services.iter().filter_map(RestartBackoff::due).chain(own).min()
    }

    /// How long a service that has just ended stays away.
    pub(super) fn restart_in(&self, service: usize, now: Instant) -> Option<Duration> {
        self.services[service].due().map(|due| due.saturating_duration_since(now))
    }

    /// Answers an event.
    pub(super) fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::StopRequested => self.stop(now),
            Event::Ended(service) => self.ended(service, now),
            Event::Tick => self.tick(now),
        }
    }

    fn stop(&mut self, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Serving => {
                self.phase = Phase::Stopping { deadline: now + self.patience };
                self.services
                    .iter_mut()
                    .filter(|backoff| backoff.due().is_some())
                    .for_each(RestartBackoff::retired);
                self.over_if_gone();
                vec![Action::CloseListeners, Action::Ask]
            }
            Phase::Stopping { .. } => vec![Action::Ask],
            Phase::Killed | Phase::Over => Vec::new(),
        }
    }

    fn ended(&mut self, service: usize, now: Instant) -> Vec<Action> {
        if !self.is_stopping() {
            self.services[service].exited(now);
            return self.start_due(now);
        }
        self.services[service].retired();
        self.over_if_gone();
        Vec::new()
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Stopping { deadline } if deadline <= now => {
                self.phase = Phase::Killed;
                vec![Action::Kill]
            }
            _ => self.start_due(now),
        }
    }

    fn start_due(&mut self, now: Instant) -> Vec<Action> {
        let services = self.services.iter_mut().enumerate();
        let due =
            services.filter_map(|(service, backoff)| backoff.take_due(Some(now), now).then_some(service));
        due.map(Action::Start).collect()
    }

    fn over_if_gone(&mut self) {
        if self.services.iter().all(RestartBackoff::is_done) {
            self.phase = Phase::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events at times in milliseconds, and compares the actions.
    fn play(script: &[(u64, Event, &[Action])]) -> State {
        let start = Instant::now();
        let mut state = State::new(2, Duration::from_secs(20), start);
        for (at, event, actions) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(state.on(*event, now), *actions, "{event:?} at {at}");
        }
        state
    }

    const STOP: &[Action] = &[Action::CloseListeners, Action::Ask];

    #[test]
    fn an_orderly_stop() {
        let state = play(&[
            (0, Event::StopRequested, STOP),
            (1, Event::Ended(1), &[]),
            (2, Event::Tick, &[]),
            (3, Event::Ended(0), &[]),
        ]);
        assert!(state.is_over());
    }

    #[test]
    fn every_further_signal_is_handed_on() {
        let state = play(&[
            (0, Event::StopRequested, STOP),
            (1, Event::StopRequested, &[Action::Ask]),
            (2, Event::StopRequested, &[Action::Ask]),
            (3, Event::Ended(0), &[]),
        ]);
        assert!(!state.is_over());
    }

    #[test]
    fn who_does_not_stop_is_killed() {
        let state = play(&[
            (0, Event::StopRequested, STOP),
            (1, Event::Ended(0), &[]),
            (19_999, Event::Tick, &[]),
            (20_000, Event::Tick, &[Action::Kill]),
            (20_001, Event::StopRequested, &[]),
            (20_002, Event::Ended(1), &[]),
        ]);
        assert!(state.is_over());
    }

    #[test]
    fn a_service_that_has_ended_is_started_again() {
        let state = play(&[
            (0, Event::Ended(1), &[Action::Start(1)]),
            (0, Event::Ended(1), &[]),
            (0, Event::Ended(0), &[Action::Start(0)]),
            (99, Event::Tick, &[]),
            (100, Event::Tick, &[Action::Start(1)]),
        ]);
        assert!(!state.is_stopping() && state.deadline().is_none());
    }

    #[test]
    fn who_was_to_come_back_does_not_hold_up_the_stop() {
        let state = play(&[
            (0, Event::Ended(1), &[Action::Start(1)]),
            (0, Event::Ended(1), &[]),
            (1, Event::StopRequested, STOP),
            (2, Event::Ended(0), &[]),
        ]);
        assert!(state.is_over());
    }
}
