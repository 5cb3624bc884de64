//! The links of a fleet: what one service says, the others know.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tine::cli::{BanRecord, BanState, ServiceRecord};
use tine_e2e::bus::NatsServer;
use tine_e2e::fleet::{Node, PlainClient, block, day, numbered};
use tine_e2e::{Folder, network, procfs, run};

/// A bus with JetStream, in a folder.
fn bus(folder: &Folder) -> NatsServer {
    NatsServer::start(&["-js", "-sd", &folder.path("store")])
}

/// Links of nodes `n1`, `n2` and so on, which hear each other.
fn fleet(url: &str, number: u32) -> Vec<Node> {
    let nodes: Vec<Node> = (1..=number).map(|number| Node::start(url, &format!("n{number}"))).collect();
    nodes.iter().for_each(|node| node.wait_for_nodes(number));
    nodes
}

fn within(limit: Duration, what: &str, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    assert!(start.elapsed() < limit, "{what}: {:?}", start.elapsed());
}

#[test]
fn a_ban_on_one_node_is_one_on_all_until_it_is_lifted_on_any() {
    network::own();
    let folder = Folder::new("link-bans");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 3);
    let source = block("192.0.2.0/24");
    // The bucket is there once the first one has come.
    nodes[0].order(block("2001:db8::/32"), BanState::Until(u64::MAX / 1_000));
    nodes[2].wait_for_ban(block("2001:db8::/32"), BanState::Until(u64::MAX / 1_000));
    for (by, state) in [(0, BanState::Forever), (1, BanState::Lifted), (2, BanState::Forever)] {
        within(Duration::from_secs(1), "an order reaches all", || {
            nodes[by].order(source, state);
            let others = nodes.iter().enumerate().filter(|(at, _)| *at != by);
            others.for_each(|(_, node)| node.wait_for_ban(source, state));
        });
    }
    // One that comes later knows them all, from the bucket or as the others say the last again.
    let late = Node::start(&bus.url(), "late");
    late.wait_for_ban(source, BanState::Forever);
    late.wait_for_ban(block("2001:db8::/32"), BanState::Until(u64::MAX / 1_000));
    assert_eq!(late.told.borrow().bans.len(), 2);
    // What one was told is not told to it.
    assert_eq!(nodes[0].told.borrow().bans.get(&block("2001:db8::/32")), None);
}

#[test]
fn use_is_summed_and_that_of_a_node_that_ends_or_dies_is_left_out() {
    network::own();
    let folder = Folder::new("link-use");
    let bus = bus(&folder);
    let mut nodes = fleet(&bus.url(), 4);
    let source = block("192.0.2.1");
    for (node, held) in nodes.iter().zip(1..) {
        node.uses(source, held, held);
    }
    for (node, held) in nodes.iter().zip(1..) {
        within(Duration::from_secs(1), "use is known", || node.wait_for_held(source, 10 - held));
        assert_eq!(node.told.borrow().used[&source].1, u64::from(10 - held));
    }
    let last = nodes.pop().expect("one");
    within(Duration::from_millis(800), "one that ends says so", || {
        assert_eq!(last.end(), Some(0));
        nodes[0].wait_for_held(source, 5);
    });
    assert_eq!(nodes[0].told.borrow().nodes, (3, 0));
    drop(nodes.pop());
    within(Duration::from_secs(4), "a dead one is noticed", || nodes[0].wait_for_held(source, 2));
    assert_eq!(nodes[0].told.borrow().nodes, (2, 1));
    // In its place, another one: nobody counts twice.
    let again = Node::start(&bus.url(), "n3");
    again.uses(source, 7, 7);
    nodes[0].wait_for_held(source, 9);
    nodes[0].wait_for_nodes(3);
    again.wait_for_held(source, 3);
}

