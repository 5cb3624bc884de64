//! The end of a connection with a program: a half-close gets its whole answer; a client that has really gone
//! ends the program and all its descendants; and what a program leaves behind is treated as asked.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::{FORKER, outcome};
use tine_e2e::{Server, kill, procfs, run, wait_until};

/// A program in the shell. It names the sleepers that it starts by an odd number of seconds.
fn shell(options: &[&str], script: &str) -> Server {
    Server::program(options, &["sh", "-c", script])
}

/// The living processes of a server with this name.
fn living(server: &Server, name: &str) -> Vec<procfs::Process> {
    server.processes().into_iter().filter(|one| one.name == name && !one.is_zombie()).collect()
}

#[test]
fn a_client_that_half_closes_receives_the_whole_reply() {
    // A program that reads to the end, takes its time, and then answers.
    let server = shell(&[], "text=$(cat); sleep 2.5; printf '%s' \"$text\"; head -c 1000000 /dev/zero");
    let mut client = server.connect();
    client.send("question").half_close();
    let answer = client.read_to_end();
    assert_eq!((answer.len(), &answer[..8]), (1_000_008, &b"question"[..]));
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0");
}

#[test]
fn a_program_that_exits_after_its_last_write_loses_no_byte() {
    let server = Server::program(&[], &["head", "-c", "100000000", "/dev/zero"]);
    let mut client = server.connect();
    client.half_close();
    assert_eq!(client.read_to_end().len(), 100_000_000);
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0");
}

#[test]
fn a_reset_ends_the_program_and_all_its_descendants_after_five_seconds() {
    // One child in the group, one in a session of its own, one whose parent has ended; and one that
    // does not mind TERM.
    let server = shell(
        &[],
        "sleep 1001 & setsid sleep 1002 & (setsid sleep 1003 &) ; sh -c 'trap \"\" TERM; sleep 1004; sleep 1005' & wait",
    );
    let mut other = server.connect();
    let client = server.connect();
    wait_until("the sleepers sleep", || (living(&server, "sleep").len() == 8).then_some(()));
    client.reset();
    let gone = Instant::now();
    let end = server.log.wait_for("end", 1).remove(0);
    assert_eq!(outcome(&end), "client gone", "{end}");
    let took = gone.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(12), "{took:?}");
    assert_eq!(living(&server, "sleep").len(), 4, "the other's");
    // Nobody else notices.
    other.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let still = std::io::Read::read(&mut other.stream, &mut [0]).expect_err("nothing comes");
    assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_program_that_ends_soon_after_a_reset_gets_no_signal() {
    let server = shell(&[], "sleep 3; echo done >&2; exit 5");
    server.connect().reset();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 5");
    server.log.wait("its last words", |log| log.lines().iter().any(|line| line == "done").then_some(()));
}

#[test]
fn a_program_that_closes_its_connection_gets_no_signal() {
    // Longer than grace and all.
    let server = shell(&[], "exec 0<&- 1<&-; sleep 8; exit 6");
    let mut client = server.connect();
    assert!(client.read_to_end().is_empty(), "the end of the stream comes when the program closes it");
    drop(client);
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 6");
}

#[test]
fn kill_mode_decides_which_descendants_outlive_their_program() {
    let script = "sleep 1001 & setsid sleep 1002 & setsid sh -c 'sleep 1003; true' & sleep 0.3; exit 4";
    for (mode, left) in [("process", 3), ("group", 2), ("all", 0)] {
        let mut server = shell(&["--kill-mode", mode], script);
        let mut client = server.connect();
        client.half_close();
        let end = server.log.wait_for("end", 1).remove(0);
        assert_eq!(outcome(&end), "exit 4");
        assert_eq!(living(&server, "sleep").len(), left, "{mode}");
        // A stop takes the rest along.
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        server.wait_until_gone();
    }
}

#[test]
fn descendants_that_ignore_term_are_killed_and_hold_the_slot_until_then() {
    let script = "trap '' TERM; sleep 1001 & sleep 0.3; exit 4";
    let server = shell(&["--kill-mode", "group", "--max-connections", "1"], script);
    let begun = Instant::now();
    server.connect().half_close();
    server.connect().half_close();
    server.log.wait_for("end", 1);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    let accepted = server.log.wait_for("accept", 2);
    assert_eq!(accepted[1]["count"], 1);
}

#[test]
fn orphans_of_programs_are_reaped() {
    // Descendants that end after their parent did.
    let server = shell(&[], "(sleep 0.2 &) ; exit 0");
    for _ in 0..50 {
        server.connect().half_close();
    }
    server.log.wait_for("end", 50);
    wait_until("no zombie is left", || {
        let children = procfs::children(server.pid());
        children.iter().all(|child| child.name.starts_with(FORKER)).then_some(())
    });
}

#[test]
fn killing_the_supervisor_kills_its_programs() {
    let mut server = Server::program(&[], &["cat"]);
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    server.forkers().into_iter().for_each(|forker| kill(forker, Signal::KILL));
    server.signal(Signal::KILL);
    server.wait();
    server.wait_until_gone();
    clients.iter_mut().for_each(tine_e2e::Client::expect_closed);
}

#[test]
fn a_drain_waits_for_programs() {
    let mut server = Server::program(&[], &["cat"]);
    let mut client = server.connect();
    client.echo("before");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    client.echo("after").finish();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(outcome(&server.log.of("end")[0]), "exit 0");
}

#[test]
fn netcat_receives_the_reply_after_its_half_close() {
    let server = shell(&[], "text=$(cat); sleep 1; echo \"$text\"");
    let script = format!("echo question | nc -N 127.0.0.1 {}", server.port());
    let (code, out, err) = run(std::process::Command::new("sh").args(["-c", &script]));
    assert_eq!((code, out.as_str()), (0, "question\n"), "{err}");
}
