//! `tine fleet`: all nodes of a fleet, or none.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};
use tine::cli::BanState::{Forever, Lifted};
use tine_e2e::bus::NatsServer;
use tine_e2e::fleet::{Node, block};
use tine_e2e::{Client, Folder, ServerCommand, network, run, tine, wait_until};

fn bus(folder: &Folder) -> NatsServer {
    NatsServer::start(&["-js", "-sd", &folder.path("store")])
}

/// Runs `tine fleet` with these words on a bus. Returns its code, output and errors.
fn fleet(url: &str, words: &[&str]) -> (i32, String, String) {
    run(Command::new(tine()).arg("fleet").args(words).args(["--bus", url]))
}

/// The same while the nodes, whose services are in this thread, answer.
fn ask(nodes: &[Node], url: &str, words: &[&str]) -> (i32, String, String) {
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let answer = fleet(url, words);
            has_ended.store(true, Ordering::Relaxed);
            answer
        });
        while !has_ended.load(Ordering::Relaxed) {
            nodes.iter().for_each(|node| _ = node.receive());
            thread::yield_now();
        }
        asked.join().expect("no panic")
    })
}

#[test]
fn status_and_list_are_of_all_nodes_that_answer() {
    network::own();
    let folder = Folder::new("fleet-status");
    let bus = bus(&folder);
    let nodes: Vec<Node> = ["n1", "n2"].map(|name| Node::start(&bus.url(), name)).into();
    nodes.iter().for_each(|node| node.wait_for_nodes(2));
    let line = json!({
        "type": "status", "service": null, "phase": "draining", "connections": 3, "max_connections": 10,
        "bans": 1, "id": 7, "peer": "192.0.2.1:1", "age_ms": 12_000, "pid": 4711, "state": "serving",
        "bytes_in": 2048, "bytes_out": 1,
    });
    nodes.iter().for_each(|node| _ = node.reply.replace(format!("{line}\n{{\"done\":true}}\n")));
    let (code, out, err) = ask(&nodes, &bus.url(), &["status"]);
    let expected = "\
NODE  PHASE     CONNECTIONS  BUS    BANS
n1    draining  3/10         there  1
n2    draining  3/10         there  1
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    let (code, out, err) = ask(&nodes, &bus.url(), &["list"]);
    let expected = "\
NODE  ID  PEER         PID   STATE    AGE  IN    OUT
n1    7   192.0.2.1:1  4711  serving  12s  2.0K  1
n2    7   192.0.2.1:1  4711  serving  12s  2.0K  1
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    // One whose server does not reply, and one that hangs, but was heard.
    nodes[1].reply.replace("{\"error\":\"no\",\"code\":111}\n".into());
    let (code, out, err) = ask(&nodes, &bus.url(), &["status", "--json"]);
    let objects: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &objects[0]["node"], &objects[0]["phase"]), (0, &json!("n1"), &json!("draining")));
    assert_eq!(objects[1], json!({ "node": "n2", "error": "the server does not reply: no" }));
    assert_eq!(err, "tine: node n2: the server does not reply: no\n");
    // Nobody answers: the services are not asked, and the links say that they are there.
    let (code, out, err) = fleet(&bus.url(), &["status"]);
    assert_eq!((code, out.as_str()), (3, ""));
    let expected = "tine: 2 nodes do not answer: n1, n2\ntine: no node of the fleet default answers; ";
    assert!(err.starts_with(expected), "{err}");
}

#[test]
fn bans_hold_on_nodes_that_run_and_on_those_that_start_later() {
    network::own();
    let folder = Folder::new("fleet-ban");
    let bus = bus(&folder);
    let url = bus.url();
    let none = "192.0.2.0/24 is banned; no node runs, and those that start will know it\n";
    assert_eq!(fleet(&url, &["ban", "192.0.2.0/24"]), (0, none.to_owned(), String::new()));
    let node = Node::start(&url, "n1");
    node.wait_for_ban(block("192.0.2.0/24"), Forever);
    let (code, out, err) = fleet(&url, &["ban", "2001:db8::/32", "--for", "1h"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "2001:db8::/32 is banned on 1 node\n", ""));
    node.wait("the ban", |told| told.bans.contains_key(&block("2001:db8::/32")).then_some(()));
    let (code, out, _) = fleet(&url, &["unban", "192.0.2.0/24"]);
    assert_eq!((code, out.as_str()), (0, "the ban of 192.0.2.0/24 is lifted on 1 node\n"));
    node.wait_for_ban(block("192.0.2.0/24"), Lifted);
    // What a node has banned, an operator lifts.
    node.order(block("::1"), Forever);
    let other = Node::start(&url, "n2");
    other.wait_for_ban(block("::1"), Forever);
    assert_eq!(fleet(&url, &["unban", "::1"]).0, 0);
    node.wait_for_ban(block("::1"), Lifted);
    for lifted in ["192.0.2.0/24", "198.51.100.1"] {
        let (code, _, err) = fleet(&url, &["unban", lifted]);
        assert!(code == 100 && err.contains(&format!("the fleet default has no ban of {lifted}")), "{err}");
    }
    // Another fleet has its own.
    let (code, _, err) = fleet(&url, &["unban", "2001:db8::/32", "--fleet", "other"]);
    assert!(code == 100 && err.contains("the fleet other has no ban"), "{err}");
}

