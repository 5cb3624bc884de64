//! What the supervisor does after an event: phases, restarts, deadlines. No system call here.

use std::time::{Duration, Instant};

use super::role::Role;
use crate::lifecycle::backoff::RestartBackoff;
use crate::lifecycle::timing::{KILL_AFTER, KILL_WAIT};

/// The phases of a server, as an operator would name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerPhase {
    /// Clients are accepted.
    Serving,
    /// It drains from this time on: load balancers learn so, and clients are accepted until then.
    Announcing { until: Instant },
    /// The backlog is served; connections may finish until the deadline, if there is one.
    Draining { deadline: Option<Instant> },
    /// A newer generation serves; connections may finish until the deadline, if there is one.
    Replaced { deadline: Option<Instant> },
    /// Connections got TERM, and are killed at the deadline.
    Ending { deadline: Instant },
    /// Every process got KILL.
    Killing { deadline: Instant },
    /// No process is left, or none that could be waited for.
    Over,
}

/// An event of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerEvent {
    /// SIGTERM, SIGINT or SIGPWR.
    StopRequested,
    /// SIGQUIT.
    EndRequested,
    /// A process is needed that the server does not have yet.
    RoleNeeded(Role),
    /// The server has accepted the last of its connections.
    PlacesUsed,
    /// The master has died.
    Abandoned,
    /// A process with a role has exited. `done`: by itself, its work done.
    RoleEnded { role: Role, done: bool },
    /// No child is left.
    AllExited,
    /// A newer generation serves; connections have this time to finish.
    Replaced(Option<Duration>),
    /// The newer supervisor of the service stops: the service, or the whole server.
    NewerStops,
    /// An operator has changed the drain timeout.
    DrainTimeoutSet(Duration),
    /// Time has passed.
    Tick,
}

/// An action of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerAction {
    /// Start a process with this role.
    Start(Role),
    /// Tell who asks that the server drains.
    Announce(Duration),
    /// Notify forkers, spares and the delayer that a drain begins.
    Drain,
    /// Leave accepting to the newer generation.
    Replace,
    /// Close the listeners: no process accepts any more.
    CloseListeners,
    /// Kill the forkers, the delayer and the proxy reader, and send TERM to the connections.
    EndAll,
    /// Send KILL to every process.
    KillAll,
}

/// The state of a supervisor.
#[derive(Debug)]
pub(super) struct ServerState {
    phase: ServerPhase,
    drain_delay: Duration,
    drain_timeout: Duration,
    roles: Vec<(Role, RestartBackoff)>,
    listening: bool,
    /// Connections outlive the server.
    leaves_connections: bool,
    /// It drains because the newer supervisor has told so; a signal may tell the same.
    is_told_to_stop: bool,
}

impl ServerState {
    /// A server whose processes with these roles run.
    pub(super) fn new(roles: &[Role], drain_timeout: Duration, now: Instant) -> ServerState {
        ServerState {
            phase: ServerPhase::Serving,
            drain_delay: Duration::ZERO,
            drain_timeout,
            roles: roles.iter().map(|role| (*role, RestartBackoff::running(now))).collect(),
            listening: true,
            leaves_connections: false,
            is_told_to_stop: false,
        }
    }

    /// The same, of a server whose connections outlive it.
    pub(super) fn leaving(self, leaves_connections: bool) -> ServerState {
        ServerState { leaves_connections, ..self }
    }

    /// The same, of a server that announces its drain for this time.
    pub(super) fn announcing(self, drain_delay: Duration) -> ServerState {
        ServerState { drain_delay, ..self }
    }

    pub(super) fn phase(&self) -> ServerPhase {
        self.phase
    }

    /// The time that connections have to finish; `None` if they have any time.
    pub(super) fn time_to_finish(&self) -> Option<Duration> {
        match self.phase {
            ServerPhase::Draining { deadline: None } => None,
            ServerPhase::Replaced { deadline } => {
                deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
            }
            ServerPhase::Ending { .. } | ServerPhase::Killing { .. } => Some(Duration::ZERO),
            _ => Some(self.drain_timeout),
        }
    }

    /// Whether a stop has begun.
    pub(super) fn is_stopping(&self) -> bool {
        self.phase != ServerPhase::Serving
    }

