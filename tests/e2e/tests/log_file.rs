//! `--log-file`: what is written there, rotation, full disks, stalled readers, killed log writers.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::{LOG_WRITER, outcome, pid};
use tine_e2e::targets::{events_of_file, wait_for_events, with_own_mounts};
use tine_e2e::{Client, EchoClients, Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

fn serve(folder: &Folder, options: &[&str]) -> (Server, String) {
    let path = folder.path("tine.log");
    (Server::serve(&[&["--log-file", &path], options].concat()), path)
}

fn writer(server: &Server) -> i32 {
    wait_until("the log writer runs", || server.named(LOG_WRITER).into_iter().next()).pid
}

fn ids(events: &[Value], event: &str) -> Vec<u64> {
    let of = events.iter().filter(|value| value["event"] == event);
    of.map(|value| value["id"].as_u64().expect("an id")).collect()
}

fn dropped(events: &[Value]) -> u64 {
    events
        .iter()
        .filter(|value| value["event"] == "dropped")
        .filter_map(|value| value["lines"].as_u64())
        .sum()
}

fn stop(server: &mut Server) {
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    server.wait_until_gone();
}

#[test]
fn all_lines_go_to_the_file_and_none_to_standard_error() {
    for mode in
        [&[][..], &["--spares", "2"], &["--spares", "2", "--reuse", "10", "--verbose"], &["--verbose"]]
    {
        let folder = Folder::new("log-file");
        fs::write(folder.path("tine.log"), "{\"event\":\"earlier\"}\n").expect("ours");
        let (mut server, path) = serve(&folder, mode);
        for _ in 0..5 {
            server.connect().echo("hello").finish();
        }
        wait_for_events(&path, "end", 5);
        stop(&mut server);
        let events = events_of_file(&path);
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
        assert_eq!((kinds[0], kinds[1], *kinds.last().expect("lines")), ("earlier", "listen", "stop"));
        for event in ["accept", "end"] {
            assert_eq!(ids(&events, event).len(), 5, "{mode:?}");
        }
        let received = if mode.contains(&"--verbose") { 5 } else { 0 };
        assert_eq!(ids(&events, "receive").len(), received, "{mode:?}");
        assert_eq!(server.log.lines(), Vec::<String>::new(), "{mode:?}");
    }
}

#[test]
fn confined_processes_and_those_of_another_user_log() {
    let folder = Folder::new("log-file-user");
    let text = "echo oops >&2";
    let path = folder.path("tine.log");
    let options = ["--log-file", &path, "--user", "nobody", "--stderr", "log", "--proxy-from", "127.0.0.2"];
    let deny = ["--proxy-others", "serve", "--deny", "127.0.0.3"];
    let mut server = Server::program(&[&options[..], &deny].concat(), &["sh", "-c", text]);
    server.connect().read_to_end();
    Client::from_source("127.0.0.3", server.port()).expect_closed();
    Client::from_source("127.0.0.2", server.port()).send("no header\r\n").expect_closed();
    // Of the stderr logger; of the rejector; of the proxy reader.
    wait_for_events(&path, "stderr", 1);
    wait_for_events(&path, "reject", 2);
    let reasons: BTreeSet<String> =
        wait_for_events(&path, "reject", 2).iter().map(|event| event["reason"].to_string()).collect();
    assert_eq!(reasons, ["\"denied\"", "\"proxy\""].map(str::to_owned).into());
    stop(&mut server);
}

/// The log writer is confined to the directory of the log file. Where that was replaced, the next
/// log writer is confined to the new one.
#[test]
fn a_directory_that_was_replaced_has_the_log_after_hup() {
    let folder = Folder::new("log-file-moved");
    fs::create_dir(folder.path("logs")).expect("ours");
    let path = folder.path("logs/tine.log");
    let mut server = Server::serve(&["--log-file", &path]);
    server.connect().echo("x").finish();
    wait_for_events(&path, "end", 1);
    fs::rename(folder.path("logs"), folder.path("old")).expect("ours");
    fs::create_dir(folder.path("logs")).expect("ours");
    server.signal(Signal::HUP);
    let restart = wait_for_events(&path, "restart", 1).remove(0);
    assert_eq!((restart["role"].as_str(), outcome(&restart)), (Some("log writer"), "exit 0"));
    server.connect().echo("y").finish();
    wait_for_events(&path, "end", 1);
    stop(&mut server);
    assert_eq!(ids(&events_of_file(folder.path("old/tine.log")), "end"), [1]);
}

#[test]
fn a_log_writer_that_can_open_the_file_only_later_is_confined_then() {
    let folder = Folder::new("log-file-late");
    fs::create_dir(folder.path("logs")).expect("ours");
    let path = folder.path("logs/tine.log");
    let mut server = Server::serve(&["--log-file", &path]);
    fs::rename(folder.path("logs"), folder.path("old")).expect("ours");
    let first = writer(&server);
    kill(first, Signal::KILL);
    let second = wait_until("another log writer runs", || {
        server.named(LOG_WRITER).into_iter().map(|process| process.pid).find(|pid| *pid != first)
    });
    assert_eq!(procfs::status(second, "Seccomp"), "0");
    fs::create_dir(folder.path("logs")).expect("ours");
    wait_for_events(&path, "restart", 1);
    wait_until("it is confined", || (procfs::status(second, "Seccomp") == "2").then_some(()));
    stop(&mut server);
}

/// The channel to the log writer is the server's: a connection process has it only where it logs
/// what it receives. The log writer has neither listeners nor clients.
#[test]
fn connections_have_no_descriptor_of_the_log_and_the_log_writer_none_of_connections() {
    for (options, program, sockets) in [
        (&[][..], &[][..], 1),
        (&["--spares", "1"], &[], 1),
        (&["--verbose"], &[], 2),
        (&["--verbose"], &["cat"], 1),
        (&["--verbose", "--spares", "1"], &["cat"], 1),
    ] {
        let folder = Folder::new("log-file-descriptors");
        let path = folder.path("tine.log");
        let words = [&["--log-file", path.as_str(), "--control", "none"], options].concat();
        let server =
            if program.is_empty() { Server::serve(&words) } else { Server::program(&words, program) };
        server.connect().echo("x").finish();
        let mut client = server.connect();
        client.echo("x");
        let accept = wait_for_events(&path, "accept", 2).remove(1);
        let sockets_of = |pid: i32| {
            let targets: BTreeSet<String> =
                procfs::descriptors(pid).into_iter().map(|(_, target)| target).collect();
            targets.into_iter().filter(|target| target.starts_with("socket:")).count()
        };
        let pid = pid(&accept);
        // A log in verbose mode has a second descriptor of the same socket.
        assert_eq!(sockets_of(pid), sockets, "{options:?} {program:?}: {:?}", procfs::descriptors(pid));
        let writer = writer(&server);
        assert_eq!((sockets_of(writer), procfs::tcp_sockets(writer).len()), (1, 0), "{options:?}");
    }
}

#[test]
fn hup_opens_the_file_again_and_loses_no_line() {
    let folder = Folder::new("log-file-hup");
    let (mut server, path) = serve(&folder, &[]);
    for number in 1..=3 {
        server.connect().echo("x").finish();
        fs::rename(&path, folder.path(&format!("tine.log.{number}"))).expect("rotated");
        server.signal(Signal::HUP);
        let reload = wait_for_events(&path, "reload", 1).remove(0);
        assert_eq!(reload["log_file"], path.as_str());
    }
    // Without the directory, lines go to the file that is open.
    let moved = format!("{}-moved", folder.0.display());
    fs::rename(&folder.0, &moved).expect("ours");
    server.signal(Signal::HUP);
    let error = wait_for_events(format!("{moved}/tine.log"), "error", 1).remove(0);
    let text = error["text"].as_str().expect("a text");
    assert!(text.starts_with("cannot open the log file") && text.contains("keeping the open one"), "{text}");
    assert_eq!(server.log.wait_for("error", 1).len(), 1, "standard error has it, too");
    server.connect().echo("x").finish();
    fs::rename(&moved, &folder.0).expect("ours");
    stop(&mut server);
    let files = ["tine.log.1", "tine.log.2", "tine.log.3", "tine.log"];
    let events: Vec<Value> = files.iter().flat_map(|name| events_of_file(folder.path(name))).collect();
    assert_eq!((ids(&events, "accept"), ids(&events, "end")), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
}

#[test]
fn one_hup_to_the_master_concerns_all_services() {
    let folder = Folder::new("log-file-services");
    let path = folder.path("tine.log");
    let text = format!(
        "log-file = '{path}'\nlog = 'json'\nprint-ports = true\ncontrol = 'none'\n\
         [services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\nquiet = true\n\
         [services.c]\nlisten = '127.0.0.1:0'\nverbose = true\n"
    );
    let file = folder.write("tine.toml", &text);
    let file = file.to_str().expect("a path in UTF-8");
    let mut server = ServerCommand::program(tine(), &["serve", "--config", file]).start();
    assert_eq!(server.named(LOG_WRITER).len(), 1);
    let listen = wait_for_events(&path, "listen", 2);
    let port = |service: &str| {
        let line = listen.iter().find(|line| line["service"] == service).expect("its line");
        let address = line["address"].as_str().expect("an address");
        address.rsplit_once(':').expect("a port").1.parse().expect("a number")
    };
    Client::connect(port("a")).echo("x").finish();
    Client::connect(port("c")).echo("x").finish();
    wait_for_events(&path, "end", 2);
    fs::rename(&path, folder.path("old")).expect("rotated");
    server.signal(Signal::HUP);
    wait_for_events(&path, "reload", 1);
    Client::connect(port("a")).echo("x").finish();
    wait_for_events(&path, "end", 1);
    stop(&mut server);
    let old = events_of_file(folder.path("old"));
    let of = |service: &str| old.iter().filter(|event| event["service"] == service).count();
    // listen, accept, end; nothing; and the bytes that the connection has received.
    assert_eq!((of("a"), of("b"), of("c")), (3, 0, 4), "{old:?}");
    assert_eq!(events_of_file(&path).last().expect("lines")["services"], 3);
    assert_eq!(server.log.lines(), Vec::<String>::new());
}

#[test]
fn logrotate_rotates_by_create_and_by_copytruncate() {
    for (how, options) in [("create 0600 root root", true), ("copytruncate", false)] {
        let folder = Folder::new("log-file-logrotate");
        let pid_file = folder.path("tine.pid");
        let (mut server, path) = serve(&folder, &["--pid-file", &pid_file]);
        let postrotate = match options {
            true => format!("postrotate\n kill -HUP $(cat {pid_file})\n endscript\n"),
            false => String::new(),
        };
        let rules = format!("{path} {{\n su root root\n rotate 9\n {how}\n {postrotate}}}\n");
        let rules = folder.write("logrotate.conf", &rules);
        fs::set_permissions(&rules, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
        for number in 1..=4_u64 {
            server.connect().echo("x").finish();
            wait_until("the line of the last connection", || {
                ids(&events_of_file(&path), "end").contains(&number).then_some(())
            });
            let state = folder.path("state");
            let mut logrotate = Command::new("logrotate");
            let (code, _, err) = run(logrotate.args(["--force", "--state", &state]).arg(&rules));
            assert_eq!((code, err.as_str()), (0, ""));
            if options {
                wait_for_events(&path, "reload", 1);
            }
        }
        server.connect().echo("x").finish();
        stop(&mut server);
        let names = ["tine.log.4", "tine.log.3", "tine.log.2", "tine.log.1", "tine.log"];
        let events: Vec<Value> = names.iter().flat_map(|name| events_of_file(folder.path(name))).collect();
        assert_eq!(ids(&events, "accept"), [1, 2, 3, 4, 5], "{how}");
        assert_eq!(ids(&events, "end"), [1, 2, 3, 4, 5], "{how}");
    }
}

#[test]
fn a_killed_log_writer_loses_no_line() {
    let folder = Folder::new("log-file-killed");
    let (mut server, path) = serve(&folder, &[]);
    let clients = EchoClients::start(server.port(), 50);
    for number in 1..=3 {
        kill(writer(&server), Signal::KILL);
        let restarts = wait_for_events(&path, "restart", number);
        let last = restarts.last().expect("a line");
        assert_eq!((&last["role"], outcome(last)), (&"log writer".into(), "signal KILL"));
    }
    clients.wait_for_exchanges(200);
    clients.finish();
    stop(&mut server);
    let events = events_of_file(&path);
    // A line that was written when the log writer was killed may be there twice.
    for event in ["accept", "end"] {
        let ids: BTreeSet<u64> = ids(&events, event).into_iter().collect();
        assert_eq!(ids, (1..=50).collect(), "{event}");
    }
    assert_eq!(dropped(&events), 0);
}

#[test]
fn after_a_killed_supervisor_the_last_lines_are_written() {
    let folder = Folder::new("log-file-supervisor");
    let (mut server, path) = serve(&folder, &["--verbose"]);
    let writer = writer(&server);
    kill(writer, Signal::STOP);
    // Its line is sent before the answer.
    server.connect().echo("x").finish();
    server.signal(Signal::KILL);
    server.wait_for_exit();
    kill(writer, Signal::CONT);
    server.wait_until_gone();
    assert_eq!(ids(&events_of_file(path), "receive"), [1]);
}

#[test]
fn a_full_disk_loses_lines_only_and_they_are_counted() {
    let folder = Folder::new("log-file-full");
    let path = folder.path("small/tine.log");
    let mut server = with_own_mounts(&folder, &["--log-file", &path]).start();
    let inside = |name: &str| format!("/proc/{}/root{}", server.pid(), folder.path(name));
    let log = inside("small/tine.log");
    let filler = inside("small/filler");
    // The last page of the file has some room left.
    let _ = fs::write(&filler, vec![0; 128 << 10]);
    for _ in 0..100 {
        server.connect().echo("served").finish();
    }
    let error = server.log.wait_for("error", 1).remove(0);
    let text = error["text"].as_str().expect("a text");
    assert!(text.starts_with("cannot write to the log file") && text.contains("no space left"), "{text}");
    fs::remove_file(&filler).expect("ours");
    server.connect().echo("served").finish();
    wait_until("the count", || {
        let text = fs::read_to_string(&log).expect("a log file");
        text.contains("\"event\":\"dropped\"").then_some(())
    });
    server.log.wait_for("recovered", 1);
    // Kept open: the file system ends with the server.
    let mut file = fs::File::open(&log).expect("a log file");
    stop(&mut server);
    let mut text = String::new();
    file.read_to_string(&mut text).expect("UTF-8");
    // The line that the disk took a part of is counted, and ends before the next one.
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(text.lines().count() - events.len() <= 1, "{text}");
    let kinds = ["listen", "accept", "end", "drain", "stop"];
    let written = events.iter().filter(|event| kinds.iter().any(|kind| event["event"] == *kind)).count();
    assert_eq!(written as u64 + dropped(&events), 3 + 2 * 101, "{text}");
    assert_eq!(events.last().expect("lines")["event"], "stop");
}

#[test]
fn a_stalled_reader_holds_up_no_client_and_lost_lines_are_counted() {
    let folder = Folder::new("log-file-stalled");
    let path = folder.path("pipe");
    let (code, _, err) = run(Command::new("mkfifo").arg(&path));
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = run(Command::new(tine()).args(["serve", "--log-file", &path, "127.0.0.1:0"]));
    assert!(code == 111 && err.contains("cannot log to"), "no reader: {code} {err}");
    let mut reader = fs::File::options().read(true).write(true).open(&path).expect("ours");
    let mut server = Server::serve(&["--log-file", &path, "--verbose"]);
    let mut client = server.connect();
    let mut exchanges = 0;
    let mut echo = |times: u64| {
        (0..times).for_each(|_| _ = client.echo("x"));
        exchanges += times;
        exchanges
    };
    // More lines than pipe and channel have room for.
    echo(20_000);
    // Others are served meanwhile.
    server.connect().echo("served").finish();
    let lines = tine_e2e::Log::from_pipe(reader.try_clone().expect("a descriptor"));
    // A process says how many lines it has dropped before its next one.
    wait_until("every exchange is there or counted", || {
        let exchanges = echo(1);
        let lines = lines.lines();
        let (received, others): (Vec<&String>, Vec<&String>) =
            lines.iter().partition(|line| line.contains("\"event\":\"receive\",\"id\":1,"));
        let others: Vec<Value> =
            others.into_iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let dropped = dropped(&others);
        (received.len() as u64 + dropped >= exchanges && dropped > 0).then_some(())
    });
    stop(&mut server);
    let _ = std::io::Write::write(&mut reader, b"");
}

#[test]
fn a_target_that_cannot_be_used_is_refused_with_the_reason() {
    let folder = Folder::new("log-file-refused");
    let missing = folder.path("missing/log");
    let directory = folder.0.display().to_string();
    for (options, words) in [
        (["--log-file", missing.as_str()], "does not exist"),
        (["--log-file", directory.as_str()], "it is a directory"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(options).arg("127.0.0.1:0"));
        assert!(code == 111 && err.contains(words) && err.lines().count() == 1, "{options:?}: {code} {err}");
    }
    let both = ["serve", "--log-file", "x", "--log-target", "journal"];
    let (code, _, err) = run(Command::new(tine()).args(both));
    assert!(code == 100 && err.contains("cannot be used with"), "{err}");
    let text = format!("log-file = '{missing}'\n[services.a]\nlisten = '127.0.0.1:0'\n");
    let file = folder.write("tine.toml", &text);
    for words in [["check"].as_slice(), &["serve", "--config"]] {
        let (code, _, err) = run(Command::new(tine()).args(words).arg(&file));
        assert!(code == 111 && err.contains("cannot write the log file"), "{words:?}: {code} {err}");
    }
}
