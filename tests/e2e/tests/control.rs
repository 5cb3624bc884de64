//! Watching and steering a running server: what its commands say is what the kernel says, what they
//! order is done when they return, and a hostile controller changes nothing.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::load::load;
use tine_e2e::names::{CONNECTION, CONTROL, outcome};
use tine_e2e::{Client, Folder, Server, ServerCommand, network, procfs, run, tine, wait_until};

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

fn pids(rows: &[Value]) -> BTreeSet<i32> {
    rows.iter().map(|row| number(row, "pid") as i32).collect()
}

#[test]
fn a_list_is_what_the_kernel_says() {
    let controlled = Controlled::serve("list", &[], &[]);
    let mut clients: Vec<Client> = (0..20).map(|_| controlled.server.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.echo("x".repeat(at + 1));
    }
    let rows = controlled.json(&["list"]);
    let connections = controlled.server.named(CONNECTION).into_iter();
    let connections: BTreeSet<i32> =
        connections.filter(|process| process.name != CONTROL).map(|process| process.pid).collect();
    assert_eq!(pids(&rows), connections);
    let peers: BTreeSet<&str> = rows.iter().filter_map(|row| row["peer"].as_str()).collect();
    let addresses: Vec<String> = clients.iter().map(Client::address).collect();
    assert_eq!(peers, addresses.iter().map(String::as_str).collect());
    for (client, address) in
        clients.iter().zip(&addresses).zip(1..).map(|((_, address), sent)| (sent, address))
    {
        let row = rows.iter().find(|row| row["peer"] == **address).expect("a row");
        assert_eq!((number(row, "bytes_in"), number(row, "bytes_out")), (client, client), "{row}");
        assert_eq!((&row["bytes_source"], &row["tcp_state"]), (&json!("kernel"), &json!("ESTAB")), "{row}");
    }
    let status = controlled.status();
    assert_eq!((number(&status, "connections"), number(&status, "peak")), (20, 20));
    assert_eq!((&status["phase"], number(&status, "accepted")), (&json!("serving"), 20));
    assert_eq!(number(&status, "pid") as i32, controlled.server.pid());
    let forkers: BTreeSet<i32> = controlled.server.forkers().into_iter().collect();
    let processes = status["processes"].as_array().expect("processes");
    assert_eq!(pids(processes), forkers);
    clients.clear();
    controlled.server.log.wait_for("end", 20);
    assert!(controlled.json(&["list"]).is_empty());
    let ended = controlled.json(&["list", "--ended"]);
    assert_eq!((ended.len(), pids(&ended)), (20, connections));
    let ids: Vec<u64> = ended.iter().map(|row| number(row, "id")).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    assert!(ended.iter().all(|row| row["outcome"] == "exit 0" && row["state"] == "ended"));
}

#[test]
fn totals_are_those_of_the_load_client() {
    network::own();
    let controlled = Controlled::serve("totals", &["--max-connections-per-source", "20"], &[]);
    let address = format!("127.0.0.1:{}", controlled.server.port());
    let loaded = load(&["crr", &address, "-n", "300", "-c", "5"]);
    loaded.expect_sound();
    let _held: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = controlled.server.connect();
            client.echo("x");
            client
        })
        .collect();
    for _ in 0..3 {
        assert!(!controlled.server.connect().is_served());
    }
    let status = controlled.status();
    assert_eq!(number(&status, "accepted"), loaded.ended() + 20);
    assert_eq!((number(&status, "connections"), number(&status, "rejected")), (20, 3));
    assert_eq!(status["rejected_by_reason"], json!({ "source": 3 }));
    assert_eq!(number(&status["rates"]["60"], "accepted"), 320);
    controlled.server.log.wait_for("end", 300);
    assert_eq!((number(&controlled.status(), "ended"), number(&controlled.status(), "failed")), (300, 0));
}

