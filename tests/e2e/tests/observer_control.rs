//! `--observe-control`: clients of the observer with the token kill, pause and ban, and nothing
//! else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::http::{Answer, get, get_with, observer_of, request, send};
use tine_e2e::names::outcome;
use tine_e2e::{Client, Folder, Server, ServerCommand, run, tine, wait_until};

const TOKEN: &str = "correct-horse-battery";
const AUTHORIZED: &str = "Authorization: Bearer correct-horse-battery";
const JSON: &str = "Content-Type: application/json";

/// A server whose observer steers, with its files.
fn steered(name: &str, options: &[&str]) -> (Controlled, String) {
    let token = Folder::new(&format!("{name}-token"));
    let file = token.write("token", TOKEN).display().to_string();
    let observe = ["--observe", "127.0.0.1:0", "--observe-token", &file, "--observe-control"];
    let controlled = Controlled::serve(name, &[&observe[..], options].concat(), &[]);
    let address = observer_of(&controlled.server);
    (controlled, address)
}

fn post(address: &str, path: &str, body: &str) -> Answer {
    send(address, "POST", path, &[AUTHORIZED, JSON], body)
}

fn delete(address: &str, path: &str) -> Answer {
    send(address, "DELETE", path, &[AUTHORIZED], "")
}

/// What is done, as the control protocol says it.
fn done(count: u64) -> Value {
    json!({ "done": true, "count": count })
}

fn expect_done(answer: &Answer, count: u64) {
    assert_eq!((answer.status, answer.json()), (200, done(count)), "{answer:?}");
    assert!(answer.header.contains("cache-control: no-store"), "{answer:?}");
}

