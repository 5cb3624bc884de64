//! A server that is replaced while it runs: by USR2 and `tine upgrade`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::control::Controlled;
use tine_e2e::load::load;
use tine_e2e::names::outcome;
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, procfs, tine, wait_until};

/// The id of the process that serves since the last replacement, of which there were this many.
fn replaced(server: &Server, number: usize) -> i32 {
    let last = server.log.wait_for("replaced", number).remove(number - 1);
    i32::try_from(last["pid"].as_i64().expect("a process id")).expect("a process id")
}

/// Replaces a server, and waits until the next generation serves. Returns its first process.
fn replace(server: &Server, number: usize) -> i32 {
    server.signal(Signal::USR2);
    replaced(server, number)
}

#[test]
fn held_connections_survive_replacements_and_term_ends_all() {
    for mode in [&[][..], &["--spares", "4"], &["--spares", "4", "--reuse", "100"], &["--forkers", "1"]] {
        let mut server = Server::serve(mode);
        let mut held: Vec<Client> = Vec::new();
        let mut pids = vec![server.pid()];
        for number in 1..=3 {
            let mut client = server.connect();
            client.echo("before");
            held.push(client);
            pids.push(replace(&server, number));
            held.iter_mut().for_each(|client| _ = client.echo("after"));
            server.connect().echo("new").finish();
        }
        pids.dedup();
        assert_eq!(pids.len(), 4, "each generation has a process of its own");
        let mut ids: Vec<u64> =
            server.log.wait_for("accept", 6).iter().filter_map(|line| line["id"].as_u64()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6], "{mode:?}");
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 4);
        held.iter_mut().for_each(|client| assert!(client.echo("draining").finish().is_empty()));
        assert_eq!(server.wait().code(), Some(0), "{mode:?}");
        server.wait_until_gone();
        assert!(server.log.of("end").iter().all(|end| outcome(end) == "exit 0"));
    }
}

#[test]
fn a_replaced_generation_ends_with_its_last_connection_and_the_first_process_stays() {
    let mut server = Server::serve(&[]);
    let mut first = server.connect();
    first.echo("x");
    let second = replace(&server, 1);
    let third = replace(&server, 2);
    wait_until("the second generation has ended", || procfs::process(second).is_none().then_some(()));
    first.echo("still here").finish();
    server.log.wait_for("finish", 2);
    server.connect().echo("x").finish();
    assert!(procfs::is_running(server.pid()) && procfs::is_running(third));
    // The process that was started passes signals on, and ends with the same code.
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
}

#[test]
fn the_first_process_takes_all_with_it_and_so_does_the_last() {
    for generation in [0, 1] {
        let mut server = Server::serve(&[]);
        let mut held = server.connect();
        held.echo("x");
        let pids = [server.pid(), replace(&server, 1)];
        let mut new = server.connect();
        new.echo("x");
        kill(pids[generation], Signal::KILL);
        new.expect_closed();
        held.expect_closed();
        let code = server.wait_for_exit().code();
        assert_eq!(code, [None, Some(111)][generation]);
        server.wait_until_gone();
    }
}

#[test]
fn older_connections_count_for_the_limits() {
    let limits =
        ["--max-connections", "2", "--when-full", "reject=full", "--max-connections-per-source", "1"];
    let server = Server::serve(&limits);
    let from = |address: &str| Client::from_source(address, server.port());
    let mut older = from("127.0.0.1");
    older.echo("x");
    replace(&server, 1);
    assert_eq!(from("127.0.0.1").read_text(), "full", "its source has a connection already");
    let mut own = from("127.0.0.2");
    own.echo("x");
    assert_eq!(from("127.0.0.3").read_text(), "full", "two connections are the maximum");
    assert!(older.finish().is_empty());
    server.log.wait_for("end", 1);
    wait_until("the older connection counts no more", || is_echoed(from("127.0.0.1")).then_some(()));
    own.echo("y").finish();
}

