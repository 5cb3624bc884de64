//! Rate limits of sources and prefixes, and the connection limit of a prefix. They hold over all
//! forkers and survive the death of any process.

use std::process::Stdio;

use rustix::process::Signal;
use tine_e2e::load::{command, load};
use tine_e2e::names::REJECT;
use tine_e2e::{Client, Server, kill, network, wait_until};

/// Connects this number of clients from a source; returns how many are served.
fn served(server: &Server, source: &str, clients: usize) -> usize {
    (0..clients).filter(|_| Client::from_source(source, server.port()).is_served()).count()
}

#[test]
fn a_source_is_served_its_burst_and_no_more() {
    for options in [&[][..], &["--spares", "4"], &["--spares", "4", "--reuse", "100"], &["--forkers", "4"]] {
        // The bucket refills one token in 12 minutes.
        let server = Server::serve(&[&["--rate-per-source", "5/h"], options].concat());
        assert_eq!(served(&server, "127.0.0.2", 20), 5, "{options:?}");
        // Each source has its own bucket.
        assert_eq!(served(&server, "127.0.0.3", 20), 5, "{options:?}");
        let rejected = server.log.wait_for(REJECT, 10);
        assert!(rejected.iter().all(|event| event["reason"] == "rate"), "{rejected:?}");
        for forker in server.forkers() {
            kill(forker, Signal::KILL);
        }
        server.log.wait_for("restart", 1);
        assert_eq!(served(&server, "127.0.0.2", 5), 0, "buckets survive their forkers: {options:?}");
    }
}

#[test]
fn a_bucket_refills() {
    let server = Server::serve(&["--rate-per-source", "20/s:2"]);
    assert!(served(&server, "127.0.0.2", 2) == 2);
    wait_until("the bucket has refilled", || {
        Client::from_source("127.0.0.2", server.port()).is_served().then_some(())
    });
}

#[test]
fn sources_of_a_prefix_share_its_bucket() {
    let server = Server::serve(&["--rate-per-prefix", "6/h", "--rate-per-source", "4/h"]);
    let port = server.port();
    assert_eq!(served(&server, "127.1.1.1", 10), 4);
    // Clients rejected by the bucket of their source take no token of their prefix.
    assert_eq!(served(&server, "127.1.1.2", 10), 2);
    assert!(!Client::from_source("127.1.1.3", port).is_served());
    assert_eq!(served(&server, "127.1.2.1", 10), 4, "another prefix");
}

#[test]
fn net_block_sizes_define_source_and_prefix() {
    let sizes = ["--per-source-net-block-size", "24:64", "--per-prefix-net-block-size", "16:48"];
    let server =
        Server::serve(&[&["--rate-per-source", "2/h", "--rate-per-prefix", "3/h"], &sizes[..]].concat());
    let one = |source: &str| served(&server, source, 1);
    assert_eq!([one("127.1.1.1"), one("127.1.1.2"), one("127.1.1.3")], [1, 1, 0], "one source");
    assert_eq!([one("127.1.2.1"), one("127.1.3.1")], [1, 0], "one prefix");
    assert_eq!(one("127.2.1.1"), 1);
}

#[test]
fn a_prefix_at_its_connection_limit_is_rejected() {
    let server = Server::serve(&["--max-connections-per-prefix", "2"]);
    let port = server.port();
    let mut held: Vec<Client> =
        ["127.1.1.1", "127.1.1.2"].map(|source| Client::from_source(source, port)).into();
    held.iter_mut().for_each(|client| {
        client.echo("held");
    });
    assert!(!Client::from_source("127.1.1.3", port).is_served());
    assert!(Client::from_source("127.1.2.3", port).is_served());
    assert_eq!(server.log.wait_for(REJECT, 1)[0]["reason"], "prefix");
    held.pop();
    server.log.wait_for("end", 2);
    assert!(Client::from_source("127.1.1.3", port).is_served());
}

#[test]
fn a_client_over_its_rate_receives_the_reject_text() {
    let server = Server::serve(&["--rate-per-source", "1/h", "--when-full", "reject=not so fast\n"]);
    assert_eq!(served(&server, "127.0.0.2", 1), 1);
    assert_eq!(Client::from_source("127.0.0.2", server.port()).read_to_end(), b"not so fast\n");
}

#[test]
fn concurrent_sources_are_each_served_exactly_their_burst() {
    network::own();
    let server = Server::serve(&["--rate-per-source", "3/h", "-c", "200", "--forkers", "2"]);
    let address = format!("127.0.0.1:{}", server.port());
    // 256 sources, each eight times.
    let loaded = load(&["crr", &address, "-n", "2048", "-c", "32", "--source", "127.44.4.0/24"]);
    assert_eq!(loaded.state("ok"), 3 * 256, "{}", loaded.report["summary"]);
    loaded.expect_sum();
}

#[test]
fn an_invalid_rate_keeps_the_server_from_starting() {
    for rate in ["5", "5/w", "0/s", "5/s:0"] {
        let words = ["serve", "--rate-per-source", rate, "127.0.0.1:0"];
        let (code, _, err) = tine_e2e::run(std::process::Command::new(tine_e2e::tine()).args(words));
        assert!(
            code == 100 && err.contains("invalid rate") && err.lines().count() == 1,
            "{rate}: {code} {err}"
        );
    }
}

#[test]
fn other_sources_are_served_during_a_flood_from_one() {
    network::own();
    let server = Server::serve(&["--rate-per-source", "20/s", "-c", "50"]);
    let address = format!("127.0.0.1:{}", server.port());
    let words = [
        "crr",
        &address,
        "--rate",
        "1000/s",
        "-d",
        "2s",
        "--source",
        "127.9.9.9",
        "--json",
        "-",
        "--max-lateness",
        "10s",
    ];
    let mut flood = command(&words);
    let flood = flood.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("tine load starts");
    server.log.wait_for(REJECT, 10);
    for _ in 0..20 {
        assert!(Client::from_source("127.9.9.10", server.port()).is_served());
        std::thread::park_timeout(std::time::Duration::from_millis(60));
    }
    let output = flood.wait_with_output().expect("our child");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let states = &report["summary"]["states"];
    // The flood is served a full bucket and the tokens of two seconds.
    let ok = states["ok"].as_u64().expect("served clients");
    assert!((20..=200).contains(&ok), "{states}");
}
