//! `--exit-after`: a server serves a number of connections in all, never one more, lets them end,
//! and exits with code 0.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tine_e2e::names::{CONNECTION, REJECT, SPARE, outcome};
use tine_e2e::proxies::{behind_proxies, line, proxied, wait_until_read};
use tine_e2e::{Client, Folder, Server, ServerCommand, TEST_TIMEOUT, inject_fault, kill, tine, wait_until};

const MODES: [&[&str]; 6] = [
    &[],
    &["--forkers", "1"],
    &["--forkers", "8"],
    &["--forkers", "3", "--spares", "16"],
    &["--spares", "8", "--reuse", "100"],
    &["--spares", "1", "--forkers", "1", "--reuse", "100"],
];

/// Whether the server echoes a byte to a new client. It may accept no client any more.
fn is_served(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    let _ = stream.write_all(b"x");
    let mut byte = [0];
    let is_served = matches!(stream.read(&mut byte), Ok(1));
    assert!(!is_served || byte == *b"x");
    is_served
}

/// The number of clients that are served, of many that come at the same time.
fn served_among(clients: usize, port: u16) -> usize {
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(move || is_served(port))).collect();
    clients.into_iter().map(|client| usize::from(client.join().expect("no panic"))).sum()
}

/// Waits for the end of the server. It has served this number of connections.
fn expect_end(mut server: Server, connections: usize) {
    assert!(server.wait().success());
    let lines = server.log.lines().join("\n");
    assert_eq!(server.log.of("accept").len(), connections, "{lines}");
    assert_eq!(server.log.of("end").len(), connections, "{lines}");
    assert_eq!(server.log.of("stop")[0]["connections"].as_u64(), Some(connections as u64), "{lines}");
    server.wait_until_gone();
}

/// Waits until the server accepts no client any more.
fn wait_until_refused(port: u16) {
    wait_until("the listener is closed", || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
}

#[test]
fn the_number_is_exact_whatever_accepts() {
    for mode in MODES {
        let server = Server::serve(&[&["--exit-after", "7"], mode].concat());
        assert_eq!(served_among(30, server.port()), 7, "{mode:?}");
        expect_end(server, 7);
        let server = Server::serve(&[&["--exit-after", "1"], mode].concat());
        assert_eq!(served_among(10, server.port()), 1, "{mode:?}");
        expect_end(server, 1);
    }
    for mode in [&[][..], &["--spares", "4"]] {
        let server = Server::program(&[&["--exit-after", "7"], mode].concat(), &["cat"]);
        assert_eq!(served_among(30, server.port()), 7, "{mode:?}");
        expect_end(server, 7);
    }
}

#[test]
fn rejected_clients_do_not_count() {
    for mode in MODES {
        let options = ["--exit-after", "3", "--deny", "127.0.0.9"];
        let server = Server::serve(&[&options, mode].concat());
        for _ in 0..5 {
            assert!(!Client::from_source("127.0.0.9", server.port()).is_served(), "{mode:?}");
        }
        assert_eq!(served_among(12, server.port()), 3, "{mode:?}");
        assert_eq!(server.log.wait_for(REJECT, 5).len(), 5, "{mode:?}");
        expect_end(server, 3);
    }
    let server = Server::serve(&["--exit-after", "2", "--max-connections", "1", "--when-full", "reject=no"]);
    let mut first = server.connect();
    first.echo("first");
    assert_eq!(server.connect().finish(), b"no");
    first.finish();
    server.log.wait_for("end", 1);
    assert!(is_served(server.port()));
    expect_end(server, 2);
}

#[test]
fn connections_have_any_time_until_a_signal() {
    let options = ["--exit-after", "2", "--drain-timeout", "100ms"];
    let pool = ["--spares", "2", "--reuse", "100"];
    for (mode, signal) in [(&[][..], Signal::TERM), (&["--spares", "2"], Signal::QUIT), (&pool, Signal::TERM)]
    {
        let server = Server::serve(&[&options, mode].concat());
        let (mut first, mut second) = (server.connect(), server.connect());
        first.echo("first");
        second.echo("second");
        let drain = &server.log.wait_for("drain", 1)[0];
        assert_eq!(drain["connections"], 2);
        assert!(drain["timeout_seconds"].is_null(), "{drain}");
        wait_until_refused(server.port());
        wait_until("no spare is left", || server.named(SPARE).is_empty().then_some(()));
        first.expect_silence(Duration::from_millis(500));
        first.echo("still").finish();
        server.log.wait_for("end", 1);
        second.echo("served");
        server.signal(signal);
        second.expect_closed();
        let end = &server.log.wait_for("end", 2)[1];
        assert_eq!(outcome(end), "signal TERM", "{end}");
        let drains = if signal == Signal::TERM { 2 } else { 1 };
        assert_eq!(server.log.of("drain").len(), drains);
        expect_end(server, 2);
    }
}

#[test]
fn the_drain_begins_once_the_last_connection_is_known() {
    let server = Server::serve(&["--exit-after", "2", "--forkers", "1"]);
    let mut first = server.connect();
    server.log.wait_for("accept", 1);
    let slow_forks = inject_fault(server.forkers()[0], "clone:delay_enter=300000");
    let mut second = server.connect();
    // Its end wakes the supervisor while the second client's process is being forked.
    first.finish();
    server.log.wait_for("drain", 1);
    assert_eq!(server.log.of("accept").len(), 2);
    drop(slow_forks);
    second.finish();
    expect_end(server, 2);
}

#[test]
fn a_service_manager_hears_of_a_stop_that_has_a_timeout_only() {
    let folder = Folder::new("exit-after-notify");
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("a socket option");
    let received = || {
        let mut buffer = [0; 256];
        let messages = std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()));
        String::from_utf8(messages.collect::<Vec<_>>().concat()).expect("text in UTF-8")
    };
    let mut start = ServerCommand::serve(["--exit-after", "1"]);
    start.command().env("NOTIFY_SOCKET", &path);
    let server = start.start();
    let mut client = server.connect();
    client.echo("served");
    server.log.wait_for("drain", 1);
    let first = received();
    assert!(first.contains("READY=1") && !first.contains("STOPPING=1"), "{first}");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 2);
    assert!(received().contains("STOPPING=1"));
    client.echo("still").finish();
    expect_end(server, 1);
}