#[test]
fn a_lower_maximum_counts_more_older_connections_than_it_allows() {
    let folder = Folder::new("replace-lower");
    let config = |maximum: usize| {
        let text = format!(
            "[services.a]\nlisten = '127.0.0.1:0'\nmax-connections = {maximum}\nwhen-full = 'reject=full'\n"
        );
        folder.write("tine.toml", &text).display().to_string()
    };
    let file = config(3);
    let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &folder.path("c.sock")];
    let server = ServerCommand::program(tine(), &serve).start();
    let mut older: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    older.iter_mut().for_each(|client| _ = client.echo("x"));
    config(1);
    server.signal(Signal::HUP);
    server.log.wait_for("replaced", 1);
    let ended = |number| server.log.wait_for("end", number);
    for number in 1..=2 {
        assert_eq!(server.connect().read_text(), "full");
        older.pop().expect("three").finish();
        ended(number);
    }
    assert_eq!(server.connect().read_text(), "full", "one older connection is left");
    older.pop().expect("the last").finish();
    ended(3);
    wait_until("the maximum is free", || is_echoed(server.connect()).then_some(()));
}

/// Whether a client that may be rejected is served.
fn is_echoed(mut client: Client) -> bool {
    client.send("y").half_close();
    client.read_to_end() == b"y"
}

#[test]
fn bans_penalties_rates_and_records_come_along() {
    let options = ["--per-source-penalties", "crash:60s min:1s", "--rate-per-source", "3/min"];
    let program = ["sh", "-c", "read line; case $line in crash) kill -SEGV $$;; esac; echo $line"];
    let controlled = Controlled::serve("replace-state", &options, &program);
    let server = &controlled.server;
    let from = |address: &str| Client::from_source(address, server.port());
    let mut held = from("127.0.0.9");
    let served = |address: &str| {
        let mut client = from(address);
        client.send("x\n").half_close();
        client.read_to_end() == b"x\n"
    };
    let crash = |address: &str| {
        from(address).send("crash\n").expect_closed();
    };
    crash("127.0.0.1");
    assert!(served("127.0.0.2") && served("127.0.0.2"));
    controlled.done(&["ban", "127.0.0.3"]);
    server.log.wait_for("end", 3);
    let before = controlled.json(&["list", "--ended"]);
    controlled.done(&["upgrade"]);
    assert!(!served("127.0.0.1"), "the penalty holds");
    assert!(!served("127.0.0.3"), "the ban holds");
    assert!(served("127.0.0.2") && !served("127.0.0.2"), "the third token is the last");
    let after = controlled.json(&["list", "--ended"]);
    let of_before = |row: &&Value| before.iter().any(|other| other["id"] == row["id"]);
    assert_eq!(after.iter().filter(of_before).cloned().collect::<Vec<_>>(), before);
    // A crash of an older connection is charged here.
    held.send("crash\n").expect_closed();
    wait_until("the source of the older connection has a penalty", || (!served("127.0.0.9")).then_some(()));
    wait_until("its end is on record", || {
        let rows = controlled.json(&["list", "--ended"]);
        rows.iter().any(|row| row["id"] == 1 && row["outcome"] == "signal SEGV").then_some(())
    });
    let status = controlled.status();
    assert_eq!((&status["connections"], &status["failed"]), (&Value::from(0), &Value::from(2)), "{status}");
}

#[test]
fn older_connections_are_listed_and_can_be_killed() {
    let controlled = Controlled::serve("replace-list", &[], &[]);
    let mut older = controlled.server.connect();
    older.echo("x");
    let said = controlled.done(&["upgrade"]);
    let pid = replaced(&controlled.server, 1);
    assert_eq!(said, format!("pid {pid} serves now, version {}\n", env!("CARGO_PKG_VERSION")));
    let mut own = controlled.server.connect();
    own.echo("x");
    let rows = controlled.json(&["list"]);
    let found: Vec<_> = rows.iter().map(|row| (row["id"].as_u64(), row["generation"].as_str())).collect();
    assert_eq!(found, [(Some(1), Some("older")), (Some(2), None)]);
    assert_eq!(controlled.status()["connections"], 2);
    assert_eq!(controlled.done(&["kill", "1"]), "ended 1\n");
    older.expect_closed();
    own.echo("untouched");
    let end = controlled.server.log.wait_for("end", 1).remove(0);
    assert_eq!((end["id"].as_u64(), outcome(&end)), (Some(1), "killed"));
    // A pause comes along, too.
    controlled.done(&["pause"]);
    controlled.done(&["upgrade"]);
    assert_eq!(controlled.status()["phase"], "paused");
    controlled.done(&["resume"]);
    controlled.server.connect().echo("again").finish();
    controlled.done(&["drain"]);
}

