//! The end of a connection with a program: a client that half-closes receives the whole reply; a
//! client that disconnects ends the program and its descendants; `--kill-mode` decides about
//! descendants of a program that ends by itself.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::{FORKER, outcome};
use tine_e2e::{Server, ServerCommand, kill, procfs, run, wait_until};

/// Serves a shell script.
fn shell(options: &[&str], script: &str) -> Server {
    Server::program(options, &["sh", "-c", script])
}

/// The number of running sleep(1) processes of a server.
fn sleepers(server: &Server) -> usize {
    server.processes().iter().filter(|process| process.name == "sleep" && !process.is_zombie()).count()
}

#[test]
fn a_client_that_half_closes_receives_the_whole_reply() {
    // The program reads to the end, waits, and then replies.
    let server = shell(&[], "text=$(cat); sleep 2.5; printf '%s' \"$text\"; head -c 1000000 /dev/zero");
    let mut client = server.connect();
    client.send("question").half_close();
    let reply = client.read_to_end();
    assert_eq!((reply.len(), &reply[..8]), (1_000_008, &b"question"[..]));
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
    // One child in the process group, one in a session of its own, one whose parent has ended, and
    // one that ignores TERM.
    let server = shell(
        &[],
        "sleep 1001 & setsid sleep 1002 & (setsid sleep 1003 &) ; sh -c 'trap \"\" TERM; sleep 1004; sleep 1005' & wait",
    );
    let mut other = server.connect();
    let client = server.connect();
    wait_until("every descendant runs", || (sleepers(&server) == 8).then_some(()));
    client.reset();
    let disconnected = Instant::now();
    let end = server.log.wait_for("end", 1).remove(0);
    assert_eq!(outcome(&end), "client gone", "{end}");
    let took = disconnected.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(12), "{took:?}");
    assert_eq!(sleepers(&server), 4, "those of the other connection");
    other.expect_silence(Duration::from_millis(50));
}

#[test]
fn a_program_that_ends_soon_after_a_reset_gets_no_signal() {
    let server = shell(&[], "sleep 3; echo done >&2; exit 5");
    server.connect().reset();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 5");
    server.log.wait_for_line("line of the program", |line| line == "done");
}

#[test]
fn a_program_that_closes_its_connection_gets_no_signal() {
    // It runs longer than the time until a signal after a disconnect.
    let server = shell(&[], "exec 0<&- 1<&-; sleep 8; exit 6");
    let mut client = server.connect();
    assert!(client.read_to_end().is_empty(), "the program closes the stream");
    drop(client);
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 6");
}

#[test]
fn kill_mode_decides_which_descendants_outlive_their_program() {
    let script = "sleep 1001 & setsid sleep 1002 & setsid sh -c 'sleep 1003; true' & sleep 0.3; exit 4";
    for (mode, survivors) in [("process", 3), ("group", 2), ("all", 0)] {
        let mut server = shell(&["--kill-mode", mode], script);
        let mut client = server.connect();
        client.half_close();
        let end = server.log.wait_for("end", 1).remove(0);
        assert_eq!(outcome(&end), "exit 4");
        assert_eq!(sleepers(&server), survivors, "{mode}");
        // The survivors are killed when the server stops.
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        server.wait_until_gone();
    }
}

/// Processes that keep every processor busy, so that others are interrupted anywhere.
struct Busy(Vec<std::process::Child>);

impl Busy {
    fn start() -> Busy {
        let start = |_| std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Busy((0..4).map(|number| start(number).expect("sh starts")).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn a_descendant_that_changes_while_it_is_searched_is_not_missed() {
    // It executes one program after the other, or it is one process after the other; the last one
    // would hold the connection for a minute.
    let executes = r#"[ $1 = 0 ] && exec sleep 61; exec sh -c "$0" "$0" $(($1-1))"#;
    let forks = r#"[ $1 = 0 ] && exec sleep 61; setsid sh -c "$0" "$0" $(($1-1)) & exit"#;
    let _busy = Busy::start();
    for step in [executes, forks] {
        let script = r#"(setsid sh -c "$1" "$1" 200 &); echo bye"#;
        let options = ["--kill-mode", "all", "--max-connections", "1"];
        let server = Server::program(&options, &["sh", "-c", script, "sh", step]);
        for _ in 0..40 {
            // The stream ends when no process has the socket.
            assert_eq!(server.connect().finish(), b"bye\n");
        }
        server.log.wait_for("end", 40);
        assert_eq!(sleepers(&server), 0);
    }
}

#[test]
fn a_descendant_is_found_when_programs_use_up_the_descriptors_of_the_supervisor() {
    // The supervisor has one for each program, as far as there are some.
    let wrapper = ["prlimit", "--nofile=64:64"];
    let options = ["--kill-mode", "all", "--max-connections", "200", "--forkers", "1"];
    let script = r#"read -r word; [ "$word" = leave ] && (setsid sleep 61 &); echo bye"#;
    let mut command = ServerCommand::wrapped(wrapper, options);
    command.command().args(["--", "sh", "-c", script]);
    let server = command.start();
    let mut held: Vec<_> = (0..100).map(|_| server.connect()).collect();
    server.log.wait_for("accept", 100);
    let mut leaves = server.connect();
    assert_eq!(leaves.send("leave\n").finish(), b"bye\n");
    assert_eq!(sleepers(&server), 0);
    for client in &mut held {
        assert_eq!(client.send("end\n").finish(), b"bye\n");
    }
    server.log.wait_for("end", 101);
}

#[test]
fn a_descendant_whose_name_is_no_text_is_not_missed() {
    let script = r"(setsid sh -c 'printf \\377 >/proc/$$/comm; sleep 61; true' &); sleep 0.3; echo bye";
    let server = shell(&["--kill-mode", "all"], script);
    assert_eq!(server.connect().finish(), b"bye\n");
}

#[test]
fn a_descendant_whose_first_thread_has_ended_is_not_missed() {
    // Its state is that of a process that has ended.
    let threads = "import ctypes, threading, time\n\
        threading.Thread(target=time.sleep, args=(61,)).start()\n\
        ctypes.CDLL(None).pthread_exit(None)";
    let program = ["sh", "-c", r#"(setsid python3 -c "$1" &); cat; echo bye"#, "sh", threads];
    let server = Server::program(&["--kill-mode", "all"], &program);
    let mut client = server.connect();
    wait_until("the first thread has ended", || {
        // Found by no environment: its first thread has none any more.
        let orphans = procfs::children(server.pid());
        orphans.iter().any(|child| child.name.starts_with("python") && child.is_zombie()).then_some(())
    });
    assert_eq!(client.finish(), b"bye\n");
}

#[test]
fn descendants_that_ignore_term_are_killed_and_hold_the_slot_until_then() {
    let script = "trap '' TERM; sleep 1001 & sleep 0.3; exit 4";
    let server = shell(&["--kill-mode", "group", "--max-connections", "1"], script);
    let start = Instant::now();
    server.connect().half_close();
    server.connect().half_close();
    server.log.wait_for("end", 1);
    let took = start.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    let accepted = server.log.wait_for("accept", 2);
    assert_eq!(accepted[1]["count"], 1);
}

#[test]
fn orphans_of_programs_are_reaped() {
    // A descendant that ends after its parent.
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
fn orphans_that_end_with_the_last_program_are_reaped() {
    // All of them get TERM at once, so that the kernel may send one SIGCHLD for all.
    let server = shell(&[], "sleep 1001 & sleep 1001");
    let client = server.connect();
    wait_until("the program runs", || (sleepers(&server) == 2).then_some(()));
    client.reset();
    server.log.wait_for("end", 1);
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
