//! `tine load`: every mode against `tine serve`, and the options of a load.

use std::io::{Read, Write};

use tine_e2e::load::{load, server};
use tine_e2e::{Folder, Server, network};

fn serve(options: &[&str]) -> (Server, String) {
    network::own();
    let server = Server::serve(options);
    let address = format!("127.0.0.1:{}", server.port());
    (server, address)
}

#[test]
fn crr_makes_a_connection_for_each_request() {
    let (server, address) = serve(&["-c", "100"]);
    let loaded = load(&["crr", &address, "-n", "500", "-c", "8", "-p", "3"]);
    loaded.expect_sound();
    assert_eq!((loaded.state("ok"), loaded.number("/findings/exchanges/done")), (500, 500.0));
    assert_eq!(loaded.number("/summary/bytes/received"), 500.0 * 64.0);
    for measure in ["latency_ns", "connect_ns", "first_byte_ns"] {
        assert_eq!(loaded.number(&format!("/summary/{measure}/count")), 500.0, "{measure}");
    }
    // The server served each in its own process.
    assert_eq!(server.log.wait_for("end", 500).len(), 500);
}

#[test]
fn cc_waits_until_the_server_has_accepted() {
    let (server, address) = serve(&["-c", "100"]);
    for close in ["fin-client", "rst"] {
        let loaded = load(&["cc", &address, "-n", "100", "-c", "4", "--close", close]);
        loaded.expect_sound();
        assert_eq!(
            (loaded.state("ok"), loaded.report["name"].as_str()),
            (100, Some(&*format!("cc/{close}")))
        );
    }
    server.log.wait_for("end", 200);
}

#[test]
fn rr_keeps_its_connections() {
    let (server, address) = serve(&[]);
    let loaded = load(&["rr", &address, "-n", "2000", "-c", "4"]);
    loaded.expect_sound();
    assert_eq!((loaded.state("ok"), loaded.number("/findings/exchanges/done")), (4, 2000.0));
    // With a number of exchanges for each, further connections follow.
    let loaded = load(&["rr", &address, "-n", "200", "-c", "4", "--per-connection", "10"]);
    loaded.expect_sound();
    assert!(loaded.state("ok") >= 20, "{}", loaded.report["summary"]);
    server.log.wait_for("end", 24);
}

#[test]
fn echo_sends_and_receives_every_byte() {
    let (_server, address) = serve(&[]);
    let loaded = load(&["echo", &address, "-n", "6", "-c", "3", "--size", "5M"]);
    loaded.expect_sound();
    let all = 6.0 * 5.0 * 1024.0 * 1024.0;
    assert_eq!((loaded.number("/summary/bytes/sent"), loaded.number("/summary/bytes/received")), (all, all));
}

#[test]
fn stream_sends_until_the_stop_or_the_size() {
    let (_server, address) = serve(&["--service", "discard"]);
    let loaded = load(&["stream", &address, "-c", "2", "-d", "500ms"]);
    loaded.expect_sound();
    assert!(loaded.number("/summary/sent_per_second") > 1e6);
    assert!(loaded.number("/summary/bytes/sent") > 1e6 && loaded.number("/summary/bytes/received") == 0.0);
    // With a size, to the end of the stream.
    let loaded = load(&["stream", &address, "-n", "4", "--size", "3M"]);
    loaded.expect_sound();
    assert_eq!((loaded.state("ok"), loaded.number("/summary/bytes/sent")), (4, 4.0 * 3.0 * 1024.0 * 1024.0));
}

#[test]
fn hold_exchanges_messages_from_time_to_time_or_none() {
    let (server, address) = serve(&["-c", "1000"]);
    let loaded = load(&["hold", &address, "-c", "300", "-d", "2s", "--think", "400ms"]);
    loaded.expect_sound();
    assert_eq!(
        (loaded.state("ok") + loaded.state("in-flight"), loaded.number("/summary/most_open")),
        (300, 300.0)
    );
    // Each exchanged a message at its start, and at least one more.
    assert!(loaded.number("/findings/exchanges/done") >= 600.0, "{}", loaded.report["findings"]["exchanges"]);
    let loaded = load(&["hold", &address, "-c", "50", "-d", "300ms", "--size", "0"]);
    loaded.expect_sound();
    assert_eq!((loaded.state("ok"), loaded.number("/summary/bytes/sent")), (50, 0.0));
    server.log.wait_for("end", 350);
}