#[test]
fn a_client_of_the_older_delay_queue_counts_as_soon_as_there_is_a_slot() {
    let options = ["--max-connections", "1", "--rate-per-source", "1/min:1", "--when-limited", "delay"];
    let controlled = Controlled::serve("replace-delayed", &options, &[]);
    let from = |address: &str| Client::from_source(address, controlled.server.port());
    from("127.0.0.1").echo("the only token").finish();
    controlled.server.log.wait_for("end", 1);
    let mut delayed = from("127.0.0.1");
    wait_until("it is in the delay queue", || (controlled.status()["waiting"] == 1).then_some(()));
    let mut held = from("127.0.0.2");
    held.echo("x");
    controlled.done(&["upgrade"]);
    let mut next = from("127.0.0.3");
    held.finish();
    // The older generation serves its queue without regard to rates, once a connection has ended.
    delayed.echo("y");
    let is_older = |row: &Value| row["generation"] == "older";
    if !controlled.json(&["list"]).iter().all(is_older) {
        // The newer one was faster, and has given the slot to a client of its own.
        next.echo("z").finish();
        next = from("127.0.0.4");
    }
    wait_until("the older connection has the slot", || {
        let rows = controlled.json(&["list"]);
        (rows.len() == 1 && is_older(&rows[0])).then_some(())
    });
    delayed.echo("still").finish();
    next.echo("now").finish();
}

/// An executable script.
fn script(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
    path.display().to_string()
}