#[test]
fn filters_sort_and_limit_select_connections() {
    let controlled = Controlled::serve("filters", &[], &[]);
    let mut clients: Vec<Client> = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        .map(|source| Client::from_source(source, controlled.server.port()))
        .into();
    for (client, text) in clients.iter_mut().zip(["aaa", "a", "aa"]) {
        client.echo(text);
    }
    let peers = |words: &[&str]| -> Vec<String> {
        let rows = controlled.json(&[&["list"], words].concat());
        let peer = |row: &Value| {
            row["peer"].as_str().expect("a peer").rsplit_once(':').expect("a port").0.to_owned()
        };
        rows.iter().map(peer).collect()
    };
    assert_eq!(peers(&["--sort", "-bytes_in"]), ["127.0.0.2", "127.0.0.4", "127.0.0.3"]);
    assert_eq!(peers(&["--sort", "peer", "--limit", "2"]), ["127.0.0.2", "127.0.0.3"]);
    assert_eq!(peers(&["--peer", "127.0.0.2/31", "--sort", "peer"]), ["127.0.0.2", "127.0.0.3"]);
    assert_eq!(peers(&["--older", "1h"]).len(), 0);
    assert_eq!(peers(&["--younger", "1h", "--state", "serving"]).len(), 3);
    let table = controlled.done(&["list", "--peer", "127.0.0.3"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("ID") && lines[1].contains("127.0.0.3:"), "{table}");
}

#[test]
fn a_connection_is_shown_with_its_processes() {
    let controlled = Controlled::serve("show", &[], &["sh", "-c", "sleep 61 & cat"]);
    let mut client = controlled.server.connect();
    client.echo("hello");
    let shown: Value = serde_json::from_str(&controlled.done(&["show", "1", "--json"])).expect("JSON");
    let pid = number(&shown, "pid") as i32;
    assert_eq!((number(&shown, "bytes_in"), &shown["tcp_state"]), (5, &json!("ESTAB")));
    let processes = shown["processes"].as_array().expect("processes");
    assert_eq!(number(&processes[0], "pid") as i32, pid);
    let children: BTreeSet<i32> = procfs::children(pid).iter().map(|child| child.pid).collect();
    assert_eq!(pids(&processes[1..]), children);
    let memory = procfs::status(pid, "VmRSS");
    assert!(memory.starts_with(&number(&processes[0], "rss_kib").to_string()), "{memory}");
    assert_eq!(number(&processes[0], "descriptors") as usize, procfs::descriptors(pid).len());
    let input = format!("/proc/{pid}/fd/0");
    let socket = std::fs::read_link(input).expect("the socket").display().to_string();
    assert_eq!(processes[0]["files"][0], json!({ "fd": 0, "file": socket }));
    let text = controlled.done(&["show", "1"]);
    assert!(text.contains("sleep 61") && text.contains("ESTAB") && text.contains(&socket), "{text}");
    let (code, _, err) = controlled.tine(&["show", "77"]);
    assert!(code == 111 && err.lines().count() == 1 && err.contains("no such connection"), "{code} {err}");
}

#[test]
fn a_killed_connection_has_ended_when_the_command_returns() {
    let controlled = Controlled::serve("kill", &[], &[]);
    let mut killed = controlled.server.connect();
    let mut other = controlled.server.connect();
    killed.echo("x");
    other.echo("x");
    let rows = controlled.json(&["list"]);
    let row = rows.iter().find(|row| row["peer"] == killed.address().as_str()).expect("a row");
    assert_eq!(controlled.done(&["kill", &row["id"].to_string()]), "ended 1\n");
    assert!(!procfs::is_running(number(row, "pid") as i32));
    killed.expect_closed();
    assert!(other.echo("y").finish().is_empty());
    let end = &controlled.server.log.wait_for("end", 1)[0];
    assert_eq!((outcome(end), &end["id"]), ("killed", &row["id"]));
    let control = &controlled.server.log.wait_for("control", 1)[0];
    assert_eq!(
        (&control["command"], &control["uid"], &control["detail"]),
        (&json!("kill"), &json!(0), &json!("1"))
    );
    let (code, _, err) = controlled.tine(&["kill", &row["id"].to_string()]);
    assert!(code == 111 && err.contains("no such connection"), "{code} {err}");
}

#[test]
fn a_program_that_ignores_term_is_killed_with_its_descendants() {
    let script = "trap '' TERM; setsid sh -c \"trap '' TERM; echo ready; sleep 62\" & wait; sleep 62";
    let controlled = Controlled::serve("ignore", &["--client-gone", "leave"], &["sh", "-c", script]);
    let mut client = controlled.server.connect();
    client.expect("ready\n");
    assert_eq!(controlled.done(&["kill", "--peer", "127.0.0.0/8", "--older", "0s"]), "ended 1\n");
    assert!(client.read_to_end().is_empty());
    controlled.server.log.wait_for("end", 1);
    wait_until("no descendant is left", || {
        let forkers = controlled.server.forkers();
        let left = controlled.server.processes();
        left.iter()
            .all(|one| one.pid == controlled.server.pid() || forkers.contains(&one.pid) || one.is_zombie())
            .then_some(())
    });
}

fn pause_keeps_clients_in_the_backlog(name: &str, options: &[&str]) {
    let controlled = Controlled::serve(name, options, &[]);
    let mut before = controlled.server.connect();
    before.echo("x");
    controlled.done(&["pause"]);
    assert_eq!(controlled.status()["phase"], "paused");
    let accepted = number(&controlled.status(), "accepted");
    let mut waiting: Vec<Client> = (0..5).map(|_| controlled.server.connect()).collect();
    waiting.iter_mut().for_each(|client| _ = client.send("from the backlog"));
    // The connection that there was goes on.
    before.echo("y");
    waiting[0].expect_silence(Duration::from_millis(300));
    assert_eq!(number(&controlled.status(), "accepted"), accepted);
    controlled.done(&["resume"]);
    waiting.iter_mut().for_each(|client| _ = client.expect("from the backlog"));
    assert_eq!(controlled.status()["phase"], "serving");
    // A second time, and a stop in a pause serves the backlog.
    controlled.done(&["pause"]);
    controlled.done(&["pause"]);
    let mut last = controlled.server.connect();
    last.send("the last").half_close();
    before.half_close();
    waiting.iter_mut().for_each(|client| _ = client.half_close());
    controlled.done(&["drain"]);
    assert_eq!(last.read_text(), "the last");
}

#[test]
fn a_pause_keeps_clients_in_the_backlog() {
    pause_keeps_clients_in_the_backlog("pause", &[]);
}

#[test]
fn a_pause_keeps_clients_in_the_backlog_with_spares() {
    pause_keeps_clients_in_the_backlog("pause-spares", &["--spares", "8"]);
}

#[test]
fn a_pause_keeps_clients_in_the_backlog_with_workers() {
    pause_keeps_clients_in_the_backlog("pause-workers", &["--spares", "8", "--reuse", "100"]);
}

#[test]
fn a_drain_returns_when_the_server_has_stopped() {
    let mut controlled = Controlled::serve("drain", &[], &[]);
    let mut client = controlled.server.connect();
    client.echo("x");
    let mut drain = controlled.command(&["drain"]).spawn().expect("started");
    controlled.server.log.wait_for("drain", 1);
    assert!(drain.try_wait().expect("our child").is_none(), "a connection is left");
    client.echo("y").finish();
    assert_eq!(drain.wait().expect("our child").code(), Some(0));
    std::net::TcpStream::connect(("127.0.0.1", controlled.server.port())).expect_err("the port is closed");
    assert_eq!(controlled.server.wait().code(), Some(0));
    assert_eq!(controlled.tine(&["status"]).0, 3);
}

#[test]
fn banned_clients_are_rejected_until_the_ban_ends() {
    let controlled = Controlled::serve("ban", &[], &[]);
    let port = controlled.server.port();
    let served = |source: &str| Client::from_source(source, port).is_served();
    let mut held = Client::from_source("127.0.0.2", port);
    held.echo("x");
    controlled.done(&["ban", "127.0.0.2/31"]);
    assert!(!served("127.0.0.2") && !served("127.0.0.3") && served("127.0.0.4"));
    held.echo("still served");
    assert_eq!(controlled.done(&["ban", "127.0.0.2/31", "--for", "1h", "--kill"]), "ended 1\n");
    held.expect_closed();
    let bans = controlled.json(&["bans"]);
    assert_eq!((bans.len(), &bans[0]["block"]), (1, &json!("127.0.0.2/31")));
    assert!((3_590_000..=3_600_000).contains(&number(&bans[0], "left_ms")), "{bans:?}");
    let rejects = controlled.server.log.wait_for("reject", 2);
    assert!(rejects.iter().all(|line| line["reason"] == "banned"), "{rejects:?}");
    controlled.done(&["unban", "127.0.0.2/31"]);
    assert!(served("127.0.0.2") && controlled.json(&["bans"]).is_empty());
    assert_eq!(controlled.tine(&["unban", "127.0.0.2/31"]).0, 111);
    controlled.done(&["ban", "127.0.0.5", "--for", "1s"]);
    assert!(!served("127.0.0.5"));
    wait_until("the ban ends", || controlled.json(&["bans"]).is_empty().then_some(()));
    assert!(served("127.0.0.5"));
    for wrong in ["127.0.0.1/8", "example.org", "1.2.3.0/33"] {
        let (code, _, err) = controlled.tine(&["ban", wrong]);
        assert!(code == 100 && err.lines().count() == 1, "{wrong}: {code} {err}");
    }
}

#[test]
fn bans_survive_a_restart() {
    let Controlled { folder, mut server } = Controlled::serve("restart", &[], &[]);
    let (socket, state) = (folder.path("c.sock"), folder.path("state"));
    let of = |words: &[&str]| run(Command::new(tine()).args(words).args(["--control", &socket]));
    assert_eq!(of(&["ban", "127.0.0.9"]).0, 0);
    assert_eq!(of(&["ban", "127.0.0.8", "--for", "1ms"]).0, 0);
    server.signal(Signal::KILL);
    server.wait_for_exit();
    let again = ["--control", &socket, "--state-directory", &state];
    let server = ServerCommand::serve(again).start();
    assert!(!Client::from_source("127.0.0.9", server.port()).is_served());
    assert!(Client::from_source("127.0.0.7", server.port()).is_served());
    drop(server);
    // What is no file of bans is not passed over.
    folder.write("state/c.bans.json", "{");
    let (code, _, err) = run(Command::new(tine()).args(["serve", "127.0.0.1:0"]).args(again));
    assert!(code == 100 && err.contains("c.bans.json is not a file of bans"), "{code} {err}");
}

#[test]
fn a_full_disk_loses_no_ban_of_the_running_server() {
    let folder = Folder::new("full");
    let (socket, state) = (folder.path("c.sock"), folder.path("state"));
    std::fs::create_dir(&state).expect("made");
    let fill =
        "mount -t tmpfs -o size=4k tmpfs \"$0\" && ! cat /dev/zero 2>/dev/null >\"$0/full\" && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", fill, &state];
    let options = ["--control", &socket, "--state-directory", &state];
    let server = ServerCommand::wrapped(wrapper, options).start();
    let of = |words: &[&str]| run(Command::new(tine()).args(words).args(["--control", &socket]));
    assert_eq!(of(&["ban", "127.0.0.9"]).0, 0);
    assert!(!Client::from_source("127.0.0.9", server.port()).is_served());
    let error = &server.log.wait_for("error", 1)[0];
    assert!(error["text"].as_str().is_some_and(|text| text.contains("cannot keep the bans")), "{error}");
}

