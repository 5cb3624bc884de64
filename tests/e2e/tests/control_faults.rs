//! Faults around the control socket: processes that are killed or stopped, descriptors that run
//! out, operators that disturb each other. Service goes on, and each command ends with what is
//! true.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::names::{CONTROL, FORKER, outcome};
use tine_e2e::proxies::line;
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

/// A command about the server with this control socket.
fn about(socket: &str, words: &[&str]) -> (i32, String, String) {
    run(Command::new(tine()).args(words).args(["--control", socket]))
}

/// The control process of a controller that has not sent all of its request.
fn unfinished(controlled: &Controlled) -> (UnixStream, i32) {
    let mut stream = UnixStream::connect(controlled.folder.path("c.sock")).expect("listens");
    stream.write_all(b"{").expect("room");
    let pid = wait_until("a control process", || Some(controlled.server.named(CONTROL).first()?.pid));
    (stream, pid)
}

#[test]
fn a_ban_beyond_the_calendar_is_for_ever() {
    let controlled = Controlled::serve("calendar", &[], &[]);
    controlled.done(&["ban", "127.0.0.9", "--for", "500000000000s"]);
    assert_eq!(controlled.json(&["bans"])[0]["left_ms"], Value::Null);
    assert!(!Client::from_source("127.0.0.9", controlled.server.port()).is_served());
    assert!(controlled.server.connect().is_served());
}

#[test]
fn an_operator_outside_the_pid_namespace_of_the_server_is_served() {
    let folder = Folder::new("pid-namespace");
    let socket = folder.path("c.sock");
    let options = ["--control", &socket, "--state-directory", "none"];
    let server = ServerCommand::wrapped(["unshare", "--pid", "--fork", "--kill-child"], options).start();
    for words in [&["status"][..], &["pause"], &["resume"]] {
        let (code, _, err) = about(&socket, words);
        assert_eq!(code, 0, "{words:?}: {err}");
    }
    let control = &server.log.wait_for("control", 1)[0];
    assert_eq!((&control["uid"], &control["pid"]), (&json!(0), &Value::Null), "{control}");
}

#[test]
fn controllers_are_accepted_again_once_there_are_descriptors() {
    let folder = Folder::new("descriptors");
    let socket = folder.path("c.sock");
    let options = ["--control", &socket, "--state-directory", "none"];
    let server = ServerCommand::wrapped(["prlimit", "--nofile=48:48", "--"], options).start();
    let silent: Vec<UnixStream> =
        (0..60).map(|_| UnixStream::connect(&socket).expect("room in the backlog")).collect();
    wait_until("every descriptor is used", || (procfs::descriptors(server.pid()).len() >= 48).then_some(()));
    server.connect().echo("x").finish();
    drop(silent);
    assert_eq!(about(&socket, &["status"]).0, 0);
}

#[test]
fn two_operators_who_end_a_connection_both_wait_for_its_end() {
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let controlled = Controlled::serve("both", &["--client-gone", "leave"], &["sh", "-c", script]);
    let mut client = controlled.server.connect();
    client.expect("ready\n");
    let start = || controlled.command(&["kill", "1"]).stdout(Stdio::piped()).spawn().expect("started");
    let mut first = start();
    wait_until("it ends", || (controlled.json(&["list"])[0]["state"] == "ending").then_some(()));
    // The first does not take the second with it when it is killed.
    let [second, third] = [start(), start()];
    first.kill().expect("it runs");
    first.wait().expect("our child");
    for child in [second, third] {
        let output = child.wait_with_output().expect("our child");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ended 1\n");
    }
    assert!(controlled.json(&["list"]).is_empty());
    assert_eq!(outcome(&controlled.server.log.wait_for("end", 1)[0]), "killed");
}

