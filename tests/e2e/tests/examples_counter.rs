//! The example `counter`.

use std::process::Command;

use rustix::process::Signal;
use tine_e2e::examples::example;
use tine_e2e::names::CONNECTION;
use tine_e2e::programs::succeeds;
use tine_e2e::{Folder, kill, tine};

#[test]
fn connections_count_together_and_operators_see_it() {
    let folder = Folder::new("counter");
    let socket = folder.path("c.sock");
    let server = example("counter", &[&socket]);
    let mut first = server.connect();
    first.expect("You are visitor 1.\n").send("hello\n").expect("Line 1. The longest one of all: hello\n");
    let [process] = &server.named(CONNECTION)[..] else { panic!("one connection") };
    let mut second = server.connect();
    second.expect("You are visitor 2.\n").send("hi\n").expect("Line 2. The longest one of all: hello\n");
    // What a process has counted stays when it dies.
    kill(process.pid, Signal::KILL);
    first.expect_closed();
    second.send("good day\n").expect("Line 3. The longest one of all: good day\n");

    let status = succeeds(Command::new(tine()).args(["status", "--control", &socket]));
    for line in [
        "visits (counter): value 2",
        "lines (counter): value 3",
        "longest_bytes (gauge): value 8",
        "longest (mutex)",
    ] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
}

#[test]
fn no_line_of_many_connections_is_missed() {
    let server = example("counter", &[]);
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("x\n".repeat(500));
    }
    let replies: Vec<String> = clients.iter_mut().map(|client| client.half_close().read_text()).collect();
    let mut numbers: Vec<u32> = replies
        .iter()
        .flat_map(|reply| reply.lines())
        .filter_map(|line| line.strip_prefix("Line ")?.split('.').next()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=4000));
}
