//! Stopping a server: the backlog is served, no connection is cut before the drain timeout, the
//! exit code is 0, and no process is left.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::http::{get, observer_of};
use tine_e2e::names::{FORKER, SPARE, outcome, pid};
use tine_e2e::{Client, Folder, Server, inject_fault, kill, wait_until};

fn drain_with_full_backlog(options: &[&str]) {
    let mut server = Server::serve(options);
    let mut busy: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    busy.iter_mut().for_each(|client| {
        client.echo("first half, ");
    });
    // Stopped processes accept no client: fifty wait in the backlog.
    let stopped: Vec<i32> =
        server.named(FORKER).iter().chain(&server.named(SPARE)).map(|one| one.pid).collect();
    stopped.iter().for_each(|pid| kill(*pid, Signal::STOP));
    let mut waiting: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("from the backlog");
    });
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    stopped.iter().for_each(|pid| kill(*pid, Signal::CONT));
    for client in &mut waiting {
        assert!(client.expect("from the backlog").finish().is_empty());
    }
    for client in &mut busy {
        assert!(client.echo("second half").finish().is_empty());
    }
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
    let ends = server.log.of("end");
    assert_eq!(ends.len(), 150);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
    assert_eq!(server.log.of("stop").len(), 1);
    std::net::TcpStream::connect(("127.0.0.1", server.port())).expect_err("the port is closed");
}

#[test]
fn a_drain_serves_every_connection_and_the_whole_backlog() {
    drain_with_full_backlog(&[]);
}

#[test]
fn a_drain_serves_every_connection_and_the_whole_backlog_with_spares() {
    drain_with_full_backlog(&["--spares", "8"]);
}

/// The exit of a process that has not executed its program is told by a signal and by a
/// descriptor: it may be reaped by the second while the first is pending.
#[test]
fn an_exit_that_was_reaped_before_its_signal_does_not_end_the_server() {
    let mut server = Server::program(&["--spares", "1"], &["cat"]);
    let spare = wait_until("the spare is there", || server.named(SPARE).first().map(|spare| spare.pid));
    kill(spare, Signal::STOP);
    server.signal(Signal::TERM);
    wait_until("the spare is the last", || server.forkers().is_empty().then_some(()));
    // The spare exits after the supervisor has looked for signals and before it waits for
    // descriptors.
    let _slow = inject_fault(server.pid(), "epoll_pwait:delay_enter=500000");
    server.signal(Signal::USR1);
    server.log.wait_for("warning", 1);
    kill(spare, Signal::CONT);
    assert_eq!(server.wait().code(), Some(0), "{:?}", server.log.lines());
}

#[test]
fn a_drain_serves_the_backlog_even_when_every_slot_is_taken() {
    let mut server = Server::serve(&["--max-connections", "2"]);
    let mut served: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    served.iter_mut().for_each(|client| {
        client.echo("x");
    });
    let mut waiting: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("waiting");
    });
    server.signal(Signal::INT);
    server.log.wait_for("drain", 1);
    drop(served);
    for client in &mut waiting {
        client.expect("waiting").finish();
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_drain_serves_the_backlog_of_every_listener_also_beside_empty_ones() {
    let mut server = Server::serve(&["--forkers", "1", "127.0.0.1:0"]);
    let address = server.log.wait_for("listen", 2)[1]["address"].as_str().expect("text").to_owned();
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    // A stopped process accepts no client: three wait in the backlog of the second listener.
    let forker = server.forkers()[0];
    kill(forker, Signal::STOP);
    let mut waiting: Vec<Client> = (0..3).map(|_| Client::connect(port)).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("waiting");
    });
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    kill(forker, Signal::CONT);
    for client in &mut waiting {
        client.expect("waiting").finish();
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// No client waits for a slot, so no more handshake may complete: its client would be cut later.
#[test]
fn a_full_server_with_an_empty_backlog_stops_listening_when_it_drains() {
    for options in
        [&[][..], &["--spares", "2"], &["--max-connections-per-source", "9", "--when-limited", "delay"]]
    {
        let mut server = Server::serve(&[&["--max-connections", "2"], options].concat());
        let mut served: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        served.iter_mut().for_each(|client| {
            client.echo("x");
        });
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 1);
        wait_until("the port is closed", || {
            std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err().then_some(())
        });
        for client in &mut served {
            assert!(client.echo("still served").finish().is_empty());
        }
        assert_eq!(server.wait().code(), Some(0), "{options:?}");
        assert_eq!(server.log.of("end").len(), 2, "{options:?}");
    }
}