/// Ends the first of two connections, and checks the second.
fn kills_one_of_two(name: &str, options: &[&str], program: &[&str], greeting: &str) {
    let controlled = Controlled::serve(name, options, program);
    let mut clients = [(); 2].map(|()| {
        let mut client = controlled.server.connect();
        client.send(greeting).echo("x\n");
        client
    });
    let rows = controlled.json(&["list", "--sort", "id"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(controlled.done(&["kill", &rows[0]["id"].to_string()]), "ended 1\n");
    let left = controlled.json(&["list"]);
    assert_eq!((left.len(), &left[0]["id"]), (1, &rows[1]["id"]), "{left:?}");
    clients[0].expect_closed();
    clients[1].echo("y\n");
    controlled.server.connect().send(greeting).echo("z\n");
}

#[test]
fn a_connection_of_a_spare_is_ended() {
    kills_one_of_two("kill-spare", &["--spares", "4"], &[], "");
}

#[test]
fn a_connection_of_a_worker_is_ended() {
    kills_one_of_two("kill-worker", &["--spares", "4", "--reuse", "100"], &[], "");
}

#[test]
fn a_connection_with_a_terminal_is_ended() {
    kills_one_of_two("kill-pty", &["--pty"], &["cat"], "");
}

#[test]
fn a_proxied_connection_is_ended() {
    kills_one_of_two("kill-proxied", &["--proxy-from", "127.0.0.1"], &[], &line("192.0.2.1"));
}

#[test]
fn the_end_of_a_connection_that_cannot_be_ended_is_not_awaited() {
    let folder = Folder::new("unkillable");
    let mode = |path: &str, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    mode(&folder.path(""), 0o777);
    let (setpriv, socket) = (folder.path("setpriv"), folder.path("c.sock"));
    let (_, path, _) = run(Command::new("sh").args(["-c", "command -v setpriv"]));
    std::fs::copy(path.trim(), &setpriv).expect("setpriv is installed");
    mode(&setpriv, 0o4755);
    let copy = folder.copy_of_tine();
    mode(&folder.path(""), 0o777);
    // The program becomes root, the server is nobody.
    let options = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let mut command = ServerCommand::program("setpriv", &options);
    command.command().arg(copy).args(["serve", "--log", "json", "-1", "--control", &socket]);
    command.command().args(["--state-directory", "none", "127.0.0.1:0", "--"]);
    command.command().args([&setpriv, "--reuid=0", "sleep", "1002"]);
    let server = command.start();
    let _client = server.connect();
    let program = server.log.wait_for("accept", 1)[0]["pid"].as_i64().expect("a process id") as i32;
    wait_until("the program runs as root", || (procfs::ids(program, "Uid") == ["0"; 4]).then_some(()));
    let (code, _, err) = about(&socket, &["kill", "1"]);
    assert!(code == 111 && err.contains("has not ended, though it was killed"), "{code} {err}");
    kill(program, Signal::KILL);
    server.log.wait_for("end", 1);
}

#[test]
fn a_forker_that_is_killed_in_a_pause_does_not_accept_when_it_is_restarted() {
    let controlled = Controlled::serve("pause-killed", &[], &[]);
    let forker = controlled.server.forkers()[0];
    controlled.done(&["pause"]);
    kill(forker, Signal::KILL);
    controlled.server.log.wait_for("restart", 1);
    let mut waiting = controlled.server.connect();
    waiting.send("from the backlog");
    assert_ne!(controlled.server.forkers()[0], forker);
    // A pause that is asked for again is seen by the new forker, too.
    controlled.done(&["pause"]);
    assert_eq!(procfs::backlog(controlled.server.port()), 1);
    assert!(controlled.json(&["list"]).is_empty());
    controlled.done(&["resume"]);
    waiting.expect("from the backlog");
}

#[test]
fn a_stop_in_a_pause_serves_the_backlog() {
    let mut controlled = Controlled::serve("pause-stop", &["--spares", "2"], &[]);
    controlled.done(&["pause"]);
    let mut waiting = controlled.server.connect();
    waiting.send("the last").half_close();
    controlled.server.signal(Signal::TERM);
    assert_eq!(waiting.read_text(), "the last");
    assert_eq!(controlled.server.wait().code(), Some(0));
}

#[test]
fn a_stopped_control_process_does_not_hold_a_stop() {
    let mut controlled = Controlled::serve("stopped", &["--drain-timeout", "1h"], &[]);
    let (_stream, pid) = unfinished(&controlled);
    kill(pid, Signal::STOP);
    controlled.done(&["drain"]);
    assert_eq!(controlled.server.wait().code(), Some(0));
    assert!(!procfs::is_running(pid));
}

#[test]
fn the_directory_of_the_socket_is_open_to_the_group_whatever_the_umask() {
    let folder = Folder::new("umask");
    let directory = folder.path("run");
    let tine = tine().display().to_string();
    let shell = ["-c", "umask 077; exec \"$0\" \"$@\"", &tine, "serve", "--log", "json", "-1"];
    let words = ["--name", "masked", "--control-group", "games", "--state-directory", "none", "127.0.0.1:0"];
    let mut command = ServerCommand::program("sh", &[&shell[..], &words].concat());
    command.command().env("RUNTIME_DIRECTORY", &directory);
    let _server = command.start();
    let mode = |path: &str| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&format!("{directory}/masked.sock"))), (0o755, 0o660));
}

