//! The addresses that `tine client` and `tine load` connect to, and what they send and discard
//! besides messages: a port of this host, names with several addresses, link-local zones, headers
//! of the PROXY protocol, greetings, half-closes.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use tine_e2e::load::{echo_through, load, serve_on, server};
use tine_e2e::{Folder, Server, network, run, tine};

fn echo(stream: TcpStream) -> std::io::Result<()> {
    echo_through(stream, |_, _| {})
}

/// Runs `tine client` without input.
fn client(words: &[&str]) -> (i32, String, String) {
    run(Command::new(tine()).arg("client").args(words).stdin(Stdio::null()))
}

#[test]
fn a_port_is_tried_on_both_addresses_of_this_host() {
    network::own();
    for (bind, port) in [("127.0.0.1:7001", "7001"), ("[::1]:7002", "7002")] {
        serve_on(TcpListener::bind(bind).expect("a port of our own"), echo);
        for address in [port.to_owned(), format!("localhost:{port}"), format!("[::]:{port}")] {
            let loaded = load(&["crr", &address, "-n", "20"]);
            loaded.expect_sound();
            assert_eq!(loaded.state("ok"), 20, "{address}");
            let (code, out, err) = client(&[&address, "-m", "x", "--count", "1", "-c", "3", "--expect-echo"]);
            assert_eq!((code, out.lines().count()), (0, 3), "{address}: {err}");
            let (code, _, err) = client(&[&address]);
            assert_eq!((code, err.as_str()), (0, ""), "{address}");
        }
    }
    let (code, _, err) = client(&["7003"]);
    assert!(code == 111 && err.contains("cannot connect to localhost:7003: connection refused"), "{err}");
}

