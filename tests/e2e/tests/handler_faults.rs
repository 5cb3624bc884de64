//! Faulty handlers: whatever a handler does, no other connection ends or receives a wrong byte, and
//! the log has the outcome.

use rustix::process::Signal;
use tine_e2e::names::{outcome, pid};
use tine_e2e::{EchoClients, Server, ServerCommand, built, kill, procfs, wait_until};

fn server() -> Server {
    ServerCommand::program(built("misbehave"), &[]).start()
}

/// Has a handler misbehave while others serve clients. Returns the outcome of its connection.
fn outcome_of_fault(server: &Server, fault: &str) -> String {
    let others = EchoClients::start(server.port(), 10);
    let mut bad = server.connect();
    let peer = bad.address();
    // Another client may have had the same port before.
    let before = server.log.of("end").iter().filter(|end| end["peer"] == peer.as_str()).count();
    bad.send(fault);
    bad.expect_closed();
    let outcome = server.log.wait("end line of the connection", |log| {
        let end = log.of("end").into_iter().filter(|end| end["peer"] == peer.as_str()).nth(before)?;
        Some(outcome(&end).to_owned())
    });
    others.wait_for_exchanges(50);
    others.finish();
    outcome
}

#[test]
fn a_crashing_handler_ends_no_other_connection_and_its_outcome_is_logged() {
    let server = server();
    for (fault, outcome) in [
        ("P", "panic as asked"),
        ("S", "signal SEGV"),
        ("O", "signal SEGV"),
        ("E", "error no such thing"),
        ("X", "exit 7"),
        ("A", "signal ABRT"),
    ] {
        assert_eq!(outcome_of_fault(&server, fault), outcome);
    }
}

#[test]
fn a_looping_handler_delays_no_other_connection_and_a_second_signal_ends_it() {
    let mut server = server();
    let others = EchoClients::start(server.port(), 10);
    server.connect().send("L");
    others.wait_for_exchanges(200);
    others.finish();
    server.log.wait_for("end", 10);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(outcome(server.log.of("end").last().expect("an end line")), "signal TERM");
    server.wait_until_gone();
}

#[test]
fn a_handler_that_closes_its_socket_counts_until_it_ends() {
    let server = server();
    let mut client = server.connect();
    client.send("C");
    assert!(client.read_to_end().is_empty());
    let pid = pid(&server.log.wait_for("accept", 1)[0]);
    assert!(procfs::is_running(pid));
    assert!(server.log.of("end").is_empty(), "it counts until its process ends");
    kill(pid, Signal::KILL);
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal KILL");
}

#[test]
fn orphans_of_handlers_are_reaped_and_killed_when_the_server_stops() {
    let mut server = server();
    let mut client = server.connect();
    client.send("G").half_close();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0");
    let orphan = wait_until("the orphan is adopted", || {
        procfs::children(server.pid()).into_iter().find(|child| child.name == "sleep")
    });
    // The server reaps an orphan that ends, and kills one that is left when it stops.
    server.connect().send("G").half_close();
    server.log.wait_for("end", 2);
    kill(orphan.pid, Signal::KILL);
    wait_until("the orphan is reaped", || procfs::process(orphan.pid).is_none().then_some(()));
    server.connect().echo("undisturbed");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    server.wait_until_gone();
}

#[test]
fn handlers_can_start_threads_and_see_the_drain() {
    let server = server();
    let mut threaded = server.connect();
    threaded.send("T").expect("ThreadId(2)");
    let mut client = server.connect();
    client.send("D").expect("serve");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    client.send("D").expect("drain");
}
