//! What the supervisor does about an event: phases, restarts, deadlines. No system call here.

use std::time::{Duration, Instant};

use crate::lifecycle::backoff::RestartBackoff;
use crate::lifecycle::timing::{KILL_AFTER, KILL_WAIT};

/// The phases of a server, as an operator would name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clients come and go.
    Serving,
    /// Nobody new, connections may finish until the deadline.
    Draining { deadline: Instant },
    /// Connections have been told to end, and are killed at the deadline.
    Ending { deadline: Instant },
    /// Everything has been killed.
    Killing { deadline: Instant },
    /// Nothing is left, or nothing that could be waited for.
    Over,
}

/// What happens to a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGTERM or SIGINT.
    StopRequested,
    /// The process that kept this one running has died.
    Abandoned,
    /// A helper has ended. `done`: by itself, its work done.
    HelperEnded { helper: Helper, done: bool },
    /// No connection, spare or helper is left.
    AllExited,
    /// Time has passed.
    Tick,
}

/// A process that serves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Helper {
    /// The forker of this number.
    Forker(usize),
    /// The refuser.
    Rejector,
    /// The delayer.
    Delayer,
    /// The scribe.
    StderrLogger,
    /// The warden.
    CgroupCleaner,
}

impl Helper {
    /// Whether it brings clients in.
    pub(super) fn admits(self) -> bool {
        self.is_forker() || self == Helper::Delayer
    }

    /// Whether it accepts clients. The others go by themselves when nobody needs them.
    pub(super) fn is_forker(self) -> bool {
        matches!(self, Helper::Forker(_))
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start this helper.
    Start(Helper),
    /// Tell forkers and spares that a drain began.
    Drain,
    /// Close the listeners: nobody accepts any more.
    CloseListeners,
    /// Kill the forkers, and tell the connections to end.
    EndAll,
    /// Kill everything.
    KillAll,
}

/// The state of a supervisor.
#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    drain_timeout: Duration,
    helpers: Vec<(Helper, RestartBackoff)>,
    listening: bool,
    /// Connections go on without the server.
    leaves_connections: bool,
}

impl State {
    /// A server with these helpers, all of them running.
    pub(super) fn new(helpers: &[Helper], drain_timeout: Duration, now: Instant) -> State {
        State {
            phase: Phase::Serving,
            drain_timeout,
            helpers: helpers.iter().map(|helper| (*helper, RestartBackoff::running(now))).collect(),
            listening: true,
            leaves_connections: false,
        }
    }

