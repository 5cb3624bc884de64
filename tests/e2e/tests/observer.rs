//! The observer: what it tells is what the server does, whoever asks, and nothing that happens to
//! it is felt by a client of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::control::Controlled;
use tine_e2e::http::{Answer, get, get_with, observer_of, request, try_request};
use tine_e2e::load::load;
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, network, procfs, tine, wait_until};

const OBSERVE: [&str; 2] = ["--observe", "127.0.0.1:0"];

/// The process id of the observer of a server.
fn observer_pid(server: &Server) -> i32 {
    wait_until("there is an observer", || {
        procfs::children(server.pid()).into_iter().find(|child| child.name == "tine: observer")
    })
    .pid
}

fn metrics(address: &str) -> Answer {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[test]
fn pages_tell_what_the_server_does() {
    let controlled = Controlled::serve("observer-pages", &[&OBSERVE[..], &["--name", "web"]].concat(), &[]);
    let server = &controlled.server;
    let address = observer_of(server);
    let mut held = server.connect();
    held.echo("x");
    server.connect().echo("yy").finish();
    server.log.wait_for("end", 1);
    assert_eq!(get(&address, "/healthz").body, "ok\n");
    assert_eq!(get(&address, "/readyz").status, 200);
    let received = "tine_received_bytes_total{service=\"web\"}";
    let found = wait_until("the end is counted", || {
        Some(metrics(&address)).filter(|answer| answer.metric(received) == Some(2.0))
    });
    assert!(found.header.contains("content-type: text/plain; version=0.0.4"), "{found:?}");
    for (name, value) in [
        ("tine_connections{service=\"web\"}", 1.0),
        ("tine_connections_accepted_total{service=\"web\"}", 2.0),
        ("tine_connections_ended_total{service=\"web\",kind=\"success\"}", 1.0),
        ("tine_connection_duration_seconds_count{service=\"web\"}", 1.0),
        ("tine_received_bytes_total{service=\"web\"}", 2.0),
        ("tine_phase{service=\"web\",phase=\"serving\"}", 1.0),
    ] {
        assert_eq!(found.metric(name), Some(value), "{name}: {}", found.body);
    }
    let open = get_with(&address, "/metrics", "Accept: application/openmetrics-text; version=1.0.0");
    assert!(open.header.contains("application/openmetrics-text; version=1.0.0"), "{open:?}");
    assert!(open.body.ends_with("# EOF\n") && open.body.contains(" # {id=\"2\"} "), "{}", open.body);
    let status = get(&address, "/api/v1/status").json();
    assert_eq!(
        (&status["server"]["name"], &status["services"][0]["connections"]),
        (&"web".into(), &1.into())
    );
    assert!(status["services"][0]["settings"].as_array().is_some_and(|settings| !settings.is_empty()));
    let listed = get(&address, "/api/v1/connections?search=127.0.0.1&sort=-age").json();
    assert_eq!((&listed["total"], &listed["connections"][0]["id"]), (&1.into(), &1.into()));
    let ended = get(&address, "/api/v1/connections?ended=1").json();
    assert_eq!((&ended["total"], &ended["connections"][0]["outcome"]), (&1.into(), &"exit 0".into()));
    assert_eq!(get(&address, "/api/v1/connections/1").json()["state"], "serving");
    // A pause, and the end of it.
    controlled.done(&["pause"]);
    let status = |wanted: u16| (get(&address, "/readyz").status == wanted).then_some(());
    wait_until("it is not ready", || status(503));
    assert_eq!(get(&address, "/healthz").status, 200);
    controlled.done(&["resume"]);
    wait_until("it is ready", || status(200));
    held.finish();
}

#[test]
fn it_has_nothing_of_the_server() {
    let server = Server::serve(&OBSERVE);
    let mut held = server.connect();
    held.echo("x");
    let pid = observer_pid(&server);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().collect()
    };
    assert_eq!(field("Uid:"), ["65534"; 4]);
    assert_eq!(field("Gid:"), ["65534"; 4]);
    assert!(field("Groups:").iter().all(|group| *group == "65534"), "{status}");
    assert_eq!((field("CapPrm:"), field("CapEff:")), (vec!["0000000000000000"], vec!["0000000000000000"]));
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:"), field("Threads:")),
        (vec!["1"], vec!["2"], vec!["1"])
    );
    // Its listener and the runtime's own: no socket of a client, no file.
    let of_client = procfs::process(held_pid(&server)).expect("it runs");
    let client_sockets = sockets(of_client.pid);
    let own = sockets(pid);
    assert!(
        !client_sockets.is_empty() && own.iter().all(|socket| !client_sockets.contains(socket)),
        "{own:?}"
    );
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("root may");
    assert!(environment.starts_with(b"TINE_OBSERVER=") && !environment.contains(&b'\n'));
    assert_eq!(environment.iter().filter(|byte| **byte == 0).count(), 1, "one variable");
}

