//! `tine logs`: the lines in memory are those of the log, and a command that follows it costs the
//! server nothing.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::names::CONTROL;
use tine_e2e::{Client, Folder, Log, Server, ServerCommand, kill, procfs, run, tine, wait_until};

/// A command that follows the log. Dropping it kills it.
struct Follower {
    process: Child,
    lines: Log,
}

impl Follower {
    fn start(command: &mut Command) -> Follower {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("started");
        let lines = Log::from_pipe(process.stdout.take().expect("piped"));
        Follower { process, lines }
    }

    /// Waits for its end. Returns its exit code, once all its lines are read.
    fn wait(&mut self) -> Option<i32> {
        let status = wait_until("the command ends", || self.process.try_wait().expect("our child"));
        self.lines.wait_until_closed();
        status.code()
    }

    fn interrupt(&self) {
        kill(self.process.id() as i32, Signal::INT);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A controller that sends a request by itself.
fn request(socket: &str, request: &Value) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("listens");
    stream.write_all(format!("{request}\n").as_bytes()).expect("room");
    stream.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("a socket option");
    stream
}

/// A controller that follows the log, once it does.
fn follow(socket: &str, lines: u64) -> BufReader<UnixStream> {
    let mut reader =
        BufReader::new(request(socket, &json!({ "command": "logs", "follow": true, "lines": lines })));
    let mut line = String::new();
    while line != "{\"type\":\"follow\"}\n" {
        line.clear();
        assert!(reader.read_line(&mut line).expect("a line") > 0, "the end");
        assert!(line.contains("\"type\""), "{line}");
    }
    reader
}

fn of(lines: &[Value], event: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["event"] == event).cloned().collect()
}