#[test]
fn a_binary_that_cannot_take_over_changes_nothing() {
    let controlled = Controlled::serve("replace-broken", &["--upgrade-timeout", "1s"], &[]);
    let folder = &controlled.folder;
    let hello = |text: &str| {
        format!(
            "#!/usr/bin/python3\nimport os, socket\ns = socket.socket(fileno=int(os.environ['TINE_HANDOVER']))\n\
             s.send(b'''{text}''')\nwhile s.recv(1000): pass\n"
        )
    };
    let later = script(folder, "later", &hello(r#"{"message":"hello","version":99,"build":"9"}"#));
    let other = script(folder, "other", &hello("hello"));
    let liar = script(
        folder,
        "liar",
        &hello(r#"{"message":"hello","version":1,"build":"9"}"#)
            .replace("while ", "s.send(b'{\"message\":\"accepting\"}')\nwhile "),
    );
    let killed = script(folder, "killed", "#!/bin/sh\nkill -KILL $$\n");
    let sleeper = script(folder, "sleeper", "#!/bin/sh\nexec sleep 60\n");
    let missing = folder.path("missing");
    let text = folder.write("text", "no program").display().to_string();
    let mut held = controlled.server.connect();
    held.echo("x");
    let before = controlled.server.forkers();
    for (binary, expected, words) in [
        (missing.as_str(), 100, "cannot execute"),
        (&text, 100, "cannot execute"),
        ("/bin/false", 111, "exit 1"),
        ("/bin/true", 111, "exit 0"),
        (&killed, 111, "signal KILL"),
        (&sleeper, 111, "within 1 s"),
        (&later, 100, "version 99 of the hand-over"),
        (&other, 100, "is it tine?"),
        (&liar, 100, "is it tine?"),
    ] {
        let (code, out, err) = controlled.tine(&["upgrade", binary]);
        assert_eq!((code, out.as_str()), (expected, ""), "{binary}: {err}");
        assert!(err.contains(words), "{binary}: {err}");
        held.echo("y");
        controlled.server.connect().echo("z").finish();
        assert_eq!(controlled.server.forkers(), before, "{binary}");
    }
    assert_eq!(controlled.server.log.of("replaced").len(), 0);
    // And one that can take over does, afterwards.
    controlled.done(&["upgrade", &tine().display().to_string()]);
    controlled.server.connect().echo("x").finish();
    held.echo("x").finish();
}

#[test]
fn one_hand_over_at_a_time_and_a_stop_ends_it() {
    let controlled = Controlled::serve("replace-one", &[], &[]);
    let sleeper = script(&controlled.folder, "sleeper", "#!/bin/sh\nexec sleep 60\n");
    let mut first = controlled.command(&["upgrade", &sleeper]);
    let first = first.stderr(Stdio::piped()).spawn().expect("tine starts");
    controlled.server.log.wait_for("replace", 1);
    let (code, _, err) = controlled.tine(&["upgrade"]);
    assert!(code == 111 && err.contains("in progress"), "{err}");
    controlled.done(&["drain"]);
    let first = first.wait_with_output().expect("our child");
    assert_eq!(first.status.code(), Some(111), "{}", String::from_utf8_lossy(&first.stderr));
    controlled.server.wait_until_gone();
}

#[test]
fn a_server_that_stops_is_not_replaced() {
    let mut server = Server::serve(&[]);
    let mut held = server.connect();
    held.echo("x");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    server.signal(Signal::USR2);
    let error = server.log.wait_for("error", 1).remove(0);
    assert!(error["text"].as_str().is_some_and(|text| text.contains("the server stops")), "{error}");
    held.finish();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// Kills the new process a while after it was started, unless it serves already. The old one is
/// stopped meanwhile, so that it cannot leave accepting to a process that is being killed.
fn kill_new(server: &Server, number: usize, after: Duration) -> bool {
    let line = server.log.wait_for("replace", number).remove(number - 1);
    let new = i32::try_from(line["pid"].as_i64().expect("a process id")).expect("a process id");
    std::thread::sleep(after);
    let serves = server.log.of("replaced").last().map_or(server.pid(), |line| {
        i32::try_from(line["pid"].as_i64().expect("a process id")).expect("a process id")
    });
    kill(serves, Signal::STOP);
    wait_until("the old process is stopped", || {
        procfs::process(serves).is_some_and(|process| process.state == 'T').then_some(())
    });
    let is_new = serves != new && server.log.of("replaced").iter().all(|line| line["pid"] != new);
    if is_new {
        kill(new, Signal::KILL);
        wait_until("the new process has ended", || {
            procfs::process(new).is_none_or(|process| process.is_zombie()).then_some(())
        });
    }
    kill(serves, Signal::CONT);
    is_new
}

#[test]
fn a_new_process_that_is_killed_at_any_moment_changes_nothing() {
    let controlled = Controlled::serve("replace-killed", &["--spares", "2"], &[]);
    let server = &controlled.server;
    let mut held = server.connect();
    held.echo("x");
    let mut killed = 0;
    for number in 1..=8 {
        let mut upgrade = controlled.command(&["upgrade"]);
        let upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("tine starts");
        let is_killed = kill_new(server, number, Duration::from_millis(4 * number as u64 - 4));
        let done = upgrade.wait_with_output().expect("our child");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(if is_killed { 111 } else { 0 }), "{text}");
        assert!(!is_killed || text.contains("signal KILL"), "{text}");
        killed += usize::from(is_killed);
        held.echo("y");
        server.connect().echo("z").finish();
    }
    assert!(killed > 0, "at least the first one was killed");
    assert_eq!(server.log.of("replaced").len(), 8 - killed);
}

#[test]
fn a_server_that_is_killed_while_it_is_replaced_ends_as_a_whole() {
    for moment in 0..5 {
        let name = format!("replace-old-{moment}");
        let mut controlled = Controlled::serve(&name, &["--spares", "2"], &[]);
        let mut held = controlled.server.connect();
        held.echo("x");
        let mut upgrade = controlled.command(&["upgrade"]);
        let upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tine starts");
        std::thread::sleep(Duration::from_millis(15 * moment));
        kill(controlled.server.pid(), Signal::KILL);
        upgrade.wait_with_output().expect("our child");
        held.expect_closed();
        controlled.server.wait_for_exit();
        controlled.server.wait_until_gone();
    }
}

#[test]
fn nobody_is_refused_or_cut_under_load() {
    let controlled = Controlled::serve("replace-load", &["--max-connections", "4096", "-q"], &[]);
    let address = format!("127.0.0.1:{}", controlled.server.port());
    std::thread::scope(|scope| {
        let held = scope.spawn(|| load(&["hold", &address, "-c", "50", "--think", "200ms", "-d", "6s"]));
        let new = scope.spawn(|| load(&["crr", &address, "--rate", "200", "-d", "5s"]));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(700));
            controlled.done(&["upgrade"]);
        }
        for loaded in [held, new] {
            loaded.join().expect("no panic").expect_sound();
        }
    });
}

/// Two services with their files and a control socket.
fn services(name: &str) -> (Folder, Server, u16) {
    let folder = Folder::new(name);
    let text =
        "[services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\n";
    let file = folder.write("tine.toml", text).display().to_string();
    let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &folder.path("c.sock")];
    let server = ServerCommand::program(tine(), &serve).start();
    let listen = server.log.wait_for("listen", 2);
    let of_b = listen.iter().find(|line| line["service"] == "b").expect("a service");
    let port = of_b["address"].as_str().and_then(|address| address.rsplit(':').next()?.parse().ok());
    (folder, server, port.expect("a port"))
}

