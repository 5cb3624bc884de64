//! Penalties: a source whose connections end badly is rejected for a while, and no other source is.

use tine_e2e::names::{REJECT, outcome, total};
use tine_e2e::{Client, Server, wait_until};

/// Connects to a program that crashes, or is rejected: in both cases the stream is empty.
fn connect_to_crash(server: &Server, source: &str) {
    assert_eq!(Client::from_source(source, server.port()).read_to_end(), b"");
}

/// Peer and reason of the events of one kind.
fn peers_and_reasons(server: &Server, event: &str, count: usize) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let events = server.log.wait_for(event, count);
    events.iter().map(|event| (text(&event["peer"]), text(&event["reason"]))).collect()
}

#[test]
fn a_source_whose_connection_crashed_is_rejected() {
    for spares in [&[][..], &["--spares", "2"]] {
        let options = [&["--per-source-penalties", "yes"], spares].concat();
        let server = Server::program(&options, &["sh", "-c", "kill -SEGV $$"]);
        connect_to_crash(&server, "127.0.0.2");
        let penalty = server.log.wait_for("penalty", 1);
        assert_eq!(penalty[0]["reason"], "crash");
        assert_eq!(penalty[0]["seconds"], 90.0);
        connect_to_crash(&server, "127.0.0.2");
        let rejected = peers_and_reasons(&server, REJECT, 1);
        assert!(rejected[0].0.starts_with("127.0.0.2:") && rejected[0].1 == "penalty", "{rejected:?}");
        // A client of another source is served.
        connect_to_crash(&server, "127.0.0.3");
        server.log.wait_for("end", 2);
    }
}

#[test]
fn a_programs_exit_code_causes_no_penalty() {
    let server = Server::program(&["--per-source-penalties", "yes"], &["sh", "-c", "exit 64"]);
    (0..5).for_each(|_| connect_to_crash(&server, "127.0.0.2"));
    server.log.wait_for("end", 5);
    assert!(server.log.of("penalty").is_empty());
}

#[test]
fn a_source_that_sends_nothing_is_rejected_until_its_penalty_ends() {
    for options in [&[][..], &["--spares", "2"], &["--spares", "2", "--reuse", "100"]] {
        let options = [&["--per-source-penalties", "noauth:1s min:2500ms"], options].concat();
        let server = Server::serve(&options);
        // A source that sends something has no penalty, however often it connects.
        assert!((0..6).all(|_| Client::from_source("127.0.0.3", server.port()).is_served()));
        for visit in 1..=3 {
            drop(Client::from_source("127.0.0.2", server.port()));
            server.log.wait_for("end", 6 + visit);
        }
        assert_eq!(peers_and_reasons(&server, "penalty", 1)[0].1, "noauth", "{options:?}");
        assert!(!Client::from_source("127.0.0.2", server.port()).is_served());
        assert!(Client::from_source("127.0.0.3", server.port()).is_served());
        wait_until("the penalty is over", || {
            Client::from_source("127.0.0.2", server.port()).is_served().then_some(())
        });
        let ends = server.log.of("end");
        assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
    }
}

#[test]
fn a_first_byte_timeout_causes_a_penalty() {
    let options = ["--per-source-penalties", "grace-exceeded:20s", "--first-byte-timeout", "100ms"];
    let server = Server::serve(&options);
    let mut silent = Client::from_source("127.0.0.2", server.port());
    assert_eq!(silent.read_to_end(), b"");
    let penalty = server.log.wait_for("penalty", 1);
    assert_eq!(
        (&penalty[0]["reason"], penalty[0]["seconds"].as_f64()),
        (&"grace-exceeded".into(), Some(20.0))
    );
    assert!(!Client::from_source("127.0.0.2", server.port()).is_served());
}

#[test]
fn penalties_survive_the_forkers_and_exempt_sources_have_none() {
    let options = ["--per-source-penalties", "yes", "--per-source-penalty-exempt-list", "127.0.1.0/24"];
    let server = Server::program(&options, &["sh", "-c", "kill -SEGV $$"]);
    for source in ["127.0.0.2", "127.0.1.2"] {
        connect_to_crash(&server, source);
    }
    server.log.wait_for("end", 2);
    for forker in server.forkers() {
        tine_e2e::kill(forker, rustix::process::Signal::KILL);
    }
    server.log.wait_for("restart", 1);
    connect_to_crash(&server, "127.0.0.2");
    connect_to_crash(&server, "127.0.1.2");
    server.log.wait_for("end", 3);
    let rejected = peers_and_reasons(&server, REJECT, 1);
    assert!(rejected.len() == 1 && rejected[0].0.starts_with("127.0.0.2:"), "{rejected:?}");
}

#[test]
fn a_flood_from_a_source_with_a_penalty_is_summarised_in_the_log() {
    let server = Server::program(&["--per-source-penalties", "yes"], &["sh", "-c", "kill -SEGV $$"]);
    connect_to_crash(&server, "127.0.0.2");
    server.log.wait_for("penalty", 1);
    (0..100).for_each(|_| connect_to_crash(&server, "127.0.0.2"));
    let lines = server.log.wait("total of 100 rejected clients", |log| {
        let rejected = log.of(REJECT);
        (total(&rejected) == 100).then_some(rejected.len())
    });
    assert!(lines < 60, "{lines} lines");
}