#[test]
fn a_command_about_a_stopped_supervisor_ends() {
    let controlled = Controlled::serve("halted", &[], &[]);
    let supervisor = controlled.server.pid();
    kill(supervisor, Signal::STOP);
    let (code, _, err) = controlled.tine(&["status"]);
    kill(supervisor, Signal::CONT);
    assert!(code == 111 && err.contains("has not answered for 10s"), "{code}: {err}");
    controlled.done(&["status"]);
}

#[test]
fn a_command_whose_supervisor_is_killed_says_so() {
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let controlled = Controlled::serve("killed", &["--client-gone", "leave"], &["sh", "-c", script]);
    let mut client = controlled.server.connect();
    client.expect("ready\n");
    let child = controlled.command(&["kill", "1"]).stderr(Stdio::piped()).spawn().expect("started");
    wait_until("it ends", || (controlled.json(&["list"])[0]["state"] == "ending").then_some(()));
    controlled.server.signal(Signal::KILL);
    let output = child.wait_with_output().expect("our child");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(111) && err.contains("the server has ended"), "{output:?}");
    assert_eq!(controlled.tine(&["status"]).0, 3);
}

#[test]
fn a_group_that_reads_cannot_keep_out_the_operators_that_steer() {
    let controlled = Controlled::serve("readers", &["--control-group", "games"], &[]);
    let socket = controlled.folder.path("c.sock");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&controlled.folder.0, mode).expect("ours");
    let script = "import socket, sys\nall = []\nfor _ in range(70):\n    s = socket.socket(socket.AF_UNIX)\n    \
                  s.connect(sys.argv[1])\n    s.send(b'{')\n    all.append(s)\nprint('ready', flush=True)\n\
                  sys.stdin.read()";
    let options =
        ["--reuid", "nobody", "--regid", "nogroup", "--groups", "games", "--", "/usr/bin/python3", "-c"];
    let mut readers = Command::new("setpriv");
    readers.args(options).args([script, &socket]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut readers = readers.spawn().expect("python3 is installed");
    let mut ready = [0; 6];
    readers.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("all have connected");
    wait_until("they keep their control processes", || {
        (controlled.server.named(CONTROL).len() == 12).then_some(())
    });
    controlled.done(&["pause"]);
    controlled.done(&["resume"]);
    drop(readers.stdin.take());
    readers.wait().expect("our child");
}

