//! The example `sqlite`.

use std::process::Command;

use rustix::process::Signal;
use tine_e2e::examples::example;
use tine_e2e::names::CONNECTION;
use tine_e2e::programs::succeeds;
use tine_e2e::{Client, Folder, kill};

/// Sends a line and returns the reply.
fn ask(client: &mut Client, line: &str) -> String {
    client.send(format!("{line}\n")).read_line()
}

/// Whether the file is sound, by the program of SQLite.
fn check(path: &str) -> String {
    succeeds(Command::new("sqlite3").args([path, "PRAGMA integrity_check"]))
}

#[test]
fn concurrent_clients_add_up_exactly() {
    let folder = Folder::new("sqlite-sums");
    let path = folder.path("numbers.db");
    let server = example("sqlite", &[&path]);
    std::thread::scope(|threads| {
        for number in 0..8 {
            let mut client = server.connect();
            threads.spawn(move || {
                let own = format!("own{number}");
                for count in 1..=25 {
                    let shared = ask(&mut client, "ADD shared 1");
                    assert!(shared.parse::<i64>().is_ok_and(|sum| sum >= count), "{shared}");
                    assert_eq!(ask(&mut client, &format!("ADD {own} 2")), (2 * count).to_string());
                }
            });
        }
    });
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "GET shared"), "200");
    assert_eq!(ask(&mut client, "SUM"), "600");
    assert_eq!(ask(&mut client, "GET nothing"), "0");
    assert_eq!(ask(&mut client, "ADD own0 9223372036854775807"), "error: the sum would overflow");
    assert!(ask(&mut client, "DROP").starts_with("error: a line is"));
    assert_eq!(check(&path), "ok\n");
}

#[test]
fn a_process_that_is_killed_in_a_transaction_leaves_no_trace() {
    let folder = Folder::new("sqlite-killed");
    let path = folder.path("numbers.db");
    let server = example("sqlite", &[&path]);
    let mut killed = server.connect();
    assert_eq!(ask(&mut killed, "ADD key 7"), "7");
    assert_eq!(ask(&mut killed, "BEGIN"), "ok");
    assert_eq!(ask(&mut killed, "ADD key 1000"), "1007");
    assert_eq!(ask(&mut killed, "ADD other 1000"), "1000");
    let [process] = &server.named(CONNECTION)[..] else { panic!("one connection") };
    let mut waiting = server.connect();
    // Others read what was there before, and wait to write.
    assert_eq!(ask(&mut waiting, "SUM"), "7");
    waiting.send("ADD key 1\n");
    kill(process.pid, Signal::KILL);
    assert_eq!(waiting.read_line(), "8");
    assert_eq!(ask(&mut waiting, "GET other"), "0");
    for line in ["BEGIN", "ADD key 1", "ADD other 1", "COMMIT"] {
        assert!(!ask(&mut waiting, line).starts_with("error"));
    }
    assert_eq!(ask(&mut server.connect(), "SUM"), "10");
    assert_eq!(check(&path), "ok\n");
}
