//! Several services of one configuration file, under one master.

use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, network, procfs, tine, wait_until};

/// Serves a configuration. `Server::port` is the port of its first service.
fn serve(folder: &Folder, text: &str) -> Server {
    let file = folder.write("tine.toml", text);
    start(&["serve", "--config", file.to_str().expect("a path in UTF-8"), "--log", "json", "-1"]).start()
}

fn start(options: &[&str]) -> ServerCommand {
    ServerCommand::program(tine(), options)
}

fn run(words: &[&str], file: &PathBuf) -> Output {
    Command::new(tine()).args(words).arg(file).output().expect("tine starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The process id of a service's supervisor.
fn supervisor(server: &Server, service: &str) -> i32 {
    let name = format!("tine: {service}");
    wait_until("the supervisor runs", || {
        procfs::children(server.pid()).into_iter().find(|child| child.name == name).map(|child| child.pid)
    })
}

/// The reply to a client that sends this text and shuts its sending side down.
fn reply(port: u16, text: &str) -> String {
    Client::connect(port).send(text).half_close().read_text()
}

const TWO: &str = "[defaults]\nmax-connections = 5\n\
    [services.echo]\nlisten = '127.0.0.1:0'\n\
    [services.upper]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', 'tr a-z A-Z; echo $TINE_SERVICE $TINE_CONNECTION']\n";

#[test]
fn several_services_serve_and_stop_together() {
    let folder = Folder::new("two");
    let mut server = serve(&folder, TWO);
    assert_eq!(server.port(), server.log.port_of("echo"), "the ports are printed in the order of the file");
    assert_eq!(reply(server.log.port_of("echo"), "hello"), "hello");
    assert_eq!(reply(server.log.port_of("upper"), "hello"), "HELLOupper 1\n");
    for service in ["echo", "upper"] {
        let end = server.log.wait("end line of the service", |log| {
            log.of("end").into_iter().find(|end| end["service"] == service)
        });
        assert_eq!((end["id"].as_u64(), outcome(&end)), (Some(1), "exit 0"));
    }
    let accept = &server.log.of("accept")[0];
    assert_eq!(accept["limit"], 5);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let stops: Vec<_> = server.log.of("stop").iter().map(|stop| stop["service"].clone()).collect();
    assert_eq!(stops.len(), 3, "{stops:?}");
    assert!(stops[2].is_null(), "the last line is that of the master");
    server.wait_until_gone();
}

#[test]
fn a_drain_lets_the_clients_of_every_service_finish() {
    let folder = Folder::new("drain");
    let mut server = serve(&folder, TWO);
    let mut echo = Client::connect(server.log.port_of("echo"));
    let mut upper = Client::connect(server.log.port_of("upper"));
    server.log.wait_for("accept", 2);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 2);
    for client in [&mut echo, &mut upper] {
        client.send(b"late");
        client.half_close();
    }
    assert_eq!(echo.read_to_end(), b"late");
    assert!(upper.read_to_end().starts_with(b"LATE"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_connections_of_every_service() {
    let folder = Folder::new("second");
    let mut server = serve(&folder, TWO);
    let _held = [Client::connect(server.log.port_of("echo")), Client::connect(server.log.port_of("upper"))];
    server.log.wait_for("accept", 2);
    server.signal(Signal::INT);
    server.log.wait_for("drain", 2);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    let ends = server.log.of("end");
    assert_eq!(ends.iter().filter(|end| outcome(end) == "signal TERM").count(), 2, "{ends:?}");
}

#[test]
fn killing_a_supervisor_affects_its_service_only_and_loses_no_waiting_client() {
    let folder = Folder::new("death");
    let server = serve(&folder, TWO);
    let mut echo = Client::connect(server.log.port_of("echo"));
    echo.send(b"a");
    echo.expect(b"a");
    let upper = server.log.port_of("upper");
    let dead = supervisor(&server, "upper");
    let mut held = Client::connect(upper);
    server.log.wait_for("accept", 2);
    kill(dead, Signal::KILL);
    // Its connection ends with its program. The next client waits in the backlog for the next
    // supervisor.
    assert!(held.read_to_end().is_empty());
    assert_eq!(reply(upper, "again"), "AGAINupper 1\n");
    assert_ne!(supervisor(&server, "upper"), dead);
    let restart = &server.log.wait_for("restart", 1)[0];
    assert_eq!((restart["role"].as_str(), outcome(restart)), (Some("service upper"), "signal KILL"));
    echo.send(b"b");
    echo.expect(b"b");
}

#[test]
fn a_signal_to_a_supervisor_drains_and_restarts_its_service_only() {
    let folder = Folder::new("alone");
    let server = serve(&folder, TWO);
    let port = server.log.port_of("upper");
    let before = supervisor(&server, "upper");
    let mut old = Client::connect(port);
    server.log.wait_for("accept", 1);
    kill(before, Signal::TERM);
    server.log.wait_for("drain", 1);
    // A new client waits in the backlog for the next supervisor; a served client can finish.
    let new = std::thread::spawn(move || reply(port, "new"));
    old.send(b"old").half_close();
    assert_eq!(old.read_to_end(), b"OLDupper 1\n");
    assert!(new.join().expect("no panic").starts_with("NEWupper "));
    let restart = &server.log.wait_for("restart", 1)[0];
    assert_eq!((restart["role"].as_str(), outcome(restart)), (Some("service upper"), "exit 0"));
}

#[test]
fn killing_a_supervisor_kills_what_its_programs_left_behind() {
    let folder = Folder::new("left");
    let text = "[services.detached]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', 'setsid sleep 1234 >/dev/null 2>&1 & echo left']\n";
    let server = serve(&folder, text);
    assert_eq!(reply(server.port(), ""), "left\n");
    let sleeps = || server.named("sleep").len();
    wait_until("the detached process runs", || (sleeps() == 1).then_some(()));
    kill(supervisor(&server, "detached"), Signal::KILL);
    wait_until("the detached process is killed", || (sleeps() == 0).then_some(()));
}

#[test]
fn killing_the_master_kills_every_process_and_frees_the_ports() {
    let folder = Folder::new("top");
    let text = "[services.detached]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', 'sleep 1234 & setsid sleep 1234 & echo left; cat']\n";
    let server = serve(&folder, text);
    let mut held = server.connect();
    held.expect("left\n");
    wait_until("both detached processes run", || (server.named("sleep").len() == 2).then_some(()));
    server.signal(Signal::KILL);
    // The end of the stream comes when no process holds the socket, those in sessions of their own
    // included.
    assert!(held.read_to_end().is_empty());
    server.wait_until_gone();
    TcpStream::connect(("127.0.0.1", server.port())).expect_err("the port is closed");
}

#[test]
fn included_files_of_a_directory_add_services() {
    let folder = Folder::new("include");
    folder.write("more/b.toml", "[services.b]\nlisten = '127.0.0.1:0'\nservice = 'daytime'");
    folder.write("more/a.toml", "[services.a]\nlisten = '127.0.0.1:0'\nservice = 'time'");
    folder.write("more/not.this", "nonsense");
    let server = serve(&folder, "include = 'more'\n[services.c]\nlisten = '127.0.0.1:0'");
    assert_eq!(reply(server.log.port_of("c"), "c"), "c");
    let mut four = Vec::new();
    TcpStream::connect(("127.0.0.1", server.log.port_of("a")))
        .expect("a listening port")
        .read_to_end(&mut four)
        .expect("bytes");
    assert_eq!(four.len(), 4);
    assert!(reply(server.log.port_of("b"), "").ends_with("Z\r\n"));
}

#[test]
fn a_server_wide_key_in_an_included_file_is_an_error() {
    let folder = Folder::new("wide");
    folder.write("more/a.toml", "[services.a]\nlisten = 1\n");
    let bad = folder.write("more/b.toml", "\nlog = 'json'\n");
    let file = folder.write("tine.toml", "include = ['more']\n");
    let output = run(&["check"], &file);
    assert_eq!(output.status.code(), Some(100));
    assert!(
        stderr(&output).contains(&format!("{}:2: log is not possible", bad.display())),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_error_in_one_service_keeps_all_from_starting() {
    let folder = Folder::new("fault");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("a bound socket").port();
    let ok = "[services.ok]\nlisten = '127.0.0.1:0'\n";
    for (rest, code, words) in [
        (
            "[services.b]\nlisten = '127.0.0.1:0'\nprogram = ['/no/such/program']".to_owned(),
            100,
            "/no/such/program",
        ),
        ("[services.b]\nlisten = '127.0.0.1:0'\nuser = 'no-such-user'".to_owned(), 100, "no-such-user"),
        ("[services.b]\nlisten = '127.0.0.1:0'\nreuse = 5".to_owned(), 100, "--spares"),
        (
            "[services.b]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\nspares = 5\nreuse = 5".to_owned(),
            100,
            "--reuse",
        ),
        (
            "[services.b]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\nwarm = 'yes'\npty = true".to_owned(),
            100,
            "cannot be started warm with a terminal",
        ),
        (format!("[services.b]\nlisten = '127.0.0.1:{taken}'"), 111, "in use"),
    ] {
        let _held = std::net::TcpListener::bind(("127.0.0.1", taken));
        let file = folder.write("tine.toml", &format!("{ok}{rest}\n"));
        let output = run(&["serve", "-1", "--config"], &file);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let location = format!("tine: {}:3: ", file.display());
        assert!(
            stderr(&output).starts_with(&location) && stderr(&output).contains(words),
            "{}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "no port is printed");
    }
}

#[test]
fn check_reports_every_error_of_a_configuration() {
    let folder = Folder::new("check");
    let file = folder.write("tine.toml", TWO);
    let output = run(&["check"], &file);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(printed.contains("[services.upper]\nlisten = [\"127.0.0.1:0\"]\nprogram = [\"sh\""), "{printed}");
    let again = folder.write("again.toml", &printed);
    let again = run(&["check"], &again);
    let without_locations = |text: &str| {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_locations(&String::from_utf8_lossy(&again.stdout)), without_locations(&printed));

    let file = folder.write(
        "tine.toml",
        "[services.a]\nlisten = 'no.such.host.invalid:1'\nuser = 'no-such-user'\n[services.b]\nlisten = 2\nprogram = ['/no']",
    );
    let output = run(&["check"], &file);
    assert_eq!(output.status.code(), Some(100));
    assert_eq!(stderr(&output).lines().count(), 3, "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn check_shows_which_services_are_started_warm() {
    let folder = Folder::new("warm");
    let text = "[defaults]\nwarm-allow = ['pipe']\n\
        [services.cold]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\n\
        [services.either]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\nwarm = 'try'\npty = true\n\
        [services.warm]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\nwarm = 'yes'\nwarm-renew = 50\n";
    let output = run(&["check"], &folder.write("tine.toml", text));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<_> = printed.lines().filter(|line| line.starts_with("warm")).collect();
    let rest = ["warm-until = \"use\"", "warm-timeout = \"30s\""];
    let allow = ["warm-allow = [\"pipe\"]"];
    let of = |mode, allow: &[&'static str], renew| [&[mode], &rest[..], allow, &[renew]].concat();
    let expected = [
        of("warm = \"no\"", &[], "warm-renew = \"1000,10min\""),
        of("warm = \"try\"", &allow, "warm-renew = \"1000,10min\""),
        of("warm = \"yes\"", &allow, "warm-renew = 50"),
    ];
    assert_eq!(lines, expected.concat());
}

#[test]
fn the_example_configuration_can_be_served() {
    // It names ports, which another process may use.
    network::own();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tine.toml");
    let server = start(&["serve", "--config", example]).start();
    assert_eq!(reply(server.log.port_of("upper"), "hello"), "HELLO");
    assert_eq!(reply(server.log.port_of("echo"), "hello"), "hello");
}

#[test]
fn readiness_is_notified_once_when_every_service_is_ready() {
    let folder = Folder::new("ready");
    let file = folder.write("tine.toml", &format!("ready-fd = 5\nlog = 'off'\n{TWO}"));
    let mut sh = Command::new("sh");
    sh.args(["-c", "exec 5>&1 >/dev/null; exec \"$0\" serve --config \"$1\""]).arg(tine()).arg(file);
    let mut server = sh.stdout(Stdio::piped()).spawn().expect("sh starts");
    // No process keeps the descriptor: the end of the stream follows the newline.
    let mut received = String::new();
    server.stdout.take().expect("piped").read_to_string(&mut received).expect("text");
    assert_eq!(received, "\n");
    kill(i32::try_from(server.id()).expect("a process id"), Signal::TERM);
    assert_eq!(server.wait().expect("our child").code(), Some(0));
}

#[test]
fn options_of_a_service_are_an_error_beside_a_configuration_file() {
    let folder = Folder::new("beside");
    let file = folder.write("tine.toml", TWO);
    for option in ["--spares=3", "--user=nobody", "127.0.0.1:0"] {
        let output = run(&["serve", option, "--config"], &file);
        assert_eq!(output.status.code(), Some(100));
        assert!(stderr(&output).contains("beside --config"), "{}", stderr(&output));
    }
}