fn held_pid(server: &Server) -> i32 {
    let accept = server.log.wait_for("accept", 1).remove(0);
    i32::try_from(accept["pid"].as_i64().expect("a process id")).expect("a process id")
}

/// The sockets that a process has open.
fn sockets(pid: i32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
}

#[test]
fn without_the_token_it_tells_nothing() {
    let folder = Folder::new("observer-token");
    let token = folder.write("token", "correct-horse-battery\n").display().to_string();
    let server = Server::serve(&["--observe", "0.0.0.0:0", "--observe-token", &token]);
    let address = observer_of(&server).replace("0.0.0.0", "127.0.0.1");
    let warning = server.log.wait_for("warning", 1).remove(0);
    assert!(warning["text"].as_str().is_some_and(|text| text.contains("is encrypted")), "{warning}");
    let all = [
        "/metrics",
        "/api/v1/status",
        "/api/v1/connections",
        "/api/v1",
        "/nothing",
        "/api/v1/connections?odd=1",
    ];
    for path in all {
        for line in ["", "Authorization: Bearer wrong-horse-battery", "Authorization: Basic eDp5"] {
            let answer = match line {
                "" => get(&address, path),
                line => get_with(&address, path, line),
            };
            assert_eq!(answer.status, 401, "{path} {line}: {answer:?}");
            assert!(answer.header.contains("www-authenticate: bearer"), "{answer:?}");
        }
    }
    for path in ["/healthz", "/readyz", "/", "/assets/main.js"] {
        assert_eq!(get(&address, path).status, 200, "{path}");
    }
    let known = |path: &str| get_with(&address, path, "Authorization: Bearer correct-horse-battery").status;
    assert_eq!((known("/metrics"), known("/nothing"), known("/api/v1/connections?odd=1")), (200, 404, 400));
}

#[test]
fn wrong_options_start_nothing() {
    let folder = Folder::new("observer-options");
    let short = folder.write("short", "secret").display().to_string();
    let missing = folder.path("missing");
    for (options, code, words) in [
        (&["--observe", "0.0.0.0:0"][..], 100, "without a token"),
        (&["--observe", "9"], 100, "without a token"),
        (&["--observe", "vsock:7"], 100, "TCP or Unix"),
        (&["--observe", "127.0.0.1:0", "--observe-token", &short], 100, "has no token"),
        (&["--observe", "127.0.0.1:0", "--observe-token", &missing], 111, "cannot read the token"),
        (&["--observe", "127.0.0.1:0", "--observe-user", "root"], 100, "does not run as root"),
        (&["--observe", "127.0.0.1:0", "--observe-user", "no-such-user"], 100, "no-such-user"),
        (&["--observe-token", &short], 100, "--observe"),
    ] {
        let mut command = std::process::Command::new(tine());
        command.args(["serve", "127.0.0.1:0"]).args(options);
        let (found, _, err) = tine_e2e::run(&mut command);
        assert_eq!(found, code, "{options:?}: {err}");
        assert!(err.contains(words) && !err.contains("listen "), "{options:?}: {err}");
    }
}

