//! The links of a fleet when something goes wrong: the bus, a link, or what others send.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tine::cli::BanState::{self, Forever, Lifted};
use tine_e2e::bus::NatsServer;
use tine_e2e::fleet::{Node, PlainClient, block, day, numbered};
use tine_e2e::{Folder, network};

/// A bus with JetStream, in a folder.
fn bus(folder: &Folder) -> NatsServer {
    bus_on("-1", folder)
}

fn bus_on(port: &str, folder: &Folder) -> NatsServer {
    NatsServer::start_on(port, &["-js", "-sd", &folder.path("store")])
}

/// Links of nodes `n1`, `n2` and so on, which hear each other.
fn fleet(url: &str, number: u32) -> Vec<Node> {
    let nodes: Vec<Node> = (1..=number).map(|number| Node::start(url, &format!("n{number}"))).collect();
    nodes.iter().for_each(|node| node.wait_for_nodes(number));
    nodes
}

/// Bans a block on the first node, and waits until all others know it. Returns the time.
fn share(nodes: &[Node], text: &str, state: BanState) -> Duration {
    let start = Instant::now();
    nodes[0].order(block(text), state);
    nodes[1..].iter().for_each(|node| node.wait_for_ban(block(text), state));
    start.elapsed()
}

fn wait_for_bus(nodes: &[Node], is_there: bool) {
    nodes.iter().for_each(|node| node.wait("the bus", |told| (told.bus == Some(is_there)).then_some(())));
}

#[test]
fn what_happens_while_the_bus_is_away_is_known_when_it_is_back() {
    network::own();
    let folder = Folder::new("link-restart");
    let mut bus = bus(&folder);
    let (url, port) = (bus.url(), bus.port.to_string());
    let nodes = fleet(&url, 2);
    share(&nodes, "192.0.2.1", Forever);
    share(&nodes, "192.0.2.2", Forever);
    nodes[0].uses(block("192.0.2.9"), 1, 1);
    nodes[1].wait_for_held(block("192.0.2.9"), 1);
    for keeps_store in [true, false] {
        drop(bus);
        wait_for_bus(&nodes, false);
        if !keeps_store {
            std::fs::remove_dir_all(folder.path("store")).expect("it has one");
        }
        // The same block on both: the later order counts.
        nodes[0].order(block("192.0.2.1"), Lifted);
        nodes[1].order(block("192.0.2.1"), Forever);
        nodes[1].order(block("192.0.2.3"), Forever);
        nodes[0].order(block("192.0.2.3"), Lifted);
        nodes[0].uses(block("192.0.2.9"), 2, 5);
        // Nobody is forgotten, and nothing is taken back.
        assert_eq!((nodes[1].told.borrow().nodes, nodes[1].receive()), ((2, 0), false));
        nodes[1].wait_for_held(block("192.0.2.9"), if keeps_store { 1 } else { 3 });
        bus = bus_on(&port, &folder);
        let start = Instant::now();
        nodes[0].wait_for_ban(block("192.0.2.1"), Forever);
        nodes[1].wait_for_ban(block("192.0.2.3"), Lifted);
        nodes[1].wait_for_held(block("192.0.2.9"), 2);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        // One that has not seen any of it.
        let late = Node::start(&url, "late");
        late.wait_for_ban(block("192.0.2.1"), Forever);
        late.wait_for_ban(block("192.0.2.2"), Forever);
        late.wait_for_ban(block("192.0.2.3"), Lifted);
        assert_eq!(late.end(), Some(0));
        nodes[0].uses(block("192.0.2.9"), 3, 0);
        nodes[1].wait_for_held(block("192.0.2.9"), 3);
    }
}

#[test]
fn a_bus_that_hangs_is_away_until_it_goes_on() {
    network::own();
    let folder = Folder::new("link-hang");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 2);
    share(&nodes, "192.0.2.1", Forever);
    bus.signal(Signal::STOP);
    wait_for_bus(&nodes, false);
    for number in 0..5_000 {
        nodes[0].order(numbered(number), Forever);
    }
    bus.signal(Signal::CONT);
    let start = Instant::now();
    for number in 0..5_000 {
        nodes[1].wait_for_ban(numbered(number), Forever);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    nodes.iter().for_each(|node| node.wait_for_nodes(2));
}