#[test]
fn an_address_that_does_not_answer_is_left_for_the_next_one() {
    network::own();
    let full = TcpListener::bind("[::1]:7001").expect("a port of our own");
    rustix::net::listen(&full, 0).expect("a smaller backlog");
    let _filling = [(); 2].map(|()| {
        let address = "[::1]:7001".parse().expect("an address");
        TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
    });
    serve_on(TcpListener::bind("127.0.0.1:7001").expect("a port of our own"), echo);
    let (code, _, err) = client(&["7001", "--wait", "60s"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let words = ["7001", "-m", "x", "--count", "1", "-c", "4", "--processes", "1", "--expect-echo"];
    let (code, _, err) = client(&[&words[..], &["--wait", "2s"]].concat());
    assert_eq!(code, 0, "{err}");
    // The full backlog makes the load invalid by its counter; its connections are served.
    let loaded = load(&["crr", "7001", "-n", "20", "-c", "4", "--timeout", "2s"]);
    assert_eq!(loaded.state("ok"), 20, "{}", loaded.report["summary"]);
}

#[test]
fn all_addresses_of_a_name_are_connected_to_in_turn() {
    network::own();
    for bind in ["127.0.0.1:7001", "[::1]:7001"] {
        serve_on(TcpListener::bind(bind).expect("a port of our own"), |mut stream| {
            let family = if stream.local_addr()?.is_ipv4() { b"4" } else { b"6" };
            stream.write_all(family)
        });
    }
    let words = ["crr", "7001", "-n", "20", "-c", "2", "-p", "1", "--size", "0", "--all-addresses"];
    let of = |expect| load(&[&words[..], &["--expect", expect]].concat());
    for expect in ["4", "6"] {
        let loaded = of(expect);
        assert_eq!((loaded.state("ok"), loaded.state("mismatch")), (10, 10), "{}", loaded.report["summary"]);
    }
    assert_eq!(of("4").report["plan"]["targets"], serde_json::json!(["[::1]:7001", "127.0.0.1:7001"]));
}

#[test]
fn link_local_addresses_have_a_zone() {
    network::own();
    let ip = |words: &[&str]| assert_eq!(run(Command::new("ip").args(words)).0, 0, "{words:?}");
    // Loopback is interface number 1, and there in every network namespace.
    for address in ["fe80::1/64", "fe80::2/64"] {
        ip(&["addr", "add", address, "dev", "lo", "nodad"]);
    }
    let one: Ipv6Addr = "fe80::1".parse().expect("an address");
    serve_on(TcpListener::bind(SocketAddrV6::new(one, 7001, 0, 1)).expect("our address"), echo);
    for address in ["[fe80::1%lo]:7001", "[fe80::1%1]:7001"] {
        for source in [&[][..], &["--source", "fe80::2"]] {
            load(&[&["crr", address, "-n", "20"], source].concat()).expect_sound();
        }
        let (code, _, err) = client(&[address, "-m", "x", "--count", "1", "--expect-echo"]);
        assert_eq!(code, 0, "{err}");
    }
    let (code, _, err) = client(&["[fe80::1]:7001"]);
    assert!(code == 100 && err.contains("write [fe80::1%INTERFACE]:7001"), "{err}");
}

#[test]
fn wrong_addresses_and_a_host_without_ports_have_fitting_hints() {
    network::own();
    for (address, hint) in [
        ("[::1]", "the port is missing; write [::1]:PORT"),
        ("http://example.org/", "this is a URL; write example.org:80"),
        ("::1", "an IPv6 address needs brackets; write [IPV6]:PORT"),
    ] {
        for command in [&["client"][..], &["load", "crr"]] {
            let (code, _, err) = run(Command::new(tine()).args(command).arg(address));
            assert!(code == 100 && err.contains(hint), "{address}: {err}");
        }
    }
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").expect("root");
    serve_on(TcpListener::bind("127.0.0.1:7001").expect("a port of our own"), echo);
    let _only = TcpStream::connect("127.0.0.1:7001").expect("one port");
    for words in [&["127.0.0.1:7001"][..], &["127.0.0.1:7001", "-m", "x"]] {
        let (code, _, err) = client(words);
        assert!(code == 111 && err.contains("ip_local_port_range"), "{err}");
        assert!(!err.contains("firewall"), "{err}");
    }
}

#[test]
fn what_a_server_sends_first_is_discarded_in_cc() {
    network::own();
    let greeting = server(|mut stream| {
        stream.write_all(b"220 ready\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    for close in ["fin-client", "rst"] {
        let loaded = load(&["cc", &greeting, "-n", "40", "-c", "4", "--close", close]);
        loaded.expect_sound();
        assert_eq!(loaded.state("ok"), 40);
    }
    let ending = server(|mut stream| stream.write_all(b"220 go away\r\n"));
    load(&["cc", &ending, "-n", "40", "-c", "4", "--close", "fin-server"]).expect_sound();
}

#[test]
fn a_half_close_after_the_request_is_seen_by_the_server() {
    network::own();
    // Replies at the end of the request only.
    let server = server(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        stream.write_all(&request)
    });
    for options in [&[][..], &["--size", "200K"], &["--per-connection", "1"], &["--size", "0"]] {
        let loaded = load(&[&["crr", &server, "-n", "20", "-c", "4", "--half-close"], options].concat());
        loaded.expect_sound();
        assert_eq!(loaded.report["name"].as_str(), Some("crr/fin-client/half-close"));
    }
    let words = ["crr", &server, "-n", "2", "--timeout", "300ms"];
    assert_eq!(load(&words).state("timeout"), 2);
    let (code, _, err) = run(&mut tine_e2e::load::command(&["rr", &server, "--half-close"]));
    assert!(code == 100 && err.contains("--half-close"), "{err}");
}

/// Checks the header of version 1 with the connection's own addresses, then echoes.
fn checked_v1(mut stream: TcpStream) -> std::io::Result<()> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let expected = format!("PROXY TCP4 {} {} {} {}\r\n", peer.ip(), local.ip(), peer.port(), local.port());
    let mut header = vec![0; expected.len()];
    stream.read_exact(&mut header)?;
    match header == expected.as_bytes() {
        true => echo(stream),
        false => Ok(()),
    }
}

/// Checks the header of version 2 with a given source, 192.0.2.x, then echoes.
fn checked_v2(mut stream: TcpStream) -> std::io::Result<()> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let mut header = [0; 28];
    stream.read_exact(&mut header)?;
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02";
    let ports = [peer.port().to_be_bytes(), local.port().to_be_bytes()].concat();
    let is_right = header.starts_with(start) && header[20..24] == [127, 0, 0, 1] && header[24..] == ports;
    match is_right && (8..12).contains(&header[19]) {
        true => echo(stream),
        false => Ok(()),
    }
}

#[test]
fn the_header_of_the_proxy_protocol_is_sent_before_the_first_byte() {
    network::own();
    let (v1, v2) = (server(checked_v1), server(checked_v2));
    let sources = ["--proxy-header", "v2", "--proxy-source", "192.0.2.8/30"];
    for (address, options) in [(&v1, &["--proxy-header", "v1"][..]), (&v2, &sources)] {
        for mode in [
            &["crr", "-n", "40", "-c", "4"][..],
            &["crr", "-n", "40", "-c", "4", "--size", "300K"],
            &["rr", "-n", "40", "-c", "4"],
            &["rr", "-n", "10", "-c", "4", "--rate", "100/s", "--max-lateness", "5s"],
            &["echo", "-n", "4", "--size", "1M"],
            &["slow", "-n", "4", "--size", "5", "--pace", "5ms"],
            &["cc", "-n", "20"],
        ] {
            let loaded = load(&[&mode[..1], &[address], &mode[1..], options].concat());
            loaded.expect_sound();
        }
        // The header is no part of the bytes of messages.
        let loaded = load(&[&["crr", address, "-n", "10"], options].concat());
        assert_eq!((loaded.state("ok"), loaded.number("/summary/bytes/sent")), (10, 640.0));
        let words = [&[address, "-m", "x{n}", "--count", "3", "--every", "1ms", "-c", "4"], options].concat();
        let (code, _, err) = client(&[&words[..], &["--expect-echo"]].concat());
        assert!(code == 0 && err.starts_with("4 connections, 12 messages, 24 bytes sent"), "{err}");
        let mut piped = Command::new(tine());
        piped.arg("client").arg(address).args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut piped = piped.spawn().expect("it starts");
        piped.stdin.take().expect("piped").write_all(b"hello").expect("taken");
        let output = piped.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"hello"[..]));
    }
    for words in [&["--proxy-source", "192.0.2.1"][..], &["--proxy-header", "v3"]] {
        let (code, _, err) = client(&[&["127.0.0.1:1"], words].concat());
        assert_eq!(code, 100, "{err}");
    }
}

