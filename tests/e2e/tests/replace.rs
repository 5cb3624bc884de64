//! A server that is replaced while it runs: by USR2 and `tine upgrade`.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::control::Controlled;
use tine_e2e::load::load;
use tine_e2e::names::outcome;
use tine_e2e::replacement::{replace, replaced, services};
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, network, procfs, tine, wait_until};

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
fn ends_in_the_oldest_generation_count_in_the_newest() {
    let controlled = Controlled::serve("replace-oldest", &["-c", "40"], &[]);
    let server = &controlled.server;
    let mut held: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    held.iter_mut().for_each(|client| _ = client.echo("x"));
    for number in 1..=3 {
        replace(server, number);
        held.push(server.connect());
        held.iter_mut().for_each(|client| _ = client.echo("y"));
    }
    while !held.is_empty() {
        held.remove(0).finish();
        wait_until("the newest generation knows of the end", || {
            (controlled.json(&["list"]).len() == held.len()).then_some(())
        });
    }
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

#[test]
fn nobody_is_refused_or_cut_under_load() {
    network::own();
    let controlled = Controlled::serve("replace-load", &["--max-connections", "4096", "-q"], &[]);
    let address = format!("127.0.0.1:{}", controlled.server.port());
    std::thread::scope(|scope| {
        let held = scope.spawn(|| load(&["hold", &address, "-c", "50", "--think", "200ms", "-d", "6s"]));
        let new =
            scope.spawn(|| load(&["crr", &address, "--rate", "200", "-d", "5s", "--max-lateness", "5s"]));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(700));
            controlled.done(&["upgrade"]);
        }
        for loaded in [held, new] {
            loaded.join().expect("no panic").expect_sound();
        }
    });
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
fn a_service_that_is_drained_ends_in_all_generations() {
    let (folder, mut server, other) = services("replace-drain-one");
    let held = || [server.connect(), Client::connect(other)];
    let [mut first_a, mut first_b] = held();
    replace(&server, 1);
    let [mut second_a, mut second_b] = held();
    replace(&server, 2);
    let mut all = [&mut first_a, &mut first_b, &mut second_a, &mut second_b];
    all.iter_mut().for_each(|client| _ = client.echo("x"));
    let drain = ["drain", "a", "--control", &folder.path("c.sock")];
    let mut drain = std::process::Command::new(tine()).args(drain).spawn().expect("tine starts");
    server.log.wait_for("drain", 3);
    [&mut first_a, &mut second_a].into_iter().for_each(|client| _ = client.echo("its time"));
    first_a.finish();
    assert!(drain.try_wait().expect("our child").is_none(), "a connection is left");
    second_a.finish();
    assert_eq!(drain.wait().expect("our child").code(), Some(0));
    [&mut first_b, &mut second_b].into_iter().for_each(|client| _ = client.echo("untouched"));
    server.signal(Signal::TERM);
    // Each of the older ones drains as long as it has connections, and is told once by each way.
    server.log.wait_for("drain", 6);
    [first_b, second_b]
        .into_iter()
        .for_each(|mut client| assert!(client.echo("its time").finish().is_empty()));
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