#[test]
fn a_link_that_hangs_or_is_killed_concerns_no_other() {
    network::own();
    let folder = Folder::new("link-killed");
    let bus = bus(&folder);
    let mut nodes = fleet(&bus.url(), 3);
    let source = block("192.0.2.9");
    nodes[2].uses(source, 4, 4);
    nodes[0].wait_for_held(source, 4);
    nodes[2].signal(Signal::STOP);
    nodes[0].wait("it is lost", |told| (told.nodes == (2, 1)).then_some(()));
    nodes[0].wait_for_held(source, 0);
    share(&nodes[..2], "192.0.2.1", Forever);
    nodes[2].signal(Signal::CONT);
    nodes[0].wait_for_nodes(3);
    nodes[0].wait_for_held(source, 4);
    nodes[2].wait_for_ban(block("192.0.2.1"), Forever);
    // Nobody was lost to it: it was the one who slept.
    assert_eq!(nodes[2].told.borrow().nodes, (3, 0));
    nodes[2].signal(Signal::KILL);
    nodes[0].wait_for_held(source, 0);
    nodes[2] = Node::start(&bus.url(), "n3");
    nodes[2].wait_for_ban(block("192.0.2.1"), Forever);
    assert!(share(&nodes, "192.0.2.2", Forever) < Duration::from_secs(1));
}

#[test]
fn a_bucket_that_somebody_deletes_is_there_again() {
    network::own();
    let folder = Folder::new("link-deleted");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 3);
    for number in 0..2_000 {
        nodes[0].order(numbered(number), Forever);
    }
    nodes[1].wait("all bans", |told| (told.bans.len() == 2_000).then_some(()));
    let mut client = PlainClient::connect(bus.port);
    let deleted = client.request("$JS.API.STREAM.DELETE.KV_tine-bans-default", "");
    assert!(deleted.contains("\"success\":true"), "{deleted}");
    let start = Instant::now();
    // One that starts then may find some of them, and gets the rest.
    let late = Node::start(&bus.url(), "late");
    late.wait("all bans", |told| (told.bans.len() == 2_000).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(share(&nodes, "2001:db8::/32", Forever) < Duration::from_secs(5));
    late.wait_for_ban(block("2001:db8::/32"), Forever);
}

#[test]
fn junk_and_forged_messages_change_nothing_and_a_flood_keeps_nobody_out() {
    network::own();
    let folder = Folder::new("link-flood");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 2);
    share(&nodes, "192.0.2.1", Forever);
    let mut client = PlainClient::connect(bus.port);
    let valid = r#"{"v":1,"node":"n9","incarnation":"1","seq":1,"used":[["192.0.2.9",1,1]]}"#;
    let node = "tine.fleet.default.node";
    let junk = ["", "{}", "\u{0}\u{0}", &"[".repeat(60_000), &"x".repeat(1_000_000), valid];
    for text in junk {
        for subject in [
            // The last one says that it is n9, which is not its subject.
            &format!("{node}.n8"),
            "tine.fleet.default.node.n1",
            "tine.fleet.default.ask",
            "tine.fleet.default.ask.n1",
            "tine.fleet.default.order.n1",
        ] {
            client.publish(subject, text);
        }
        if text.len() < 500 {
            for key in ["4-c0000201-32", "4-c0000202-32", "x", "4-c0000201-24", "6-0-0"] {
                client.publish(&format!("$KV.tine-bans-default.{key}"), text);
            }
        }
    }
    let far = format!(r#"{{"state":"lifted","at":{},"node":"n9"}}"#, day() + 7_200_000);
    client.publish("$KV.tine-bans-default.4-c0000201-32", &far);
    client.flush();
    nodes[0].wait("it says so", |told| {
        told.warnings.iter().any(|text| text.contains("set the clocks")).then_some(())
    });
    // What was there is put again.
    let late = Node::start(&bus.url(), "late");
    late.wait_for_ban(block("192.0.2.1"), Forever);
    for node in &nodes {
        node.wait_for_nodes(3);
        let told = node.told.borrow();
        assert!(told.drains == 0 && told.used.is_empty() && told.nodes.1 == 0, "{told:?}");
        assert!(!told.bans.values().any(|(state, _)| *state == Lifted), "{told:?}");
    }
    flood(&bus, &nodes);
}

