//! The dry run of limits and rules (`--limits report`), and options that change while the server
//! serves (`tine set`).

use std::process::Command;

use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::names::{REJECT, total};
use tine_e2e::{Client, Folder, Server, ServerCommand, network, run, tine};

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
    let listeners = server.log.wait_for("listen", 2);
    let is_served = |service: &str| {
        let line = listeners.iter().find(|line| line["service"] == service).expect("it listens");
        let port = line["address"].as_str().and_then(|address| address.rsplit_once(':')?.1.parse().ok());
        Client::from_source("127.0.0.2", port.expect("a port")).is_served()
    };
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
