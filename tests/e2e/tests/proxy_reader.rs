//! The proxy reader: what it does in a drain, when it is killed and when it is behind, and what it
//! has.

use rustix::process::Signal;
use tine_e2e::names::{REJECT, outcome};
use tine_e2e::procfs::{Mapping, mappings, tcp_sockets};
use tine_e2e::proxies::{behind_proxies, line, proxied, proxy_reader, wait_until_read};
use tine_e2e::{Client, ServerCommand, kill};

const MODES: [&[&str]; 4] =
    [&[], &["--forkers", "1"], &["--spares", "4"], &["--spares", "4", "--reuse", "100"]];

#[test]
fn a_drain_serves_clients_whose_header_comes_in_time_and_closes_the_others() {
    // At the same time, since each takes the time for a header.
    std::thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(move || drain_with_headers(mode));
        }
    });
}

fn drain_with_headers(mode: &[&str]) {
    let mut server = behind_proxies(&["--proxy-timeout", "3s"], mode);
    let mut served = proxied(&server, "192.0.2.1");
    served.echo("served");
    let (mut late, mut never) = (server.connect(), server.connect());
    let (header, data) = (line("192.0.2.2"), "data");
    late.send(&header[..20]);
    never.send("PROXY ");
    wait_until_read(&server, &[&late, &never]);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    late.send(&header[20..]).echo(data);
    never.expect_closed();
    let reject = server.log.wait_for(REJECT, 1).remove(0);
    assert_eq!(reject["peer"], never.address().as_str());
    assert!(reject["text"].as_str().is_some_and(|text| text.contains("in time")), "{reject}");
    assert_eq!((late.finish(), served.finish()), (vec![], vec![]));
    assert_eq!(server.wait().code(), Some(0), "{mode:?}");
    assert_eq!(server.log.of("end").len(), 2, "{mode:?}");
}

#[test]
fn a_drain_serves_proxies_in_the_backlog() {
    for mode in MODES {
        let mut server = behind_proxies(&["--max-connections", "1"], mode);
        let mut held = proxied(&server, "192.0.2.1");
        held.echo("held");
        let mut waiting: Vec<Client> = (0..5).map(|_| proxied(&server, "192.0.2.2")).collect();
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 1);
        waiting.iter_mut().for_each(|client| _ = client.send("x").half_close());
        held.finish();
        for mut client in waiting {
            assert_eq!(client.read_to_end(), b"x", "{mode:?}");
        }
        assert_eq!(server.wait().code(), Some(0), "{mode:?}");
        assert_eq!(server.log.of("end").len(), 6, "each is served: {mode:?}");
    }
}

#[test]
fn a_drain_without_proxies_ends_at_once() {
    for mode in MODES {
        let mut server = behind_proxies(&["--proxy-timeout", "1h", "--drain-timeout", "1h"], mode);
        proxied(&server, "192.0.2.1").finish();
        server.log.wait_for("end", 1);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{mode:?}");
    }
}

#[test]
fn a_killed_proxy_reader_costs_the_proxies_that_it_has_and_is_restarted() {
    for mode in MODES {
        let server = behind_proxies(&["--proxy-timeout", "1h"], mode);
        let mut served = proxied(&server, "192.0.2.1");
        served.echo("served");
        let mut pending = server.connect();
        pending.send("PROXY ");
        wait_until_read(&server, &[&pending]);
        kill(proxy_reader(&server), Signal::KILL);
        pending.expect_closed();
        let restart = server.log.wait_for("restart", 1).remove(0);
        assert_eq!(restart["role"], "proxy reader");
        proxied(&server, "192.0.2.2").echo("by the next one");
        served.echo("not affected");
    }
}

/// More proxies than the channel of the proxy reader holds.
const MANY: usize = 400;

#[test]
fn more_proxies_than_a_channel_holds_are_all_served() {
    for mode in MODES {
        let server = behind_proxies(&["--max-connections", "40"], mode);
        let mut clients: Vec<Client> = (0..MANY).map(|_| proxied(&server, "192.0.2.1")).collect();
        // At most 40 at a time: each ends when it has its reply.
        clients.iter_mut().for_each(|client| _ = client.send("x").half_close());
        for mut client in clients {
            assert_eq!(client.read_to_end(), b"x", "{mode:?}");
        }
    }
}

#[test]
fn a_stopped_proxy_reader_is_replaced_once_and_costs_no_proxy() {
    // At the same time, since each takes the time after which the proxy reader is killed.
    std::thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(move || replace_a_stopped_proxy_reader(mode));
        }
    });
}

