//! Limits of a source over all nodes of a fleet.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::control::Controlled;
use tine_e2e::nodes::{Bus, link, node, three, wait_for_nodes};
use tine_e2e::{Client, kill, network, wait_until};

const SOURCE: &str = "127.0.0.2";

/// Opens what a node admits, and keeps it.
fn fill(node: &Controlled, held: &mut Vec<Client>) -> usize {
    let before = held.len();
    loop {
        let mut client = Client::from_source(SOURCE, node.server.port());
        if !client.is_answered() {
            return held.len() - before;
        }
        held.push(client);
    }
}

/// Floods all nodes for a time. Returns the most connections at a time.
fn flood(nodes: &[Controlled], held: &mut [Vec<Client>], time: Duration) -> usize {
    let deadline = Instant::now() + time;
    let mut most = 0;
    while Instant::now() < deadline {
        for (node, held) in nodes.iter().zip(held.iter_mut()) {
            fill(node, held);
        }
        most = most.max(held.iter().map(Vec::len).sum());
    }
    most
}

fn clients() -> [Vec<Client>; 3] {
    [(); 3].map(|()| Vec::new())
}

#[test]
fn a_flood_over_all_nodes_stays_below_the_limit_and_the_number_of_nodes() {
    network::own();
    let bus = Bus::start("fleet-flood");
    for max in [2, 20] {
        let fleet = format!("f{max}");
        let options = ["--fleet", &fleet, "--max-connections-per-source-fleet", &max.to_string()];
        let nodes = three(&bus.url(), &options, &[]);
        let mut held = clients();
        let most = flood(&nodes, &mut held, Duration::from_secs(3));
        assert!((max..max + 3).contains(&most), "limit {max}: {most}");
        let rejected = nodes[0].status()["rejected_by_reason"]["fleet"].as_u64();
        assert!(rejected.is_some_and(|rejected| rejected > 0), "{rejected:?}");
        // Other sources are not concerned.
        assert!(nodes.iter().all(|node| Client::from_source("127.0.0.3", node.server.port()).is_served()));
        // What ends here can be opened there.
        held[0].clear();
        let more = flood(&nodes[1..], &mut held[1..], Duration::from_secs(5));
        assert!((max..max + 3).contains(&more), "limit {max}: {more}");
    }
}

#[test]
fn a_source_that_comes_to_one_node_gets_the_whole_limit_little_by_little() {
    network::own();
    let bus = Bus::start("fleet-one");
    let nodes = three(&bus.url(), &["--max-connections-per-source-fleet", "9"], &[]);
    let mut held = Vec::new();
    assert_eq!(fill(&nodes[1], &mut held), 3, "its share at once");
    wait_until("the node has the whole limit", || {
        fill(&nodes[1], &mut held);
        (held.len() == 9).then_some(())
    });
    assert!(fill(&nodes[1], &mut held) == 0 && fill(&nodes[0], &mut Vec::new()) <= 1);
}

#[test]
fn without_the_bus_a_node_has_its_share() {
    network::own();
    let mut bus = Bus::start("fleet-share");
    let nodes = three(&bus.url(), &["--max-connections-per-source-fleet", "10"], &[]);
    bus.kill();
    nodes.iter().for_each(|node| wait_for_nodes(node, false, 3, 0));
    let mut held = clients();
    assert_eq!(flood(&nodes, &mut held, Duration::from_secs(3)), 12, "a third of ten, rounded up, each");
    bus.start_again(false);
    nodes.iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    let mut more = clients();
    assert_eq!(flood(&nodes, &mut more, Duration::from_secs(2)), 0);
}

#[test]
fn limits_are_set_while_nodes_serve() {
    network::own();
    let bus = Bus::start("fleet-set");
    let limits = ["--max-connections-per-source-fleet", "6", "--rate-per-source-fleet", "1/d:90"];
    let nodes = three(&bus.url(), &limits, &[]);
    let set = |words: &str| nodes.iter().for_each(|node| _ = node.done(&["set", words]));
    let flood = |held: &mut [Vec<Client>]| flood(&nodes, held, Duration::from_secs(3));
    // The rate alone admits thirty at each node.
    set("max-connections-per-source-fleet=none");
    let mut held = clients();
    let most = flood(&mut held);
    assert!((90..=180).contains(&most), "{most}");
    set("rate-per-source-fleet=none");
    let more: Vec<Client> = (0..40).map(|_| Client::from_source(SOURCE, nodes[0].server.port())).collect();
    assert!(more.into_iter().all(|mut client| client.is_answered()));
    drop(held);
    set("max-connections-per-source-fleet=20");
    let mut held = clients();
    let most = flood(&mut held);
    assert!((20..23).contains(&most), "{most}");
    // A lower one holds for the next client; those that are served go on.
    set("max-connections-per-source-fleet=6");
    let more: usize = nodes.iter().zip(&mut held).map(|(node, held)| fill(node, held)).sum();
    assert_eq!((more, held[0][0].is_answered()), (0, true));
    let plain = node(&bus.url(), "plain", &[], &[]);
    let (code, _, err) = plain.tine(&["set", "rate-per-source-fleet=1/s"]);
    assert!(code == 111 && err.contains("was started without this limit"), "{code} {err}");
}

#[test]
fn a_node_that_is_lost_may_still_use_its_share() {
    network::own();
    let bus = Bus::start("fleet-lost");
    let mut nodes = three(&bus.url(), &["--max-connections-per-source-fleet", "9"], &[]);
    let silent = nodes.pop().expect("three nodes");
    kill(link(&silent), Signal::STOP);
    nodes.iter().for_each(|node| wait_for_nodes(node, true, 2, 1));
    let mut held = clients();
    let most = flood(&nodes, &mut held[..2], Duration::from_secs(4));
    assert!((6..8).contains(&most), "{most}");
}

#[test]
fn a_rate_over_all_nodes_is_shared() {
    network::own();
    let bus = Bus::start("fleet-rate");
    // A burst of 12 at once, and 20 in a second.
    let nodes = three(&bus.url(), &["--rate-per-source-fleet", "20/s:12"], &[]);
    let begin = Instant::now();
    let mut admitted = 0;
    let time = Duration::from_secs(6);
    while begin.elapsed() < time {
        for node in &nodes {
            admitted += usize::from(Client::from_source(SOURCE, node.server.port()).is_served());
        }
    }
    let filled = 20.0 * begin.elapsed().as_secs_f64();
    // What was too much at first is owed: see docs/fleet.md.
    let (least, most) = (filled * 0.8, filled + 2.0 * 12.0 + 3.0);
    assert!((least..=most).contains(&(admitted as f64)), "{admitted} of {least}..{most}");
    let rejected = nodes[0].status()["rejected_by_reason"]["fleet-rate"].as_u64();
    assert!(rejected.is_some_and(|rejected| rejected > 0), "{rejected:?}");
}

#[test]
fn limits_of_fleets_are_apart() {
    network::own();
    let bus = Bus::start("fleet-apart");
    let limit = ["--max-connections-per-source-fleet", "1"];
    let [one, other] = ["one", "other"]
        .map(|fleet| node(&bus.url(), fleet, &[&["--fleet", fleet], &limit[..]].concat(), &[]));
    let mut held = Vec::new();
    assert_eq!((fill(&one, &mut held), fill(&other, &mut held)), (1, 1));
}
