//! The steps of a handler before its connections: once in each forker, once in each connection
//! process, and what a failure of each leads to.

use std::process::Command;

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{Folder, Server, ServerCommand, built, kill, run};

fn file(folder: &Folder) -> String {
    let path = folder.path("data");
    std::fs::write(&path, "data").expect("a folder");
    path
}

fn start(mode: &str, folder: &Folder) -> Server {
    ServerCommand::program(built("stages"), &[mode, &file(folder)]).start()
}

#[test]
fn a_handler_starts_once_in_its_forker_and_begins_once_in_each_process() {
    for mode in ["plain", "spares", "service"] {
        let folder = Folder::new(&format!("stages-{mode}"));
        let server = start(mode, &folder);
        for _ in 0..4 {
            server.connect().send("a\n").expect("a: data 1 1 1").send("b\n").expect("b: data 1 1 1");
        }
    }
}

#[test]
fn a_worker_begins_before_its_first_connection_only() {
    let folder = Folder::new("stages-workers");
    let server = start("workers", &folder);
    let mut served: Vec<u32> = Vec::new();
    // Another worker is forked while one serves, and there are three at most: one serves again.
    for _ in 0..6 {
        let mut client = server.connect();
        let reply = client.send("a\n").half_close().read_to_end();
        let reply = String::from_utf8(reply).expect("text");
        let count = reply.strip_prefix("a: data 1 1 ").expect("one start, one begin");
        served.push(count.parse().expect("a number"));
        server.log.wait_for("end", served.len());
    }
    assert!(served.iter().any(|count| *count > 1), "{served:?}");
}

#[test]
fn a_failed_start_of_the_handler_ends_that_of_the_server() {
    for (mode, parts) in [
        (
            "start-error",
            &["Handler: cannot start the server: forker 1: the handler cannot start: no table; "][..],
        ),
        (
            "start-panic",
            &["Handler: cannot start the server: forker 1: the handler cannot start: panic: no chair; "],
        ),
        (
            "start-thread",
            &[
                "Threads: cannot start the server: forker 1: cannot fork after the handler's on_start: this process has 2 threads; ",
                "on_child",
            ],
        ),
    ] {
        let folder = Folder::new(&format!("stages-{mode}"));
        let (code, out, err) = run(Command::new(built("stages")).args([mode, &file(&folder)]));
        assert_eq!((code, out.as_str()), (1, ""), "{mode}: {err}");
        parts.iter().for_each(|part| assert!(err.contains(part), "{mode}: '{part}' is not in: {err}"));
    }
}

#[test]
fn a_failed_start_in_a_restarted_forker_is_logged() {
    let folder = Folder::new("stages-restart");
    let server = start("plain", &folder);
    server.connect().send("a\n").expect("a: data 1 1 1");
    std::fs::remove_file(folder.path("data")).expect("a file");
    kill(server.forkers()[0], Signal::KILL);
    let error = &server.log.wait_for("error", 1)[0];
    let text = error["text"].as_str().expect("text");
    assert!(text.starts_with("forker 1: the handler cannot start: "), "{text}");
    // It is started again until it succeeds.
    std::fs::write(folder.path("data"), "next").expect("a folder");
    server.connect().send("b\n").expect("b: next 1 1 1");
}

#[test]
fn a_process_in_which_the_handler_cannot_begin_ends_with_its_error() {
    let folder = Folder::new("stages-child");
    let server = start("child-error", &folder);
    for count in 1..=2 {
        server.connect().expect_closed();
        assert_eq!(outcome(server.log.wait_for("end", count).last().expect("an end")), "error no spoon");
    }
}