#[test]
fn other_users_are_refused_and_a_group_reads() {
    let controlled = Controlled::serve("users", &["--control-group", "games"], &[]);
    let copy = controlled.folder.copy_of_tine();
    let socket = controlled.folder.path("c.sock");
    let mode = std::fs::metadata(&socket).expect("bound").permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let as_user = |setpriv: &[&str], words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(setpriv).arg("--").arg(&copy).args(words).args(["--control", &socket]);
        run(&mut command)
    };
    let nobody = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    let (code, _, err) = as_user(&nobody, &["status"]);
    assert!(code == 111 && err.contains("--control-group"), "{code} {err}");
    // The mode of the file is not all: the server checks the user.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let (code, _, err) = as_user(&nobody, &["status"]);
    assert!(code == 111 && err.contains("may not read or change"), "{code} {err}");
    controlled.server.log.wait_for("warning", 1);
    // Root of another user namespace is the user that it is mapped to in this one.
    let mut namespace = Command::new("setpriv");
    namespace.args(nobody).args(["--", "unshare", "--user", "--map-root-user", "--"]).arg(&copy);
    let (code, _, err) = run(namespace.args(["status", "--control", &socket]));
    assert!(code == 111 && err.contains("may not read or change"), "{code} {err}");
    let games = ["--reuid", "nobody", "--regid", "nogroup", "--groups", "games"];
    assert_eq!(as_user(&games, &["status"]).0, 0);
    assert_eq!(as_user(&games, &["list"]).0, 0);
    for words in
        [&["pause"][..], &["kill", "1"], &["ban", "127.0.0.1"], &["drain"], &["reload"], &["upgrade"]]
    {
        let (code, _, err) = as_user(&games, words);
        assert!(code == 111 && err.contains("may only read"), "{words:?}: {code} {err}");
    }
    assert_eq!(controlled.status()["phase"], "serving");
}

