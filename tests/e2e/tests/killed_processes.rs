//! SIGKILL to each kind of process while 200 connections exchange messages: what ARCHITECTURE.md
//! ("What a death costs") promises.

use rustix::process::Signal;
use tine_e2e::names::{REJECTOR, outcome, pid};
use tine_e2e::{EchoClients, Server, inject_fault, kill, wait_until};

const CLIENTS: usize = 200;

#[test]
fn killing_a_connection_process_ends_no_other_connection() {
    let server = Server::serve(&[]);
    let others = EchoClients::start(server.port(), CLIENTS);
    let mut victim = server.connect();
    victim.echo("x");
    let accepted = server.log.wait_for("accept", CLIENTS + 1);
    let peer = victim.address();
    let line = accepted.iter().find(|line| line["peer"] == peer.as_str()).expect("its accept line");
    kill(pid(line), Signal::KILL);
    victim.expect_closed();
    let end = server.log.wait_for("end", 1).remove(0);
    assert_eq!((&end["id"], outcome(&end)), (&line["id"], "signal KILL"));
    others.wait_for_exchanges(500);
    others.finish();
}

/// Kills one forker or all. Every connection that they forked continues, counts towards the limit,
/// and has its end line.
fn kill_forkers(options: &[&str], all: bool) {
    let limit = CLIENTS + 10;
    let server = Server::serve(&[options, &["--max-connections", &limit.to_string()]].concat());
    let others = EchoClients::start(server.port(), CLIENTS);
    let before = server.forkers();
    let victims = if all { &before[..] } else { &before[..1] };
    victims.iter().for_each(|pid| kill(*pid, Signal::KILL));
    // New clients are served, up to the limit.
    let mut more: Vec<_> = (0..10).map(|_| server.connect()).collect();
    more.iter_mut().for_each(|client| {
        client.echo("after the forker was killed");
    });
    server.log.wait_for("restart", victims.len());
    wait_until("the forkers have been restarted", || {
        let now = server.forkers();
        (now.len() == before.len() && !victims.iter().any(|pid| now.contains(pid))).then_some(())
    });
    let accepted = server.log.wait_for("accept", limit);
    assert_eq!(accepted.iter().filter_map(|line| line["count"].as_u64()).max(), Some(limit as u64));
    let mut over = server.connect();
    over.send("over the limit");
    others.wait_for_exchanges(500);
    assert_eq!(server.log.of("accept").len(), limit, "connections of killed forkers count");
    more.pop();
    over.expect("over the limit");
    drop(over);
    drop(more);
    others.finish();
    let ends = server.log.wait_for("end", limit + 1);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
}

#[test]
fn killing_a_forker_loses_no_connection() {
    kill_forkers(&[], false);
}

#[test]
fn killing_every_forker_loses_no_connection() {
    kill_forkers(&[], true);
}

#[test]
fn killing_every_forker_loses_no_connection_with_spares() {
    kill_forkers(&["--spares", "8"], true);
}

#[test]
fn killing_the_supervisor_kills_every_process_and_frees_the_port() {
    for (options, forkers_first) in [(&[][..], true), (&[], false), (&["--spares", "8"], true)] {
        let mut server = Server::serve(options);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| {
            client.echo("hello");
        });
        if forkers_first {
            server.forkers().into_iter().for_each(|pid| kill(pid, Signal::KILL));
        }
        server.signal(Signal::KILL);
        server.wait();
        let port = server.port();
        wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).ok());
        server.wait_until_gone();
        clients.iter_mut().for_each(tine_e2e::Client::expect_closed);
    }
}

#[test]
fn a_helper_that_cannot_be_started_is_logged_by_its_name_and_tried_again() {
    let server = Server::serve(&["--when-full", "reject=x"]);
    let rejector = wait_until("the rejector runs", || server.named(REJECTOR).into_iter().next()).pid;
    let injection = inject_fault(server.pid(), "clone:error=EAGAIN");
    kill(rejector, Signal::KILL);
    let error = server.log.wait_for("error", 1).remove(0);
    let text = error["text"].as_str().expect("a text");
    assert!(text.starts_with("cannot start the rejector: "), "{text}");
    drop(injection);
    wait_until("another rejector runs", || server.named(REJECTOR).into_iter().next());
    server.connect().echo("served").finish();
}