fn parse(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn the_lines_in_memory_are_those_of_the_log() {
    let controlled = Controlled::serve("last", &[], &[]);
    for _ in 0..20 {
        controlled.server.connect().echo("x").finish();
    }
    controlled.server.log.wait_for("end", 20);
    let logged = controlled.server.log.lines();
    let printed = controlled.done(&["logs", "--json", "--lines", "1000"]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), logged);
    assert_eq!(logged.len(), 41, "listen, and two lines for each connection");
    let last = controlled.done(&["logs", "--json", "-n", "2"]);
    assert_eq!(last.lines().collect::<Vec<_>>(), logged[logged.len() - 2..]);
    assert_eq!(controlled.done(&["logs", "-n", "0"]), "");
    // As text, too.
    let text = controlled.done(&["logs", "-n", "1"]);
    let value: Value = serde_json::from_str(&logged[40]).expect("JSON");
    let begin = format!("{} end id={} peer=", value["time"].as_str().expect("a time"), value["id"]);
    assert!(text.starts_with(&begin) && text.ends_with('\n') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn filters_select_lines_of_clients_and_connections() {
    let program = ["sh", "-c", "echo \"it's\tred \" >&2; cat"];
    let controlled = Controlled::serve("filters", &["--stderr", "log"], &program);
    let mut clients = ["127.0.0.2", "127.0.0.3"].map(|source| {
        let mut client = Client::from_source(source, controlled.server.port());
        client.echo("x");
        client
    });
    controlled.server.log.wait_for("stderr", 2);
    // A line of standard error has no client; its connection has.
    let events = |words: &[&str]| -> Vec<String> {
        let lines = parse(&controlled.done(&[&["logs", "--json"], words].concat()));
        let mut events: Vec<String> =
            lines.iter().map(|line| line["event"].as_str().expect("an event").to_owned()).collect();
        // They are written by two processes.
        events.sort();
        events
    };
    assert_eq!(events(&["--peer", "127.0.0.2/32"]), ["accept", "stderr"]);
    assert_eq!(events(&["--peer", "127.0.0.2/31"]), ["accept", "accept", "stderr", "stderr"]);
    assert_eq!(events(&["--peer", "192.0.2.0/24"]).len(), 0);
    assert_eq!(events(&["--connection", "2"]), ["accept", "stderr"]);
    assert_eq!(events(&["--connection", "2", "--peer", "127.0.0.2"]).len(), 0);
    let text = controlled.done(&["show", "1"]);
    let shown: Vec<&str> = text.lines().filter(|line| line.contains(" id=1 ")).collect();
    assert_eq!(shown.len(), 2, "{text}");
    assert!(shown.iter().any(|line| line.ends_with("stderr id=1 text=\"it's\\tred \"")), "{text}");
    let shown: Value = serde_json::from_str(&controlled.done(&["show", "2", "--json"])).expect("JSON");
    let log = shown["log"].as_array().expect("lines");
    assert!(log.len() == 2 && log.iter().all(|line| line["id"] == 2), "{shown}");
    clients[0].finish();
    controlled.server.log.wait_for("end", 1);
    assert_eq!(events(&["--peer", "127.0.0.2/32"]), ["accept", "end", "stderr"]);
    for (words, code) in [
        (&["logs", "--peer", "127.0.0.1/8"][..], 100),
        (&["logs", "--connection", "x"], 100),
        (&["logs", "--service", "none"], 111),
    ] {
        let (found, _, err) = controlled.tine(words);
        assert!(found == code && err.lines().count() == 1, "{words:?}: {found} {err}");
    }
}

#[test]
fn a_follower_gets_each_line_once_until_it_is_interrupted() {
    let controlled = Controlled::serve("live", &["--verbose"], &[]);
    let mut follower = Follower::start(&mut controlled.command(&["logs", "-f", "--json", "-n", "1000"]));
    follower.lines.wait_for("listen", 1);
    for _ in 0..10 {
        controlled.server.connect().echo("from a connection process").finish();
    }
    controlled.server.log.wait_for("end", 10);
    follower.lines.wait_for("end", 10);
    let process = controlled.server.named(CONTROL).remove(0).pid;
    assert_eq!(procfs::status(process, "Seccomp"), "2");
    assert!(!procfs::mappings(process).iter().any(procfs::Mapping::is_shared_and_writable));
    follower.interrupt();
    assert_eq!(follower.wait(), Some(130));
    // Lines of different processes can be written in another order to standard error.
    let sorted = |log: &Log| log.lines().into_iter().collect::<BTreeSet<String>>();
    assert_eq!(follower.lines.lines().len(), controlled.server.log.lines().len());
    assert_eq!(sorted(&follower.lines), sorted(&controlled.server.log));
    assert_eq!(follower.lines.of("receive").len(), 10);
    // Its control process ends with it.
    wait_until("no control process is left", || controlled.server.named(CONTROL).is_empty().then_some(()));
}

#[test]
fn lines_of_workers_and_helpers_are_kept() {
    let options = ["--spares", "2", "--reuse", "50", "--max-connections-per-source", "1"];
    let controlled = Controlled::serve("helpers", &options, &[]);
    let mut first = Client::from_source("127.0.0.2", controlled.server.port());
    first.echo("x");
    assert!(!Client::from_source("127.0.0.2", controlled.server.port()).is_served());
    first.finish();
    controlled.server.log.wait_for("reject", 1);
    controlled.server.log.wait_for("end", 1);
    let lines = parse(&controlled.done(&["logs", "--json"]));
    for event in ["accept", "end", "reject"] {
        assert_eq!(of(&lines, event), controlled.server.log.of(event), "{event}");
    }
}

#[test]
fn lines_that_are_not_written_are_not_kept() {
    let quiet = Controlled::serve("quiet", &["--quiet"], &[]);
    quiet.server.connect().echo("x").finish();
    quiet.server.signal(Signal::USR1);
    quiet.server.log.wait_for("warning", 1);
    let lines = parse(&quiet.done(&["logs", "--json"]));
    assert_eq!(lines, quiet.server.log.events());
    let folder = Folder::new("off");
    let socket = folder.path("c.sock");
    let options = ["serve", "127.0.0.1:0", "-1", "--log", "off", "--state-directory", "none"];
    let off = ServerCommand::program(tine(), &[&options[..], &["--control", &socket]].concat()).start();
    off.connect().echo("x").finish();
    let printed = run(Command::new(tine()).args(["logs", "--control", &socket]));
    assert_eq!(printed, (0, String::new(), String::new()));
}

#[test]
fn a_drain_ends_followers() {
    let mut controlled = Controlled::serve("drains", &[], &[]);
    let mut client = controlled.server.connect();
    client.echo("x");
    let mut follower = Follower::start(&mut controlled.command(&["logs", "--follow", "--json"]));
    follower.lines.wait_for("accept", 1);
    controlled.server.signal(Signal::TERM);
    follower.lines.wait_for("drain", 1);
    assert!(follower.process.try_wait().expect("our child").is_none(), "a connection is left");
    client.echo("y").finish();
    assert_eq!(follower.wait(), Some(0));
    assert_eq!(follower.lines.of("end").len(), 1);
    assert_eq!(controlled.server.wait().code(), Some(0));
}

#[test]
fn the_end_of_the_supervisor_ends_followers_with_an_error() {
    let mut controlled = Controlled::serve("killed", &[], &[]);
    let mut follower = Follower::start(&mut controlled.command(&["logs", "--follow", "--json"]));
    follower.lines.wait_for("listen", 1);
    controlled.server.signal(Signal::KILL);
    assert_eq!(follower.wait(), Some(111));
    controlled.server.wait_for_exit();
}

#[test]
fn a_follower_that_does_not_read_loses_lines_and_delays_nothing() {
    let mut controlled = Controlled::serve("unread", &["--verbose", "--drain-timeout", "1h"], &[]);
    let socket = controlled.folder.path("c.sock");
    let mut slow = follow(&socket, 0);
    let stuck = follow(&socket, 0);
    let mut client = controlled.server.connect();
    // More than the ring, and the buffers between it and the controller.
    const MESSAGES: u64 = 8000;
    for _ in 0..MESSAGES {
        client.echo("a line");
    }
    client.finish();
    controlled.server.log.wait_for("end", 1);
    let (mut received, mut lost) = (0, 0);
    let mut line = String::new();
    while !line.contains("\"event\":\"end\"") {
        line.clear();
        slow.read_line(&mut line).expect("a line");
        let value: Value = serde_json::from_str(&line).expect(&line);
        match value["event"].as_str() {
            Some("lost") => lost += value["lines"].as_u64().expect("a number"),
            _ => received += 1,
        }
    }
    assert!(lost > 0, "{received} lines were kept");
    assert_eq!(received + lost, MESSAGES + 2, "accept, end, and a line for each message");
    assert_eq!(controlled.status()["phase"], "serving");
    // Nothing has taken what is on its way to the other one.
    controlled.server.signal(Signal::TERM);
    assert_eq!(controlled.server.wait().code(), Some(0));
    drop(stuck);
    let mut rest = String::new();
    slow.read_to_string(&mut rest).expect("the end");
    assert!(rest.contains("\"event\":\"drain\"") && rest.ends_with("\"done\":true}\n"), "{rest}");
}

#[test]
fn followers_leave_room_for_other_commands() {
    let controlled = Controlled::serve("many", &[], &[]);
    let socket = controlled.folder.path("c.sock");
    let mut followers: Vec<BufReader<UnixStream>> = (0..16).map(|_| follow(&socket, 10)).collect();
    let (code, _, err) = controlled.tine(&["logs", "-f"]);
    assert!(code == 111 && err.contains("as many commands follow the log as can"), "{code} {err}");
    assert_eq!(controlled.status()["phase"], "serving");
    assert_eq!(controlled.done(&["logs"]).lines().count(), 1);
    // The end of one makes room for the next.
    followers.pop();
    wait_until("there is room", || (controlled.server.named(CONTROL).len() < 16).then_some(()));
    let _next = follow(&socket, 10);
    // A controller that has only ended its requests still reads.
    let follower = followers.pop().expect("15 of them");
    follower.get_ref().shutdown(std::net::Shutdown::Write).expect("connected");
    controlled.server.connect().echo("x").finish();
    let accept = follower.lines().map(|line| line.expect("a line")).find(|line| line.contains("accept"));
    assert!(accept.is_some());
}

#[test]
fn a_group_that_may_read_follows_the_log() {
    let controlled = Controlled::serve("group", &["--control-group", "games"], &[]);
    let copy = controlled.folder.copy_of_tine();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--groups", "games", "--"]).arg(&copy);
    command.args(["logs", "-f", "--json", "--control", &controlled.folder.path("c.sock")]);
    let mut follower = Follower::start(&mut command);
    follower.lines.wait_for("listen", 1);
    controlled.server.connect().echo("x").finish();
    follower.lines.wait_for("end", 1);
    follower.interrupt();
    assert_eq!(follower.wait(), Some(130));
}

const TWO: &str = "[services.echo]\nlisten = '127.0.0.1:0'\n\
    [services.upper]\nlisten = '127.0.0.1:0'\nprogram = ['tr', 'a-z', 'A-Z']\n";

#[test]
fn lines_of_several_services_are_one_log() {
    let folder = Folder::new("services");
    let file = folder.write("two.toml", TWO);
    let socket = folder.path("c.sock");
    let file = file.to_str().expect("UTF-8");
    let options = ["serve", "--config", file, "--log", "json", "-1", "--state-directory", "none"];
    let mut server =
        ServerCommand::program(tine(), &[&options[..], &["--control", &socket]].concat()).start();
    let command = |words: &[&str]| {
        let mut command = Command::new(tine());
        command.args(words).args(["--control", &socket]);
        command
    };
    let (echo, upper) = (server.log.port_of("echo"), server.log.port_of("upper"));
    let mut all = Follower::start(&mut command(&["logs", "-f", "--json"]));
    let mut one = Follower::start(&mut command(&["logs", "-f", "--json", "--service", "upper"]));
    all.lines.wait_for("listen", 2);
    one.lines.wait_for("listen", 1);
    for control in server.named(CONTROL) {
        let mappings = procfs::mappings(control.pid);
        assert!(!mappings.iter().any(procfs::Mapping::is_shared_and_writable), "{mappings:?}");
    }
    Client::connect(echo).echo("x").finish();
    assert_eq!(Client::connect(upper).send("x").finish(), b"X");
    all.lines.wait_for("end", 2);
    one.lines.wait_for("end", 1);
    // The last lines are in the order in which they were written, and as many as are wanted.
    let printed = |words: &[&str]| {
        let (code, out, err) = run(&mut command(&[&["logs", "--json"], words].concat()));
        assert_eq!(code, 0, "{err}");
        parse(&out)
    };
    let lines = printed(&[]);
    let times: Vec<&str> = lines.iter().filter_map(|line| line["time"].as_str()).collect();
    assert!(times.len() == 6 && times.is_sorted(), "{lines:?}");
    let last = printed(&["-n", "1"]);
    // Both services can have written in the last millisecond.
    assert!(last.len() == 1 && lines.contains(&last[0]) && last[0]["time"] == times[5], "{last:?}");
    let of_upper = printed(&["--connection", "upper:1"]);
    assert!(of_upper.len() == 2 && of_upper.iter().all(|line| line["service"] == "upper"), "{of_upper:?}");
    assert_eq!(printed(&["--service", "upper"]).len(), 3);
    // A bare id could be that of either.
    assert_eq!(run(&mut command(&["logs", "--connection", "1"])).0, 100);
    // The drain of one service is a line of the master, and ends the follower of that service.
    assert_eq!(run(&mut command(&["drain", "upper"])).0, 0);
    assert_eq!(one.wait(), Some(0));
    all.lines.wait_for("control", 1);
    Client::connect(echo).echo("x").finish();
    all.lines.wait_for("end", 3);
    assert_eq!(run(&mut command(&["drain"])).0, 0);
    assert_eq!(all.wait(), Some(0));
    assert_eq!(server.wait().code(), Some(0));
    assert!(one.lines.events().iter().all(|line| line["service"] == "upper"));
    assert_eq!(all.lines.of("control"), server.log.of("control"));
    assert_eq!(all.lines.of("drain").len(), 2);
}

#[test]
fn the_end_of_a_services_supervisor_ends_followers_with_an_error() {
    let folder = Folder::new("crash");
    let file = folder.write("two.toml", TWO);
    let socket = folder.path("c.sock");
    let file = file.to_str().expect("UTF-8");
    let options = ["serve", "--config", file, "--log", "json", "-1", "--state-directory", "none"];
    let server = ServerCommand::program(tine(), &[&options[..], &["--control", &socket]].concat()).start();
    let follower = || {
        let mut command = Command::new(tine());
        Follower::start(command.args(["logs", "-f", "--json", "--control", &socket]))
    };
    let mut before = follower();
    before.lines.wait_for("listen", 2);
    kill(server.named("tine: echo").remove(0).pid, Signal::KILL);
    assert_eq!(before.wait(), Some(111));
    // The next one has the line of the master about it.
    let after = follower();
    let restarts = after.lines.wait_for("restart", 1);
    assert_eq!(restarts, server.log.wait_for("restart", 1));
    assert_eq!(restarts[0]["role"], "service echo");
}

#[test]
fn the_lines_of_the_master_are_in_no_process_of_a_service() {
    let folder = Folder::new("master");
    let file = folder.write("two.toml", TWO);
    let file = file.to_str().expect("UTF-8");
    let start = |control: &str| {
        let options = ["serve", "--config", file, "--log", "json", "-1", "--state-directory", "none"];
        ServerCommand::program(tine(), &[&options[..], &["--control", control]].concat()).start()
    };
    let shared = |server: &Server, name: &str| -> usize {
        let mut client = Client::connect(server.log.port_of("echo"));
        client.echo("x");
        let process = wait_until("it runs", || server.named(name).into_iter().next()).pid;
        let mappings = procfs::mappings(process);
        mappings.iter().filter(|mapping| mapping.permissions.ends_with('s')).count()
    };
    // The lines of the service itself are a mapping. One more would make each fork slower.
    for (name, own) in [("tine: echo", 1), ("tine: forker", 1), ("tine: conn", 0)] {
        let without = shared(&start("none"), name);
        assert_eq!(shared(&start(&folder.path("c.sock")), name), without + own, "{name}");
    }
}