#[test]
fn hostile_controllers_change_nothing() {
    let controlled = Controlled::serve("hostile", &[], &[]);
    let socket = controlled.folder.path("c.sock");
    let connect = || UnixStream::connect(&socket).expect("listens");
    // Nonsense without end: it is cut off after the longest request.
    let mut nonsense = connect();
    let megabyte = vec![b'x'; 1 << 20];
    let cut = (0..100).find(|_| nonsense.write_all(&megabyte).is_err());
    assert!(cut.is_some(), "100 MB were read");
    // Silent ones, and ones that read nothing.
    let silent: Vec<UnixStream> = (0..500).map(|_| connect()).collect();
    let unread: Vec<UnixStream> = (0..500)
        .map(|_| {
            let mut stream = connect();
            let _ = stream.write_all(b"{\"command\":\"list\",\"ended\":true}\n");
            stream
        })
        .collect();
    let mut client = controlled.server.connect();
    client.echo("unaffected");
    let deadline = Instant::now() + Duration::from_secs(20);
    assert!(number(&controlled.status(), "connections") == 1 && Instant::now() < deadline);
    drop((silent, unread));
    for (request, error) in [
        (&b"\n"[..], "not JSON"),
        (b"{\"command\":\"halt\"}\n", "unknown command 'halt'"),
        (b"{\"command\":\"list\",\"sort\":\"\\u0000\"}\n", "is none of"),
        (b"\xff\xfe\n", "not JSON"),
    ] {
        let mut stream = connect();
        stream.write_all(request).expect("room");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        let reply: Value = serde_json::from_str(&reply).expect("one line of JSON");
        assert!(reply["error"].as_str().is_some_and(|text| text.contains(error)), "{reply}");
        assert_eq!(reply["code"], 100);
    }
    client.echo("unaffected").finish();
    assert_eq!(controlled.server.log.of("warning").len(), 0);
}

