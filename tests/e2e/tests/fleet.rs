//! Nodes that share bans and penalties over a bus (`--bus`).

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::bus::Cable;
use tine_e2e::control::Controlled;
use tine_e2e::nodes::{Bus, bans, fleet, link, node, three, wait_for_bans, wait_for_nodes};
use tine_e2e::{Client, ServerCommand, kill, network, run, tine, wait_until};

/// A ban holds on all nodes in this time after the command.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_ban_on_one_node_holds_on_all_and_on_those_that_come_later() {
    network::own();
    let bus = Bus::start("fleet-bans");
    let nodes = three(&bus.url(), &[], &[]);
    for (at, ban) in ["127.0.0.2", "127.0.0.0/30", "127.0.0.9"].iter().enumerate() {
        nodes[at].done(&["ban", ban]);
        let given = Instant::now();
        for node in &nodes {
            wait_until("the client is rejected", || {
                (!Client::from_source(if at == 2 { "127.0.0.9" } else { "127.0.0.2" }, node.server.port())
                    .is_served())
                .then_some(())
            });
        }
        assert!(given.elapsed() < SOON, "{:?}", given.elapsed());
        assert!(Client::from_source("127.0.0.5", nodes[0].server.port()).is_served());
    }
    nodes[0].done(&["ban", "2001:db8::/32", "--for", "1h"]);
    let all = ["127.0.0.0/30", "127.0.0.2", "127.0.0.9", "2001:db8::/32"];
    nodes.iter().for_each(|node| wait_for_bans(node, &all));
    nodes[1].done(&["unban", "127.0.0.2"]);
    nodes[2].done(&["unban", "127.0.0.0/30"]);
    nodes.iter().for_each(|node| wait_for_bans(node, &all[2..]));
    // A node that comes has them, and one that was away.
    let late = node(&bus.url(), "late", &[], &[]);
    wait_for_bans(&late, &all[2..]);
    wait_for_nodes(&nodes[0], true, 4, 0);
    drop(late);
    assert!(nodes.iter().all(|node| Client::from_source("127.0.0.2", node.server.port()).is_served()));
}

#[test]
fn a_node_that_stops_leaves_and_one_that_is_silent_is_lost_until_it_speaks() {
    network::own();
    let bus = Bus::start("fleet-leaves");
    let mut nodes = three(&bus.url(), &[], &[]);
    nodes[2].server.signal(Signal::TERM);
    assert_eq!(nodes[2].server.wait().code(), Some(0));
    wait_for_nodes(&nodes[0], true, 2, 0);
    let silent = link(&nodes[1]);
    kill(silent, Signal::STOP);
    wait_for_nodes(&nodes[0], true, 1, 1);
    assert!(nodes[1].server.connect().is_served());
    nodes[0].done(&["ban", "192.0.2.7"]);
    kill(silent, Signal::CONT);
    wait_for_nodes(&nodes[0], true, 2, 0);
    wait_for_bans(&nodes[1], &["192.0.2.7"]);
    let lines = nodes[0].server.log.of("fleet");
    assert!(lines.iter().any(|line| line["bus"] == "connected" && line["nodes"] == 1 && line["lost"] == 1));
}

#[test]
fn while_the_bus_is_away_nodes_go_on_and_agree_when_it_is_back() {
    network::own();
    for is_empty in [false, true] {
        let mut bus = Bus::start(&format!("fleet-away-{is_empty}"));
        let nodes = three(&bus.url(), &[], &[]);
        nodes[0].done(&["ban", "192.0.2.1"]);
        nodes.iter().for_each(|node| wait_for_bans(node, &["192.0.2.1"]));
        bus.kill();
        nodes.iter().for_each(|node| wait_for_nodes(node, false, 3, 0));
        nodes[0].done(&["unban", "192.0.2.1"]);
        nodes[0].done(&["ban", "192.0.2.2"]);
        nodes[1].done(&["ban", "192.0.2.3"]);
        // Of two orders about a block, the later one counts.
        nodes[1].done(&["ban", "192.0.2.4"]);
        nodes[1].done(&["unban", "192.0.2.4"]);
        nodes[2].done(&["ban", "192.0.2.4", "--for", "1h"]);
        assert_eq!(bans(&nodes[2]), ["192.0.2.1", "192.0.2.4"]);
        assert!(nodes.iter().all(|node| node.server.connect().is_served()));
        bus.start_again(is_empty);
        let healed = Instant::now();
        nodes.iter().for_each(|node| wait_for_bans(node, &["192.0.2.2", "192.0.2.3", "192.0.2.4"]));
        nodes.iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
        assert!(healed.elapsed() < Duration::from_secs(5), "{:?}", healed.elapsed());
        let lines = nodes[0].server.log.of("fleet");
        assert!(lines.iter().any(|line| line["bus"] == "away"), "{lines:?}");
    }
}