#[test]
fn a_node_that_obeys_is_told_to_drain() {
    network::own();
    let folder = Folder::new("fleet-drain");
    let bus = bus(&folder);
    let nodes = [Node::start(&bus.url(), "n1"), Node::with(&bus.url(), "n2", &json!({ "obeys": false }))];
    nodes.iter().for_each(|node| node.wait_for_nodes(2));
    let (code, out, _) = fleet(&bus.url(), &["drain", "n1"]);
    assert_eq!((code, out.as_str()), (0, "the order is passed on to the server of n1\n"));
    nodes[0].wait("the order", |told| (told.drains == 1).then_some(()));
    let (code, _, err) = fleet(&bus.url(), &["drain", "n2"]);
    assert!(code == 111 && err.contains("node n2 refuses: it does not obey orders"), "{err}");
    let (code, _, err) = fleet(&bus.url(), &["drain", "n3"]);
    assert!(code == 3 && err.contains("there is no node n3 in the fleet default"), "{err}");
    // One that hangs is known, and does not answer.
    nodes[0].signal(Signal::STOP);
    let (code, _, err) = fleet(&bus.url(), &["drain", "n1"]);
    assert!(code == 111 && err.contains("node n1 does not answer"), "{err}");
    nodes[0].signal(Signal::CONT);
    assert_eq!((nodes[1].receive(), nodes[1].told.borrow().drains), (false, 0));
}

#[test]
fn a_service_of_a_node_with_several_drains_and_the_others_serve_on() {
    network::own();
    let folder = Folder::new("fleet-drain-service");
    let bus = bus(&folder);
    let text = format!(
        "control = '{}'\nstate-directory = 'none'\nlog = 'json'\nprint-ports = true\nname = 'n1'\nbus = '{}'\n\
         bus-control = true\n[services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\n",
        folder.path("c.sock"),
        bus.url()
    );
    let config = folder.write("tine.toml", &text).display().to_string();
    let mut server = ServerCommand::program(tine(), &["serve", "--config", &config]).start();
    let ports = ["a", "b"].map(|service| server.log.port_of(service));
    let drain = |service: &str| {
        wait_until("the service is in its fleet", || {
            fleet(&bus.url(), &["status", "--fleet", service]).1.contains("n1/").then_some(())
        });
        let (code, _, err) = fleet(&bus.url(), &["drain", "n1", "--fleet", service]);
        assert_eq!((code, err.as_str()), (0, ""));
    };
    // Its connection goes on until it ends.
    let mut held = Client::connect(ports[0]);
    assert!(held.is_answered());
    drain("a");
    server.log.wait_for_line("it drains", |line| line.contains("has this service drain"));
    wait_until("it accepts nobody", || TcpStream::connect(("127.0.0.1", ports[0])).is_err().then_some(()));
    assert!(held.is_answered() && Client::connect(ports[1]).is_served());
    drop(held);
    // With the last of its services, the server has ended.
    drain("b");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_bus_that_cannot_be_used_and_a_fleet_that_is_not_there_are_said() {
    network::own();
    let plain = NatsServer::start(&[]);
    let url = plain.url();
    let (code, _, err) = fleet(&url, &["status"]);
    assert!(code == 3 && err.contains("no node of the fleet default is there"), "{err}");
    let (code, _, err) = fleet(&url, &["ban", "::1"]);
    assert!(code == 111 && err.contains("no JetStream"), "{err}");
    drop(plain);
    let (code, _, err) = fleet(&url, &["status"]);
    assert!(code == 111 && err.contains("cannot connect to the bus"), "{err}");
    for words in [&["status", "--fleet", "a.b"][..], &["ban", "192.0.2.1/24"], &["drain", "a b"], &["dance"]]
    {
        assert_eq!(fleet(&url, words).0, 100, "{words:?}");
    }
    let (code, _, err) = run(Command::new(tine()).args(["fleet", "status"]));
    assert!(code == 100 && err.contains("--bus"), "{err}");
    // A user who may not put records.
    let folder = Folder::new("fleet-permissions");
    let config =
        "authorization { users: [ { user: me, password: word, permissions: { publish: [\"tine.>\"] } } ] }";
    let config = folder.write("nats.conf", config).display().to_string();
    let bus = NatsServer::start(&["-c", &config, "-js", "-sd", &folder.path("store")]);
    let url = format!("nats://me:word@127.0.0.1:{}", bus.port);
    let (code, _, err) = fleet(&url, &["ban", "::1"]);
    assert!(code == 111 && err.to_lowercase().contains("permissions violation"), "{err}");
    assert!(!err.contains("word"), "{err}");
}