#[test]
fn a_signal_before_the_last_connection_serves_the_backlog_up_to_the_number() {
    let server = Server::serve(&["--exit-after", "3", "--max-connections", "1"]);
    let mut first = server.connect();
    first.echo("first");
    let waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    first.finish();
    assert_eq!(waiting.into_iter().map(Client::is_served).filter(|served| *served).count(), 2);
    expect_end(server, 3);
}

#[test]
fn clients_of_all_addresses_count_together() {
    let folder = Folder::new("exit-after-unix");
    let path = folder.path("socket");
    let address = format!("unix:{path}");
    for mode in MODES {
        let server = Server::serve(&[&["--exit-after", "3", &address][..], mode].concat());
        let port = server.port();
        let mut streams: Vec<UnixStream> =
            (0..2).map(|_| UnixStream::connect(&path).expect("it listens")).collect();
        for stream in &mut streams {
            stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
            stream.write_all(b"x").expect("the server receives");
            stream.read_exact(&mut [0]).expect("a reply");
        }
        assert!(is_served(port), "{mode:?}");
        wait_until_refused(port);
        wait_until("the Unix socket is closed", || UnixStream::connect(&path).is_err().then_some(()));
        drop(streams);
        expect_end(server, 3);
    }
}

#[test]
fn delayed_clients_count_when_they_are_served() {
    let options = ["--when-limited", "delay", "--max-connections-per-source", "1", "--exit-after", "2"];
    for mode in [&["--forkers", "1"][..], &["--spares", "1", "--forkers", "1", "--reuse", "100"]] {
        let server = Server::serve(&[&options, mode].concat());
        let mut first = Client::from_source("127.0.0.2", server.port());
        first.echo("first");
        let mut delayed = Client::from_source("127.0.0.2", server.port());
        first.finish();
        delayed.echo("second").finish();
        expect_end(server, 2);
        // Without a place, they are rejected.
        let server = Server::serve(&[&options, mode].concat());
        let mut first = Client::from_source("127.0.0.2", server.port());
        first.echo("first");
        let mut delayed: Vec<Client> =
            (0..3).map(|_| Client::from_source("127.0.0.2", server.port())).collect();
        let mut last = Client::from_source("127.0.0.3", server.port());
        last.echo("last");
        for client in &mut delayed {
            assert_eq!(client.read_to_end(), b"");
        }
        drop(delayed);
        first.echo("goes on").finish();
        last.finish();
        let rejects = server.log.wait_for(REJECT, 3);
        assert!(rejects.iter().all(|reject| reject["reason"] == "full"), "{rejects:?}");
        expect_end(server, 2);
    }
}