#[test]
fn all_services_are_replaced_together() {
    let (_folder, mut server, other) = services("replace-services");
    let mut held = [server.connect(), Client::connect(other)];
    held.iter_mut().for_each(|client| _ = client.echo("x"));
    for number in 1..=3 {
        let main = replace(&server, number);
        let names: Vec<String> = procfs::children(main).into_iter().map(|child| child.name).collect();
        assert!(names.contains(&"tine: a".to_owned()) && names.contains(&"tine: b".to_owned()), "{names:?}");
        held.iter_mut().for_each(|client| _ = client.echo("y"));
        server.connect().echo("new").finish();
        Client::connect(other).echo("new").finish();
    }
    // A supervisor of an older generation that is killed takes its connections along, and no other.
    let older = procfs::children(server.pid()).into_iter().find(|child| child.name == "tine: a");
    kill(older.expect("it serves a connection").pid, Signal::KILL);
    let [mut first, mut second] = held;
    first.expect_closed();
    second.echo("untouched");
    server.connect().echo("new").finish();
    // One of the newest is started again, on the same listener.
    let main = server.log.of("replaced").last().and_then(|line| line["pid"].as_i64()).expect("a pid");
    let newest = procfs::children(i32::try_from(main).expect("a pid"));
    kill(newest.into_iter().find(|child| child.name == "tine: a").expect("it serves").pid, Signal::KILL);
    server.log.wait_for("restart", 1);
    server.connect().echo("new").finish();
    server.signal(Signal::TERM);
    assert!(second.echo("draining").finish().is_empty());
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
}

#[test]
fn the_files_of_a_replaced_server_stay_until_the_end() {
    let folder = Folder::new("replace-files");
    let (socket, pid_file) = (folder.path("service.sock"), folder.path("tine.pid"));
    let words = ["--pid-file", &pid_file, "--control", &folder.path("c.sock"), &format!("unix:{socket}")];
    let mut server = Server::serve(&words);
    let pid = replace(&server, 1);
    server.log.wait_for("finish", 1);
    wait_until("the pid file is that of the new process", || {
        (std::fs::read_to_string(&pid_file).ok()? == format!("{pid}\n")).then_some(())
    });
    std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
    let (code, out, err) = tine_e2e::run(std::process::Command::new(tine()).args([
        "status",
        "--control",
        &folder.path("c.sock"),
    ]));
    assert!(code == 0 && out.contains(&pid.to_string()), "{out}{err}");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    for path in [&socket, &pid_file, &folder.path("c.sock")] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

#[test]
fn connections_of_before_a_replacement_can_have_a_deadline() {
    let server = Server::program(&["--upgrade-drain-timeout", "100ms"], &["sh", "-c", "trap '' TERM; cat"]);
    let mut held = server.connect();
    held.echo("x\n");
    replace(&server, 1);
    held.expect_closed();
    let end = server.log.wait_for("end", 1).remove(0);
    assert_eq!(outcome(&end), "signal KILL");
    server.connect().echo("x\n").finish();
}

#[test]
fn a_server_that_counts_its_connections_is_not_replaced() {
    let controlled = Controlled::serve("replace-counted", &["--exit-after", "5"], &[]);
    let (code, _, err) = controlled.tine(&["upgrade"]);
    assert!(code == 100 && err.contains("exit-after"), "{err}");
    controlled.server.connect().echo("x").finish();
}