#[test]
fn a_full_server_on_a_unix_socket_stops_listening_when_it_drains() {
    let folder = Folder::new("stop-unix");
    let socket = folder.path("socket");
    let mut server = Server::serve(&["--max-connections", "1", &format!("unix:{socket}")]);
    let mut served = server.connect();
    served.echo("x");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    wait_until("the socket is closed", || UnixStream::connect(&socket).is_err().then_some(()));
    assert!(served.echo("still served").finish().is_empty());
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn connections_are_ended_at_the_drain_timeout_and_not_before() {
    let mut server = Server::serve(&["--drain-timeout", "700ms"]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    server.signal(Signal::TERM);
    let signalled = Instant::now();
    server.log.wait_for("drain", 1);
    clients.iter_mut().for_each(|client| {
        client.echo("still served");
    });
    assert_eq!(server.wait().code(), Some(0));
    assert!(signalled.elapsed() >= Duration::from_millis(700), "{:?}", signalled.elapsed());
    server.wait_until_gone();
    clients.iter_mut().for_each(Client::expect_closed);
    assert!(server.log.of("end").iter().all(|end| outcome(end) == "signal TERM"));
}

#[test]
fn idle_helpers_do_not_delay_the_stop() {
    for (options, program) in
        [(&["--when-full", "reject=x"][..], None), (&["--stderr", "log"], Some(&["cat"][..]))]
    {
        let options = [options, &["--drain-timeout", "20s"]].concat();
        let mut server = match program {
            Some(program) => Server::program(&options, program),
            None => Server::serve(&options),
        };
        server.connect().echo("x").finish();
        server.signal(Signal::TERM);
        let signalled = Instant::now();
        assert_eq!(server.wait().code(), Some(0));
        assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
        server.wait_until_gone();
    }
}

#[test]
fn a_second_signal_ends_connections_and_a_third_kills_them() {
    let mut server = Server::serve(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    // One connection is stopped: the second signal continues it, so that it can end.
    kill(pid(&server.log.wait_for("accept", 5)[0]), Signal::STOP);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log.of("end").iter().all(|end| outcome(end) == "signal TERM"));
    server.wait_until_gone();

    let mut server = Server::serve(&[]);
    let mut client = server.connect();
    client.echo("x");
    server.log.wait_for("accept", 1);
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        server.signal(signal);
        server.log.wait_for("drain", 1);
    }
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
}

#[test]
fn a_drain_under_load_cuts_no_accepted_connection() {
    let mut server = Server::serve(&[]);
    let port = server.port();
    let loaders: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut served = 0;
                // The loop ends when the listener is closed. Until then, every connection that the
                // server has accepted must be served.
                while let Ok(stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
                    let mut client = Client { stream };
                    client.stream.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("a socket option");
                    let sent = std::io::Write::write_all(&mut client.stream, b"hello");
                    let mut reply = [0; 5];
                    match sent.and_then(|()| std::io::Read::read_exact(&mut client.stream, &mut reply)) {
                        Ok(()) => served += 1,
                        // It was still in the backlog when the drain closed the listener.
                        Err(_) => break,
                    }
                }
                served
            })
        })
        .collect();
    server.log.wait_for("end", 500);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let served: usize = loaders.into_iter().map(|loader| loader.join().expect("no wrong byte")).sum();
    let ends = server.log.of("end");
    assert!(ends.iter().all(|end| outcome(end) == "exit 0" || outcome(end) == "reset"), "{ends:?}");
    let replied = ends.iter().filter(|end| end["out"] == 5).count();
    assert_eq!(replied, served, "every accepted connection was served");
}

#[test]
fn a_drain_with_a_delay_is_told_first_and_clients_are_served_meanwhile() {
    let mut server = Server::serve(&["--observe", "127.0.0.1:0", "--drain-delay", "2s"]);
    let observer = observer_of(&server);
    let mut held = server.connect();
    held.echo("before");
    assert_eq!(get(&observer, "/readyz").status, 200);
    server.signal(Signal::TERM);
    wait_until("probes learn of it", || (get(&observer, "/readyz").body == "draining\n").then_some(()));
    // A forker that dies is needed still.
    kill(server.forkers()[0], Signal::KILL);
    server.log.wait_for("restart", 1);
    server.connect().echo("from a load balancer that does not know yet").finish();
    assert!(server.log.of("drain").is_empty(), "{:?}", server.log.lines());
    server.log.wait_for("drain", 1);
    wait_until("the listener is closed", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err().then_some(())
    });
    assert_eq!(get(&observer, "/readyz").body, "draining\n");
    held.echo("after").finish();
    assert_eq!(server.wait().code(), Some(0));
    let announced = server.log.of("announce");
    assert_eq!((announced.len(), &announced[0]["delay_seconds"]), (1, &2.0.into()), "{announced:?}");
}

#[test]
fn a_second_signal_ends_the_delay_of_a_drain() {
    let mut server = Server::serve(&["--drain-delay", "1h"]);
    let mut held = server.connect();
    held.echo("x");
    server.signal(Signal::TERM);
    server.log.wait_for("announce", 1);
    server.connect().echo("y").finish();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    held.expect_closed();
}