#[test]
fn its_death_and_its_sleep_are_not_felt() {
    network::own();
    let server = Server::serve(&[&OBSERVE[..], &["-c", "500"]].concat());
    let address = observer_of(&server);
    let target = format!("127.0.0.1:{}", server.port());
    let mut held = server.connect();
    held.echo("before");
    std::thread::scope(|scope| {
        let loaded =
            scope.spawn(|| load(&["crr", &target, "--rate", "200", "-d", "3s", "--max-lateness", "5s"]));
        for round in 1..=3 {
            let pid = observer_pid(&server);
            kill(pid, Signal::STOP);
            wait_until("it is stopped", || (procfs::process(pid)?.state == 'T').then_some(()));
            held.echo("while it is stopped");
            kill(pid, Signal::KILL);
            let restart = server.log.wait_for("restart", round).remove(round - 1);
            assert_eq!(restart["role"], "observer", "{restart}");
            wait_until("the next one answers", || {
                try_request(&address, "GET /healthz HTTP/1.0\r\n\r\n")
                    .ok()
                    .filter(|answer| answer.status == 200)
            });
        }
        loaded.join().expect("no panic").expect_sound();
    });
    held.echo("after");
    assert_eq!(metrics(&address).metric(&restarts("observer", server.port())), Some(3.0));
}

fn restarts(role: &str, port: u16) -> String {
    format!("tine_process_restarts_total{{service=\"{port}\",role=\"{role}\"}}")
}