#[test]
fn slow_sends_one_byte_at_a_time() {
    let (server, address) = serve(&["-v"]);
    let loaded = load(&["slow", &address, "-n", "4", "--size", "10", "--pace", "50ms"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 4);
    // Ten bytes have at least nine pauses between them.
    assert!(loaded.number("/summary/latency_ns/min") >= 450e6, "{}", loaded.report["summary"]["latency_ns"]);
    server.log.wait_for("end", 4);
    // Some may come together, where the server had to wait for a processor.
    assert!(server.log.of("receive").len() > 20, "bytes arrive one at a time, not all together");
}

#[test]
fn reset_cuts_connections_at_every_stage() {
    let (server, address) = serve(&["-c", "100"]);
    let loaded = load(&["reset", &address, "-n", "200", "-c", "5", "-p", "1", "--size", "1K"]);
    loaded.expect_sound();
    assert_eq!((loaded.state("ok"), loaded.number("/findings/exchanges/done")), (200, 0.0));
    // Two of five stages are before the first exchange.
    assert_eq!(loaded.number("/findings/exchanges/cut"), 120.0);
    // The server continues to serve.
    server.connect().echo(b"still there");
}

#[test]
fn silent_waits_for_the_server_to_close() {
    let (server, address) = serve(&["--first-byte-timeout", "300ms"]);
    let loaded = load(&["silent", &address, "-n", "5", "-c", "5", "-d", "20s"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 5);
    assert!(loaded.number("/summary/latency_ns/min") >= 250e6, "{}", loaded.report["summary"]["latency_ns"]);
    server.log.wait_for("end", 5);
}

#[test]
fn mix_runs_several_modes_at_once() {
    let (_server, address) = serve(&["-c", "200"]);
    let mix = "crr=4,rr=2,slow=1,reset=2,silent=1,echo=1";
    let loaded = load(&["mix", &address, "--mix", mix, "-c", "22", "-d", "1s", "--size", "200"]);
    loaded.expect_sound();
    assert_eq!(loaded.report["name"].as_str(), Some(&*format!("{mix}/fin-client")));
    assert!(loaded.state("ok") > 50, "{}", loaded.report["summary"]);
}

#[test]
fn connections_are_distributed_over_tcp_and_unix_addresses() {
    network::own();
    let folder = Folder::new("load-unix");
    let path = format!("unix:{}", folder.path("echo.sock"));
    let server = Server::serve(&[&path, "unix:@tine-load-test", "-c", "50"]);
    let tcp = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["crr", &path, "unix:@tine-load-test", &tcp, "-n", "300", "-c", "6"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 300);
    let accepted = server.log.wait_for("accept", 300);
    let by_unix =
        accepted.iter().filter(|event| event["peer"].as_str().is_some_and(|peer| peer.starts_with("uid:")));
    assert_eq!(by_unix.count(), 200, "distributed evenly over three addresses");
}

#[test]
fn a_full_backlog_of_a_unix_socket_only_delays_connections() {
    network::own();
    let folder = Folder::new("load-backlog");
    let path = format!("unix:{}", folder.path("echo.sock"));
    let _server = Server::serve(&[&path, "-b", "1", "-c", "2"]);
    let loaded = load(&["crr", &path, "-n", "200", "-c", "40"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 200);
}

#[test]
fn each_address_of_a_host_name_is_tried() {
    let (server, _) = serve(&[]);
    // The first address of localhost is often ::1; the server listens on 127.0.0.1 only.
    let loaded = load(&["crr", &format!("localhost:{}", server.port()), "-n", "20"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 20);
}

#[test]
fn connections_take_their_sources_in_turn() {
    let (server, address) = serve(&["-c", "100"]);
    let sources = ["--source", "127.9.0.0/31", "--source", "127.8.8.8"];
    load(&[&["crr", &address, "-n", "30"][..], &sources].concat()).expect_sound();
    let mut peers: Vec<String> = server.log.wait_for("accept", 30).iter().map(host).collect();
    peers.sort();
    peers.dedup();
    assert_eq!(peers, ["127.8.8.8", "127.9.0.0", "127.9.0.1"]);
}

fn host(event: &serde_json::Value) -> String {
    event["peer"].as_str().expect("a peer").split(':').next().expect("a host").to_owned()
}

#[test]
fn replies_are_checked_against_the_expected_one() {
    network::own();
    let upper = server(|mut stream| {
        let mut line = [0; 64];
        let length = stream.read(&mut line)?;
        stream.write_all(line[..length].to_ascii_uppercase().as_slice())
    });
    for (message, expect, code) in [
        (["--message", r"ping\n"], r"PING\n", 0),
        (["--message", "ping"], "re:^P.*G$", 0),
        (["--message", "ping"], "bytes:4", 0),
        (["--message", "ping"], "end", 0),
        (["--message", "ping"], "none", 0),
        (["--message", "ping"], "echo", 3),
        (["--message", "ping"], "bytes:3", 3),
        (["--template", "9 {n} {c} 9"], "re:^9 0 [0-9]+ 9$", 0),
    ] {
        let [option, text] = message;
        let loaded = load(&["crr", &upper, "-n", "8", "-c", "2", option, text, "--expect", expect]);
        assert_eq!(loaded.code, code, "{message:?} {expect}: {} {}", loaded.err, loaded.report["summary"]);
        loaded.expect_sum();
        assert_eq!(loaded.ended(), 8);
    }
    let short = load(&["crr", &upper, "-n", "8", "-m", "ping", "--expect", "bytes:5"]);
    assert_eq!(
        (short.code, short.state("short")),
        (4, 8),
        "no exchange was completed, so nothing was measured"
    );
}

#[test]
fn either_side_may_close() {
    network::own();
    // This server closes first, as `fin-server` expects; `tine serve` waits for the client.
    let closing = server(|mut stream| {
        let mut line = [0; 64];
        let length = stream.read(&mut line)?;
        stream.write_all(&line[..length])
    });
    for close in ["fin-client", "fin-server", "rst"] {
        let loaded = load(&["crr", &closing, "-n", "40", "-c", "4", "--close", close]);
        loaded.expect_sound();
        assert_eq!(loaded.report["name"].as_str(), Some(&*format!("crr/{close}")));
    }
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["crr", &address, "-n", "2", "--close", "fin-server", "--timeout", "300ms"]);
    assert_eq!((loaded.state("timeout"), loaded.number("/findings/exchanges/done")), (2, 2.0));
}

#[test]
fn an_open_loop_starts_arrivals_at_the_planned_rate() {
    let (_server, address) = serve(&["-c", "1000"]);
    for arrivals in ["constant", "poisson"] {
        let words = ["crr", &address, "--rate", "200/s", "-d", "1500ms", "--arrivals", arrivals];
        let loaded = load(&[&words[..], &["--warmup", "200ms", "--max-lateness", "1s"]].concat());
        loaded.expect_sound();
        let planned = loaded.number("/summary/connections");
        let spread = if arrivals == "constant" { 0.0 } else { 100.0 };
        assert!((planned - 340.0).abs() <= spread, "{arrivals}: {planned}");
        assert!(loaded.number("/summary/uncorrected_ns/count") > 0.0);
    }
    let loaded = load(&["rr", &address, "--rate", "300/s", "-n", "300", "-c", "10", "--max-lateness", "1s"]);
    loaded.expect_sound();
    assert_eq!((loaded.number("/findings/exchanges/done"), loaded.state("ok")), (300.0, 10));
    assert!(loaded.number("/summary/window_seconds") > 0.9, "{}", loaded.report["summary"]);
}

#[test]
fn invalid_options_are_reported_in_one_line_without_a_load() {
    for (words, complaint) in [
        (&["crr"][..], "<ADDRESS>"),
        (&["crr", "127.0.0.1:0"], "port 0"),
        (&["crr", "nonsense"], "bad address"),
        (&["crr", "127.0.0.1:1", "--rate", "0"], "5000/s"),
        (&["crr", "127.0.0.1:1", "--expect", "re:("], "unclosed group"),
        (&["crr", "127.0.0.1:1", "--message", r"\x"], "backslash"),
        (&["crr", "127.0.0.1:1", "--message", "a", "--size", "3"], "cannot be used with"),
        (&["crr", "127.0.0.1:1", "--fail-if", "p98>1ms"], "no figure 'p98'"),
        (&["crr", "127.0.0.1:1", "--source", "::1"], "IPv4"),
        (&["crr", "127.0.0.1:1", "--json", "/nowhere/at/all"], "cannot write"),
        (&["mix", "127.0.0.1:1", "--mix", "fast=1"], "no mode 'fast'"),
        (&["merge", "/nowhere"], "cannot read"),
    ] {
        let (code, out, err) = tine_e2e::run(&mut tine_e2e::load::command(words));
        assert!(err.contains(complaint) && err.lines().count() == 1, "{words:?}: {err}");
        assert!([100, 111].contains(&code) && out.is_empty(), "{words:?}: {code} {out}");
    }
}

#[test]
fn further_loopback_sources_are_used_when_ports_run_out() {
    network::own();
    // Each source has forty ports, which stay in use for a second.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40039")
        .expect("root in a network of its own");
    let server = Server::serve(&["-c", "100"]);
    let address = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["hold", &address, "-c", "90", "-d", "500ms", "--size", "0"]);
    loaded.expect_sound();
    assert_eq!(loaded.number("/summary/most_open"), 90.0);
    // An explicit source is the only one, and connections without a port are counted.
    let loaded = load(&["hold", &address, "-c", "90", "-d", "500ms", "--size", "0", "--source", "127.0.0.1"]);
    assert!(
        loaded.state("no-ports") >= 50 && loaded.number("/summary/most_open") <= 40.0,
        "{}",
        loaded.report["summary"]
    );
    loaded.expect_sum();
}

#[test]
fn a_mix_in_an_open_loop_starts_nothing_before_its_planned_time() {
    let (server, address) = serve(&["-c", "200"]);
    let mix = [
        "mix",
        &address,
        "--mix",
        "crr=1,reset=1",
        "--rate",
        "20/s",
        "-d",
        "1s",
        "-c",
        "40",
        "--max-lateness",
        "1s",
    ];
    let loaded = load(&mix);
    loaded.expect_sound();
    assert_eq!(loaded.number("/summary/connections"), 20.0);
    // Kept connections are opened at the start, and exchange at the planned times.
    let mix = [
        "mix",
        &address,
        "--mix",
        "crr=1,rr=1",
        "--rate",
        "20/s",
        "-d",
        "1s",
        "-c",
        "10",
        "--max-lateness",
        "1s",
    ];
    let loaded = load(&mix);
    loaded.expect_sound();
    assert_eq!(
        loaded.number("/findings/exchanges/planned"),
        20.0,
        "{}",
        loaded.report["findings"]["exchanges"]
    );
    assert!(server.log.of("accept").len() < 50);
}

#[test]
fn kept_connections_do_not_overflow_a_short_backlog() {
    let (_server, address) = serve(&["-c", "500", "-b", "128"]);
    for mode in ["hold", "rr"] {
        let loaded = load(&[mode, &address, "-c", "400", "-d", "2s"]);
        loaded.expect_sound();
        assert_eq!(loaded.number("/summary/most_open"), 400.0, "{mode}");
    }
}

#[test]
fn a_free_slot_of_an_open_loop_waits_for_the_next_arrival() {
    let (_server, address) = serve(&["-c", "200"]);
    let words =
        ["cc", &address, "--rate", "50/s", "-d", "1s", "-c", "4", "--close", "rst", "--max-lateness", "1s"];
    let loaded = load(&words);
    loaded.expect_sound();
    assert_eq!(loaded.number("/summary/connections"), 50.0, "{}", loaded.report["summary"]);
}
