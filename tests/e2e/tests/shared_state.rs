//! State that connections share, whatever becomes of them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tine_e2e::names::CONNECTION;
use tine_e2e::random::Random;
use tine_e2e::{Folder, Server, ServerCommand, built, kill, procfs, run, tine, wait_until};

/// A client that sends lines.
struct Lines {
    reader: BufReader<TcpStream>,
}

impl Lines {
    fn connect(server: &Server) -> Lines {
        Lines { reader: BufReader::new(server.connect().stream) }
    }

    fn send(&mut self, command: &str) {
        self.reader.get_mut().write_all(format!("{command}\n").as_bytes()).expect("the server receives");
    }

    fn receive(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a reply");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.receive()
    }
}

fn sharing() -> Server {
    ServerCommand::program(built("sharing"), &["127.0.0.1:0"]).start()
}

/// The process that serves the only connection.
fn only_connection(server: &Server) -> i32 {
    let [connection] = &server.named(CONNECTION)[..] else { panic!("one connection") };
    connection.pid
}

#[test]
fn what_a_connection_changes_the_next_one_finds() {
    let server = sharing();
    for expected in 0..3 {
        assert_eq!(Lines::connect(&server).ask("hit"), expected.to_string());
    }
    assert_eq!(Lines::connect(&server).ask("add 5"), "5 died=false");
    assert_eq!(Lines::connect(&server).ask("add 5"), "10 died=false");
}

#[test]
fn a_holder_that_is_killed_leaves_the_value_and_the_next_one_is_told() {
    let server = sharing();
    let mut holder = Lines::connect(&server);
    assert_eq!(holder.ask("add 1"), "1 died=false");
    assert_eq!(holder.ask("hold"), "held");
    let pid = only_connection(&server);
    let mut waiting = Lines::connect(&server);
    assert_eq!(waiting.ask("try"), "false");
    waiting.send("add 1");
    kill(pid, Signal::KILL);
    assert_eq!(waiting.receive(), "2 died=true");
    assert_eq!(waiting.ask("add 1"), "3 died=false");
}

#[test]
fn a_panic_and_a_release_let_others_go_on() {
    let server = sharing();
    assert_eq!(Lines::connect(&server).ask("panic"), "");
    assert_eq!(Lines::connect(&server).ask("add 1"), "1 died=false");
    let mut holder = Lines::connect(&server);
    assert_eq!(holder.ask("hold"), "held");
    let mut waiting = Lines::connect(&server);
    waiting.send("add 1");
    assert_eq!(holder.ask("now"), "released");
    assert_eq!(waiting.receive(), "1002 died=false");
}

#[test]
fn misuse_is_refused() {
    let server = sharing();
    let late = Lines::connect(&server).ask("late");
    assert!(late.contains("processes run already") && late.contains("before the server runs"), "{late}");
}

#[test]
fn helpers_work_for_a_connection_and_end_with_it() {
    let server = sharing();
    let mut client = Lines::connect(&server);
    for (command, end) in [
        ("helper 0", "Exited(0)"),
        ("helper 1", "Exited(1)"),
        ("helper 2", "Signaled(6)"),
        ("program", "Exited(7)"),
    ] {
        assert_eq!(client.ask(command), end);
    }
    assert_eq!(client.ask("add 1"), "2 died=false");
    let helper: i32 = client.ask("leave").parse().expect("an id");
    assert!(procfs::process(helper).is_some());
    drop(client);
    wait_until("the helper is reaped", || procfs::process(helper).is_none().then_some(()));
}

#[test]
fn jobs_outlive_their_connection() {
    let server = sharing();
    let mut client = Lines::connect(&server);
    let id = client.ask("job 7");
    drop(client);
    assert_eq!(Lines::connect(&server).ask(&format!("wait {id}")), "done 49");
    let mut client = Lines::connect(&server);
    for (number, state) in
        [(14, "failed no luck"), (13, "failed the job has killed two workers"), (15, "failed in a job")]
    {
        let id = client.ask(&format!("job {number}"));
        assert_eq!(client.ask(&format!("wait {id}")), state);
    }
    // The workers were restarted.
    let id = client.ask("job 9");
    assert_eq!(client.ask(&format!("wait {id}")), "done 81");
    assert_eq!(client.ask("state 77"), "unknown");
}

#[test]
fn the_job_of_a_killed_worker_is_begun_again() {
    let server = sharing();
    let mut client = Lines::connect(&server);
    let id = client.ask("job 16");
    let state = wait_until("the job has failed", || {
        let state = client.ask(&format!("state {id}"));
        // One of two works on it. One that was killed before may still be there.
        for worker in server.named("tine: job").into_iter().filter(|_| state == "running") {
            let _ = kill_process(Pid::from_raw(worker.pid).expect("a process"), Signal::KILL);
        }
        state.starts_with("failed").then_some(state)
    });
    assert_eq!(state, "failed the job has killed two workers");
    let full: Vec<String> = (0..11).map(|_| client.ask("job 16")).collect();
    assert!(full.last().expect("replies").contains("as many jobs are pending"), "{full:?}");
}