#[test]
fn a_node_that_is_cut_off_goes_on_and_agrees_when_the_network_is_whole_again() {
    network::own();
    let bus = Bus::start("fleet-cut");
    let cable = Cable::to(bus.port);
    let limit = ["--max-connections-per-source-fleet", "9"];
    let [a, b] = ["a", "b"].map(|name| node(&bus.url(), name, &limit, &[]));
    let cut = node(&cable.url, "cut", &limit, &[]);
    [&a, &b, &cut].into_iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    a.done(&["ban", "192.0.2.1"]);
    wait_for_bans(&cut, &["192.0.2.1"]);
    cable.cut();
    wait_for_nodes(&cut, false, 3, 0);
    wait_for_nodes(&a, true, 2, 1);
    a.done(&["unban", "192.0.2.1"]);
    b.done(&["ban", "192.0.2.2"]);
    cut.done(&["ban", "192.0.2.3"]);
    assert_eq!(bans(&cut), ["192.0.2.1", "192.0.2.3"]);
    assert!(cut.server.connect().is_served());
    cable.mend();
    let healed = Instant::now();
    [&a, &b, &cut].into_iter().for_each(|node| wait_for_bans(node, &["192.0.2.2", "192.0.2.3"]));
    [&a, &b, &cut].into_iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    assert!(healed.elapsed() < Duration::from_secs(5), "{:?}", healed.elapsed());
}

#[test]
fn a_server_starts_without_its_bus_and_keeps_what_it_knew() {
    network::own();
    let mut bus = Bus::start("fleet-start");
    let first = node(&bus.url(), "a", &[], &[]);
    first.done(&["ban", "127.0.0.2"]);
    wait_for_nodes(&first, true, 1, 0);
    bus.kill();
    // The same state, another process.
    let Controlled { folder, server } = first;
    drop(server);
    let (socket, state) = (folder.path("c.sock"), folder.path("state"));
    let options = ["--control", &socket, "--state-directory", &state, "--bus", &bus.url(), "--name", "a"]
        .map(str::to_owned);
    let again = Controlled { server: ServerCommand::serve(options).start(), folder };
    assert!(!Client::from_source("127.0.0.2", again.server.port()).is_served());
    assert_eq!(fleet(&again)["connected"], false);
    bus.start_again(true);
    wait_for_nodes(&again, true, 1, 0);
    // The bucket of the new bus has what the node knows.
    let other = node(&bus.url(), "b", &[], &[]);
    wait_for_bans(&other, &["127.0.0.2"]);
}

#[test]
fn a_source_that_is_punished_on_one_node_is_on_all() {
    network::own();
    let bus = Bus::start("fleet-penalties");
    let options = ["--per-source-penalties", "crash:20s max:30s"];
    let nodes =
        three(&bus.url(), &options, &["sh", "-c", "read word; test \"$word\" = crash && kill -SEGV $$"]);
    let mut client = Client::from_source("127.0.0.2", nodes[0].server.port());
    client.send("crash\n");
    client.read_to_end();
    let end = Instant::now();
    for node in &nodes[1..] {
        let penalty = node.server.log.wait_for("penalty", 1).remove(0);
        assert_eq!(penalty["reason"], "fleet");
        assert!(
            penalty["seconds"].as_f64().is_some_and(|seconds| (18.0..=20.0).contains(&seconds)),
            "{penalty}"
        );
    }
    assert!(end.elapsed() < SOON, "{:?}", end.elapsed());
    for node in &nodes {
        let text = Client::from_source("127.0.0.2", node.server.port()).read_to_end();
        assert!(text.is_empty());
        let reject = node.server.log.wait_for("reject", 1).remove(0);
        assert_eq!(reject["reason"], "penalty");
    }
    // One that comes later, and one without penalties.
    let late = node(&bus.url(), "late", &options, &["cat"]);
    late.server.log.wait_for("penalty", 1);
    let without = node(&bus.url(), "without", &[], &["cat"]);
    wait_for_nodes(&without, true, 5, 0);
    assert!(Client::from_source("127.0.0.2", without.server.port()).is_served());
    assert!(without.server.log.of("penalty").is_empty());
}

