//! The first examples of the library compile, run, and are shorter than 60 lines.

use std::io::{BufRead, BufReader};

use rustix::process::Signal;
use tine_e2e::examples::build_example;
use tine_e2e::names::OUTCOME;
use tine_e2e::{Client, Server, ServerCommand};

/// Builds an example and starts it.
fn example(name: &str) -> Server {
    example_at(name, &["127.0.0.1:0"])
}

fn example_at(name: &str, addresses: &[&str]) -> Server {
    ServerCommand::program(build_example(name, 60, &[]), addresses).start()
}

#[test]
fn the_echo_example_echoes() {
    let mut server = example("echo");
    server.connect().echo("hello").finish();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn the_greet_example_answers_each_client_and_survives_a_panic() {
    let server = example("greet");
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        let mut lines = BufReader::new(client.stream.try_clone().expect("a second descriptor")).lines();
        assert!(lines.next().expect("a question").expect("text").contains("Your name?"));
        client.send("Ada\n");
        assert_eq!(lines.next().expect("a reply").expect("text"), "Good day, Ada. Who else?");
    }
    clients[0].send("panic\n").expect_closed();
    clients[1].send("Grace\n").expect("Good day, Grace. Who else?\n");
    let panic = format!("{OUTCOME}=\"panic as you wish\"");
    server.log.wait_for_line("panic", |line| line.contains(&panic));
}

#[test]
fn the_time_example_finishes_when_the_server_drains() {
    let mut server = example("time");
    let client = server.connect();
    let mut lines = BufReader::new(client.stream.try_clone().expect("a second descriptor")).lines();
    let second: u64 = lines.next().expect("a line").expect("text").parse().expect("a number");
    assert!(second > 1_700_000_000);
    server.signal(Signal::TERM);
    // The handler sees the drain and returns: the stream ends without a reset.
    assert!(lines.all(|line| line.is_ok()));
    assert!(server.wait().success());
}

#[test]
fn a_program() {
    let server = example("program");
    let mut client = server.connect();
    client.send("hello").half_close();
    assert_eq!(client.read_to_end(), b"HELLO");
}

#[test]
fn services() {
    let mut server = example_at("services", &["127.0.0.1:0", "127.0.0.1:0"]);
    assert!(server.connect().read_to_end().starts_with(b"Good day, 127.0.0.1:"));
    let count = server.log.wait("the second service", |log| {
        let line = log.lines().into_iter().find(|line| line.contains("listen service=count"))?;
        let address = line.split("address=").nth(1)?.split(' ').next()?;
        address.rsplit_once(':')?.1.parse().ok()
    });
    assert_eq!(Client::connect(count).read_to_end(), b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    let denied = Client::from_source("127.0.0.66", count);
    assert!(!denied.is_served());
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}
