//! `--lingering-close`: a program that answers without having read the whole request. Without the
//! option, the kernel sends a reset when it exits, which can destroy the answer on its way.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::{outcome, pid};
use tine_e2e::{Client, Server, kill, procfs, wait_until};

/// Reads one line and answers; the rest of the request stays unread.
const ANSWER: &str = "read line; echo \"answer to $line\"";

const OPTION: &str = "--lingering-close";

/// Makes this number of exchanges; returns how many end in a reset.
fn resets(server: &Server, number: usize) -> usize {
    let request = [&b"request\n"[..], &[b'x'; 20_000]].concat();
    let is_reset = |mut client: Client| {
        client.send(&request);
        let mut answer = Vec::new();
        match client.stream.read_to_end(&mut answer) {
            Ok(_) => {
                assert_eq!(answer, b"answer to request\n");
                false
            }
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::ConnectionReset, "{why}");
                true
            }
        }
    };
    (0..number).filter(|_| is_reset(server.connect())).count()
}

#[test]
fn of_300_answers_to_requests_that_were_not_read_none_ends_in_a_reset() {
    for options in [&[OPTION][..], &[OPTION, "--spares", "4"], &[OPTION, "--stderr", "client"]] {
        let server = Server::program(options, &["sh", "-c", ANSWER]);
        assert_eq!(resets(&server, 300), 0, "{options:?}");
        let ends = server.log.wait_for("end", 300);
        assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{options:?}");
    }
}

#[test]
fn without_the_option_answers_end_in_resets() {
    let server = Server::program(&[], &["sh", "-c", ANSWER]);
    assert!(resets(&server, 100) > 0);
}

#[test]
fn handlers_need_no_option() {
    let server = Server::serve(&["--service", "daytime"]);
    for _ in 0..300 {
        let mut client = server.connect();
        client.send([b'x'; 20_000]);
        assert!(!client.read_to_end().is_empty());
    }
}

#[test]
fn a_client_that_goes_on_sending_holds_the_connection_for_two_seconds() {
    let server = Server::program(&[OPTION], &["echo", "answer"]);
    let mut client = server.connect();
    let start = Instant::now();
    assert_eq!(client.read_to_end(), b"answer\n");
    assert!(start.elapsed() < Duration::from_secs(2), "the end of the stream comes at once");
    server.log.wait_for("end", 1);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn the_status_of_the_program_is_that_of_the_connection() {
    for (script, expected) in
        [("exit 3", "exit 3"), ("kill -SEGV $$", "signal SEGV"), ("kill $$", "signal TERM")]
    {
        let server = Server::program(&[OPTION], &["sh", "-c", script]);
        server.connect().finish();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), expected, "{script}");
    }
}

#[test]
fn the_program_has_time_after_term_and_ends_with_its_parent() {
    let script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done";
    let mut server = Server::program(&[OPTION, "--drain-timeout", "0s"], &["sh", "-c", script]);
    let mut client = server.connect();
    client.expect("ready\n");
    server.signal(Signal::TERM);
    assert_eq!(client.half_close().read_to_end(), b"bye\n");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(outcome(&server.log.of("end")[0]), "exit 4");

    let server = Server::program(&[OPTION], &["sh", "-c", "echo ready; sleep 1001; true"]);
    let mut client = server.connect();
    client.expect("ready\n");
    let parent = pid(&server.log.wait_for("accept", 1)[0]);
    let descriptors = procfs::descriptors(parent);
    let sockets = descriptors.iter().filter(|(_, target)| target.starts_with("socket:")).count();
    assert_eq!((descriptors.len(), sockets), (4, 1), "three standard ones and the client: {descriptors:?}");
    kill(parent, Signal::KILL);
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal KILL");
    wait_until("the program is gone", || server.named("sh").iter().all(|one| one.is_zombie()).then_some(()));
}

#[test]
fn kill_mode_group_covers_what_the_program_started() {
    let script = "sleep 1001 & exit 5";
    let server = Server::program(&[OPTION, "--kill-mode", "group"], &["sh", "-c", script]);
    server.connect().finish();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 5");
    assert!(server.named("sleep").iter().all(|one| one.is_zombie()));
}