#[test]
fn a_source_that_an_access_rule_punishes_is_punished_on_all() {
    network::own();
    let bus = Bus::start("fleet-denied");
    let penalties = ["--per-source-penalties", "refuseconnection:20s"];
    let denies = node(&bus.url(), "denies", &[&penalties[..], &["--deny", "127.0.0.2"]].concat(), &[]);
    let other = node(&bus.url(), "other", &penalties, &[]);
    wait_for_nodes(&denies, true, 2, 0);
    wait_for_nodes(&other, true, 2, 0);
    assert!(!Client::from_source("127.0.0.2", denies.server.port()).is_served());
    other.server.log.wait_for("penalty", 1);
    assert!(!Client::from_source("127.0.0.2", other.server.port()).is_served());
}

#[test]
fn a_link_that_is_killed_is_started_again_and_costs_no_connection() {
    network::own();
    let bus = Bus::start("fleet-link");
    let nodes = three(&bus.url(), &[], &[]);
    let mut held = nodes[0].server.connect();
    held.echo("before");
    kill(link(&nodes[0]), Signal::KILL);
    let restart = nodes[0].server.log.wait_for("restart", 1).remove(0);
    assert_eq!(restart["role"], "link");
    nodes[0].done(&["ban", "192.0.2.7"]);
    wait_for_nodes(&nodes[0], true, 3, 0);
    nodes.iter().for_each(|node| wait_for_bans(node, &["192.0.2.7"]));
    held.echo("after");
    assert!(nodes[0].server.connect().is_served());
}

#[test]
fn a_reload_keeps_the_node_in_its_fleet() {
    network::own();
    let bus = Bus::start("fleet-reload");
    let nodes = three(&bus.url(), &[], &[]);
    nodes[0].done(&["ban", "192.0.2.7"]);
    nodes[0].done(&["reload"]);
    wait_for_nodes(&nodes[0], true, 3, 0);
    wait_for_nodes(&nodes[1], true, 3, 0);
    nodes[0].done(&["ban", "192.0.2.8"]);
    nodes.iter().for_each(|node| wait_for_bans(node, &["192.0.2.7", "192.0.2.8"]));
    let warnings = nodes.iter().flat_map(|node| node.server.log.of("warning"));
    assert_eq!(warnings.filter(|line| line.to_string().contains("named")).count(), 0);
}

#[test]
fn a_fleet_that_cannot_be_is_refused_at_the_start() {
    for (options, text) in [
        (&["--max-connections-per-source-fleet", "9"][..], "no bus"),
        (&["--rate-per-source-fleet", "9/s"], "no bus"),
        (&["--fleet", "web"], "no bus"),
        (&["--bus-control"], "--bus"),
        (&["--bus", "http://x"], "bad address of a bus"),
        (&["--bus", "nats://x", "--bus-user", "root"], "does not run as root"),
        (&["--bus", "nats://x", "--bus-credentials", "/nonexistent"], "/nonexistent"),
        (&["--bus", "nats://x", "--bus-credentials", "/dev/null"], "cannot use /dev/null"),
        (&["--bus", "nats://x", "--bus-nkey", "/dev/null"], "cannot use /dev/null: it has no seed"),
        (&["--bus", "nats://x", "--bus-ca", "/dev/null"], "cannot use /dev/null: it has no certificates"),
    ] {
        let (code, _, err) =
            run(std::process::Command::new(tine()).args(["serve", "127.0.0.1:0"]).args(options));
        assert!(code == 100 || code == 111, "{options:?}: {code} {err}");
        assert!(err.contains(text), "{options:?}: {err}");
        assert!(err.contains("try") || err.contains("give") || err.contains(';') || code == 100, "{err}");
    }
}
