//! `--max-connections`: clients over the limit wait in the backlog or are rejected with a text.

use tine_e2e::names::{REJECT, total};
use tine_e2e::{Client, EchoClients, FaultInjection, Server, inject_fault};

/// Starts a server with three slots and takes all of them.
fn three_served(options: &[&str]) -> (Server, Vec<Client>) {
    let server = Server::serve(&[&["--max-connections", "3"], options].concat());
    let mut served: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    served.iter_mut().for_each(|client| {
        client.echo("served");
    });
    server.log.wait_for("accept", 3);
    (server, served)
}

fn fourth_client_waits(options: &[&str]) {
    let (server, mut served) = three_served(options);
    let mut fourth = server.connect();
    fourth.send("fourth");
    for turn in 0..20 {
        served.iter_mut().for_each(|client| {
            client.echo(format!("turn {turn}"));
        });
    }
    assert_eq!(server.log.of("accept").len(), 3, "a client over the limit is not accepted");
    drop(served.pop());
    fourth.expect("fourth");
    let accepted = server.log.wait_for("accept", 4);
    assert!(accepted.iter().all(|line| line["count"].as_u64() <= Some(3)), "{accepted:?}");
}

#[test]
fn a_client_over_the_limit_waits_until_a_connection_ends() {
    fourth_client_waits(&[]);
}

#[test]
fn a_client_over_the_limit_waits_until_a_connection_ends_with_one_forker() {
    fourth_client_waits(&["--forkers", "1"]);
}

#[test]
fn a_client_over_the_limit_waits_until_a_connection_ends_with_spares() {
    fourth_client_waits(&["--spares", "4"]);
}

fn fourth_client_is_rejected(options: &[&str]) {
    let (server, mut served) =
        three_served(&[&["--when-full", r"reject=full, come again\r\n"], options].concat());
    for sends in [0, 64 * 1024] {
        let mut fourth = server.connect();
        fourth.send(vec![b'x'; sends]);
        assert_eq!(fourth.read_to_end(), b"full, come again\r\n");
    }
    let rejected = server.log.wait_for(REJECT, 2);
    assert_eq!(rejected[0]["reason"], "full");
    served.iter_mut().for_each(|client| {
        client.echo("still served");
    });
    drop(served.pop());
    server.log.wait_for("end", 1);
    server.connect().echo("served");
}

#[test]
fn a_rejected_client_receives_the_text_and_the_end_of_the_stream() {
    fourth_client_is_rejected(&[]);
}

#[test]
fn a_rejected_client_receives_the_text_and_the_end_of_the_stream_with_spares() {
    fourth_client_is_rejected(&["--spares", "4"]);
}

#[test]
fn two_hundred_rejected_clients_do_not_delay_the_served_ones() {
    let server = Server::serve(&["--max-connections", "3", "--when-full", "reject=no"]);
    let served = EchoClients::start(server.port(), 3);
    let port = server.port();
    let rejected: Vec<_> = (0..200)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                client.send(vec![b'x'; 1000]);
                assert_eq!(client.read_to_end(), b"no");
            })
        })
        .collect();
    served.wait_for_exchanges(100);
    rejected.into_iter().for_each(|client| client.join().expect("a rejected client"));
    served.finish();
    // At most ten lines a second; summary lines count the others.
    let lines = server.log.wait("total of 200 rejected clients", |log| {
        let lines = log.of(REJECT);
        (total(&lines) == 200).then_some(lines.len())
    });
    assert!(lines < 100, "{lines} lines");
}

#[test]
fn the_connection_limit_holds_over_all_listeners() {
    let mut start = tine_e2e::ServerCommand::serve(["--max-connections", "2"]);
    start.command().arg("127.0.0.1:0");
    let server = start.start();
    let other = server.log.wait_for("listen", 2)[1]["address"].as_str().expect("an address").to_owned();
    let other = other.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let mut first = server.connect();
    let mut second = Client::connect(other);
    first.echo("one");
    second.echo("two");
    let mut third = Client::connect(other);
    third.send("three");
    (0..20).for_each(|_| {
        first.echo("x");
    });
    assert_eq!(server.log.wait_for("accept", 2).len(), 2);
    drop(first);
    third.expect("three");
}

#[test]
fn a_forker_without_a_client_takes_no_slot_from_another_one() {
    let server = Server::serve(&["--max-connections", "2", "--when-full", "reject=no", "--forkers", "2"]);
    // Each forker looks for its next client long enough for the other one to accept that client.
    let delay = |pid| inject_fault(pid, "accept4:delay_exit=300000");
    let _slow: Vec<FaultInjection> = server.forkers().into_iter().map(delay).collect();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect();
        client.echo("served");
        clients.push(client);
    }
    assert_eq!(server.log.of(REJECT).len(), 0);
}
