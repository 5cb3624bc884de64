//! Everything together, on machines in a network of the test's own: three nodes of a fleet behind
//! HAProxy, and four load agents, all on one bus.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use tine_e2e::bus::OnBus;
use tine_e2e::control::Controlled;
use tine_e2e::haproxy::{Haproxy, Node};
use tine_e2e::machines::{Machine, SWITCH_IP};
use tine_e2e::nodes::{Bus, node, wait_for_bans, wait_for_nodes};
use tine_e2e::{Client, Folder, wait_until};

/// Connections of the load, over all agents.
const CONNECTIONS: u64 = 6000;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Starts a node, which listens on the address of its machine.
fn start(machine: &Machine, url: &str, name: &str) -> Controlled {
    let any_port = format!("{}:0", machine.ip());
    let options = ["--proxy-from", SWITCH_IP, "--haproxy-agent", &any_port];
    let limits = ["--max-connections-per-source-fleet", "60", "--per-source-penalties", "yes"];
    node(url, name, &[&options[..], &limits, &[&any_port]].concat(), &[])
}

fn served(from: &str, port: u16) -> bool {
    Client::from_source(from, port).is_served()
}

#[test]
fn a_fleet_behind_haproxy_serves_a_load_of_four_agents_while_bans_and_its_bus_come_and_go() {
    let machines = Machine::several(8);
    let [of_bus, of_nodes, of_agents] = [&machines[..1], &machines[1..4], &machines[4..]];
    let folder = Folder::new("fleet-whole");
    let mut bus = of_bus[0].run(|| Bus::start_at(&of_bus[0].ip(), "fleet-whole"));
    let nodes: Vec<Controlled> = of_nodes
        .iter()
        .zip(NAMES)
        .map(|(machine, name)| machine.run(|| start(machine, &bus.url(), name)))
        .collect();
    nodes.iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    let behind: Vec<Node> =
        nodes.iter().zip(NAMES).map(|(node, name)| Node::of(name, &node.server)).collect();
    // On the machine of the test, as the coordinator and the clients.
    let proxy =
        Haproxy::start_at(&["127.0.0.1", SWITCH_IP], "fleet-whole", &behind, "weight 100 send-proxy-v2");
    NAMES.iter().for_each(|name| _ = proxy.wait_for(name, "up", |state| state.is_up()));
    let address = format!("{SWITCH_IP}:{}", proxy.port);
    wait_until("HAProxy serves", || TcpStream::connect(&address).is_ok().then_some(()));

    // A load from four agents, each of which has one connection at a time.
    let agent = |machine: &Machine| machine.run(|| OnBus::agent(&bus.url(), &folder, &[]));
    let agents: Vec<OnBus> = of_agents.iter().map(agent).collect();
    let count = CONNECTIONS.to_string();
    let words = ["--agents", "4", "-p", "4", "-c", "4", "-n", &count, "--max-lateness", "5s"];
    let coordinator = OnBus::coordinator(&bus.url(), &[&["crr", &*address][..], &words].concat());
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
    of_bus[0].run(|| bus.start_again(false));
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
