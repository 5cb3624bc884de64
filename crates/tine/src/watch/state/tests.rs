use super::*;

fn connected(bytes: u64) -> Observation {
    Observation::Connected { bytes, received_any: bytes > 0, answers: None }
}

/// Makes observations at times in milliseconds, and compares the escalations.
fn play(rules: WatchRules, script: &[(u64, Observation, Option<Escalation>)]) -> Option<EndReason> {
    let start = Instant::now();
    let mut connection = TrackedConnection::new(1, start);
    for (at, observation, escalation) in script {
        let now = start + Duration::from_millis(*at);
        assert_eq!(connection.look(*observation, &rules, now), *escalation, "{observation:?} at {at}");
    }
    connection.reason()
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

const PROGRAM: WatchRules = WatchRules {
    timeouts: Timeouts { idle: None, lifetime: None, first_byte: None },
    ends_without_client: true,
    max_output: None,
    answers: None,
};

/// The rules of a handler without timeouts.
const HANDLER: WatchRules = WatchRules {
    timeouts: Timeouts { idle: None, lifetime: None, first_byte: None },
    ends_without_client: false,
    max_output: None,
    answers: Some(AnswerLimits { silence: Duration::from_secs(120), newest: Duration::from_secs(10) }),
};

#[test]
fn a_disconnected_client_ends_its_program_with_term_after_5_s_and_kill_after_7_s() {
    let script = [
        (0, connected(0), None),
        (1_000, Observation::Disconnected, None),
        (5_999, Observation::Disconnected, None),
        (6_000, Observation::Disconnected, Some(Escalation::Term)),
        (7_999, Observation::Disconnected, None),
        (8_000, Observation::Disconnected, Some(Escalation::Kill)),
        (20_000, Observation::Disconnected, None),
    ];
    assert_eq!(play(PROGRAM, &script), Some(EndReason::ClientGone));
}

#[test]
fn a_program_that_closed_its_socket_is_not_ended() {
    assert_eq!(play(PROGRAM, &[(0, connected(0), None), (99_000, Observation::Unknown, None)]), None);
}

#[test]
fn handlers_are_not_ended_when_the_client_disconnects() {
    let rules = WatchRules { ends_without_client: false, ..PROGRAM };
    assert_eq!(
        play(rules, &[(0, Observation::Disconnected, None), (99_000, Observation::Disconnected, None)]),
        None
    );
}

#[test]
fn the_idle_timeout_starts_at_the_last_byte() {
    let rules = WatchRules { timeouts: Timeouts { idle: seconds(3), ..Timeouts::default() }, ..PROGRAM };
    let script = [
        (2_000, connected(1), None),
        (4_900, connected(1), None),
        (4_950, connected(9), None),
        (7_949, connected(9), None),
        (7_950, connected(9), Some(Escalation::Term)),
        (9_950, connected(9), Some(Escalation::Kill)),
    ];
    assert_eq!(play(rules, &script), Some(EndReason::Idle));
}

#[test]
fn the_idle_timeout_needs_an_observable_socket() {
    let rules = WatchRules { timeouts: Timeouts { idle: seconds(3), ..Timeouts::default() }, ..PROGRAM };
    assert_eq!(play(rules, &[(3_000, connected(0), Some(Escalation::Term))]), Some(EndReason::Idle));
    assert_eq!(play(rules, &[(3_000, Observation::Unknown, None)]), None);
}

#[test]
fn the_lifetime_needs_no_observable_socket() {
    let rules = WatchRules { timeouts: Timeouts { lifetime: seconds(2), ..Timeouts::default() }, ..PROGRAM };
    for observation in [connected(5), Observation::Unknown] {
        let script = [(1_999, observation, None), (2_000, observation, Some(Escalation::Term))];
        assert_eq!(play(rules, &script), Some(EndReason::Lifetime));
    }
}

#[test]
fn the_first_byte_timeout_ends_with_the_first_byte_of_the_client() {
    let rules =
        WatchRules { timeouts: Timeouts { first_byte: seconds(1), ..Timeouts::default() }, ..PROGRAM };
    assert_eq!(play(rules, &[(1_000, connected(0), Some(Escalation::Term))]), Some(EndReason::FirstByte));
    assert_eq!(play(rules, &[(900, connected(1), None), (9_000, connected(1), None)]), None);
    let start = Instant::now();
    let mut connection = TrackedConnection::new(1, start);
    for (at, bytes, first_byte) in [(300, 0, None), (600, 3, Some(600)), (900, 9, Some(600))] {
        connection.look(connected(bytes), &rules, start + Duration::from_millis(at));
        assert_eq!(connection.first_byte(), first_byte.map(Duration::from_millis), "{at}");
    }
    // A byte that the server sends is not the client's first byte.
    let sent = Observation::Connected { bytes: 7, received_any: false, answers: None };
    assert_eq!(play(rules, &[(1_000, sent, Some(Escalation::Term))]), Some(EndReason::FirstByte));
}

#[test]
fn a_client_that_does_not_answer_ends_its_handler_or_program_with_term_and_kill() {
    let unanswered = |seconds: u64| {
        let ago = Duration::from_secs(seconds);
        let answers = AnswerInfo { unacked: 9, probes: 0, data_sent_ago: ago / 2, answered_ago: ago };
        Observation::Connected { bytes: 0, received_any: false, answers: Some(answers) }
    };
    let script = [
        (0, unanswered(5), None),
        (115_000, unanswered(119), None),
        (116_000, connected(0), None),
        (121_000, unanswered(126), Some(Escalation::Term)),
        (123_000, unanswered(128), Some(Escalation::Kill)),
    ];
    for rules in [HANDLER, WatchRules { answers: HANDLER.answers, ..PROGRAM }] {
        assert_eq!(play(rules, &script), Some(EndReason::KeepAlive));
    }
    assert_eq!(play(WatchRules { answers: None, ..HANDLER }, &script[..2]), None);
}

#[test]
fn without_other_rules_the_answers_are_looked_at_rarely_and_no_socket_is_noted() {
    assert_eq!(HANDLER.interval(), Duration::from_secs(10));
    assert!(HANDLER.are_any() && !HANDLER.need_sockets());
    assert!(!WatchRules { answers: None, ..HANDLER }.are_any());
    let program = WatchRules { answers: HANDLER.answers, ..PROGRAM };
    assert_eq!((program.interval(), program.need_sockets()), (Duration::from_secs(1), true));
}

#[test]
fn the_interval_is_a_quarter_of_the_shortest_timeout() {
    for (idle, millis) in [(None, 1_000), (Some(60_000), 1_000), (Some(2_000), 500), (Some(1), 25)] {
        let idle = idle.map(Duration::from_millis);
        let rules = WatchRules { timeouts: Timeouts { idle, ..Timeouts::default() }, ..PROGRAM };
        assert_eq!(rules.interval(), Duration::from_millis(millis));
    }
}

#[test]
fn a_connection_ends_when_its_client_has_received_more_than_it_may() {
    let rules = WatchRules { max_output: Some(1000), ..HANDLER };
    assert!(rules.need_sockets() && rules.need_byte_counts());
    assert_eq!(rules.interval(), OUTPUT_INTERVAL);
    let now = Instant::now();
    let mut connection = TrackedConnection::new(1, now);
    for (sent, escalation) in [(0, None), (1000, None), (1001, Some(Escalation::Term))] {
        connection.note_sample((7, sent));
        assert_eq!(connection.look(connected(sent), &rules, now), escalation, "{sent}");
    }
    assert_eq!(connection.reason(), Some(EndReason::Output));
}
