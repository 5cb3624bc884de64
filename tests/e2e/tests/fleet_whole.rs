//! Everything together, in a network of the test's own: three nodes of a fleet behind HAProxy, and
//! four load agents, all on one bus.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tine_e2e::bus::OnBus;
use tine_e2e::control::Controlled;
use tine_e2e::haproxy::{Haproxy, Node};
use tine_e2e::nodes::{Bus, node, wait_for_bans, wait_for_nodes};
use tine_e2e::{Client, Folder, network, wait_until};

/// Connections of the load, over all agents.
const CONNECTIONS: u64 = 6000;

fn served(from: &str, port: u16) -> bool {
    Client::from_source(from, port).is_served()
}

#[test]
fn a_fleet_behind_haproxy_serves_a_load_of_four_agents_while_bans_and_its_bus_come_and_go() {
    network::own();
    let folder = Folder::new("fleet-whole");
    let mut bus = Bus::start("fleet-whole");
    let options = ["--proxy-from", "127.0.0.1", "--haproxy-agent", "127.0.0.1:0"];
    let limits = ["--max-connections-per-source-fleet", "60", "--per-source-penalties", "yes"];
    let nodes: Vec<Controlled> =
        ["n1", "n2", "n3"].map(|name| node(&bus.url(), name, &[&options[..], &limits].concat(), &[])).into();
    nodes.iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    let behind: Vec<Node> =
        nodes.iter().zip(["n1", "n2", "n3"]).map(|(node, name)| Node::of(name, &node.server)).collect();
    let proxy = Haproxy::start("fleet-whole", &behind, "weight 100 send-proxy-v2");
    behind
        .iter()
        .zip(["n1", "n2", "n3"])
        .for_each(|(_, name)| _ = proxy.wait_for(name, "up", |state| state.is_up()));
    let address = SocketAddr::from(([127, 0, 0, 1], proxy.port));
    wait_until("HAProxy serves", || TcpStream::connect(address).is_ok().then_some(()));

    // A load from four agents, each of which has one connection at a time.
    let agents = OnBus::agents(4, &bus.url(), &folder);
    let words = ["crr", &address.to_string(), "--agents", "4", "-p", "4", "-c", "4", "-n"].map(str::to_owned);
    let count = CONNECTIONS.to_string();
    let words: Vec<&str> =
        words.iter().map(String::as_str).chain([count.as_str(), "--max-lateness", "5s"]).collect();
    let coordinator = OnBus::coordinator(&bus.url(), &words);
    wait_until("the load has begun", || {
        let accepted = nodes.iter().map(|node| node.status()["accepted"].as_u64().unwrap_or(0));
        (accepted.sum::<u64>() > 100).then_some(())
    });

    // A ban on one node holds behind HAProxy, whichever node it chooses.
    assert!(served("127.0.0.9", proxy.port));
    nodes[1].done(&["ban", "127.0.0.9"]);
    nodes.iter().for_each(|node| wait_for_bans(node, &["127.0.0.9"]));
    assert!((0..6).all(|_| !served("127.0.0.9", proxy.port)));

    // The bus goes, and comes back: neither the nodes nor the load end.
    bus.kill();
    nodes.iter().for_each(|node| wait_for_nodes(node, false, 3, 0));
    assert!((0..6).all(|_| !served("127.0.0.9", proxy.port) && served("127.0.0.8", proxy.port)));
    nodes[2].done(&["unban", "127.0.0.9"]);
    bus.start_again(false);
    let healed = Instant::now();
    nodes.iter().for_each(|node| wait_for_bans(node, &[]));
    assert!(healed.elapsed() < Duration::from_secs(5), "{:?}", healed.elapsed());
    let loaded = coordinator.loaded();
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), CONNECTIONS);
    for mut agent in agents {
        assert_eq!(agent.wait_for_end().code(), Some(0));
    }

    // One source, through HAProxy: the sum over all nodes is limited.
    nodes.iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    let mut held: Vec<Client> = Vec::new();
    let until = Instant::now() + Duration::from_secs(3);
    let mut most = 0;
    while Instant::now() < until {
        let mut client = Client::from_source("127.0.0.7", proxy.port);
        if client.is_answered() {
            held.push(client);
        }
        most = most.max(held.len());
    }
    assert!((60..=62).contains(&most), "{most}");
}