fn replace_a_stopped_proxy_reader(mode: &[&str]) {
    let server = behind_proxies(&["--max-connections", "40"], mode);
    kill(proxy_reader(&server), Signal::STOP);
    let mut clients: Vec<Client> = (0..MANY).map(|_| proxied(&server, "192.0.2.1")).collect();
    clients.iter_mut().for_each(|client| _ = client.send("x").half_close());
    for mut client in clients {
        assert_eq!(client.read_to_end(), b"x", "{mode:?}");
    }
    let restarts = server.log.wait_for("restart", 1);
    assert_eq!((restarts.len(), &restarts[0]["role"]), (1, &"proxy reader".into()), "{mode:?}");
    assert_eq!(outcome(&restarts[0]), "signal KILL", "{mode:?}");
    let warnings = server.log.of("warning");
    let text = warnings[0]["text"].as_str().unwrap_or_default();
    assert!(warnings.len() == 1 && text.contains("has taken no proxy for a second"), "{warnings:?}");
    assert_eq!(server.log.total_of(REJECT), 0, "{mode:?}");
}

#[test]
fn a_proxy_reader_that_is_killed_in_a_drain_is_restarted_and_reads_the_headers_in_its_channel() {
    for mode in MODES {
        let mut server = behind_proxies(&["--proxy-timeout", "1h"], mode);
        let mut served = proxied(&server, "192.0.2.1");
        served.echo("served");
        kill(proxy_reader(&server), Signal::STOP);
        let mut waiting: Vec<Client> = (0..5).map(|_| proxied(&server, "192.0.2.2")).collect();
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 1);
        kill(proxy_reader(&server), Signal::KILL);
        waiting.iter_mut().for_each(|client| _ = client.send("x").half_close());
        for mut client in waiting {
            assert_eq!(client.read_to_end(), b"x", "{mode:?}");
        }
        served.finish();
        assert_eq!(server.wait().code(), Some(0), "{mode:?}");
        assert_eq!((server.log.of("restart").len(), server.log.of("end").len()), (1, 6), "{mode:?}");
    }
}

#[test]
fn proxies_that_a_stop_without_time_finds_in_the_channel_are_logged() {
    for mode in MODES {
        let mut server = behind_proxies(&["--proxy-timeout", "1h"], mode);
        // The spares that wait for it are there, too.
        proxied(&server, "192.0.2.1").finish();
        kill(proxy_reader(&server), Signal::STOP);
        let mut proxies: Vec<Client> = (0..5).map(|_| proxied(&server, "192.0.2.2")).collect();
        server.wait_until_idle();
        server.signal(Signal::QUIT);
        proxies.iter_mut().for_each(Client::expect_closed);
        server.wait();
        let rejects = server.log.of(REJECT);
        let texts: Vec<_> = rejects.iter().map(|reject| reject["text"].as_str()).collect();
        assert_eq!(texts, [Some("the server stops"); 5], "{mode:?}");
    }
}

#[test]
fn the_proxy_reader_is_confined_and_has_no_listener_and_no_memory_that_decides() {
    for mode in MODES {
        let limits = ["--rate-per-source", "100/s", "--per-source-penalties", "yes"];
        let server = behind_proxies(&limits, mode);
        let reader = proxy_reader(&server);
        let mut pending = server.connect();
        pending.send("PROXY ");
        wait_until_read(&server, &[&pending]);
        assert!(tcp_sockets(reader).iter().all(|socket| !socket.is_listener));
        let status = std::fs::read_to_string(format!("/proc/{reader}/status")).expect("it runs");
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "confined by seccomp: {status}");
        }
        let writable: Vec<Mapping> =
            mappings(reader).into_iter().filter(Mapping::is_shared_and_writable).collect();
        assert_eq!(writable.len(), 2, "stats and lines of the log, which decide nothing: {writable:?}");
    }
}

#[test]
fn where_seccomp_is_refused_headers_are_read_all_the_same() {
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=seccomp"];
    let wrapper = strace.into_iter().chain(["-e", "inject=seccomp:error=EPERM"]);
    let server = ServerCommand::wrapped(wrapper, ["--proxy-from", "127.0.0.1"]).start();
    let warning = server.log.wait_for("warning", 1).remove(0);
    let text = warning["text"].as_str().unwrap_or_default();
    assert!(text.contains("the server's own processes are not confined by seccomp"), "{text}");
    proxied(&server, "192.0.2.1").echo("served");
}
