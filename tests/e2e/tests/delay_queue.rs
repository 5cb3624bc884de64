//! The delay queue (`--when-limited delay`): clients over a limit of their source or prefix wait,
//! one queue per source, in bounded number, and none is lost.

use std::time::Instant;

use rustix::process::Signal;
use tine_e2e::names::{DELAYER, REJECT};
use tine_e2e::{Client, Server, kill, procfs, wait_until};

const MODES: [&[&str]; 4] =
    [&[], &["--forkers", "1"], &["--spares", "4"], &["--spares", "4", "--reuse", "100"]];

fn start(options: &[&str], mode: &[&str]) -> Server {
    Server::serve(&[&["--when-limited", "delay"], options, mode].concat())
}

fn connect(server: &Server, source: &str, clients: usize) -> Vec<Client> {
    (0..clients).map(|_| Client::from_source(source, server.port())).collect()
}

/// The indices of these clients in the order in which they were accepted.
fn order(server: &Server, clients: &[Client]) -> Vec<usize> {
    let accepts = server.log.wait_for("accept", clients.len());
    let index = |peer: &str| clients.iter().position(|client| client.address() == peer);
    accepts.iter().filter_map(|accept| index(accept["peer"].as_str()?)).collect()
}

#[test]
fn a_burst_beyond_the_rate_is_delayed_and_no_client_is_rejected() {
    for mode in MODES {
        let server = start(&["--rate-per-source", "20/s:2"], mode);
        let before = Instant::now();
        let clients = connect(&server, "127.0.0.2", 12);
        for client in clients {
            assert!(client.is_served(), "{mode:?}");
        }
        // The first two at once, ten more at 20 per second.
        assert!(before.elapsed().as_millis() >= 490, "{:?} {mode:?}", before.elapsed());
        assert!(server.log.of(REJECT).is_empty());
    }
}

#[test]
fn clients_delayed_by_a_rate_are_served_in_order() {
    let server = start(&["--rate-per-source", "50/s:1"], &["--forkers", "1"]);
    let clients = connect(&server, "127.0.0.2", 20);
    assert_eq!(order(&server, &clients), (0..20).collect::<Vec<_>>());
}

#[test]
fn sources_of_a_prefix_are_served_in_turn() {
    let server = start(&["--rate-per-prefix", "20/s:1"], &["--forkers", "1"]);
    let mut clients = connect(&server, "127.1.1.1", 20);
    clients.extend(connect(&server, "127.1.1.2", 3));
    let order = order(&server, &clients);
    // The three clients of the second source do not wait for all twenty of the first.
    let last = order.iter().rposition(|client| *client >= 20).expect("the second source is served");
    assert!(last < 14, "{order:?}");
}

#[test]
fn clients_delayed_by_a_connection_limit_are_served_in_order() {
    for _ in 0..3 {
        let server = start(&["--max-connections-per-source", "1"], &["--forkers", "1"]);
        let mut clients = connect(&server, "127.0.0.2", 60);
        clients[0].echo("served");
        wait_until("the others are queued", || (queued_at(&server) == 59).then_some(()));
        clients.iter_mut().for_each(|client| {
            client.half_close();
        });
        assert_eq!(order(&server, &clients), (0..60).collect::<Vec<_>>());
    }
}

#[test]
fn a_delayed_client_is_served_when_a_connection_of_its_source_ends() {
    for mode in MODES {
        let server = start(&["--max-connections-per-source", "2"], mode);
        let mut held = connect(&server, "127.0.0.2", 2);
        held.iter_mut().for_each(|client| {
            client.echo("held");
        });
        let mut queued = connect(&server, "127.0.0.2", 3);
        assert!(
            Client::from_source("127.0.0.3", server.port()).is_served(),
            "other sources are not delayed: {mode:?}"
        );
        wait_until("three clients are queued", || (queued_at(&server) == 3).then_some(()));
        let mut served = Vec::new();
        queued.iter_mut().for_each(|client| {
            client.send("queued");
        });
        // Each connection that ends frees a slot for one queued client.
        for connection in held.drain(..) {
            drop(connection);
            served.push(Client::take_first_readable(&mut queued));
        }
        served.remove(0);
        served.push(Client::take_first_readable(&mut queued));
        served.iter_mut().for_each(|client| {
            client.expect("queued").echo("served");
        });
    }
}

#[test]
fn a_client_delayed_longer_than_the_timeout_is_rejected() {
    let options = ["--rate-per-source", "1/h", "--delay-timeout", "200ms", "--when-full", "reject=later\n"];
    let server = start(&options, &[]);
    let mut clients = connect(&server, "127.0.0.2", 3);
    take_served(&mut clients);
    for mut client in clients {
        assert_eq!(client.read_to_end(), b"later\n");
    }
    server.log.wait_for(REJECT, 2);
}

#[test]
fn another_source_displaces_a_flood_from_the_full_delay_queue() {
    let server = start(&["--rate-per-source", "2/min:1", "--max-delayed", "10"], &[]);
    let flood = connect(&server, "127.0.0.2", 40);
    // One client is served, ten are queued, the others are rejected.
    wait_until("29 clients are rejected", || (server.log.total_of(REJECT) == 29).then_some(()));
    let mut other = connect(&server, "127.0.0.3", 2);
    take_served(&mut other);
    // The second client of the other source takes the place of the flood's newest queued client.
    wait_until("the newest client of the flood is rejected", || {
        (server.log.total_of(REJECT) == 30).then_some(())
    });
    server.signal(Signal::TERM);
    other.remove(0).expect("first");
    assert_eq!(flood.into_iter().map(Client::is_served).filter(|served| *served).count(), 10);
}

