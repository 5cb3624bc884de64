//! The examples of the library compile, run, and are short.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::names::OUTCOME;
use tine_e2e::{Server, ServerCommand, built};

/// Builds an example (cargo does nothing where it is built) and starts it.
fn example(name: &str) -> Server {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = root.join(format!("crates/tine/examples/{name}.rs"));
    assert!(std::fs::read_to_string(source).expect("there").lines().count() < 60, "a ladder has short steps");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["build", "--quiet", "-p", "tine", "--example", name]);
    let (code, _, err) = tine_e2e::run(&mut cargo);
    assert_eq!(code, 0, "{err}");
    ServerCommand::program(built(&format!("examples/{name}")), &["127.0.0.1:0"]).start()
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
    let mut guests = [server.connect(), server.connect()];
    for guest in &mut guests {
        let mut lines = BufReader::new(guest.stream.try_clone().expect("a second handle")).lines();
        assert!(lines.next().expect("a question").expect("text").contains("Your name?"));
        guest.send("Ada\n");
        assert_eq!(lines.next().expect("an answer").expect("text"), "Good day, Ada. Who else?");
    }
    guests[0].send("panic\n").expect_closed();
    guests[1].send("Grace\n").expect("Good day, Grace. Who else?\n");
    let told = |log: &tine_e2e::Log| {
        log.lines()
            .iter()
            .any(|line| line.contains(&format!("{OUTCOME}=\"panic as you wish\"")))
            .then_some(())
    };
    server.log.wait("the panic", told);
}

#[test]
fn the_time_example_finishes_when_the_server_drains() {
    let mut server = example("time");
    let client = server.connect();
    let mut lines = BufReader::new(client.stream.try_clone().expect("a second handle")).lines();
    let second: u64 = lines.next().expect("a line").expect("text").parse().expect("a number");
    assert!(second > 1_700_000_000);
    server.signal(Signal::TERM);
    // The handler learns of the drain, and ends in time.
    assert!(lines.all(|line| line.is_ok()), "the end of the stream, not a reset");
    assert!(server.wait().success());
}