#[test]
fn control_processes_are_confined_and_cannot_write_what_decides() {
    let controlled = Controlled::serve("confined", &[], &[]);
    let mut stream = UnixStream::connect(controlled.folder.path("c.sock")).expect("listens");
    // A request that is not complete keeps its process waiting.
    stream.write_all(b"{").expect("room");
    let pid = wait_until("a control process", || Some(controlled.server.named(CONTROL).first()?.pid));
    wait_until("it is confined", || (procfs::status(pid, "Seccomp") == "2").then_some(()));
    assert_eq!(procfs::status(pid, "NoNewPrivs"), "1");
    let writable: Vec<String> = procfs::mappings(pid)
        .into_iter()
        .filter(procfs::Mapping::is_shared_and_writable)
        .map(|mapping| format!("{mapping:?}"))
        .collect();
    assert!(writable.is_empty(), "{writable:?}");
    // Killed, it takes nothing with it.
    tine_e2e::kill(pid, Signal::KILL);
    let mut reply = String::new();
    // If it was killed before it had read the byte, the end is a reset.
    if let Err(why) = stream.read_to_string(&mut reply) {
        assert_eq!(why.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(reply, "");
    controlled.server.connect().echo("x").finish();
    assert_eq!(controlled.status()["phase"], "serving");
}

const TWO: &str = "[services.echo]\nlisten = '127.0.0.1:0'\n\
    [services.upper]\nlisten = '127.0.0.1:0'\nprogram = ['tr', 'a-z', 'A-Z']\n";

#[test]
fn commands_reach_every_service_or_one() {
    let folder = Folder::new("services");
    let file = folder.write("two.toml", TWO);
    let socket = folder.path("c.sock");
    let words = [
        "serve",
        "--config",
        file.to_str().expect("UTF-8"),
        "--log",
        "json",
        "-1",
        "--control",
        &socket,
        "--state-directory",
        "none",
    ];
    let mut server = ServerCommand::program(tine(), &words).start();
    let of = |words: &[&str]| run(Command::new(tine()).args(words).args(["--control", &socket]));
    let json = |words: &[&str]| -> Vec<Value> {
        let (code, out, err) = of(&[words, &["--json"]].concat());
        assert_eq!(code, 0, "{words:?}: {err}");
        serde_json::from_str(&out).expect("JSON")
    };
    let mut echo = Client::connect(server.log.port_of("echo"));
    echo.echo("x");
    let _upper = Client::connect(server.log.port_of("upper"));
    let rows =
        wait_until("both connections are listed", || Some(json(&["list"])).filter(|rows| rows.len() == 2));
    let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["echo:1", "upper:1"]);
    assert_eq!(json(&["status"]).len(), 2);
    assert_eq!(json(&["list", "--service", "upper"])[0]["id"], "upper:1");
    // A bare id could be that of either.
    let (code, _, err) = of(&["kill", "1"]);
    assert!(code == 100 && err.contains("SERVICE:ID"), "{code} {err}");
    assert_eq!(of(&["kill", "upper:1"]).1, "ended 1\n");
    assert_eq!(of(&["pause", "upper"]).0, 0);
    let phases = |name: &str| json(&["status", name])[0]["phase"].clone();
    assert_eq!((phases("echo"), phases("upper")), (json!("serving"), json!("paused")));
    let (code, _, err) = of(&["resume", "lower"]);
    assert!(code == 111 && err.contains("there are echo, upper"), "{code} {err}");
    // One service stops, and is not started again; the other goes on.
    assert_eq!(of(&["drain", "upper"]).0, 0);
    std::net::TcpStream::connect(("127.0.0.1", server.log.port_of("upper"))).expect_err("the port is closed");
    echo.echo("y").finish();
    assert_eq!(json(&["status"]).len(), 1);
    assert_eq!(of(&["drain"]).0, 0);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.log.of("restart").len(), 0);
}