#[test]
fn clients_are_served_while_controllers_connect_without_end() {
    let controlled = Controlled::serve("flood", &[], &[]);
    let (socket, is_over) = (controlled.folder.path("c.sock"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for request in [&b""[..], b"{\"command\":\"list\",\"ended\":true}\n"] {
            let (socket, is_over) = (&socket, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = UnixStream::connect(socket).and_then(|mut stream| stream.write_all(request));
                }
            });
        }
        for _ in 0..200 {
            controlled.server.connect().echo("unaffected").finish();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    controlled.server.log.wait_for("end", 200);
    assert_eq!(controlled.status()["ended"], 200);
}

#[test]
fn a_stop_leaves_the_control_socket_of_another_server_alone() {
    let Controlled { folder, mut server } = Controlled::serve("replaced", &[], &[]);
    let socket = folder.path("c.sock");
    // A second server on the same path is refused while the first has it.
    let words = ["serve", "127.0.0.1:0", "--control", &socket, "--state-directory", "none"];
    let (code, _, err) = run(Command::new(tine()).args(words));
    assert!(code == 111 && err.contains("a living server has it"), "{code} {err}");
    std::fs::remove_file(&socket).expect("there");
    let second = Server::serve(&["--control", &socket, "--state-directory", "none"]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let (code, out, err) = about(&socket, &["status", "--json"]);
    assert_eq!(code, 0, "{err}");
    let status: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(status[0]["pid"], second.pid());
    // A link is not followed.
    let link = folder.path("link.sock");
    std::os::unix::fs::symlink(folder.path("target.sock"), &link).expect("made");
    let (code, _, err) = run(Command::new(tine()).args(["serve", "127.0.0.1:0", "--control", &link]));
    assert!(code == 111 && err.lines().count() == 1, "{code} {err}");
    assert!(!std::path::Path::new(&folder.path("target.sock")).exists());
    // Nor does a directory that is gone disturb a stop.
    let mut second = second;
    std::fs::remove_dir_all(&folder.0).expect("ours");
    second.connect().echo("x").finish();
    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(0));
}

const SERVICES: &str = "[services.echo]\nlisten = '127.0.0.1:0'\n\
    [services.once]\nlisten = '127.0.0.1:0'\nexit-after = 1\n\
    [services.upper]\nlisten = '127.0.0.1:0'\nprogram = ['tr', 'a-z', 'A-Z']\n";

#[test]
fn a_service_that_has_ended_is_not_awaited() {
    let folder = Folder::new("ended");
    let file = folder.write("three.toml", SERVICES);
    let socket = folder.path("c.sock");
    let file = file.to_str().expect("UTF-8");
    let words = ["serve", "--config", file, "--log", "json", "-1", "--control", &socket];
    let words = [&words[..], &["--state-directory", "none"]].concat();
    let mut server = ServerCommand::program(tine(), &words).start();
    let status = |of: &[&str]| -> Vec<Value> {
        let (code, out, err) = about(&socket, &[&["status", "--json"], of].concat());
        assert_eq!(code, 0, "{of:?}: {err}");
        serde_json::from_str(&out).expect("JSON")
    };
    Client::connect(server.log.port_of("once")).echo("x").finish();
    server.log.wait("the service ends", |log| {
        log.of("stop").iter().any(|line| line["service"] == "once").then_some(())
    });
    wait_until("the master knows", || (status(&[]).len() == 2).then_some(()));
    // One whose supervisor waits for its restart.
    let supervisor = || status(&["upper"])[0]["pid"].as_i64().expect("a process id") as i32;
    while server.log.of("restart").iter().all(|line| line["restart_in_seconds"].as_f64() < Some(0.8)) {
        let restarts = server.log.of("restart").len();
        kill(supervisor(), Signal::KILL);
        server.log.wait_for("restart", restarts + 1);
    }
    assert_eq!(about(&socket, &["drain", "upper"]).0, 0);
    assert_eq!(status(&[]).len(), 1);
    // With the last service the server ends.
    assert_eq!(about(&socket, &["drain", "echo"]).0, 0);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.named(FORKER).is_empty());
}