/// Has a client that may not say what other nodes say send far more than a node does, while bans
/// are shared.
fn flood(bus: &NatsServer, nodes: &[Node]) {
    let port = bus.port;
    let flood = std::thread::spawn(move || {
        let mut client = PlainClient::connect(port);
        let start = Instant::now();
        let mut seq = 0_u64;
        while start.elapsed() < Duration::from_secs(5) {
            let mut text = String::new();
            for _ in 0..100 {
                seq += 1;
                let message = format!(
                    r#"{{"v":1,"node":"n9","incarnation":"1","seq":{seq},"used":[["192.0.2.9",1,1]]}}"#
                );
                for subject in ["node.n9", "ask", "order.n2"] {
                    let length = message.len();
                    text.push_str(&format!("PUB tine.fleet.default.{subject} {length}\r\n{message}\r\n"));
                }
            }
            client.send(&text);
            client.flush();
            // The links of this test are not optimized, and share the processors with everything.
            std::thread::sleep(Duration::from_millis(10));
        }
        seq
    });
    let mut times = Vec::new();
    while !flood.is_finished() {
        let number = times.len() as u32 + 1;
        times.push(share(nodes, &numbered(number).to_string(), Forever));
    }
    let sent = flood.join().expect("no panic");
    times.sort_unstable();
    // One may take longer, where the processors are taken away.
    let most = times[times.len() * 9 / 10];
    assert!(sent > 10_000 && most < Duration::from_secs(1), "{sent} {times:?}");
    for node in nodes {
        node.receive();
        let told = node.told.borrow();
        // The three, and n9: as much as it may, it says.
        assert_eq!(told.nodes, (4, 0), "{told:?}");
        assert!(told.warnings.iter().any(|text| text.contains("node n9 sends more")), "{:?}", told.warnings);
        assert!(told.warnings.len() < 8, "{:?}", told.warnings);
        let taken = told.used[&block("192.0.2.9")].1;
        assert!((40..=40 * 8).contains(&taken), "{taken}");
    }
}

#[test]
fn a_bus_without_jetstream_shares_use_and_says_that_bans_are_not() {
    network::own();
    let folder = Folder::new("link-without");
    let plain = NatsServer::start(&[]);
    let nodes = fleet(&plain.url(), 2);
    nodes[0].uses(block("192.0.2.9"), 4, 4);
    nodes[0].order(block("192.0.2.1"), Forever);
    nodes[1].wait_for_held(block("192.0.2.9"), 4);
    nodes[1].wait("it says so", |told| {
        told.warnings.iter().any(|text| text.contains("no JetStream") && text.contains("-js")).then_some(())
    });
    // It gets one.
    let port = plain.port.to_string();
    drop(plain);
    let _bus = bus_on(&port, &folder);
    nodes[1].wait_for_ban(block("192.0.2.1"), Forever);
}

#[test]
fn two_nodes_of_one_name_are_told_so() {
    network::own();
    let folder = Folder::new("link-names");
    let bus = bus(&folder);
    let nodes = [Node::start(&bus.url(), "same"), Node::start(&bus.url(), "same")];
    for node in &nodes {
        node.wait("it says so", |told| {
            told.warnings.iter().any(|text| text.contains("the name same, too")).then_some(())
        });
    }
    // Other fleets on the same bus are not of interest.
    let other = Node::with(&bus.url(), "same", &json!({ "fleet": "other" }));
    other.order(block("192.0.2.1"), Forever);
    nodes[0].order(block("192.0.2.2"), Forever);
    nodes[1].wait_for_ban(block("192.0.2.2"), Forever);
    assert!(
        !other.receive() && other.told.borrow().bans.is_empty() && other.told.borrow().warnings.is_empty()
    );
    assert_eq!(nodes[1].told.borrow().bans.len(), 1);
}