#[test]
fn servers_are_found_by_name() {
    let (code, _, err) = run(Command::new(tine()).args(["status", "--server", "no-such-server"]));
    assert!(code == 3 && err.lines().count() == 1, "{code} {err}");
    let name = format!("test-{}", std::process::id());
    let server = Server::serve(&["--name", &name, "--state-directory", "none"]);
    let status = |name: &str| run(Command::new(tine()).args(["status", "--json", "--server", name]));
    let pid = |out: &str| serde_json::from_str::<Value>(out).expect("JSON")[0]["pid"].as_i64();
    let (code, out, err) = status(&name);
    assert_eq!(code, 0, "{err}");
    assert_eq!(pid(&out), Some(i64::from(server.pid())));
    // A second one of this name adds its process id, and says so.
    let second = Server::serve(&["--name", &name, "--state-directory", "none"]);
    second.log.wait_for_line("warning", |line| line.contains("another server has the name"));
    let (_, out, _) = status(&format!("{name}-{}", second.pid()));
    assert_eq!(pid(&out), Some(i64::from(second.pid())));
    let (_, out, _) = status(&name);
    assert_eq!(pid(&out), Some(i64::from(server.pid())));
}

#[test]
fn a_control_socket_that_cannot_be_made_ends_the_start_only_if_it_was_named() {
    let folder = Folder::new("cannot");
    let missing = folder.path("missing/c.sock");
    let (code, _, err) = run(Command::new(tine()).args(["serve", "127.0.0.1:0", "--control", &missing]));
    assert!(code == 111 && err.contains("cannot make the control socket"), "{code} {err}");
    let copy = folder.copy_of_tine();
    // A user without a runtime directory.
    let copy = copy.to_str().expect("UTF-8");
    let words = [
        "--reuid",
        "nobody",
        "--regid",
        "nogroup",
        "--clear-groups",
        "--",
        copy,
        "serve",
        "--log",
        "json",
        "-1",
        "127.0.0.1:0",
    ];
    let mut command = ServerCommand::program("setpriv", &words);
    command.command().env_remove("XDG_RUNTIME_DIR");
    let server = command.start();
    server.connect().echo("x").finish();
    let warning = &server.log.wait_for("warning", 1)[0];
    assert!(warning["text"].as_str().is_some_and(|text| text.contains("no control socket")), "{warning}");
    let without = Server::serve(&["--control", "none"]);
    without.connect().echo("x").finish();
    assert_eq!(without.log.of("warning").len(), 0);
}