#[test]
fn penalties_reach_the_others_and_those_who_come_later() {
    network::own();
    let folder = Folder::new("link-penalties");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 2);
    nodes[0].tell(&[ServiceRecord::Penalty { source: block("192.0.2.1"), milliseconds: 60_000 }]);
    let late = Node::start(&bus.url(), "late");
    for node in [&nodes[1], &late] {
        let (source, left) = node.wait("a penalty", |told| told.penalties.first().copied());
        assert_eq!(source, block("192.0.2.1"));
        assert!((50_000..=60_000).contains(&left), "{left}");
    }
    // It is said to the late one, and not told again where it is known.
    assert_eq!(nodes[1].told.borrow().penalties.len(), 1);
}

#[test]
fn a_hundred_thousand_bans_are_shared_in_seconds() {
    network::own();
    let folder = Folder::new("link-many");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 2);
    let at = day();
    let ban = |number| BanRecord { block: numbered(number), state: BanState::Forever, at };
    let all: Vec<ServiceRecord> = (0..100_000).map(|number| ServiceRecord::Ban(ban(number))).collect();
    let start = Instant::now();
    nodes[0].tell(&all);
    nodes[1].wait("all bans", |told| (told.bans.len() == all.len()).then_some(()));
    let shared = start.elapsed();
    let start = Instant::now();
    let late = Node::start(&bus.url(), "late");
    late.wait("all bans", |told| (told.bans.len() == all.len()).then_some(()));
    eprintln!("100,000 bans: shared in {shared:?}, read by a new node in {:?}", start.elapsed());
    assert!(late.told.borrow().bans.values().all(|(_, times)| *times == 1));
    // A new order does not wait for anything.
    within(Duration::from_secs(1), "one more", || {
        late.order(block("::1"), BanState::Forever);
        nodes[0].wait_for_ban(block("::1"), BanState::Forever);
    });
}

#[test]
fn a_link_runs_confined_and_starts_without_its_bus() {
    network::own();
    let folder = Folder::new("link-process");
    let node = {
        let free = NatsServer::start(&[]);
        free.port
    };
    let url = format!("nats://localhost:{node}");
    let port = node;
    let node = Node::start(&url, "n1");
    node.order(block("192.0.2.1"), BanState::Forever);
    for (field, value) in
        [("Name", "tine: link"), ("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000000")]
    {
        assert_eq!(procfs::status(node.pid(), field), value, "{field}");
    }
    node.wait("it says why", |told| {
        told.warnings.iter().any(|text| text.contains("cannot connect to the bus")).then_some(())
    });
    assert_eq!(node.told.borrow().bus, None);
    // The name is resolved in the confined process.
    let _bus = NatsServer::start_on(&port.to_string(), &["-js", "-sd", &folder.path("store")]);
    let other = Node::start(&url, "n2");
    other.wait_for_ban(block("192.0.2.1"), BanState::Forever);
    node.wait_for_nodes(2);
}

#[test]
fn a_link_that_can_never_work_says_why_and_ends() {
    for (url, settings, why) in [
        ("http://a", json!({}), "bad address of a bus"),
        ("nats://a", json!({ "credentials": "none" }), "cannot use the credentials for the bus"),
        ("nats://a", json!({ "ca": "/nonexistent/file" }), "/nonexistent/file"),
        ("nats://a", json!({ "node": "a.b" }), "the settings are of another version"),
    ] {
        let node = Node::launch(url, "n1", &settings);
        assert_eq!(node.wait_for_end(), Some(111), "{url} {settings}");
        let told = node.told.borrow();
        assert!(!told.is_ready && told.warnings.len() == 1 && told.warnings[0].contains(why), "{told:?}");
    }
}