    /// Whether clients are accepted as long as they come.
    pub(super) fn accepts(&self) -> bool {
        matches!(self.phase, ServerPhase::Serving | ServerPhase::Announcing { .. })
    }

    /// Whether a process with a role that has exited is restarted: in a drain, unless its work was
    /// done.
    pub(super) fn restarts(&self, done: bool) -> bool {
        match self.phase {
            ServerPhase::Serving | ServerPhase::Announcing { .. } => true,
            ServerPhase::Draining { .. } | ServerPhase::Replaced { .. } => !done,
            ServerPhase::Ending { .. } | ServerPhase::Killing { .. } | ServerPhase::Over => false,
        }
    }

    /// When a tick is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.phase {
            ServerPhase::Draining { deadline } | ServerPhase::Replaced { deadline } => deadline,
            ServerPhase::Announcing { until: deadline }
            | ServerPhase::Ending { deadline }
            | ServerPhase::Killing { deadline } => Some(deadline),
            ServerPhase::Serving | ServerPhase::Over => None,
        };
        self.roles.iter().filter_map(|(_, backoff)| backoff.due()).chain(own).min()
    }

    /// The time until a role that has just exited is restarted: none the first time, then 100 ms,
    /// doubling to 5 s.
    pub(super) fn restart_in(&self, role: Role, now: Instant) -> Option<Duration> {
        let (_, backoff) = self.roles.iter().find(|(other, _)| *other == role)?;
        backoff.due().map(|due| due.saturating_duration_since(now))
    }

    /// Handles an event.
    pub(super) fn on(&mut self, event: ServerEvent, now: Instant) -> Vec<ServerAction> {
        match (event, self.phase) {
            (ServerEvent::StopRequested, phase) => self.stop_requested(phase, now),
            (ServerEvent::EndRequested, ServerPhase::Serving) if self.leaves_connections => {
                self.on(ServerEvent::StopRequested, now)
            }
            (ServerEvent::EndRequested, ServerPhase::Serving | ServerPhase::Announcing { .. }) => {
                self.drain_and_end(now)
            }
            (ServerEvent::EndRequested, ServerPhase::Draining { .. } | ServerPhase::Replaced { .. }) => {
                self.end(now)
            }
            (ServerEvent::EndRequested, _) => self.on(ServerEvent::StopRequested, now),
            (ServerEvent::PlacesUsed, ServerPhase::Serving) => self.drain(None, now),
            (ServerEvent::PlacesUsed, ServerPhase::Announcing { until }) => {
                self.drain(Some(until + self.drain_timeout), now)
            }
            (ServerEvent::PlacesUsed, _) => Vec::new(),
            (ServerEvent::Abandoned, ServerPhase::Over) => Vec::new(),
            (ServerEvent::Abandoned, _) => {
                self.forget_restarts();
                [self.close_listeners(), self.kill(now)].concat()
            }
            (ServerEvent::RoleNeeded(role), _) if self.accepts() => self.start_once(role, now),
            (ServerEvent::RoleNeeded(_), _) => Vec::new(),
            (ServerEvent::RoleEnded { role, done }, _) => self.role_ended(role, done, now),
            (ServerEvent::AllExited, _) if self.accepts() => Vec::new(),
            (ServerEvent::AllExited, _) => self.over(),
            (ServerEvent::Replaced(timeout), ServerPhase::Serving) => {
                self.phase = ServerPhase::Replaced { deadline: timeout.map(|timeout| now + timeout) };
                let mut actions = vec![ServerAction::Replace];
                actions.extend(self.start_due(None, now));
                actions
            }
            (ServerEvent::Replaced(_), _) => Vec::new(),
            (ServerEvent::NewerStops, ServerPhase::Replaced { .. }) => {
                self.is_told_to_stop = true;
                self.drain(Some(now + self.drain_timeout), now)
            }
            // A signal has told it already.
            (ServerEvent::NewerStops, _) => Vec::new(),
            (ServerEvent::DrainTimeoutSet(time), _) => {
                self.drain_timeout = time;
                Vec::new()
            }
            (ServerEvent::Tick, _) => self.tick(now),
        }
    }

    /// Handles a request to stop: the first one, or a further one, which shortens the stop.
    fn stop_requested(&mut self, phase: ServerPhase, now: Instant) -> Vec<ServerAction> {
        match phase {
            ServerPhase::Serving if !self.drain_delay.is_zero() => {
                self.phase = ServerPhase::Announcing { until: now + self.drain_delay };
                vec![ServerAction::Announce(self.drain_delay)]
            }
            ServerPhase::Serving | ServerPhase::Draining { deadline: None } => {
                self.drain(Some(now + self.drain_timeout), now)
            }
            ServerPhase::Announcing { .. } => self.drain_and_end(now),
            // The newer generation announces first, and its connections have as long.
            ServerPhase::Replaced { .. } => {
                self.drain(Some(now + self.drain_delay + self.drain_timeout), now)
            }
            // The signal of the same stop is not a second one.
            ServerPhase::Draining { .. } if std::mem::take(&mut self.is_told_to_stop) => Vec::new(),
            ServerPhase::Draining { .. } => self.end(now),
            ServerPhase::Ending { .. } => self.kill(now),
            ServerPhase::Killing { .. } | ServerPhase::Over => Vec::new(),
        }
    }

    /// Ends connections that have had no time to finish.
    fn drain_and_end(&mut self, now: Instant) -> Vec<ServerAction> {
        [vec![ServerAction::Drain], self.end(now)].concat()
    }

    /// Starts a role that the server does not have yet.
    fn start_once(&mut self, role: Role, now: Instant) -> Vec<ServerAction> {
        if self.roles.iter().any(|(other, _)| *other == role) {
            return Vec::new();
        }
        self.roles.push((role, RestartBackoff::running(now)));
        vec![ServerAction::Start(role)]
    }

    fn drain(&mut self, deadline: Option<Instant>, now: Instant) -> Vec<ServerAction> {
        self.phase = ServerPhase::Draining { deadline };
        // Restarts that are due later are needed now: clients may be waiting.
        let mut actions = vec![ServerAction::Drain];
        actions.extend(self.start_due(None, now));
        actions
    }

    fn end(&mut self, now: Instant) -> Vec<ServerAction> {
        self.phase = ServerPhase::Ending { deadline: now + KILL_AFTER };
        self.forget_restarts();
        let mut actions = self.close_listeners();
        actions.push(ServerAction::EndAll);
        actions
    }

    fn kill(&mut self, now: Instant) -> Vec<ServerAction> {
        self.phase = ServerPhase::Killing { deadline: now + KILL_WAIT };
        vec![ServerAction::KillAll]
    }

    fn over(&mut self) -> Vec<ServerAction> {
        self.phase = ServerPhase::Over;
        self.close_listeners()
    }

    fn close_listeners(&mut self) -> Vec<ServerAction> {
        let listening = std::mem::take(&mut self.listening);
        if listening { vec![ServerAction::CloseListeners] } else { Vec::new() }
    }

    fn role_ended(&mut self, role: Role, done: bool, now: Instant) -> Vec<ServerAction> {
        let restarts = self.restarts(done);
        if let Some((_, backoff)) = self.roles.iter_mut().find(|(other, _)| *other == role) {
            if restarts { backoff.exited(now) } else { backoff.retired() }
        }
        let forkers_done = self.roles.iter().all(|(role, backoff)| backoff.is_done() || !role.is_forker());
        if forkers_done && self.is_stopping() {
            return if self.leaves_connections { self.over() } else { self.close_listeners() };
        }
        self.start_due(Some(now), now)
    }

    fn tick(&mut self, now: Instant) -> Vec<ServerAction> {
        match self.phase {
            ServerPhase::Announcing { until } if until <= now => {
                self.drain(Some(now + self.drain_timeout), now)
            }
            ServerPhase::Draining { deadline: Some(deadline) }
            | ServerPhase::Replaced { deadline: Some(deadline) }
                if deadline <= now =>
            {
                self.end(now)
            }
            ServerPhase::Ending { deadline } if deadline <= now => self.kill(now),
            ServerPhase::Killing { deadline } if deadline <= now => self.over(),
            _ => self.start_due(Some(now), now),
        }
    }

    /// Starts the roles whose restart is due; all that wait for one, if no time is given.
    fn start_due(&mut self, by: Option<Instant>, now: Instant) -> Vec<ServerAction> {
        let due =
            self.roles.iter_mut().filter_map(|(role, backoff)| backoff.take_due(by, now).then_some(*role));
        due.map(ServerAction::Start).collect()
    }

    fn forget_restarts(&mut self) {
        self.roles.iter_mut().for_each(|(_, backoff)| backoff.forget_restart());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F0: Role = Role::Forker(0);
    const F1: Role = Role::Forker(1);
    const R: Role = Role::Rejector;

    fn died(role: Role) -> ServerEvent {
        ServerEvent::RoleEnded { role, done: false }
    }

    fn left(role: Role) -> ServerEvent {
        ServerEvent::RoleEnded { role, done: true }
    }

    /// Plays events at times in milliseconds, and compares the actions.
    fn play(script: &[(u64, ServerEvent, &[ServerAction])]) -> ServerState {
        let start = Instant::now();
        let mut state = ServerState::new(&[F0, F1, R], Duration::from_secs(10), start);
        for (at, event, actions) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(state.on(*event, now), *actions, "{event:?} at {at}");
        }
        state
    }

    #[test]
    fn a_role_that_is_needed_later_is_started_once_and_restarted() {
        let needed = ServerEvent::RoleNeeded(Role::Delayer);
        play(&[
            (0, needed, &[ServerAction::Start(Role::Delayer)]),
            (1, needed, &[]),
            (2, died(Role::Delayer), &[ServerAction::Start(Role::Delayer)]),
            (3, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (4, ServerEvent::RoleNeeded(Role::ProxyReader), &[]),
        ]);
    }

    /// The same as [`play`], of a server that announces its drain for 5 s.
    fn play_announcing(script: &[(u64, ServerEvent, &[ServerAction])]) {
        let start = Instant::now();
        let mut state =
            ServerState::new(&[F0, R], Duration::from_secs(10), start).announcing(Duration::from_secs(5));
        for (at, event, actions) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(state.on(*event, now), *actions, "{event:?} at {at}");
        }
    }

    #[test]
    fn a_drain_is_announced_and_clients_are_accepted_meanwhile() {
        let announce = [ServerAction::Announce(Duration::from_secs(5))];
        let end = [ServerAction::CloseListeners, ServerAction::EndAll];
        let end_at_once = [&[ServerAction::Drain][..], &end].concat();
        for script in [
            &[
                (0, ServerEvent::StopRequested, &announce[..]),
                // It serves as before.
                (100, died(F0), &[ServerAction::Start(F0)]),
                (200, ServerEvent::RoleNeeded(Role::Delayer), &[ServerAction::Start(Role::Delayer)]),
                (300, ServerEvent::AllExited, &[]),
                (4_999, ServerEvent::Tick, &[]),
                (5_000, ServerEvent::Tick, &[ServerAction::Drain]),
                (14_999, ServerEvent::Tick, &[]),
                (15_000, ServerEvent::Tick, &end),
            ][..],
            &[(0, ServerEvent::StopRequested, &announce), (1, ServerEvent::StopRequested, &end_at_once)],
            &[(0, ServerEvent::StopRequested, &announce), (1, ServerEvent::EndRequested, &end_at_once)],
            &[(0, ServerEvent::EndRequested, &end_at_once)],
            // The last of `--exit-after` comes meanwhile.
            &[
                (0, ServerEvent::StopRequested, &announce),
                (1, ServerEvent::PlacesUsed, &[ServerAction::Drain]),
                (14_999, ServerEvent::Tick, &[]),
                (15_000, ServerEvent::Tick, &end),
            ],
            // One that does not accept any more has nothing to announce.
            &[
                (0, ServerEvent::PlacesUsed, &[ServerAction::Drain]),
                (1, ServerEvent::StopRequested, &[ServerAction::Drain]),
            ],
            &[
                (0, ServerEvent::Replaced(None), &[ServerAction::Replace]),
                (1, ServerEvent::StopRequested, &[ServerAction::Drain]),
                (15_000, ServerEvent::Tick, &[]),
                (15_001, ServerEvent::Tick, &end),
            ],
            &[
                (0, ServerEvent::StopRequested, &announce),
                (1, ServerEvent::Replaced(None), &[]),
                (2, ServerEvent::Abandoned, &[ServerAction::CloseListeners, ServerAction::KillAll]),
            ],
        ] {
            play_announcing(script);
        }
    }

    #[test]
    fn a_drain_timeout_that_was_changed_holds_for_the_next_drain() {
        let set = |seconds| ServerEvent::DrainTimeoutSet(Duration::from_secs(seconds));
        let end = [ServerAction::CloseListeners, ServerAction::EndAll];
        play(&[
            (0, set(3), &[]),
            (1_000, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (2_000, set(9), &[]),
            (3_999, ServerEvent::Tick, &[]),
            (4_000, ServerEvent::Tick, &end),
        ]);
    }

    #[test]
    fn an_orderly_stop() {
        let state = play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, left(F0), &[]),
            (2, left(F1), &[ServerAction::CloseListeners]),
            (3, left(R), &[]),
            (4, ServerEvent::Tick, &[]),
            (5, ServerEvent::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), ServerPhase::Over);
    }

    #[test]
    fn connections_that_are_left_behind() {
        let start = Instant::now();
        let mut state = ServerState::new(&[F0, F1, R], Duration::from_secs(10), start).leaving(true);
        assert_eq!(state.on(ServerEvent::StopRequested, start), [ServerAction::Drain]);
        assert_eq!(state.on(left(F0), start), []);
        assert_eq!(state.on(left(F1), start), [ServerAction::CloseListeners]);
        assert_eq!(state.phase(), ServerPhase::Over);
    }

    #[test]
    fn clients_that_never_finish() {
        let state = play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, left(F0), &[]),
            (1, left(F1), &[ServerAction::CloseListeners]),
            (9_999, ServerEvent::Tick, &[]),
            (10_000, ServerEvent::Tick, &[ServerAction::EndAll]),
            (11_999, ServerEvent::Tick, &[]),
            (12_000, ServerEvent::Tick, &[ServerAction::KillAll]),
            (16_999, ServerEvent::Tick, &[]),
            (17_000, ServerEvent::Tick, &[]),
        ]);
        assert_eq!(state.phase(), ServerPhase::Over);
    }

    #[test]
    fn the_second_and_the_third_signal() {
        let state = play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, ServerEvent::StopRequested, &[ServerAction::CloseListeners, ServerAction::EndAll]),
            (2, ServerEvent::StopRequested, &[ServerAction::KillAll]),
            (3, ServerEvent::StopRequested, &[]),
            (4, died(F0), &[]),
            (4, ServerEvent::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), ServerPhase::Over);
    }

    #[test]
    fn quit_ends_the_drain_or_begins_without_one() {
        let state = play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, ServerEvent::EndRequested, &[ServerAction::CloseListeners, ServerAction::EndAll]),
            (2, ServerEvent::EndRequested, &[ServerAction::KillAll]),
        ]);
        assert_eq!(state.time_to_finish(), Some(Duration::ZERO));
        play(&[
            (
                0,
                ServerEvent::EndRequested,
                &[ServerAction::Drain, ServerAction::CloseListeners, ServerAction::EndAll],
            ),
            (1, died(F0), &[]),
            (1, ServerEvent::AllExited, &[]),
        ]);
    }

    #[test]
    fn after_the_last_connection_there_is_time_until_a_signal() {
        let state = play(&[
            (0, ServerEvent::PlacesUsed, &[ServerAction::Drain]),
            (0, ServerEvent::PlacesUsed, &[]),
            (1, left(F0), &[]),
            (1, left(F1), &[ServerAction::CloseListeners]),
            (1_000_000, ServerEvent::Tick, &[]),
        ]);
        assert_eq!((state.deadline(), state.time_to_finish()), (None, None));
        let state = play(&[
            (0, ServerEvent::PlacesUsed, &[ServerAction::Drain]),
            (1, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (10_000, ServerEvent::Tick, &[]),
            (10_001, ServerEvent::Tick, &[ServerAction::CloseListeners, ServerAction::EndAll]),
        ]);
        assert_eq!(state.time_to_finish(), Some(Duration::ZERO));
        play(&[
            (0, ServerEvent::PlacesUsed, &[ServerAction::Drain]),
            (1, ServerEvent::EndRequested, &[ServerAction::CloseListeners, ServerAction::EndAll]),
        ]);
        play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, ServerEvent::PlacesUsed, &[]),
            (10_000, ServerEvent::Tick, &[ServerAction::CloseListeners, ServerAction::EndAll]),
        ]);
    }

    #[test]
    fn connections_of_a_replaced_server_have_any_time() {
        let state = play(&[
            (0, ServerEvent::Replaced(None), &[ServerAction::Replace]),
            (1, ServerEvent::Replaced(None), &[]),
            (2, died(F0), &[ServerAction::Start(F0)]),
            (3, left(F0), &[]),
            (3, left(F1), &[ServerAction::CloseListeners]),
            (1_000_000, ServerEvent::Tick, &[]),
            (1_000_001, ServerEvent::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), ServerPhase::Over);
    }

    #[test]
    fn connections_of_a_replaced_server_may_have_a_deadline() {
        let end = [ServerAction::CloseListeners, ServerAction::EndAll];
        play(&[
            (0, ServerEvent::Replaced(Some(Duration::from_secs(3))), &[ServerAction::Replace]),
            (2_999, ServerEvent::Tick, &[]),
            (3_000, ServerEvent::Tick, &end),
            (5_000, ServerEvent::Tick, &[ServerAction::KillAll]),
        ]);
    }

    #[test]
    fn a_replaced_server_drains_when_the_newer_one_is_stopped() {
        let end = [ServerAction::CloseListeners, ServerAction::EndAll];
        for timeout in [None, Some(Duration::from_secs(60))] {
            play(&[
                (0, ServerEvent::Replaced(timeout), &[ServerAction::Replace]),
                (1, ServerEvent::StopRequested, &[ServerAction::Drain]),
                (10_000, ServerEvent::Tick, &[]),
                (10_001, ServerEvent::Tick, &end),
            ]);
            play(&[
                (0, ServerEvent::Replaced(timeout), &[ServerAction::Replace]),
                (1, ServerEvent::EndRequested, &end),
            ]);
        }
        play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, ServerEvent::Replaced(None), &[]),
            (2, ServerEvent::NewerStops, &[]),
        ]);
        // The newer supervisor and a signal tell the same stop, in any order.
        play(&[
            (0, ServerEvent::Replaced(None), &[ServerAction::Replace]),
            (1, ServerEvent::NewerStops, &[ServerAction::Drain]),
            (2, ServerEvent::StopRequested, &[]),
            (3, ServerEvent::StopRequested, &end),
        ]);
        play(&[
            (0, ServerEvent::Replaced(None), &[ServerAction::Replace]),
            (1, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (2, ServerEvent::NewerStops, &[]),
            (3, ServerEvent::StopRequested, &end),
        ]);
        play(&[(0, ServerEvent::NewerStops, &[])]);
    }

    #[test]
    fn without_the_top_everything_ends_at_once() {
        let state = play(&[
            (0, ServerEvent::Abandoned, &[ServerAction::CloseListeners, ServerAction::KillAll]),
            (1, died(F0), &[]),
            (1, ServerEvent::StopRequested, &[]),
            (2, ServerEvent::AllExited, &[]),
        ]);
        assert_eq!(state.phase(), ServerPhase::Over);
    }

    #[test]
    fn dead_forkers_come_back() {
        play(&[
            (0, died(F0), &[ServerAction::Start(F0)]),
            (0, died(F0), &[]),
            (99, ServerEvent::Tick, &[]),
            (100, ServerEvent::Tick, &[ServerAction::Start(F0)]),
        ]);
    }

    #[test]
    fn each_helper_has_its_own_patience() {
        play(&[
            (0, died(F0), &[ServerAction::Start(F0)]),
            (0, died(F1), &[ServerAction::Start(F1)]),
            (0, died(R), &[ServerAction::Start(R)]),
        ]);
    }

    #[test]
    fn a_forker_that_dies_while_draining_is_needed() {
        play(&[
            (0, ServerEvent::StopRequested, &[ServerAction::Drain]),
            (1, died(F0), &[ServerAction::Start(F0)]),
            (2, left(F1), &[]),
            (3, left(F0), &[ServerAction::CloseListeners]),
        ]);
    }

    #[test]
    fn a_forker_that_was_to_come_back_comes_for_the_drain() {
        play(&[
            (0, died(F0), &[ServerAction::Start(F0)]),
            (1, died(F0), &[]),
            (2, ServerEvent::StopRequested, &[ServerAction::Drain, ServerAction::Start(F0)]),
        ]);
    }

    #[test]
    fn nobody_left_means_nothing_while_serving() {
        let state = play(&[(0, ServerEvent::AllExited, &[])]);
        assert_eq!((state.phase(), state.deadline()), (ServerPhase::Serving, None));
    }
}
