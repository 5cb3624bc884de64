//! Spares (`--spares`) accept one client each; workers (`--reuse`) serve several, one after the
//! other.

use std::collections::BTreeSet;

use rustix::process::Signal;
use tine_e2e::names::{SPARE, WORKER, outcome, pid};
use tine_e2e::{Server, kill, wait_until};

/// The process ids in the end lines of this number of connections.
fn pids(server: &Server, connections: usize) -> Vec<u64> {
    let lines = server.log.wait_for("end", connections);
    lines.iter().map(|line| line["pid"].as_u64().expect("a process id")).collect()
}

fn wait_for_spares(server: &Server, number: usize) {
    wait_until("the spares wait", || (server.named(SPARE).len() == number).then_some(()));
}

#[test]
fn a_spare_serves_one_connection_and_is_replaced() {
    let server = Server::serve(&["--spares", "6"]);
    wait_for_spares(&server, 6);
    for number in 0..50 {
        server.connect().echo(format!("{number}")).finish();
    }
    let pids = pids(&server, 50);
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 50, "a process for each connection");
    wait_until("new spares wait", || (server.named(SPARE).len() >= 4).then_some(()));
    assert!(server.named(SPARE).len() <= 6);
}

#[test]
fn a_killed_spare_is_replaced_and_no_client_is_lost() {
    let server = Server::serve(&["--spares", "4"]);
    wait_for_spares(&server, 4);
    for _ in 0..5 {
        let killed: Vec<i32> = server.named(SPARE).iter().map(|spare| spare.pid).collect();
        killed.iter().for_each(|pid| kill(*pid, Signal::KILL));
        server.connect().echo("served").finish();
        wait_until("new spares wait", || {
            let now = server.named(SPARE);
            (now.len() >= 3 && !now.iter().any(|spare| killed.contains(&spare.pid))).then_some(())
        });
    }
    assert!(server.log.wait_for("end", 5).iter().all(|end| outcome(end) == "exit 0"));
}

#[test]
fn spares_count_towards_the_connection_limit() {
    let server = Server::serve(&["--spares", "50", "--max-connections", "5"]);
    wait_for_spares(&server, 5);
    let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    assert!(server.named(SPARE).is_empty());
}

#[test]
fn workers_serve_several_connections_each_with_its_accept_and_end_line() {
    let server = Server::serve(&["--spares", "2", "--reuse", "10", "--forkers", "1"]);
    wait_until("the workers wait", || (server.named(WORKER).len() == 2).then_some(()));
    for number in 0..100 {
        server.connect().echo(format!("{number}")).finish();
    }
    let pids = pids(&server, 100);
    let processes: BTreeSet<_> = pids.iter().collect();
    assert!((10..=20).contains(&processes.len()), "{} processes", processes.len());
    for pid in processes {
        assert!(pids.iter().filter(|other| *other == pid).count() <= 10);
    }
    let accepts = server.log.wait_for("accept", 100);
    let ids: BTreeSet<u64> = accepts.iter().filter_map(|line| line["id"].as_u64()).collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn killing_a_worker_ends_its_connection_only() {
    let server = Server::serve(&["--spares", "2", "--reuse", "1000"]);
    for _ in 0..5 {
        server.connect().echo("x").finish();
    }
    let mut victim = server.connect();
    victim.echo("x");
    // Two workers write to the log, in any order.
    let peer = victim.address();
    let line_of_victim = |event: &str| {
        let mut lines = server.log.wait_for(event, 6).into_iter();
        lines.find(|line| line["peer"] == peer.as_str()).expect("a line of the victim")
    };
    let line = line_of_victim("accept");
    kill(pid(&line), Signal::KILL);
    victim.expect_closed();
    let end = line_of_victim("end");
    assert_eq!((&end["id"], outcome(&end)), (&line["id"], "signal KILL"));
    server.connect().echo("served");
}

#[test]
fn a_connection_that_a_drain_serves_in_place_of_a_worker_has_both_lines() {
    let options = ["--spares", "1", "--reuse", "100", "--max-connections", "1"];
    let mut server = Server::serve(&options);
    let mut held = server.connect();
    held.echo("held");
    let mut waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| _ = client.send("x").half_close());
    server.signal(Signal::TERM);
    assert_eq!(server.log.wait_for("drain", 1)[0]["connections"], 1);
    held.finish();
    for mut client in waiting {
        assert_eq!(client.read_to_end(), b"x");
    }
    assert_eq!(server.wait().code(), Some(0));
    // The process that serves the next connection may log it before the end of this one.
    let (accepts, ends) = (server.log.of("accept"), server.log.of("end"));
    assert_eq!((accepts.len(), ends.len()), (4, 4));
    for (accept, end) in accepts.iter().zip(&ends) {
        assert_eq!((&accept["id"], &accept["pid"]), (&end["id"], &end["pid"]), "{accept} {end}");
        assert_eq!((&accept["count"], &accept["limit"]), (&1.into(), &1.into()), "{accept}");
    }
    let at = |line| server.log.events().iter().position(|event| event == line).expect("a line");
    assert!(accepts.iter().zip(&ends).all(|(accept, end)| at(accept) < at(end)));
}