#[test]
fn a_link_has_its_keys_from_its_server_and_its_authorities_in_memory() {
    network::own();
    // A key that is used nowhere else.
    const SEED: &str = "SUABWAKMEF2H5AFSJWPENEZ4WYBB5R4J2WYQRUV3EWG54CORMQWNM4C6RI\n";
    const PUBLIC: &str = "UAEEBSXMGTHWGG74SR3AVL4P5YD232YNFYYCFQ6QOPIZEOBJJBDBPH4B";
    let folder = Folder::new("link-keys");
    let [file, key] = ["bus.crt", "bus.key"].map(|name| folder.path(name));
    let (code, _, err) = run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=bus", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &file]));
    assert_eq!(code, 0, "{err}");
    let config = format!("authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}");
    let config = folder.write("nats.conf", &config).display().to_string();
    let store = folder.path("store");
    let tls = ["--tls", "--tlscert", &file, "--tlskey", &key, "-c", &config, "-js", "-sd", &store];
    let bus = NatsServer::start(&tls);
    let url = format!("tls://localhost:{}", bus.port);
    let node = |name: &str| Node::with(&url, name, &json!({ "nkey": SEED, "ca": file }));
    let (one, other) = (node("n1"), node("n2"));
    one.wait_for_nodes(2);
    // The file is not needed any more.
    std::fs::remove_file(&file).expect("it was there");
    one.order(block("::1"), BanState::Forever);
    other.wait_for_ban(block("::1"), BanState::Forever);
    // One that does not trust it does not come in, and one without the key.
    let distrustful = Node::with(&url, "n3", &json!({ "nkey": SEED }));
    distrustful.wait("it says why", |told| {
        let is_said = |text: &String| text.contains("cannot connect to the bus");
        told.warnings.iter().any(is_said).then_some(())
    });
    assert_eq!((one.receive(), one.told.borrow().nodes), (false, (2, 0)));
}

#[test]
fn nodes_share_bans_with_credentials_that_an_operator_has_signed() {
    network::own();
    let folder = Folder::new("link-credentials");
    let config = folder.write("nats.conf", include_str!("../data/nats-operator.conf"));
    let (config, store) = (config.display().to_string(), folder.path("store"));
    let bus = NatsServer::start(&["-c", &config, "-js", "-sd", &store]);
    let signed = json!({ "credentials": include_str!("../data/nats-user.creds") });
    let nodes = ["n1", "n2"].map(|name| Node::with(&bus.url(), name, &signed));
    nodes.iter().for_each(|node| node.wait_for_nodes(2));
    nodes[0].order(block("192.0.2.1"), BanState::Forever);
    nodes[1].wait_for_ban(block("192.0.2.1"), BanState::Forever);
    // The bucket is one of the account.
    let late = Node::with(&bus.url(), "late", &signed);
    late.wait_for_ban(block("192.0.2.1"), BanState::Forever);
    nodes[0].wait_for_nodes(3);
    let stranger = Node::with(&bus.url(), "stranger", &json!({}));
    stranger.wait("it says why", |told| {
        told.warnings.iter().any(|text| text.contains("cannot connect to the bus")).then_some(())
    });
    assert_eq!((nodes[0].receive(), nodes[0].told.borrow().nodes), (false, (3, 0)));
}

#[test]
fn questions_and_orders_of_operators_reach_the_server() {
    network::own();
    let folder = Folder::new("link-questions");
    let bus = bus(&folder);
    let nodes = fleet(&bus.url(), 2);
    nodes[0].reply.replace("{\"type\":\"status\",\"pid\":7}\n{\"done\":true}\n".into());
    let port = bus.port;
    // The answers come while the test serves as the service.
    let ask = std::thread::spawn(move || {
        let mut client = PlainClient::connect(port);
        let answer = client.request("tine.fleet.default.ask.n1", "{\"ask\":\"status\"}");
        let receipt = client.request("tine.fleet.default.order.n1", "{\"order\":\"drain\"}");
        let nobody = client.request("tine.fleet.default.order.n9", "{\"order\":\"drain\"}");
        [answer, receipt, nobody]
    });
    nodes[0].wait("the order", |told| (told.drains == 1).then_some(()));
    let [answer, receipt, nobody] = ask.join().expect("no panic");
    let answer: Value = serde_json::from_str(&answer).expect("an answer");
    assert_eq!(
        (&answer["node"], &answer["answer"][0]["pid"], &answer["nodes"]),
        (&json!("n1"), &json!(7), &json!(2))
    );
    assert_eq!((receipt.as_str(), nobody.as_str()), (r#"{"node":"n1","error":null}"#, ""));
    assert_eq!(nodes[1].told.borrow().drains, 0);
}
