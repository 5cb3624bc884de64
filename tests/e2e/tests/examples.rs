//! The examples of the library compile, run, and are short.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::{Client, Server, Start, program};

/// Builds an example (cargo does nothing where it is built) and starts it.
fn example(name: &str) -> Server {
    example_at(name, &["127.0.0.1:0"])
}

fn example_at(name: &str, addresses: &[&str]) -> Server {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = root.join(format!("crates/tine/examples/{name}.rs"));
    assert!(std::fs::read_to_string(source).expect("there").lines().count() < 60, "a ladder has short steps");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["build", "--quiet", "-p", "tine", "--example", name]);
    let (code, _, err) = tine_e2e::run(&mut cargo);
    assert_eq!(code, 0, "{err}");
    Start::program(program(&format!("examples/{name}")), addresses).start()
}

#[test]
fn echo() {
    let mut server = example("echo");
    server.connect().echo("hello").half_close().rest();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn greet() {
    let server = example("greet");
    let mut guests = [server.connect(), server.connect()];
    for guest in &mut guests {
        let mut lines = BufReader::new(guest.stream.try_clone().expect("a second handle")).lines();
        assert!(lines.next().expect("a question").expect("text").contains("Your name?"));
        guest.send("Ada\n");
        assert_eq!(lines.next().expect("an answer").expect("text"), "Good day, Ada. Who else?");
    }
    guests[0].send("panic\n").expect_over();
    guests[1].send("Grace\n").expect("Good day, Grace. Who else?\n");
    let told = |log: &tine_e2e::Log| {
        log.lines().iter().any(|line| line.contains("outcome=\"panic as you wish\"")).then_some(())
    };
    server.log.wait("the panic", told);
}

#[test]
fn time() {
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

#[test]
fn a_program() {
    let server = example("program");
    let mut client = server.connect();
    client.send("hello").half_close();
    assert_eq!(client.rest(), b"HELLO");
}

#[test]
fn services() {
    let mut server = example_at("services", &["127.0.0.1:0", "127.0.0.1:0"]);
    assert!(server.connect().rest().starts_with(b"Good day, 127.0.0.1:"));
    let count = server.log.wait("the second service", |log| {
        let line = log.lines().into_iter().find(|line| line.contains("listen service=count"))?;
        let address = line.split("address=").nth(1)?.split(' ').next()?;
        address.rsplit_once(':')?.1.parse().ok()
    });
    assert_eq!(Client::connect(count).rest(), b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    let denied = Client::from_source("127.0.0.66", count);
    assert!(!denied.is_served());
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}
