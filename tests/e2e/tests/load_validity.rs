//! `tine load`: the measured time of an open loop, and errors of the client, which make a run
//! invalid.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use tine_e2e::load::{Loaded, command, echo_through, load, serve_on, server};
use tine_e2e::{network, run, tine};

fn echo(stream: TcpStream) -> std::io::Result<()> {
    echo_through(stream, |_, _| {})
}

/// Has the kernel choose from these ports in this network namespace, over IPv4 and IPv6.
fn use_ports(range: &str) {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("root in a network of its own");
}

#[test]
fn an_open_loop_is_measured_over_its_whole_time() {
    network::own();
    let address = server(echo);
    for (options, rate, seconds) in [
        (&["--rate", "1/s", "-d", "2s"][..], 1.0, 2.0),
        (&["--rate", "0.5/s", "-d", "2s"], 0.5, 2.0),
        (&["--rate", "60/min", "-d", "1s", "--warmup", "1s"], 1.0, 1.0),
        (&["--rate", "50/s", "-d", "2s", "-p", "3"], 50.0, 2.0),
        // Limited by the number of requests, whose last interval counts.
        (&["--rate", "2/s", "-n", "2"], 2.0, 1.0),
        (&["--rate", "2/s", "-n", "100", "-d", "1s"], 2.0, 1.0),
    ] {
        let words = [&["crr", &address, "-c", "64", "--max-lateness", "1s"], options].concat();
        let loaded = load(&words);
        loaded.expect_sound();
        let window = loaded.number("/summary/window_seconds");
        assert!((window - seconds).abs() < 0.01 * seconds, "{options:?}: {window} s");
        // The last arrivals of the fast ones may be in flight at the stop.
        let in_flight = loaded.state("in-flight") as f64 / window;
        let found = loaded.number("/summary/rate");
        assert!(found <= 1.01 * rate && found + in_flight >= 0.99 * rate, "{options:?}: {found}/s");
    }
}

#[test]
fn an_open_loop_of_random_arrivals_is_measured_over_its_whole_time() {
    network::own();
    let address = server(echo);
    let words = ["crr", &address, "--rate", "5/s", "-d", "1s", "--arrivals", "poisson", "-p", "2"];
    let loaded = load(&[&words[..], &["--max-lateness", "1s"]].concat());
    loaded.expect_sound();
    assert_eq!(loaded.number("/summary/window_seconds"), 1.0);
}

fn expect_invalid(loaded: &Loaded, state: &str) {
    let validity = &loaded.report["validity"];
    assert_eq!((loaded.code, validity["valid"].as_bool()), (4, Some(false)), "{}", loaded.report["summary"]);
    assert!(loaded.state(state) > 0, "{state}: {}", loaded.report["summary"]);
    assert!(validity["reasons"].to_string().contains(&format!("({state})")), "{state}: {validity}");
    loaded.expect_sum();
}

#[test]
fn a_client_without_free_ports_measures_nothing() {
    network::own();
    use_ports("40000 40003");
    for address in ["[::1]:7001", "127.0.0.1:7001"] {
        serve_on(TcpListener::bind(address).expect("a port of our own"), echo);
        // Without a source, IPv4 has further addresses.
        let source = if address.starts_with('[') { "::1" } else { "127.0.0.1" };
        let words = ["crr", address, "-d", "1s", "-c", "8", "--source", source];
        expect_invalid(&load(&words), "no-ports");
        let (code, out, _) = run(&mut command(&words));
        assert!(code == 4 && out.starts_with("INVALID: ") && out.contains("(no-ports): "), "{code} {out}");
    }
    // Not one connection: the server is not to blame.
    let _all = [(); 4].map(|()| TcpStream::connect("[::1]:7001"));
    expect_invalid(&load(&["crr", "[::1]:7001", "-n", "3", "-c", "1"]), "no-ports");
}

#[test]
fn rounds_of_a_client_without_free_ports_are_discarded() {
    network::own();
    use_ports("40000 40009");
    let server = format!("{} serve --log off 127.0.0.1:{{port}}", tine().display());
    let words = ["ab", "--a", &server, "--b", &server, "-c", "40", "-d", "300ms", "--warmup", "1ms"];
    let (code, out, err) = run(&mut command(&words));
    assert_eq!(code, 4, "{out}{err}");
    assert!(out.contains("(no-ports)") && out.contains("after 4 pairs"), "{out}{err}");
}

#[test]
fn every_system_error_of_the_client_makes_a_run_invalid() {
    network::own();
    let address = server(echo);
    for (call, errno, from, state) in [
        ("socket", "EMFILE", "3", "no-descriptors"),
        ("socket", "ENFILE", "3", "no-descriptors"),
        ("socket", "ENOBUFS", "3", "no-memory"),
        ("socket", "EAFNOSUPPORT", "3", "local-error"),
        // Two calls for a connection: the second reports the handshake.
        ("connect", "EADDRNOTAVAIL", "3+", "no-ports"),
        ("connect", "EADDRINUSE", "3", "no-ports"),
        ("connect", "ENETUNREACH", "3", "no-route"),
        ("connect", "EHOSTUNREACH", "3", "no-route"),
        ("connect", "ENETDOWN", "3", "no-route"),
        ("connect", "EPERM", "3", "denied"),
        ("connect", "EACCES", "3", "denied"),
        ("connect", "ENOMEM", "3", "no-memory"),
        ("connect", "EINVAL", "3", "local-error"),
        ("sendto", "EPERM", "3", "denied"),
        ("sendto", "ENOBUFS", "3", "no-memory"),
        ("recvfrom", "ENOMEM", "3", "no-memory"),
    ] {
        let inject = format!("inject={call}:error={errno}:when={from}");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
        strace.arg(tine()).args(["load", "crr", &address, "-n", "6", "-c", "1", "--json", "-"]);
        let (code, out, err) = run(&mut strace);
        let report = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{inject}: {why} in {out}{err}"));
        expect_invalid(&Loaded { code, report, err }, state);
    }
}

#[test]
fn a_host_without_a_route_is_not_the_servers_fault() {
    network::own();
    let words = ["crr", "192.0.2.1:7001", "-n", "4", "--timeout", "500ms"];
    expect_invalid(&load(&words), "no-route");
    let ip = |words: &[&str]| assert_eq!(run(Command::new("ip").args(words)).0, 0, "{words:?}");
    ip(&["route", "add", "prohibit", "192.0.2.1"]);
    expect_invalid(&load(&words), "denied");
    ip(&["route", "replace", "unreachable", "192.0.2.1"]);
    expect_invalid(&load(&words), "no-route");
}