#[test]
fn a_client_rejected_by_a_full_delay_queue_does_not_block_its_source() {
    for mode in MODES {
        let limits = ["--max-connections-per-source", "1", "--max-delayed", "1", "--delay-timeout", "1min"];
        let server = start(&limits, mode);
        // A client of the first source fills the queue, so none of the second can be queued.
        let mut first = Client::from_source("127.0.0.2", server.port());
        first.echo("served");
        let _queued = Client::from_source("127.0.0.2", server.port());
        wait_until("one client is queued", || (queued_at(&server) == 1).then_some(()));
        let mut second = Client::from_source("127.0.0.3", server.port());
        second.echo("served");
        assert_eq!(Client::from_source("127.0.0.3", server.port()).read_to_end(), b"", "{mode:?}");
        second.finish();
        server.log.wait_for("end", 1);
        // The second source is below its limit again and has no queued client.
        assert!(Client::from_source("127.0.0.3", server.port()).is_served(), "{mode:?}");
        wait_until("only the client of the first source is queued", || {
            (queued_at(&server) == 1).then_some(())
        });
    }
}

#[test]
fn a_client_with_a_penalty_is_delayed_until_the_penalty_ends() {
    let options = ["--per-source-penalties", "crash:2s min:1s", "--when-limited", "delay"];
    let server = Server::program(&options, &["sh", "-c", "kill -SEGV $$"]);
    let crash = || assert_eq!(Client::from_source("127.0.0.2", server.port()).read_to_end(), b"");
    crash();
    server.log.wait_for("penalty", 1);
    let before = Instant::now();
    crash();
    assert!(before.elapsed().as_millis() > 1000, "{:?}", before.elapsed());
    assert!(server.log.of(REJECT).is_empty());
}

#[test]
fn a_drain_serves_every_delayed_client() {
    for mode in MODES {
        let mut server = start(&["--rate-per-source", "1/h:1", "--rate-per-prefix", "1000/s"], mode);
        let mut clients = connect(&server, "127.0.0.2", 50);
        take_served(&mut clients);
        wait_until("the others are queued", || (queued_at(&server) == 49).then_some(()));
        server.signal(Signal::TERM);
        for mut client in clients {
            client.expect("first").echo("last");
        }
        assert_eq!(server.wait().code(), Some(0), "{mode:?}");
    }
}

#[test]
fn killing_the_delayer_blocks_no_source() {
    let server = start(&["--rate-per-source", "10/s:1"], &[]);
    let queued = connect(&server, "127.0.0.2", 5);
    wait_until("clients are queued", || (queued_at(&server) >= 2).then_some(()));
    kill(delayer(&server), Signal::KILL);
    server.log.wait_for("restart", 1);
    drop(queued);
    assert!(Client::from_source("127.0.0.2", server.port()).is_served());
    assert!(Client::from_source("127.0.0.3", server.port()).is_served());
}

#[test]
fn a_delayed_client_that_disconnects_leaves_the_queue() {
    let server = start(&["--rate-per-source", "1/h:1", "--max-delayed", "2", "--delay-timeout", "1h"], &[]);
    let mut clients = connect(&server, "127.0.0.2", 3);
    take_served(&mut clients);
    wait_until("two clients are queued", || (queued_at(&server) >= 2).then_some(()));
    clients.drain(..).for_each(Client::reset);
    wait_until("the queue is empty", || (queued_at(&server) == 0).then_some(()));
}

/// Sends a message from each client, and removes the one that receives a reply.
fn take_served(clients: &mut Vec<Client>) {
    clients.iter_mut().for_each(|client| {
        client.send("first");
    });
    Client::take_first_readable(clients).expect("first");
}

fn delayer(server: &Server) -> i32 {
    wait_until("the delayer runs", || Some(server.named(DELAYER).first()?.pid))
}

/// The number of clients in the delay queue: the sockets of the delayer without its three channels.
fn queued_at(server: &Server) -> usize {
    let descriptors = procfs::descriptors(delayer(server));
    descriptors.iter().filter(|(_, target)| target.starts_with("socket:")).count().saturating_sub(3)
}

#[test]
fn a_delayer_that_is_killed_in_a_drain_is_restarted_and_releases_the_clients_in_its_channel() {
    for mode in MODES {
        let mut server = start(&["--max-connections-per-source", "1"], mode);
        let mut held = server.connect();
        held.echo("held");
        let delayer = || wait_until("the delayer runs", || server.named(DELAYER).first().map(|one| one.pid));
        kill(delayer(), Signal::STOP);
        let mut queued: Vec<_> = (0..3).map(|_| server.connect()).collect();
        queued.iter_mut().for_each(|client| _ = client.send("x").half_close());
        server.wait_until_idle();
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 1);
        kill(delayer(), Signal::KILL);
        for mut client in queued {
            assert_eq!(client.read_to_end(), b"x", "{mode:?}");
        }
        held.finish();
        assert_eq!(server.wait().code(), Some(0), "{mode:?}");
        let restarts = server.log.of("restart");
        assert_eq!((restarts.len(), &restarts[0]["role"]), (1, &"delayer".into()), "{mode:?}");
    }
}