#[test]
fn proxied_clients_count_when_their_header_is_read() {
    for mode in [&[][..], &["--spares", "2"], &["--spares", "2", "--reuse", "100"]] {
        let server = behind_proxies(&["--exit-after", "1", "--proxy-timeout", "60s"], mode);
        let mut wrong = server.connect();
        wrong.send("GET / HTTP/1.0\r\n").expect_closed();
        let mut late = server.connect();
        wait_until_read(&server, &[&late]);
        let mut client = proxied(&server, "192.0.2.1");
        client.echo("one");
        wait_until_refused(server.port());
        late.send(line("192.0.2.2"));
        assert_eq!(late.read_to_end(), b"");
        drop(late);
        client.echo("goes on").finish();
        expect_end(server, 1);
    }
}

#[test]
fn killed_processes_lose_no_place() {
    for mode in [&["--forkers", "2"][..], &["--forkers", "1", "--spares", "4"]] {
        let server = Server::serve(&[&["--exit-after", "6"], mode].concat());
        assert_eq!(served_among(2, server.port()), 2);
        server.log.wait_for("end", 2);
        server.forkers().into_iter().for_each(|forker| kill(forker, Signal::KILL));
        server.log.wait_for("restart", 1);
        for spare in server.named(SPARE) {
            kill(spare.pid, Signal::KILL);
        }
        assert_eq!(served_among(20, server.port()), 4, "{mode:?}");
        expect_end(server, 6);
    }
}

#[test]
fn a_service_that_has_served_its_number_ends_and_the_others_go_on() {
    let folder = Folder::new("exit-after-services");
    let text = "[services.one]\nlisten = '127.0.0.1:0'\nexit-after = 2\n\
        [services.two]\nlisten = '127.0.0.1:0'\nexit-after = 1\nspares = 4\n";
    let file = folder.write("tine.toml", text);
    let file = file.to_str().expect("a path in UTF-8");
    let server = ServerCommand::program(tine(), &["serve", "--config", file, "--log", "json", "-1"]).start();
    let (one, two) = (server.log.port_of("one"), server.log.port_of("two"));
    let mut first = Client::connect(one);
    first.echo("first");
    assert_eq!(served_among(5, two), 1);
    // Its supervisor is not restarted, and the master closes its listener.
    wait_until_refused(two);
    assert!(server.named("tine: two").is_empty() && server.log.of("restart").is_empty());
    first.echo("goes on");
    assert!(is_served(one));
    server.log.wait_for("drain", 2);
    // The listener of the master is open until the service has ended.
    let mut beyond = Client::connect(one);
    first.echo("and on").finish();
    beyond.expect_closed();
    let mut server = server;
    assert!(server.wait().success());
    assert_eq!(server.log.of("accept").len(), 3);
    assert_eq!(server.log.of("stop").len(), 3, "{}", server.log.lines().join("\n"));
    assert!(server.named(CONNECTION).is_empty());
}

#[test]
fn the_number_is_a_positive_number() {
    for value in ["0", "10s", "-1", ""] {
        let mut command = std::process::Command::new(tine());
        let (code, _, err) = tine_e2e::run(command.args(["serve", &format!("--exit-after={value}")]));
        assert!(code == 100 && err.contains("--exit-after <N>"), "{err}");
    }
}