#[test]
fn slow_silent_and_wrong_clients_are_told_so_and_nothing_else_happens() {
    let server = Server::serve(&OBSERVE);
    let address = observer_of(&server);
    let idle: Vec<TcpStream> =
        (0..1_000).map(|_| TcpStream::connect(&address).expect("it listens")).collect();
    let lines = |count: usize| "X: y\r\n".repeat(count);
    for (text, status) in [
        (format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nLong: {}\r\n\r\n", "x".repeat(100_000)), 431),
        (format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n", lines(1_000)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "x".repeat(100_000)), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("GET /%2e%2e/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(), 403),
        ("POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(), 405),
        ("HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(), 200),
    ] {
        let answer = request(&address, &text);
        assert_eq!(answer.status, status, "{}: {answer:?}", &text[..text.len().min(60)]);
    }
    // One that does not finish its header, and one that does not read its answer.
    let mut slow = TcpStream::connect(&address).expect("it listens");
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127").expect("it reads");
    let mut deaf = TcpStream::connect(&address).expect("it listens");
    for _ in 0..100 {
        let asked = deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        if asked.is_err() {
            break;
        }
    }
    server.connect().echo("x").finish();
    assert_eq!(metrics(&address).status, 200);
    // Those that say nothing make room by themselves.
    slow.set_read_timeout(Some(Duration::from_secs(30))).expect("ours");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    let pid = observer_pid(&server);
    drop(idle);
    wait_until("their connections are closed", || (sockets(pid).len() < 20).then_some(()));
    assert!(server.log.of("restart").is_empty(), "it lives");
}

#[test]
fn all_services_are_observed_by_one() {
    let folder = Folder::new("observer-services");
    let text = "observe = '127.0.0.1:0'\nname = 'two'\n[services.a]\nlisten = '127.0.0.1:0'\n\
                [services.b]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\n";
    let file = folder.write("tine.toml", text).display().to_string();
    let socket = folder.path("c.sock");
    let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &socket];
    let mut server = ServerCommand::program(tine(), &serve).start();
    let address = observer_of(&server);
    server.connect().echo("x").finish();
    let metric = |name: &str| metrics(&address).metric(name);
    wait_until("the end is counted", || {
        (metric("tine_connections_ended_total{service=\"a\",kind=\"success\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(metric("tine_connections_accepted_total{service=\"b\"}"), Some(0.0));
    // The next generation listens on the same address.
    server.signal(Signal::USR2);
    server.log.wait_for("replaced", 1);
    assert_eq!(metric("tine_generation{service=\"a\"}"), Some(2.0));
    assert_eq!(metric("tine_connections_ended_total{service=\"a\",kind=\"success\"}"), Some(1.0));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
}

#[test]
fn it_listens_on_a_unix_socket_too() {
    let folder = Folder::new("observer-unix");
    let path = folder.path("observer.sock");
    let mut server = Server::serve(&["--observe", &format!("unix:{path}")]);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: any.example\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("ready\n"), "{answer}");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn a_scrape_of_many_connections_is_one_of_few() {
    let server = Server::serve(&[&OBSERVE[..], &["-c", "1000"]].concat());
    let address = observer_of(&server);
    let before = metrics(&address).body.len();
    let mut held: Vec<Client> = (0..300).map(|_| server.connect()).collect();
    held.iter_mut().for_each(|client| _ = client.echo("x"));
    let served = format!("tine_connections{{service=\"{}\"}}", server.port());
    let after = wait_until("all are counted", || {
        Some(metrics(&address)).filter(|answer| answer.metric(&served) == Some(300.0))
    });
    assert!(after.body.len() < before + 200, "no label grows with clients: {before} {}", after.body.len());
}

/// Reads server-sent events until one has been found.
fn event_with(reader: &mut impl BufRead, wanted: impl Fn(&str, &Value) -> bool) -> Value {
    let mut name = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        assert!(reader.read_line(&mut line).expect("events") > 0, "the stream has ended");
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.trim().to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).expect("JSON");
            if wanted(&name, &data) {
                return data;
            }
        }
    }
}

fn follow(address: &str, last: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("ours");
    let ask = format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("it reads");
    BufReader::new(stream)
}

#[test]
fn events_tell_what_begins_and_ends_and_go_on_where_a_client_was() {
    let server = Server::serve(&OBSERVE);
    let address = observer_of(&server);
    let mut events = follow(&address, "");
    event_with(&mut events, |name, _| name == "history");
    event_with(&mut events, |name, _| name == "sample");
    let mut client = server.connect();
    client.echo("x");
    let sample = event_with(&mut events, |name, data| {
        name == "sample" && data["live"].as_array().is_some_and(|live| live.len() == 1)
    });
    assert_eq!(sample["services"][0]["connections"], 1, "{sample}");
    client.finish();
    let sample = event_with(&mut events, |_, data| data["ended"][0]["kind"] == "success");
    assert_eq!((&sample["ended"][0]["id"], &sample["live"]), (&1.into(), &Value::Array(Vec::new())));
    let time = sample["time"].as_f64().expect("a time");
    drop(events);
    // What the client has got is not sent again.
    let mut events = follow(&address, &format!("{:.0}", time * 1_000.0));
    let history = event_with(&mut events, |name, _| name == "history");
    let times: Vec<f64> =
        history.as_array().expect("samples").iter().filter_map(|sample| sample["time"].as_f64()).collect();
    assert!(times.iter().all(|at| *at > time), "{time}: {times:?}");
    event_with(&mut events, |name, data| name == "sample" && data["time"].as_f64() > Some(time));
}

#[test]
fn the_dashboard_comes_from_here_alone() {
    let server = Server::serve(&OBSERVE);
    let address = observer_of(&server);
    let page = get(&address, "/");
    assert_eq!(page.status, 200);
    assert!(page.header.contains("content-type: text/html"), "{}", page.header);
    let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';";
    assert!(page.header.contains(policy), "{}", page.header);
    assert!(!page.header.contains("unsafe-inline"), "{}", page.header);
    let named: Vec<&str> = page.body.split('"').filter(|word| word.starts_with("assets/")).collect();
    assert!(named.len() > 3, "{}", page.body);
    for file in named {
        let found = get(&address, &format!("/{file}"));
        assert!(found.status == 200 && found.header.contains("nosniff"), "{file}: {found:?}");
    }
    assert!(!page.body.contains("style=") && !page.body.contains("<style"), "no inline style");
    assert!(
        page.body
            .split("<script")
            .skip(1)
            .all(|script| script.starts_with(" src=") || script.starts_with(" type=\"module\" src="))
    );
}
