//! An observer that is taken over: it can ask what it may anyway, and costs a bounded number of
//! processes. The server itself refuses the rest.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tine_e2e::http::observer_of;
use tine_e2e::names::CONTROL;
use tine_e2e::{Folder, Server, ServerCommand, built, run, wait_until};

/// A server with an observer that was taken over.
fn captured(name: &str, options: &[&str]) -> (Folder, Server, String) {
    let folder = Folder::new(name);
    let socket = folder.path("c.sock");
    let server =
        ServerCommand::program(built("captured"), &[&[socket.as_str()][..], options].concat()).start();
    let address = observer_of(&server);
    (folder, server, address)
}

/// Has a captured observer send a line; returns the last line of the reply.
fn through(address: &str, line: &str) -> Value {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("ours");
    stream.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let last = reply.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|why| panic!("{line}: {why}: {reply:?}"))
}

const NEVER: [&str; 5] = [
    r#"{"command":"drain"}"#,
    r#"{"command":"drain","service":"a"}"#,
    r#"{"command":"reload"}"#,
    r#"{"command":"upgrade","binary":"/bin/true"}"#,
    r#"{"command":"set","name":"max-connections","value":"1"}"#,
];

const TENDS: [&str; 5] = [
    r#"{"command":"kill","older_ms":0}"#,
    r#"{"command":"pause"}"#,
    r#"{"command":"resume"}"#,
    r#"{"command":"ban","block":"127.0.0.9"}"#,
    r#"{"command":"unban","block":"127.0.0.9"}"#,
];

#[test]
fn an_observer_that_is_taken_over_can_do_no_more_than_its_rank() {
    for services in [&[][..], &["--services"]] {
        let (_folder, server, address) = captured("captured-reads", services);
        for line in NEVER.iter().chain(&TENDS) {
            let reply = through(&address, line);
            assert!(reply["error"].to_string().contains("may only read"), "{line}: {reply}");
        }
        assert_eq!(through(&address, r#"{"command":"status"}"#)["done"], true);
        server.connect().echo("x").finish();
        assert!(server.log.of("control").is_empty(), "{:?}", server.log.of("control"));

        let (_folder, server, address) =
            captured("captured-tends", &[&["--observe-control"], services].concat());
        for line in NEVER {
            let reply = through(&address, line);
            assert!(reply["error"].to_string().contains("change nothing else"), "{line}: {reply}");
        }
        assert!(server.log.of("control").is_empty(), "{:?}", server.log.of("control"));
        let mut held = server.connect();
        held.echo("x");
        for line in TENDS {
            assert_eq!(through(&address, line)["done"], true, "{line}");
        }
        held.expect_closed();
        server.connect().echo("x").finish();
        let log = server.log.wait_for("control", TENDS.len());
        assert!(log.iter().all(|line| line["by"] == "observer"), "{log:?}");
        assert!(server.log.of("drain").is_empty() && server.log.of("replace").is_empty());
    }
}

#[test]
fn an_observer_that_is_taken_over_keeps_no_reader_out() {
    let (folder, server, address) = captured("captured-holds", &[]);
    // Fewer than are heard in a second.
    let mut stream = TcpStream::connect(&address).expect("it listens");
    stream.write_all(b"hold 16\n").expect("it reads");
    let has_its_places = || (server.named(CONTROL).len() == 4).then_some(());
    wait_until("it has its places", has_its_places);
    let copy = folder.copy_of_tine();
    let group = ["--reuid", "nobody", "--regid", "nogroup", "--groups", "60", "--"];
    for _ in 0..5 {
        let mut reader = Command::new("setpriv");
        reader.args(group).arg(&copy).args(["status", "--control", &folder.path("c.sock")]);
        let (code, _, err) = run(&mut reader);
        assert_eq!(code, 0, "{err}");
        wait_until("it has no more", has_its_places);
    }
    server.connect().echo("x").finish();
}