    /// The same, of one that leaves its connections behind when it stops.
    pub(super) fn leaving(self, leaves_connections: bool) -> State {
        State { leaves_connections, ..self }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether clients are no longer waited for.
    pub(super) fn is_stopping(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// The time at which a tick is wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Draining { deadline } | Phase::Ending { deadline } | Phase::Killing { deadline } => {
                Some(deadline)
            }
            Phase::Serving | Phase::Over => None,
        };
        self.helpers.iter().filter_map(|(_, backoff)| backoff.due()).chain(own).min()
    }

    /// How long a helper that has just ended stays away: not at all the first time, then 100 ms,
    /// doubling to 5 s.
    pub(super) fn restart_in(&self, helper: Helper, now: Instant) -> Option<Duration> {
        let (_, backoff) = self.helpers.iter().find(|(other, _)| *other == helper)?;
        backoff.due().map(|due| due.saturating_duration_since(now))
    }

    /// Answers an event.
    pub(super) fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match (event, self.phase) {
            (Event::StopRequested, Phase::Serving) => self.drain(now),
            (Event::StopRequested, Phase::Draining { .. }) => self.end(now),
            (Event::StopRequested, Phase::Ending { .. }) => self.kill(now),
            (Event::StopRequested, Phase::Killing { .. } | Phase::Over) => Vec::new(),
            (Event::Abandoned, Phase::Over) => Vec::new(),
            (Event::Abandoned, _) => {
                self.forget_restarts();
                [self.close_listeners(), self.kill(now)].concat()
            }
            (Event::HelperEnded { helper, done }, _) => self.helper_ended(helper, done, now),
            (Event::AllExited, Phase::Serving) => Vec::new(),
            (Event::AllExited, _) => self.over(),
            (Event::Tick, _) => self.tick(now),
        }
    }

    fn drain(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Draining { deadline: now + self.drain_timeout };
        // Who was to be restarted is needed now: clients may be waiting.
        let mut actions = vec![Action::Drain];
        actions.extend(self.start_due(None, now));
        actions
    }

    fn end(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Ending { deadline: now + KILL_AFTER };
        self.forget_restarts();
        let mut actions = self.close_listeners();
        actions.push(Action::EndAll);
        actions
    }

    fn kill(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Killing { deadline: now + KILL_WAIT };
        vec![Action::KillAll]
    }

    fn over(&mut self) -> Vec<Action> {
        self.phase = Phase::Over;
        self.close_listeners()
    }

    fn close_listeners(&mut self) -> Vec<Action> {
        let listening = std::mem::take(&mut self.listening);
        if listening { vec![Action::CloseListeners] } else { Vec::new() }
    }

    fn helper_ended(&mut self, helper: Helper, done: bool, now: Instant) -> Vec<Action> {
        let phase = self.phase;
        if let Some((_, backoff)) = self.helpers.iter_mut().find(|(other, _)| *other == helper) {
            match phase {
                Phase::Serving => backoff.exited(now),
                Phase::Draining { .. } if !done => backoff.exited(now),
                _ => backoff.retired(),
            }
        }
        let forkers_done =
            self.helpers.iter().all(|(helper, backoff)| backoff.is_done() || !helper.is_forker());
        if forkers_done && self.is_stopping() {
            return if self.leaves_connections { self.over() } else { self.close_listeners() };
        }
        self.start_due(Some(now), now)
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Draining { deadline } if deadline <= now => self.end(now),
            Phase::Ending { deadline } if deadline <= now => self.kill(now),
            Phase::Killing { deadline } if deadline <= now => self.over(),
            _ => self.start_due(Some(now), now),
        }
    }

    /// Starts the helpers whose time has come; all that wait, if no time is given.
    fn start_due(&mut self, by: Option<Instant>, now: Instant) -> Vec<Action> {
        let due = self
            .helpers
            .iter_mut()
            .filter_map(|(helper, backoff)| backoff.take_due(by, now).then_some(*helper));
        due.map(Action::Start).collect()
    }

    fn forget_restarts(&mut self) {
        self.helpers.iter_mut().for_each(|(_, backoff)| backoff.forget_restart());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F0: Helper = Helper::Forker(0);
    const F1: Helper = Helper::Forker(1);
    const R: Helper = Helper::Rejector;

    fn died(helper: Helper) -> Event {
        Event::HelperEnded { helper, done: false }
    }

    fn left(helper: Helper) -> Event {
        Event::HelperEnded { helper, done: true }
    }

    /// Plays events at times in milliseconds, and compares the actions.
    fn play(script: &[(u64, Event, &[Action])]) -> State {
        let start = Instant::now();
        let mut state = State::new(&[F0, F1, R], Duration::from_secs(10), start);
        for (at, event, actions) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(state.on(*event, now), *actions, "{event:?} at {at}");
        }
        state
    }

    #[test]
    fn an_orderly_stop() {
        let state = play(&[
            (0, Event::StopRequested, &[Action::Drain]),
            (1, left(F0), &[]),
            (2, left(F1), &[Action::CloseListeners]),
            (3, left(R), &[]),
            (4, Event::Tick, &[]),
            (5, Event::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), Phase::Over);
    }

    #[test]
    fn connections_that_are_left_behind() {
        let start = Instant::now();
        let mut state = State::new(&[F0, F1, R], Duration::from_secs(10), start).leaving(true);
        assert_eq!(state.on(Event::StopRequested, start), [Action::Drain]);
        assert_eq!(state.on(left(F0), start), []);
        assert_eq!(state.on(left(F1), start), [Action::CloseListeners]);
        assert_eq!(state.phase(), Phase::Over);
    }

    #[test]
    fn clients_that_never_finish() {
        let state = play(&[
            (0, Event::StopRequested, &[Action::Drain]),
            (1, left(F0), &[]),
            (1, left(F1), &[Action::CloseListeners]),
            (9_999, Event::Tick, &[]),
            (10_000, Event::Tick, &[Action::EndAll]),
            (11_999, Event::Tick, &[]),
            (12_000, Event::Tick, &[Action::KillAll]),
            (16_999, Event::Tick, &[]),
            (17_000, Event::Tick, &[]),
        ]);
        assert_eq!(state.phase(), Phase::Over);
    }

    #[test]
    fn the_second_and_the_third_signal() {
        let state = play(&[
            (0, Event::StopRequested, &[Action::Drain]),
            (1, Event::StopRequested, &[Action::CloseListeners, Action::EndAll]),
            (2, Event::StopRequested, &[Action::KillAll]),
            (3, Event::StopRequested, &[]),
            (4, died(F0), &[]),
            (4, Event::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), Phase::Over);
    }

    #[test]
    fn without_the_top_everything_ends_at_once() {
        let state = play(&[
            (0, Event::Abandoned, &[Action::CloseListeners, Action::KillAll]),
            (1, died(F0), &[]),
            (1, Event::StopRequested, &[]),
            (2, Event::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), Phase::Over);
    }

    #[test]
    fn dead_forkers_come_back() {
        play(&[
            (0, died(F0), &[Action::Start(F0)]),
            (0, died(F0), &[]),
            (99, Event::Tick, &[]),
            (100, Event::Tick, &[Action::Start(F0)]),
        ]);
    }

    #[test]
    fn each_helper_has_its_own_patience() {
        play(&[
            (0, died(F0), &[Action::Start(F0)]),
            (0, died(F1), &[Action::Start(F1)]),
            (0, died(R), &[Action::Start(R)]),
        ]);
    }

    #[test]
    fn a_forker_that_dies_while_draining_is_needed() {
        play(&[
            (0, Event::StopRequested, &[Action::Drain]),
            (1, died(F0), &[Action::Start(F0)]),
            (2, left(F1), &[]),
            (3, left(F0), &[Action::CloseListeners]),
        ]);
    }

    #[test]
    fn a_forker_that_was_to_come_back_comes_for_the_drain() {
        play(&[
            (0, died(F0), &[Action::Start(F0)]),
            (1, died(F0), &[]),
            (2, Event::StopRequested, &[Action::Drain, Action::Start(F0)]),
        ]);
    }

    #[test]
    fn nobody_left_means_nothing_while_serving() {
        let state = play(&[(0, Event::AllExited, &[])]);
        assert_eq!((state.phase(), state.deadline()), (Phase::Serving, None));
    }
}
