//! The dry run of limits and rules (`--limits report`), and options that change while the server
//! serves (`tine set`).

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::load::load;
use tine_e2e::names::{REJECT, total};
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, network, run, tine, wait_until};

/// The event of a client that is served although a limit or rule objects.
const REPORT: &str = "report";

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

fn served(source: &str, server: &Server) -> Client {
    let mut client = Client::from_source(source, server.port());
    client.echo("served");
    client
}

/// The reason and the treatment in each report.
fn reports(server: &Server, number: usize) -> Vec<(String, String)> {
    let lines = server.log.wait_for(REPORT, number);
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let mut reports: Vec<_> = lines.iter().map(|line| (text(line, "reason"), text(line, "would"))).collect();
    reports.sort();
    reports
}

fn report(reason: &str, would: &str) -> (String, String) {
    (reason.to_owned(), would.to_owned())
}

#[test]
fn a_service_reports_and_another_enforces() {
    let folder = Folder::new("report-services");
    let text = "[defaults]\ndeny = ['127.0.0.2']\n[services.dry]\nlisten = '127.0.0.1:0'\nlimits = 'report'\n\
        [services.wet]\nlisten = '127.0.0.1:0'\n";
    let config = folder.write("tine.toml", text).display().to_string();
    let (code, out, err) = run(Command::new(tine()).args(["check", &config]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("limits = \"report\"") && out.contains("limits = \"enforce\""), "{out}");
    let (code, out, err) = run(Command::new(tine()).args(["explain", &config, "127.0.0.2"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let dry = "dry: denied by: deny 127.0.0.2\n  limits and rules are only reported: it is served in any case (limits = report)\n";
    assert_eq!(out, format!("{dry}wet: denied by: deny 127.0.0.2\n"));
    let words = ["serve", "--config", &config, "--log", "json", "-1", "--control", "none"];
    let server = ServerCommand::program(tine(), &words).start();
    let is_served = |service: &str| Client::from_source("127.0.0.2", server.log.port_of(service)).is_served();
    assert!(is_served("dry") && !is_served("wet"));
    assert_eq!(server.log.wait_for(REPORT, 1)[0]["service"], "dry");
    assert_eq!(server.log.wait_for(REJECT, 1)[0]["service"], "wet");
}

fn limits_are_reported(name: &str, mode: &[&str]) {
    let options = ["--limits", "report", "--max-connections-per-source", "2", "--deny", "127.0.0.9"];
    let controlled = Controlled::serve(name, &[&options, mode].concat(), &[]);
    let server = &controlled.server;
    let _held: Vec<Client> = (0..4).map(|_| served("127.0.0.2", server)).collect();
    let denied = served("127.0.0.9", server);
    let reports = reports(server, 3);
    assert_eq!(reports, [report("denied", "reject"), report("source", "reject"), report("source", "reject")]);
    let lines = server.log.of(REPORT);
    assert!(lines.iter().any(|line| line["peer"] == denied.address().as_str()), "{lines:?}");
    let status = controlled.status();
    assert_eq!((&status["limits"], number(&status, "reported")), (&json!("report"), 3));
    assert_eq!(status["reported_by_reason"], json!({ "denied": 1, "source": 2 }));
    assert_eq!((number(&status, "rejected"), number(&status, "connections")), (0, 5));
    let text = controlled.done(&["status"]);
    assert!(text.contains("limits are only reported: 3 would be delayed or rejected (denied 1"), "{text}");
    assert!(server.log.of(REJECT).is_empty());
    // An operator's ban is no dry run.
    controlled.done(&["ban", "127.0.0.2"]);
    assert!(!Client::from_source("127.0.0.2", server.port()).is_served());
}

#[test]
fn clients_over_a_limit_are_reported_and_served() {
    limits_are_reported("report", &[]);
}

#[test]
fn clients_over_a_limit_are_reported_and_served_with_spares() {
    limits_are_reported("report-spares", &["--spares", "4"]);
}

#[test]
fn clients_over_a_limit_are_reported_and_served_by_workers() {
    limits_are_reported("report-workers", &["--spares", "4", "--reuse", "100"]);
}

#[test]
fn a_client_that_would_be_delayed_does_not_wait() {
    let options = ["--limits", "report", "--when-limited", "delay", "--delay-timeout", "1h"];
    let limit = ["--max-connections-per-source", "1", "--rate-per-source", "1/h:2"];
    let controlled = Controlled::serve("report-delay", &[&options[..], &limit].concat(), &[]);
    let mut held: Vec<Client> = (0..2).map(|_| served("127.0.0.2", &controlled.server)).collect();
    held.push(served("127.0.0.2", &controlled.server));
    // Two tokens, which the second client takes although a limit objects, as it would be delayed.
    let reports = reports(&controlled.server, 2);
    assert_eq!(reports, [report("rate", "delay"), report("source", "delay")]);
    let status = controlled.status();
    assert_eq!((number(&status, "delayed"), number(&status, "waiting")), (0, 0));
}

#[test]
fn the_maximum_of_connections_holds_in_a_dry_run() {
    let options = ["--limits", "report", "--max-connections", "1", "--when-full", "reject=full\\n"];
    let server = Server::serve(&[&options[..], &["--deny", "127.0.0.2"]].concat());
    let _held = served("127.0.0.2", &server);
    for source in ["127.0.0.2", "127.0.0.3"] {
        assert_eq!(Client::from_source(source, server.port()).read_text(), "full\n");
    }
    let rejects = server.log.wait_for(REJECT, 2);
    assert!(rejects.iter().all(|line| line["reason"] == "full"), "{rejects:?}");
    assert_eq!(reports(&server, 1), [report("denied", "reject")]);
}

#[test]
fn a_flood_of_reports_is_logged_as_sums() {
    let server = Server::serve(&["--limits", "report", "--deny", "127.0.0.2"]);
    for _ in 0..60 {
        served("127.0.0.2", &server).finish();
    }
    let lines = server.log.wait("all reports", |log| {
        let lines = log.of(REPORT);
        (total(&lines) == 60).then_some(lines)
    });
    let sums = lines.iter().filter(|line| line["suppressed"].is_u64());
    assert!(sums.clone().count() > 0 && sums.clone().all(|line| line["reason"] == "denied"), "{lines:?}");
}

#[test]
fn penalties_are_charged_and_reported() {
    let penalties = ["--per-source-penalties", "refuseconnection:0 noauth:60s min:1s"];
    let server = Server::serve(&[&["--limits", "report"], &penalties[..]].concat());
    Client::from_source("127.0.0.2", server.port()).half_close().read_to_end();
    server.log.wait_for("penalty", 1);
    let _served = served("127.0.0.2", &server);
    assert_eq!(reports(&server, 1), [report("penalty", "reject")]);
}

#[test]
fn a_host_name_that_is_denied_is_reported_and_served() {
    for mode in [&[][..], &["--spares", "2"]] {
        network::own();
        let folder = Folder::new("report-names");
        let hosts = folder.write("hosts", "127.0.0.1 localhost\n127.0.0.6 bad.example\n");
        let hosts = hosts.display().to_string();
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let wrapper = ["unshare", "--mount", "sh", "-c", script, &hosts];
        let options =
            ["--limits", "report", "--reverse-dns", "--deny", "=bad.example", "--deny", "127.0.0.9"];
        let mut command = ServerCommand::wrapped(wrapper, [&options[..], mode].concat());
        command.command().args(["--", "sh", "-c", "echo ${TCPREMOTEHOST-unknown}"]);
        let server = command.start();
        let reply = |source| Client::from_source(source, server.port()).read_text();
        assert_eq!((reply("127.0.0.6"), reply("127.0.0.9")), ("bad.example\n".into(), "unknown\n".into()));
        assert_eq!(reports(&server, 2), [report("denied", "reject"), report("denied", "reject")]);
        let hosts: Vec<Value> = server.log.of(REPORT).into_iter().map(|line| line["host"].clone()).collect();
        assert!(hosts.contains(&json!("bad.example")) && hosts.contains(&Value::Null), "{hosts:?}");
    }
}

/// How many of these clients are served.
fn count_served(clients: usize, source: &str, server: &Server) -> usize {
    (0..clients).filter(|_| Client::from_source(source, server.port()).is_served()).count()
}

/// The row of an option in `tine set --list`.
fn listed(controlled: &Controlled, name: &str) -> Value {
    let rows = controlled.json(&["set", "--list"]);
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name}"))
}

fn limits_are_armed_and_disarmed(name: &str, mode: &[&str]) {
    let options = [&["--max-connections-per-source", "1", "--deny", "127.0.0.9"], mode].concat();
    let controlled = Controlled::serve(name, &options, &[]);
    let server = &controlled.server;
    let mut held = served("127.0.0.2", server);
    for _ in 0..3 {
        assert_eq!(count_served(3, "127.0.0.2", server) + count_served(3, "127.0.0.9", server), 0);
        controlled.done(&["set", "limits=report"]);
        assert_eq!(count_served(3, "127.0.0.2", server) + count_served(3, "127.0.0.9", server), 6);
        controlled.done(&["set", "limits=enforce"]);
    }
    let status = controlled.status();
    assert_eq!((&status["limits"], number(&status, "rejected")), (&json!("enforce"), 18));
    assert_eq!(status["reported_by_reason"], json!({ "denied": 9, "source": 9 }));
    let orders = server.log.wait_for("control", 6);
    assert_eq!((orders.len(), &orders[0]["detail"]), (6, &json!("limits=report")));
    held.echo("still served");
}

#[test]
fn limits_are_armed_while_the_server_serves() {
    limits_are_armed_and_disarmed("set-limits", &[]);
}

#[test]
fn limits_are_armed_while_spares_wait() {
    limits_are_armed_and_disarmed("set-limits-spares", &["--spares", "4"]);
}

#[test]
fn limits_are_armed_while_workers_wait() {
    limits_are_armed_and_disarmed("set-limits-workers", &["--spares", "4", "--reuse", "100"]);
}

#[test]
fn the_drain_timeout_is_set() {
    let mut controlled = Controlled::serve("set-drain", &["--drain-timeout", "1h"], &[]);
    let mut held = served("127.0.0.2", &controlled.server);
    controlled.done(&["set", "drain-timeout=100ms"]);
    controlled.done(&["drain"]);
    held.expect_closed();
    let drain = &controlled.server.log.wait_for("drain", 1)[0];
    assert_eq!(drain["timeout_seconds"], 0.1);
    assert_eq!(controlled.server.wait().code(), Some(0));
}

#[test]
fn the_level_of_the_log_is_set_for_every_process() {
    for (name, mode) in [
        ("level", &["--quiet", "--forkers", "1"][..]),
        ("level-spares", &["--quiet", "--spares", "2"]),
        ("level-pool", &["--quiet", "--spares", "2", "--reuse", "9"]),
    ] {
        let controlled = Controlled::serve(name, mode, &[]);
        let server = &controlled.server;
        served("127.0.0.1", server).finish();
        controlled.done(&["set", "log-level=normal"]);
        served("127.0.0.2", server).finish();
        server.log.wait_for("end", 1);
        let accepted = server.log.of("accept");
        assert_eq!(accepted.len(), 1, "{mode:?}: {accepted:?}");
        assert!(
            accepted[0]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.2")),
            "{accepted:?}"
        );
        controlled.done(&["set", "log-level=quiet"]);
        served("127.0.0.3", server).finish();
        let (code, _, err) = controlled.tine(&["set", "log-level=verbose"]);
        assert!(code == 111 && err.contains("started without --verbose"), "{code}: {err}");
        // What operators change is logged at every level.
        let orders = server.log.wait_for("control", 2);
        assert_eq!(
            (&orders[0]["detail"], &orders[1]["detail"]),
            (&json!("log-level=normal"), &json!("log-level=quiet"))
        );
        wait_until("all have ended", || (controlled.status()["connections"] == 0).then_some(()));
        assert_eq!((server.log.of("accept").len(), server.log.of("end").len()), (1, 1), "{mode:?}");
    }
}

#[test]
fn received_bytes_are_logged_again_also_after_a_restart_of_the_forker() {
    let folder = Folder::new("level-verbose-file");
    let file = folder.path("log");
    for (name, target) in [("level-verbose", &[][..]), ("level-verbose-file", &["--log-file", &file])] {
        let controlled = Controlled::serve(name, &[&["--verbose", "--forkers", "1"], target].concat(), &[]);
        let server = &controlled.server;
        let received = || {
            let lines = controlled.done(&["logs", "--json", "--lines", "100"]);
            lines.lines().filter(|line| line.contains("\"event\":\"receive\"")).count()
        };
        served("127.0.0.1", server).finish();
        wait_until("its bytes are logged", || (received() == 1).then_some(()));
        controlled.done(&["set", "log-level=normal"]);
        kill(server.forkers()[0], Signal::KILL);
        served("127.0.0.2", server).finish();
        assert_eq!(received(), 1);
        controlled.done(&["set", "log-level=verbose"]);
        served("127.0.0.3", server).finish();
        wait_until("its bytes are logged, too", || (received() == 2).then_some(()));
        if !target.is_empty() {
            let in_file =
                || std::fs::read_to_string(&file).expect("the log file").matches("\"receive\"").count();
            wait_until("the file has them", || (in_file() == 2).then_some(()));
        }
    }
}

fn timeouts_are_set(name: &str, options: &[&str], program: &[&str]) {
    let controlled = Controlled::serve(name, options, program);
    let server = &controlled.server;
    for (number, (setting, outcome, speaks)) in [
        ("idle-timeout", "timeout idle", true),
        ("first-byte-timeout", "timeout first-byte", false),
        ("max-lifetime", "timeout lifetime", true),
    ]
    .into_iter()
    .enumerate()
    {
        // One before the change, and one after it.
        let mut before = Client::connect(server.port());
        if speaks {
            before.echo("x");
        }
        controlled.done(&["set", &format!("{setting}=200ms")]);
        let mut after = Client::connect(server.port());
        if speaks {
            after.send("x");
        }
        for client in [&mut before, &mut after] {
            client.read_to_end();
        }
        let ends = server.log.wait_for("end", 3 * number + 2);
        assert!(ends[3 * number..].iter().all(|end| end["outcome"] == outcome), "{ends:?}");
        controlled.done(&["set", &format!("{setting}=none")]);
        let mut last = Client::connect(server.port());
        last.expect_silence(std::time::Duration::from_millis(600));
        last.echo("still served").finish();
        server.log.wait_for("end", 3 * number + 3);
    }
}

#[test]
fn timeouts_are_set_for_handlers() {
    timeouts_are_set("set-timeouts", &[], &[]);
}

#[test]
fn timeouts_are_set_where_nothing_was_watched() {
    timeouts_are_set("set-timeouts-leave", &["--client-gone", "leave"], &[]);
}

#[test]
fn timeouts_are_set_for_programs_and_spares() {
    timeouts_are_set("set-timeouts-program", &["--spares", "2"], &["cat"]);
}

#[test]
fn connections_per_source_and_prefix_are_set() {
    for mode in [&[][..], &["--spares", "2"]] {
        let controlled = Controlled::serve("set-source", mode, &[]);
        let server = &controlled.server;
        let _held: Vec<Client> = (0..3).map(|_| served("127.0.0.2", server)).collect();
        for (setting, source, other) in [
            ("max-connections-per-source", "127.0.0.2", "127.0.0.3"),
            ("max-connections-per-prefix", "127.0.0.3", "127.0.1.3"),
        ] {
            let set = |value: &str| controlled.done(&["set", &format!("{setting}={value}")]);
            assert_eq!(count_served(2, source, server), 2);
            set("3");
            assert_eq!((count_served(2, source, server), count_served(2, other, server)), (0, 2));
            set("4");
            assert_eq!(count_served(1, source, server), 1);
            set("1");
            assert_eq!(count_served(2, source, server), 0);
            // A forker that is started later has the value, too.
            kill(server.forkers()[0], Signal::KILL);
            server.log.wait_for("restart", 1);
            assert_eq!(count_served(2, source, server), 0);
            let row = listed(&controlled, setting);
            assert_eq!((&row["value"], &row["at_start"]), (&json!("1"), &json!("none")), "{row}");
            set("none");
        }
    }
}

#[test]
fn rates_are_set_and_a_bucket_of_the_old_rate_holds_up_nobody() {
    let controlled = Controlled::serve("set-rate", &["--rate-per-source", "1/d:2"], &[]);
    let server = &controlled.server;
    assert_eq!(count_served(4, "127.0.0.2", server), 2);
    controlled.done(&["set", "rate-per-source=1000/s"]);
    assert_eq!(count_served(4, "127.0.0.2", server), 4);
    controlled.done(&["set", "rate-per-source=none"]);
    controlled.done(&["set", "rate-per-prefix=1/d:3"]);
    assert_eq!(count_served(4, "127.0.0.3", server) + count_served(4, "127.0.0.4", server), 3);
    controlled.done(&["set", "rate-per-prefix=none"]);
    assert_eq!(count_served(4, "127.0.0.3", server), 4);
    assert_eq!(listed(&controlled, "rate-per-source")["at_start"], "1/d:2");
}

#[test]
fn a_higher_limit_releases_delayed_clients() {
    let options = ["--when-limited", "delay", "--delay-timeout", "1h", "--max-connections-per-source", "1"];
    let controlled = Controlled::serve("set-delayed", &options, &[]);
    let _held = served("127.0.0.2", &controlled.server);
    let mut queued = Client::from_source("127.0.0.2", controlled.server.port());
    wait_until("the client is queued", || (number(&controlled.status(), "waiting") == 1).then_some(()));
    controlled.done(&["set", "max-connections-per-source=2"]);
    queued.echo("served");
    // In a dry run no client waits any longer.
    let mut queued = Client::from_source("127.0.0.2", controlled.server.port());
    wait_until("the client is queued", || (number(&controlled.status(), "waiting") == 1).then_some(()));
    controlled.done(&["set", "limits=report"]);
    queued.echo("served");
    let (code, _, err) = controlled.tine(&["set", "max-connections-per-prefix=2"]);
    assert!(code == 111 && err.contains("has no delay queue for it"), "{code} {err}");
}

#[test]
fn fewer_connections_end_nobody_and_admit_nobody_beyond() {
    for mode in [&[][..], &["--spares", "3"]] {
        let options = [&["--max-connections", "40"], mode].concat();
        let controlled = Controlled::serve("set-max", &options, &[]);
        let server = &controlled.server;
        let mut held: Vec<Client> = (0..5).map(|_| served("127.0.0.2", server)).collect();
        controlled.done(&["set", "max-connections=3"]);
        assert_eq!(number(&controlled.status(), "max_connections"), 3);
        held.iter_mut().for_each(|client| _ = client.echo("still served"));
        let mut waiting = Client::connect(server.port());
        waiting.send("from the backlog");
        for ended in 1..=2 {
            held.pop().expect("five clients").finish();
            server.log.wait_for("end", ended);
            waiting.expect_silence(std::time::Duration::from_millis(100));
        }
        held.pop().expect("three clients").finish();
        waiting.expect("from the backlog");
        assert_eq!(number(&controlled.status(), "connections"), 3);
        let mut next = Client::connect(server.port());
        next.send("next").expect_silence(std::time::Duration::from_millis(100));
        controlled.done(&["set", "max-connections=40"]);
        next.expect("next");
        held.extend((0..36).map(|_| served("127.0.0.2", server)));
        assert_eq!(number(&controlled.status(), "connections"), 40);
        let (code, _, err) = controlled.tine(&["set", "max-connections=41"]);
        assert!(code == 111 && err.contains("cannot exceed the value of the start"), "{code} {err}");
    }
}

#[test]
fn fewer_connections_reject_the_next_client_where_that_is_asked_for() {
    let options = ["--max-connections", "10", "--when-full", "reject=full\\n"];
    let controlled = Controlled::serve("set-max-reject", &options, &[]);
    let server = &controlled.server;
    let mut held: Vec<Client> = (0..2).map(|_| served("127.0.0.2", server)).collect();
    controlled.done(&["set", "max-connections=1"]);
    let rejected = || Client::connect(server.port()).read_text();
    assert_eq!(rejected(), "full\n");
    held.pop().expect("two clients").finish();
    server.log.wait_for("end", 1);
    assert_eq!(rejected(), "full\n");
    held.pop().expect("one client").finish();
    server.log.wait_for("end", 2);
    let _served = served("127.0.0.2", server);
    assert_eq!(rejected(), "full\n");
    // In a pause of the operator, it stays paused.
    controlled.done(&["pause"]);
    controlled.done(&["set", "max-connections=2"]);
    controlled.done(&["set", "max-connections=1"]);
    assert_eq!(controlled.status()["phase"], "paused");
    let mut waiting = Client::connect(server.port());
    waiting.expect_silence(std::time::Duration::from_millis(100));
    controlled.done(&["resume"]);
    assert_eq!(waiting.read_text(), "full\n");
}

#[test]
fn a_stopped_forker_holds_up_neither_the_command_nor_the_server() {
    let controlled = Controlled::serve("set-stopped", &["--forkers", "2"], &[]);
    let server = &controlled.server;
    let stopped = server.forkers()[0];
    kill(stopped, Signal::STOP);
    let (code, _, err) = controlled.tine(&["set", "max-connections=3"]);
    assert!(code == 111 && err.contains("nothing is changed"), "{code} {err}");
    let status = controlled.status();
    assert_eq!((number(&status, "max_connections"), &status["phase"]), (1024, &json!("serving")));
    kill(stopped, Signal::KILL);
    server.log.wait_for("restart", 1);
    assert_eq!(count_served(3, "127.0.0.2", server), 3);
    controlled.done(&["set", "max-connections=3"]);
    assert_eq!(number(&controlled.status(), "max_connections"), 3);
}

#[test]
fn settings_change_under_load_without_an_error() {
    network::own();
    for mode in [&[][..], &["--spares", "4"]] {
        let controlled = Controlled::serve("set-load", &[&["--max-connections", "50"], mode].concat(), &[]);
        let address = format!("127.0.0.1:{}", controlled.server.port());
        let loaded = std::thread::scope(|scope| {
            let loaded = scope.spawn(|| load(&["crr", &address, "-n", "2000", "-c", "20"]));
            for round in 0.. {
                if loaded.is_finished() {
                    break;
                }
                let maximum = if round % 2 == 0 { "4" } else { "50" };
                controlled.done(&["set", &format!("max-connections={maximum}")]);
                if round % 2 == 0 {
                    // Those beyond it end soon; no more are admitted.
                    let served = || number(&controlled.status(), "connections");
                    wait_until("four are left", || (served() <= 4).then_some(()));
                    assert!((0..5).all(|_| served() <= 4));
                }
                controlled.done(&["set", "max-connections-per-source=100"]);
                controlled.done(&["set", "limits=report"]);
            }
            loaded.join().expect("no panic")
        });
        loaded.expect_sound();
        assert_eq!(number(&controlled.status(), "accepted"), loaded.ended());
        assert_eq!(controlled.server.log.of("restart").len(), 0);
    }
}

#[test]
fn what_cannot_be_set_is_refused_and_the_rest_is_listed() {
    let controlled =
        Controlled::serve("set-refused", &["--control-group", "games", "--max-lifetime", "1h"], &[]);
    for (words, code, text) in [
        (
            &["set", "limit=report"][..],
            100,
            "'limit' cannot be set while the server serves; these can: limits,",
        ),
        (&["set", "limits=off"], 100, "limits: invalid value 'off'"),
        (&["set", "idle-timeout=0"], 100, "idle-timeout is a time, as in 10s, or none, not '0'"),
        (&["set", "limits"], 100, "write NAME=VALUE"),
        (&["set"], 100, "NAME=VALUE"),
        (&["set", "rate-per-source=1/s"], 111, "has no buckets"),
        (&["set", "limits=report", "web"], 111, "there is no service web"),
    ] {
        let (found, _, err) = controlled.tine(words);
        assert!(found == code && err.lines().count() == 1 && err.contains(text), "{words:?}: {found} {err}");
    }
    let rows = controlled.json(&["set", "--list"]);
    let changed = rows.iter().filter(|row| row["value"] != row["at_start"]);
    assert!(rows.len() == 13 && changed.count() == 0, "{rows:?}");
    let row = listed(&controlled, "max-lifetime");
    assert_eq!((&row["value"], &row["default"]), (&json!("1h"), &json!("none")));
    let table = controlled.done(&["set", "--list"]);
    assert!(table.starts_with("NAME") && table.contains("enforce or report"), "{table}");
    // A group that may read lists, and changes nothing.
    let copy = controlled.folder.copy_of_tine();
    let socket = controlled.folder.path("c.sock");
    let as_games = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--groups", "games", "--"]).arg(&copy);
        run(command.args(words).args(["--control", &socket]))
    };
    assert_eq!(as_games(&["set", "--list"]).0, 0);
    let (code, _, err) = as_games(&["set", "limits=report"]);
    assert!(code == 111 && err.contains("may only read"), "{code} {err}");
}

#[test]
fn one_service_is_set_and_the_others_are_not() {
    let folder = Folder::new("set-services");
    let text = "[services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\n";
    let config = folder.write("tine.toml", text).display().to_string();
    let socket = folder.path("c.sock");
    let words = ["serve", "--config", &config, "--log", "json", "-1", "--control", &socket];
    let _server =
        ServerCommand::program(tine(), &[&words[..], &["--state-directory", "none"]].concat()).start();
    let of = |words: &[&str]| run(Command::new(tine()).args(words).args(["--control", &socket]));
    assert_eq!(of(&["set", "limits=report", "b"]).0, 0);
    let modes = || -> Vec<Value> {
        let (code, out, err) = of(&["set", "--list", "--json"]);
        assert_eq!(code, 0, "{err}");
        let rows: Vec<Value> = serde_json::from_str(&out).expect("JSON");
        let mut rows: Vec<Value> = rows.into_iter().filter(|row| row["name"] == "limits").collect();
        rows.sort_by_key(|row| row["service"].as_str().map(str::to_owned));
        rows.into_iter().map(|row| row["value"].clone()).collect()
    };
    assert_eq!(modes(), ["enforce", "report"]);
    assert_eq!(of(&["set", "limits=report"]).0, 0);
    assert_eq!(modes(), ["report", "report"]);
    assert_eq!(of(&["set", "drain-timeout=1s"]).0, 0);
    let (code, _, err) = of(&["set", "drain-timeout=1h"]);
    assert!(code == 111 && err.contains("service a: in a server with several services"), "{code} {err}");
}