fn read(address: &str, path: &str) -> Value {
    let answer = get_with(address, path, AUTHORIZED);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

#[test]
fn a_connection_is_killed_and_the_next_list_is_new() {
    let (controlled, address) = steered("steer-kill", &[]);
    let server = &controlled.server;
    // One after another: several forkers would number them as they come.
    let mut clients = ["127.0.0.1", "127.0.0.1", "127.0.0.9"].map(|source| {
        let mut client = Client::from_source(source, server.port());
        client.echo("x");
        client
    });
    let list = || read(&address, "/api/v1/connections");
    assert_eq!(list()["total"], 3);
    let id = |at: usize| list()["connections"][at]["id"].to_string();
    let (first, second) = (id(0), id(1));
    let began = Instant::now();
    expect_done(&post(&address, &format!("/api/v1/connections/{first}/kill"), ""), 1);
    assert!(began.elapsed() < Duration::from_secs(7));
    // A list is remembered for a second, but not that one.
    assert_eq!(list()["total"], 2);
    clients[0].expect_closed();
    clients[1].echo("y");
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "killed");
    let log = server.log.wait_for("control", 1).remove(0);
    assert_eq!(
        (&log["command"], &log["by"], &log["detail"]),
        (&json!("kill"), &json!("observer"), &json!("1"))
    );
    let again = post(&address, &format!("/api/v1/connections/{first}/kill"), "");
    assert_eq!(again.status, 409, "{again:?}");
    assert!(again.body.contains("there is no such connection"), "{again:?}");
    // By a filter, and by ids.
    expect_done(&post(&address, "/api/v1/kill", r#"{"peer":"127.0.0.9","state":"serving"}"#), 1);
    clients[2].expect_closed();
    clients[1].echo("z");
    expect_done(&post(&address, "/api/v1/kill", r#"{"peer":"192.0.2.0/24"}"#), 0);
    expect_done(&post(&address, "/api/v1/kill", &format!("{{\"ids\":[{second}]}}")), 1);
    assert_eq!(list()["total"], 0);
}

#[test]
fn one_that_ignores_term_ends_within_the_usual_time() {
    let token = Folder::new("steer-term");
    let file = token.write("token", TOKEN).display().to_string();
    let observe = ["--observe", "127.0.0.1:0", "--observe-token", &file, "--observe-control"];
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let server = Server::program(&observe, &["sh", "-c", script]);
    let address = observer_of(&server);
    let mut client = server.connect();
    client.expect("ready\n");
    let began = Instant::now();
    std::thread::scope(|scope| {
        let kill = scope.spawn(|| post(&address, "/api/v1/connections/1/kill", "{}"));
        wait_until("it ends", || {
            let state = &read(&address, "/api/v1/connections")["connections"][0]["state"];
            (state == "ending").then_some(())
        });
        expect_done(&kill.join().expect("an answer"), 1);
    });
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[test]
fn a_pause_is_no_readiness() {
    let (controlled, address) = steered("steer-pause", &[]);
    assert_eq!(read(&address, "/api/v1/status")["server"]["control"], true);
    for _ in 0..2 {
        expect_done(&post(&address, "/api/v1/pause", ""), 1);
        let ready = get(&address, "/readyz");
        assert_eq!((ready.status, ready.body.as_str()), (503, "paused\n"));
        assert_eq!(read(&address, "/api/v1/status")["services"][0]["phase"], "paused");
        expect_done(&post(&address, "/api/v1/resume", "{}"), 1);
        assert_eq!(get(&address, "/readyz").status, 200);
    }
    controlled.server.connect().echo("x").finish();
    let log = controlled.server.log.wait_for("control", 4);
    assert!(log.iter().all(|line| line["by"] == "observer" && line["uid"].is_u64()), "{log:?}");
}

#[test]
fn a_ban_rejects_until_it_is_lifted() {
    let (controlled, address) = steered("steer-ban", &[]);
    let server = &controlled.server;
    let mut held = Client::from_source("127.0.0.9", server.port());
    held.echo("x");
    expect_done(&post(&address, "/api/v1/bans", r#"{"block":"127.0.0.9","for_ms":60000,"kill":true}"#), 1);
    held.expect_closed();
    assert!(!Client::from_source("127.0.0.9", server.port()).is_served());
    assert!(server.connect().is_served());
    let bans = read(&address, "/api/v1/bans");
    assert_eq!(bans["bans"][0]["block"], "127.0.0.9", "{bans}");
    assert!(bans["bans"][0]["left_ms"].as_u64().is_some_and(|left| left <= 60_000), "{bans}");
    expect_done(&delete(&address, "/api/v1/bans?block=127.0.0.9"), 1);
    assert_eq!(read(&address, "/api/v1/bans"), json!({ "bans": [] }));
    assert!(Client::from_source("127.0.0.9", server.port()).is_served());
    let none = delete(&address, "/api/v1/bans?block=127.0.0.9");
    assert!(none.status == 409 && none.body.contains("there is no such ban"), "{none:?}");
    let log: Vec<Value> = controlled.server.log.wait_for("control", 2);
    assert_eq!((&log[0]["detail"], &log[0]["by"]), (&json!("127.0.0.9 for 60 s"), &json!("observer")));
}

/// All that steers: a method, a path, a body.
const STEERING: [(&str, &str, &str); 8] = [
    ("POST", "/api/v1/connections/1/kill", ""),
    ("POST", "/api/v1/kill", r#"{"older_ms":0}"#),
    ("POST", "/api/v1/pause", ""),
    ("POST", "/api/v1/resume", ""),
    ("POST", "/api/v1/services/a/pause", ""),
    ("POST", "/api/v1/services/a/resume", ""),
    ("POST", "/api/v1/bans", r#"{"block":"any"}"#),
    ("DELETE", "/api/v1/bans?block=any", ""),
];

#[test]
fn without_the_token_nothing_is_said() {
    let (controlled, address) = steered("steer-token", &[]);
    for (method, path, body) in STEERING {
        for token in ["X: y", "Authorization: Bearer correct-horse-batterz", "Authorization: Basic eDp5"] {
            // Whatever else is wrong with them.
            for lines in [&[token, JSON][..], &[token, "Origin: http://evil.example"], &[token]] {
                let answer = send(&address, method, path, lines, body);
                assert_eq!(answer.status, 401, "{method} {path} {lines:?}: {answer:?}");
            }
        }
    }
    assert!(controlled.server.connect().is_served());
    assert!(controlled.server.log.of("control").is_empty());
}

#[test]
fn without_the_option_nothing_changes() {
    let folder = Folder::new("steer-without");
    let file = folder.write("token", TOKEN).display().to_string();
    let token = Server::serve(&["--observe", "127.0.0.1:0", "--observe-token", &file]);
    let open = Server::serve(&["--observe", "127.0.0.1:0"]);
    for server in [token, open] {
        let address = observer_of(&server);
        for (method, path, body) in STEERING {
            let answer = send(&address, method, path, &[AUTHORIZED, JSON], body);
            assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
            assert!(answer.json()["error"].to_string().contains("--observe-control"), "{answer:?}");
        }
        assert_eq!(read(&address, "/api/v1/status")["server"]["control"], false);
        server.connect().echo("x").finish();
        assert!(server.log.of("control").is_empty());
    }
}

#[test]
fn pages_of_other_sites_cannot_steer() {
    let (controlled, address) = steered("steer-sites", &[]);
    let own = format!("Origin: http://{address}");
    for (lines, status) in [
        (&["Origin: http://evil.example"][..], 403),
        (&["Origin: null"], 403),
        (&["Sec-Fetch-Site: cross-site"], 403),
        (&["Sec-Fetch-Site: same-site"], 403),
        (&["Sec-Fetch-Site: cross-site", &own], 403),
        (&["Sec-Fetch-Site: same-origin", &own], 200),
        (&["Sec-Fetch-Site: none"], 200),
        (&[&own], 200),
    ] {
        let lines = [&[AUTHORIZED, JSON][..], lines].concat();
        let answer = send(&address, "POST", "/api/v1/resume", &lines, "");
        assert_eq!(answer.status, status, "{lines:?}: {answer:?}");
    }
    // What a form can send.
    for kind in [
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: text/plain",
        "Content-Type: text/plain; application/json",
        "X: y",
    ] {
        let answer = send(&address, "POST", "/api/v1/pause", &[AUTHORIZED, kind], "{}");
        assert_eq!(answer.status, 415, "{kind}: {answer:?}");
    }
    let kind = "Content-Type: Application/JSON; charset=utf-8";
    assert_eq!(send(&address, "POST", "/api/v1/resume", &[AUTHORIZED, kind], "{}").status, 200);
    assert_eq!(controlled.status()["phase"], "serving");
    // No page of another site may ask first, either.
    let asks = ["Origin: http://evil.example", "Access-Control-Request-Method: POST"];
    let answer = send(&address, "OPTIONS", "/api/v1/pause", &asks, "");
    assert!(answer.status == 401 && !answer.header.contains("access-control-allow"), "{answer:?}");
}

#[test]
fn wrong_requests_are_told_so() {
    let (controlled, address) = steered("steer-wrong", &[]);
    let mut held = controlled.server.connect();
    held.echo("x");
    let nested = "[".repeat(10_000);
    for (method, path, body, status, words) in [
        ("POST", "/api/v1/kill", "", 400, "kill needs"),
        ("POST", "/api/v1/kill", "{}", 400, "kill needs"),
        ("POST", "/api/v1/kill", r#"{"pier":"127.0.0.1"}"#, 400, "unknown field 'pier'"),
        ("POST", "/api/v1/kill", r#"{"command":"drain","older_ms":0}"#, 400, "unknown field 'command'"),
        ("POST", "/api/v1/kill", r#"{"peer":7}"#, 400, "peer is not a string"),
        ("POST", "/api/v1/kill", r#"{"peer":"127.0.0.1/8"}"#, 400, "bits set"),
        ("POST", "/api/v1/kill", r#"{"older_ms":-1}"#, 400, "older_ms"),
        ("POST", "/api/v1/kill", "older_ms=0", 400, "not JSON"),
        ("POST", "/api/v1/kill", nested.as_str(), 400, "not JSON"),
        ("POST", "/api/v1/kill?older_ms=0", "", 400, "in the body"),
        ("POST", "/api/v1/bans", "{}", 400, "there is no block"),
        ("POST", "/api/v1/bans", r#"{"block":"example.org"}"#, 400, "not an IP address"),
        ("DELETE", "/api/v1/bans", "", 400, "there is no block"),
        ("DELETE", "/api/v1/bans?block=127.0.0.1", "{}", 400, "in the query"),
        ("POST", "/api/v1/services/x/pause", "", 409, "there is no service x"),
        ("POST", "/api/v1/connections/x/kill", "", 400, "an id is"),
        ("POST", "/api/v1/connections/x:1/kill", "", 409, "there is no service x"),
        ("POST", "/api/v1/drain", "", 404, "no such page"),
        ("POST", "/api/v1/set", "", 404, "no such page"),
    ] {
        let answer = send(&address, method, path, &[AUTHORIZED, JSON], body);
        assert_eq!(answer.status, status, "{method} {path} {body:.80}: {answer:?}");
        assert!(answer.json()["error"].to_string().contains(words), "{method} {path}: {answer:?}");
    }
    for (method, path, allow) in [
        ("GET", "/api/v1/kill", "post"),
        ("DELETE", "/api/v1/connections/1/kill", "post"),
        ("PUT", "/api/v1/bans", "get, head, post, delete"),
        ("POST", "/api/v1/connections", "get, head"),
        ("POST", "/metrics", "get, head"),
        ("DELETE", "/", "get, head"),
    ] {
        let answer = send(&address, method, path, &[AUTHORIZED, JSON], "");
        assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        assert!(answer.header.contains(&format!("\nallow: {allow}\r")), "{method} {path}: {answer:?}");
    }
    held.echo("y");
    assert!(controlled.server.log.of("control").is_empty());
}

#[test]
fn large_and_slow_bodies_are_refused() {
    let (controlled, address) = steered("steer-body", &[]);
    let head = format!("POST /api/v1/pause HTTP/1.1\r\nHost: {address}\r\n{AUTHORIZED}\r\n{JSON}\r\n");
    let large = "x".repeat(20_000);
    for text in [
        format!("{head}Content-Length: 20000\r\nConnection: close\r\n\r\n{large}"),
        format!("{head}Content-Length: 99999999999\r\nConnection: close\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n4e20\r\n{large}\r\n0\r\n\r\n"),
    ] {
        let answer = request(&address, &text);
        assert_eq!(answer.status, 413, "{:.200}: {answer:?}", &text);
    }
    let mut slow = TcpStream::connect(&address).expect("it listens");
    slow.set_read_timeout(Some(Duration::from_secs(30))).expect("ours");
    slow.write_all(format!("{head}Content-Length: 10\r\n\r\n{{").as_bytes()).expect("it reads");
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(controlled.status()["phase"], "serving");
}

#[test]
fn each_of_several_services_is_steered() {
    let folder = Folder::new("steer-services");
    let token = folder.write("token", TOKEN).display().to_string();
    let text = format!(
        "observe = '127.0.0.1:0'\nobserve-token = '{token}'\nobserve-control = true\n\
         [services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\n"
    );
    let file = folder.write("tine.toml", &text).display().to_string();
    let socket = folder.path("c.sock");
    let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &socket];
    let mut server = ServerCommand::program(tine(), &serve).start();
    let address = observer_of(&server);
    let phases = || -> Vec<Value> {
        let status = read(&address, "/api/v1/status");
        let services = status["services"].as_array().expect("services").iter();
        services.map(|service| service["phase"].clone()).collect()
    };
    let mut client = server.connect();
    client.echo("x");
    expect_done(&post(&address, "/api/v1/services/b/pause", ""), 1);
    assert_eq!(phases(), ["serving", "paused"]);
    assert_eq!(get(&address, "/readyz").status, 503);
    expect_done(&post(&address, "/api/v1/pause", ""), 2);
    assert_eq!(phases(), ["paused", "paused"]);
    expect_done(&post(&address, "/api/v1/services/a/resume", ""), 1);
    expect_done(&post(&address, "/api/v1/resume", ""), 2);
    assert_eq!(get(&address, "/readyz").status, 200);
    let unknown = post(&address, "/api/v1/services/c/pause", "");
    assert!(unknown.status == 409 && unknown.body.contains("there are a, b"), "{unknown:?}");
    // Each numbers its own connections.
    let plain = post(&address, "/api/v1/connections/1/kill", "");
    assert!(plain.status == 400 && plain.body.contains("SERVICE:ID"), "{plain:?}");
    expect_done(&post(&address, "/api/v1/bans", r#"{"block":"127.0.0.9","service":"b"}"#), 1);
    expect_done(&post(&address, "/api/v1/bans", r#"{"block":"127.0.0.10"}"#), 2);
    assert!(Client::from_source("127.0.0.9", server.port()).is_served());
    assert!(!Client::from_source("127.0.0.10", server.port()).is_served());
    expect_done(&delete(&address, "/api/v1/bans?block=127.0.0.9&service=b"), 1);
    expect_done(&delete(&address, "/api/v1/bans?block=127.0.0.10"), 2);
    client.echo("y");
    // One of the ids is there.
    expect_done(&post(&address, "/api/v1/kill", r#"{"ids":["a:1","b:7"]}"#), 1);
    client.expect_closed();
    let log = server.log.wait_for("control", 1);
    assert!(log.iter().all(|line| line["by"] == "observer"), "{log:?}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_option_needs_a_token() {
    let folder = Folder::new("steer-options");
    let config = |name: &str, text: &str| {
        let text = format!("{text}observe-control = true\n[services.a]\nlisten = '127.0.0.1:0'\n");
        folder.write(name, &text).display().to_string()
    };
    let (loopback, alone) = (config("a.toml", "observe = '127.0.0.1:0'\n"), config("b.toml", ""));
    let socket = format!("unix:{}", folder.path("o.sock"));
    for (words, next) in [
        (
            &["serve", "127.0.0.1:0", "--observe", "127.0.0.1:0", "--observe-control"][..],
            "--observe-token FILE",
        ),
        (&["serve", "127.0.0.1:0", "--observe", &socket, "--observe-control"], "--observe-token FILE"),
        (&["serve", "127.0.0.1:0", "--observe-control"], "--observe 127.0.0.1:PORT"),
        (&["serve", "--config", &loopback], "--observe-token FILE"),
        (&["serve", "--config", &alone], "--observe 127.0.0.1:PORT"),
        (&["check", &loopback], "--observe-token FILE"),
        (&["check", &alone], "--observe 127.0.0.1:PORT"),
    ] {
        let (code, _, err) = run(Command::new(tine()).args(words));
        assert_eq!(code, 100, "{words:?}: {err}");
        assert!(err.contains(next) && !err.contains("listen "), "{words:?}: {err}");
    }
}