#[test]
fn tine_serve_takes_the_sources_of_headers_as_its_clients() {
    network::own();
    let folder = Folder::new("load-proxy");
    let path = format!("unix:{}", folder.path("echo.sock"));
    let server = Server::serve(&[&path, "--proxy-from", "127.0.0.0/8,unix", "-c", "100"]);
    let tcp = format!("127.0.0.1:{}", server.port());
    let mut before = 0;
    for (address, version) in [(&tcp, "v1"), (&tcp, "v2"), (&path, "v1"), (&path, "v2")] {
        for sources in ["192.0.2.8/30", "2001:db8::8/126"] {
            let words = ["crr", address, "-n", "12", "--proxy-header", version, "--proxy-source", sources];
            load(&words).expect_sound();
            let accepted = server.log.wait_for("accept", before + 12).split_off(before);
            before += 12;
            let mut peers: Vec<String> = accepted.iter().map(host).collect();
            peers.sort();
            peers.dedup();
            let first = sources.split('/').next().expect("an address").trim_end_matches('8');
            let expected = ["8", "9", "a", "b"].map(|last| match (first.ends_with(':'), last) {
                (false, "a") => format!("{first}10"),
                (false, "b") => format!("{first}11"),
                _ => format!("{first}{last}"),
            });
            let mut expected = expected.to_vec();
            expected.sort();
            assert_eq!(peers, expected, "{address} {version}");
        }
    }
    // With the connection's own addresses, nothing changes.
    load(&["crr", &tcp, "-n", "4", "--proxy-header", "v2"]).expect_sound();
    let accepted = server.log.wait_for("accept", before + 4).split_off(before);
    assert!(accepted.iter().all(|event| host(event) == "127.0.0.1"), "{accepted:?}");
}

/// The address of a client in the log, without its port and brackets.
fn host(event: &serde_json::Value) -> String {
    let peer = event["peer"].as_str().expect("a peer");
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}
