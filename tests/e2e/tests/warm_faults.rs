//! What happens to clients when a template, its maker or a process of the server is killed or
//! stopped, and what a copy can do to others.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::{Client, Server, kill, procfs, wait_until};

const WARM: &[&str] = &["--warm", "--forkers", "1"];

fn warm(options: &[&str], program: &[&str]) -> Server {
    Server::program(&[WARM, options].concat(), program)
}

/// The processes of the templates that were ready, in order.
fn templates(server: &Server) -> Vec<i32> {
    let lines = server.log.of("warm").into_iter();
    let ready = lines.filter(|line| line["state"] == "ready");
    ready.map(|line| line["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a process")).collect()
}

fn wait_for_template(server: &Server, number: usize) -> i32 {
    server.log.wait("a template", |_| templates(server).get(number - 1).copied())
}

fn answer(server: &Server, text: &str) -> String {
    let mut client = server.connect();
    client.send(text).half_close();
    client.read_text()
}

fn warnings(server: &Server) -> Vec<Value> {
    server.log.of("warning")
}

/// The process of a role, by its name.
fn named(server: &Server, name: &str) -> i32 {
    server.named(name).first().expect("a process").pid
}

#[test]
fn a_template_that_is_killed_costs_no_client() {
    let server = warm(&[], &["cat"]);
    for round in 1..=4 {
        let template = wait_for_template(&server, round);
        kill(template, Signal::KILL);
        wait_until("it has ended", || (!procfs::is_running(template)).then_some(()));
        // The first one finds that it has ended, and is served by execution.
        for _ in 0..3 {
            assert_eq!(answer(&server, "x\n"), "x\n");
        }
        assert_eq!(warnings(&server).len(), round);
        // A template that ends again and again is made again later: at the next client.
        wait_until("a new one is made", || {
            assert_eq!(answer(&server, "x\n"), "x\n");
            (templates(&server).len() > round).then_some(())
        });
    }
}

#[test]
fn a_template_that_is_stopped_is_killed() {
    let server = warm(&[], &["cat"]);
    let template = wait_for_template(&server, 1);
    kill(template, Signal::STOP);
    // One that has taken the message of a client when it stops may have made a copy.
    let state = || procfs::process(template).map(|process| process.state);
    wait_until("it has stopped", || (state() == Some('T')).then_some(()));
    assert_eq!(answer(&server, "x\n"), "x\n");
    assert!(warnings(&server)[0]["text"].as_str().is_some_and(|text| text.contains("does not answer")));
    wait_until("it has ended", || (!procfs::is_running(template)).then_some(()));
    assert_eq!(answer(&server, "y\n"), "y\n");
    wait_for_template(&server, 2);
}

/// A new maker is started while its forker has a client in hand.
#[test]
fn the_maker_is_started_again() {
    let server = warm(&["--warm-renew", "2"], &["cat"]);
    wait_for_template(&server, 1);
    for round in 2..=3 {
        let maker = named(&server, "tine: maker 1");
        kill(maker, Signal::KILL);
        server.log.wait("the end of the maker", |log| (log.of("warning").len() == round - 1).then_some(()));
        wait_until("a new template is made", || {
            assert_eq!(answer(&server, "x\n"), "x\n");
            (templates(&server).len() >= round).then_some(())
        });
    }
}

#[test]
fn a_copy_outlives_its_forker_and_ends_with_the_supervisor() {
    let mut server = warm(&[], &["cat"]);
    let template = wait_for_template(&server, 1);
    let mut client = server.connect();
    client.echo("before\n");
    kill(named(&server, "tine: forker 1"), Signal::KILL);
    let second = wait_for_template(&server, 2);
    client.echo("after\n");
    assert_eq!(answer(&server, "x\n"), "x\n");
    wait_until("the first template has ended", || (!procfs::is_running(template)).then_some(()));
    let copy = server.log.wait_for("accept", 1)[0]["pid"].as_i64().expect("a process") as i32;
    server.signal(Signal::KILL);
    server.wait_for_exit();
    for pid in [second, copy] {
        wait_until("it ends with the server", || (!procfs::is_running(pid)).then_some(()));
    }
    client.expect_closed();
}

/// What a process has in memory that it can read, as root can see it.
fn memory_has(pid: i32, marker: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process");
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("root");
    let mut found = false;
    for map in maps.lines().filter(|map| !map.contains("[v")) {
        let (start, end) = map.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        let mut bytes = vec![0; (end - start) as usize];
        let read = memory.seek(SeekFrom::Start(start)).and_then(|_| memory.read_exact(&mut bytes));
        found |= read.is_ok() && bytes.windows(marker.len()).any(|window| window == marker);
    }
    found
}

#[test]
fn nothing_of_a_client_is_left_for_another() {
    const SECRET: &str = "a-secret-of-this-client";
    let server = warm(&["--warm-allow", "variables"], &["bash", "-c", "read a; echo got; read b"]);
    let template = wait_for_template(&server, 1);
    let mut first = Client::from_source("127.0.7.77", server.port());
    first.send(format!("{SECRET}\n")).expect("got\n");
    let copy = server.log.wait_for("accept", 1)[0]["pid"].as_i64().expect("a process") as i32;
    assert!(memory_has(copy, SECRET.as_bytes()), "the search finds it where it is");
    let mut second = server.connect();
    second.send("x\n").expect("got\n");
    let other = server.log.wait_for("accept", 2)[1]["pid"].as_i64().expect("a process") as i32;
    for pid in [template, other] {
        for marker in [SECRET.as_bytes(), b"127.0.7.77"] {
            assert!(!memory_has(pid, marker), "{pid}: {}", String::from_utf8_lossy(marker));
        }
    }
}

#[test]
fn a_copy_can_neither_signal_nor_trace_its_template() {
    // A shell keeps the id of its template in `$$`.
    let script = "read a; kill -KILL $$ 2>&1; kill -STOP $$ 2>&1; head -c 1 /proc/$$/mem 2>&1";
    for user in ["root", "nobody"] {
        let server = warm(&["--user", user], &["sh", "-c", script]);
        let template = wait_for_template(&server, 1);
        let answer = answer(&server, "x\n");
        assert_eq!(answer.matches("not permitted").count(), 2, "{user}: {answer}");
        assert_eq!(answer.matches("ermission denied").count(), 1, "{user}: {answer}");
        assert!(procfs::is_running(template));
        assert_eq!(templates(&server).len(), 1);
    }
}

#[test]
fn a_thousand_connections_leave_the_server_as_it_was() {
    let server = warm(&["--warm-renew", "100000"], &["cat"]);
    let template = wait_for_template(&server, 1);
    let state = || {
        let open = |pid| fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count();
        let descriptors = (open(named(&server, "tine: forker 1")), open(template), open(server.pid()));
        (descriptors, procfs::proportional_memory(template))
    };
    (0..10).for_each(|_| assert_eq!(answer(&server, "x\n"), "x\n"));
    server.wait_until_idle();
    let (descriptors, before) = state();
    (0..1000).for_each(|_| assert_eq!(answer(&server, "x\n"), "x\n"));
    server.wait_until_idle();
    let (later, after) = state();
    assert_eq!(later, descriptors);
    assert!(after <= before + 64, "{before} KiB, then {after} KiB");
    assert_eq!(templates(&server), [template]);
    assert_eq!(server.processes().iter().filter(|process| process.name == "cat").count(), 1);
}