#[test]
fn waiting_jobs_are_done_before_the_server_ends() {
    let mut server = sharing();
    let mut client = Lines::connect(&server);
    for _ in 0..6 {
        client.ask("job 3");
    }
    drop(client);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn operators_see_what_is_shared_and_who_holds_it() {
    let folder = Folder::new("shared-state");
    let socket = folder.path("c.sock");
    let server = ServerCommand::program(built("sharing"), &["127.0.0.1:0", &socket]).start();
    let mut client = Lines::connect(&server);
    client.ask("hit");
    client.ask("measure");
    assert_eq!(client.ask("hold"), "held");
    let ask = |words: &[&str]| {
        let (code, out, err) =
            run(std::process::Command::new(tine()).args(words).args(["--control", &socket]));
        assert_eq!(code, 0, "{err}");
        out
    };
    let status = ask(&["status"]);
    for line in ["hits (counter): value 1", "level (gauge): value -3", "total (mutex): held 1"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    assert!(status.contains("seconds (histogram): count 1, sum 0.5"), "{status}");
    let show = ask(&["show", "1"]);
    assert!(show.lines().any(|line| line.split_whitespace().eq(["holds", "total"])), "{show}");
}

/// For six seconds, or as many as `TINE_ATTACK_SECONDS` says, connections that use everything are
/// killed at random.
#[test]
fn nothing_is_torn_lost_or_held_when_processes_are_killed() {
    let server = sharing();
    let (mut random, mut kills) = (Random::new(7), 0i64);
    let seconds = std::env::var("TINE_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut clients: Vec<Lines> = Vec::new();
    while Instant::now() < end {
        while clients.len() < 64 {
            let mut client = Lines::connect(&server);
            client.send(&format!("attack {} {}", random.below(1 << 30), 1000 * seconds));
            clients.push(client);
        }
        let connections = server.named(CONNECTION);
        for _ in 0..8 {
            if let Some(process) = connections.get(random.below(connections.len().max(1)))
                && let Some(pid) = Pid::from_raw(process.pid)
                && kill_process(pid, Signal::KILL).is_ok()
            {
                kills += 1;
            }
        }
        clients.retain_mut(|client| {
            let mut ask = [rustix::event::PollFd::new(client.reader.get_ref(), rustix::event::PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut ask, Some(&now)) == Ok(0)
        });
    }
    for process in server.named(CONNECTION) {
        let pid = Pid::from_raw(process.pid).expect("a process");
        kills += i64::from(kill_process(pid, Signal::KILL).is_ok());
    }
    drop(clients);
    let mut client = Lines::connect(&server);
    let (check, found) = wait_until("every permit has come back", || {
        let check = client.ask("check");
        let found: Vec<i64> = check.split(' ').map(|number| number.parse().expect("a number")).collect();
        (found[6] == 3).then_some((check, found))
    });
    let [mutex, cell, counter, table, missing, torn, _, hits] = found[..] else { panic!("{check}") };
    for beyond in [mutex, cell, counter, table] {
        assert!((0..=kills).contains(&beyond), "{beyond} of {kills} kills: {check}");
    }
    assert!(missing.abs() <= kills, "{missing} of {kills} kills: {check}");
    assert_eq!(torn, 0, "{check}");
    assert!(kills > 50 && hits > 1000, "{kills} kills, {check}");
}

/// A process that writes beside the library makes values wrong, and nothing else: no process waits
/// for ever or ends, and what is set afterwards is read.
#[test]
fn nobody_is_held_up_by_garbage_in_shared_memory() {
    let server = sharing();
    for seed in 1..4 {
        let scribbled = Lines::connect(&server).ask(&format!("scribble {seed}"));
        let count = scribbled.strip_prefix("scribbled ").and_then(|count| count.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count >= 2), "{scribbled}");
        let mut clients: Vec<Lines> = (0..4).map(|_| Lines::connect(&server)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&format!("attack {number} 300"));
        }
        for client in &mut clients {
            assert_eq!(client.receive(), "over");
        }
        let mut client = Lines::connect(&server);
        let hits: u64 = client.ask("hit").parse().expect("a number");
        assert_eq!(client.ask("hit"), hits.wrapping_add(1).to_string());
        assert!(client.ask("add 0").ends_with(" died=false"));
        let id = client.ask("job 7");
        assert_eq!(client.ask(&format!("wait {id}")), "done 49");
    }
}
