//! `--privacy`: no output of a server has the address of a client, and filters still find it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tine_e2e::control::Controlled;
use tine_e2e::{Client, Folder, ServerCommand, run, tine, wait_until};

/// The clients. The server listens on another address.
const CLIENTS: [&str; 3] = ["127.7.7.71", "127.7.7.72", "127.7.9.73"];

/// A client that sends nothing.
const SILENT: &str = "127.7.7.74";

/// The blocks of all of them.
const BLOCKS: [&str; 2] = ["127.7.7.0/24", "127.7.9.0/24"];

/// A server whose clients can be rejected, and get penalties.
fn serve(name: &str, privacy: &str, more: &[&str]) -> Controlled {
    let options = ["--privacy", privacy, "--max-connections-per-source", "1", "--titles", "--verbose"];
    let penalties = ["--per-source-penalties", "noauth:10s min:1s"];
    Controlled::serve(name, &[&options[..], &penalties, more].concat(), &[])
}

/// Has clients served, rejected, banned, killed and penalized. Returns all that the server says,
/// and the peers in its list.
fn outputs(controlled: &Controlled) -> (String, BTreeSet<String>) {
    let Controlled { server, .. } = controlled;
    let connect = |source: &str| Client::from_source(source, server.port());
    let mut held = CLIENTS.map(connect);
    held.iter_mut().for_each(|client| _ = client.echo("x"));
    assert!(!connect(CLIENTS[0]).is_served());
    controlled.done(&["ban", "127.7.9.0/24"]);
    assert!(!connect(CLIENTS[2]).is_served());
    server.log.wait_for("reject", 2);
    connect(SILENT).finish();
    server.log.wait_for("penalty", 1);
    let rows = controlled.json(&["list"]);
    let peers = rows.iter().filter_map(|row| row["peer"].as_str()).map(str::to_owned).collect();
    let mut text = serde_json::to_string_pretty(&rows).expect("JSON");
    for (block, count) in [("127.7.7.0/24", 2), ("127.7.7.72", 1), ("127.7.0.0/16", 3)] {
        assert_eq!(controlled.json(&["list", "--peer", block]).len(), count, "{block}");
    }
    for row in &rows {
        let pid = row["pid"].to_string();
        text += &String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).expect("runs"));
        let id = row["id"].to_string();
        text += &controlled.done(&["show", &id]);
        text += &controlled.done(&["show", &id, "--json"]);
    }
    for words in [&["list"][..], &["list", "--sort", "peer"], &["status"], &["status", "--json"]] {
        text += &controlled.done(words);
    }
    held[..2].iter_mut().for_each(|client| _ = client.finish());
    controlled.done(&["kill", "--peer", CLIENTS[2]]);
    let ended = || controlled.json(&["list", "--ended"]);
    let rows = wait_until("the ends are recorded", || Some(ended()).filter(|rows| rows.len() == 4));
    text += &serde_json::to_string_pretty(&rows).expect("JSON");
    text += &controlled.done(&["list", "--ended"]);
    text += &controlled.done(&["show", "1"]);
    server.log.wait_for("end", 4);
    // A ban is shown as it was given.
    let lines: Vec<Value> =
        server.log.events().into_iter().filter(|line| line["event"] != "control").collect();
    text += &serde_json::to_string_pretty(&lines).expect("JSON");
    (text, peers)
}

/// The lines of an output with a part of a client's address, but for its block.
fn with_addresses(text: &str) -> Vec<String> {
    let without_blocks = BLOCKS.iter().fold(text.to_owned(), |text, block| text.replace(block, ""));
    without_blocks.lines().filter(|line| line.contains("127.7.")).map(str::to_owned).collect()
}

fn is_hash(peer: &str) -> bool {
    peer.strip_prefix("client-")
        .is_some_and(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn no_output_has_an_address_that_is_truncated_or_hashed() {
    let spares = ["--spares", "8"];
    let workers = ["--spares", "8", "--reuse", "50"];
    for (name, more) in [("forkers", &[][..]), ("spares", &spares), ("workers", &workers)] {
        let (text, peers) = outputs(&serve(&format!("truncate-{name}"), "truncate", more));
        assert_eq!(with_addresses(&text), [""; 0], "{name}");
        assert!(peers.iter().eq(BLOCKS), "{name}: {peers:?}");
        let (text, peers) = outputs(&serve(&format!("hash-{name}"), "hash", more));
        assert!(!text.contains("127.7."), "{name}: {:?}", with_addresses(&text));
        assert!(peers.len() == 3 && peers.iter().all(|peer| is_hash(peer)), "{name}: {peers:?}");
    }
    let (text, _) = outputs(&serve("none", "none", &[]));
    for client in CLIENTS.iter().chain([&SILENT]) {
        assert!(text.contains(client), "{client}: {text}");
    }
}

#[test]
fn proxied_clients_and_their_proxies_are_not_shown_either() {
    let options = ["--privacy", "truncate", "--proxy-from", "127.7.7.0/24"];
    let controlled = Controlled::serve("proxied", &options, &[]);
    let mut client = Client::from_source(CLIENTS[0], controlled.server.port());
    client.send("PROXY TCP4 127.7.9.73 198.51.100.1 4711 25\r\n").echo("x");
    let mut text = controlled.done(&["list", "--json"]);
    client.finish();
    Client::from_source(CLIENTS[1], controlled.server.port()).send("no header\r\n").expect_closed();
    controlled.server.log.wait_for("end", 1);
    controlled.server.log.wait_for("reject", 1);
    text += &controlled.server.log.lines().join("\n");
    assert_eq!(with_addresses(&text), [""; 0]);
    assert!(BLOCKS.iter().all(|block| text.contains(block)), "{text}");
}

const TWO: &str =
    "privacy = 'hash'\n[services.one]\nlisten = '127.0.0.1:0'\n[services.two]\nlisten = '127.0.0.1:0'\n";

/// The peers of a client of one address in two services.
fn peers_in_two_services() -> BTreeSet<String> {
    let folder = Folder::new("hash");
    let file = folder.write("two.toml", TWO);
    let socket = folder.path("c.sock");
    let words =
        ["serve", "--config", file.to_str().expect("UTF-8"), "--log", "json", "-1", "--control", &socket];
    let server =
        ServerCommand::program(tine(), &[&words[..], &["--state-directory", "none"]].concat()).start();
    let _held = ["one", "two"].map(|service| {
        let mut client = Client::from_source(CLIENTS[0], server.log.port_of(service));
        client.echo("x");
        client
    });
    let (code, out, err) = run(Command::new(tine()).args(["list", "--json", "--control", &socket]));
    assert_eq!(code, 0, "{err}");
    let rows: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    assert_eq!(rows.len(), 2, "{out}");
    rows.iter().filter_map(|row| row["peer"].as_str()).map(str::to_owned).collect()
}

#[test]
fn a_hash_is_the_same_in_all_services_and_another_after_the_next_start() {
    let peers = peers_in_two_services();
    assert!(peers.len() == 1 && peers.iter().all(|peer| is_hash(peer)), "{peers:?}");
    assert!(peers.is_disjoint(&peers_in_two_services()));
}
