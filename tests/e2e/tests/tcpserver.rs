//! Under the name `tcpserver`: the options, environment, log lines and exit codes of that tool.
//! docs/compatibility.md lists the cases of its test suite.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, network, procfs, run, tine, wait_until};

/// A shell script that prints the variables of a connection.
const PRINT_ENVIRONMENT: &str =
    "for name in PROTO TCPLOCALHOST TCPLOCALIP TCPLOCALPORT TCPREMOTEHOST TCPREMOTEIP TCPREMOTEINFO which; do
eval \"echo $name=\\${$name-unset}\"; done";

/// A directory with a copy of `tine` named `tcpserver` that every user can execute.
fn installed(test: &str) -> Folder {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new(&format!("tcpserver-{test}"));
    std::fs::copy(tine(), folder.0.join("tcpserver")).expect("a copy");
    std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o755)).expect("our directory");
    folder
}

fn start(folder: &Folder, words: &[&str]) -> Server {
    ServerCommand::program(folder.0.join("tcpserver"), &[&["-1"], words].concat()).start()
}

fn tcpserver(folder: &Folder, words: &[&str]) -> (i32, String, String) {
    run(Command::new(folder.0.join("tcpserver")).args(words))
}

/// Compiles rules with tcprules(1). Returns the path of the database.
fn rules(folder: &Folder, text: &str) -> String {
    let (cdb, new) = (folder.path("rules.cdb"), folder.path("rules.tmp"));
    let mut tcprules = Command::new("tcprules")
        .args([&cdb, &new])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ucspi-tcp is installed");
    tcprules.stdin.take().expect("piped").write_all(text.as_bytes()).expect("tcprules reads");
    assert!(tcprules.wait().expect("our child").success(), "{text}");
    cdb
}

/// The lines that a client from this address receives.
fn lines_for(server: &Server, source: &str) -> Vec<String> {
    Client::from_source(source, server.port()).read_text().lines().map(str::to_owned).collect()
}

#[test]
fn usage_and_startup_errors_are_those_of_tcpserver() {
    let folder = installed("wrongly");
    let usage = "tcpserver: usage: tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] host port program\n";
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("a bound socket").port().to_string();
    for (words, code, error) in [
        (&["0", "0"][..], 100, usage),
        (&["-z", "0", "0", "cat"], 100, usage),
        (
            &["0", "nonexistentport", "cat"],
            111,
            "tcpserver: fatal: unable to figure out port number for nonexistentport\n",
        ),
        (
            &["nonexistent.invalid.", "016", "cat"],
            111,
            "tcpserver: fatal: no IP address for nonexistent.invalid.\n",
        ),
        (&["192.0.2.1", "0", "cat"], 111, "tcpserver: fatal: unable to bind: address not available\n"),
        (
            &["-RHl0", "127.0.0.1", &port, "cat"],
            111,
            "tcpserver: fatal: unable to bind: address already used\n",
        ),
        (&["-q", "127.0.0.1", &port, "cat"], 111, ""),
    ] {
        assert_eq!(tcpserver(&folder, words), (code, String::new(), error.to_owned()), "{words:?}");
    }
    let (code, _, err) = tcpserver(&folder, &["0", "0", "/no/such/program"]);
    assert!(
        code == 111 && err.starts_with("tcpserver: fatal: ") && err.contains("/no/such/program"),
        "{err}"
    );
}

#[test]
fn changing_the_user_without_privilege_is_a_fatal_error() {
    let folder = installed("user");
    let program = folder.path("tcpserver");
    let nobody = |before: &[&str], words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "env"]).args(before);
        run(command.arg(&program).args(words))
    };
    let (uid, gid) = (
        "tcpserver: fatal: unable to set uid: permission denied\n",
        "tcpserver: fatal: unable to set gid: permission denied\n",
    );
    for (before, words, error) in [
        (&[][..], &["-u", "1", "0", "0", "cat"][..], uid),
        (&["UID=1"], &["-U", "0", "0", "cat"], uid),
        (&[], &["-g", "2", "0", "0", "cat"], gid),
        (&["GID=2"], &["-U", "0", "0", "cat"], gid),
    ] {
        assert_eq!(nobody(before, words), (111, String::new(), error.to_owned()), "{before:?} {words:?}");
    }
    let server =
        start(&folder, &["-u65534", "-g65533", "-RHl0", "127.0.0.1", "0", "sh", "-c", "id -u; id -g; id -G"]);
    assert_eq!(lines_for(&server, "127.0.0.1"), ["65534", "65533", "65533"]);
    let mut start = ServerCommand::program(&program, &["-1URHl0", "127.0.0.1", "0", "id", "-u"]);
    start.command().env("UID", "65534").env("GID", "65533");
    assert_eq!(lines_for(&start.start(), "127.0.0.1"), ["65534"]);
}

#[test]
fn environment_banner_and_log_are_those_of_tcpserver() {
    let folder = installed("environment");
    let words =
        ["-c", "2", "-Bbanner", "-vo", "-D", "-Xx", "rules.cdb", "-Rt5", "-hp", "-l", "Local", "-b", "2"];
    let server = start(&folder, &[&words[..], &["127.0.0.1", "0", "sh", "-c", PRINT_ENVIRONMENT]].concat());
    let port = server.port();
    for visit in 1..=2 {
        assert_eq!(
            lines_for(&server, "127.0.0.1"),
            [
                "bannerPROTO=TCP",
                "TCPLOCALHOST=Local",
                "TCPLOCALIP=127.0.0.1",
                &format!("TCPLOCALPORT={port}"),
                "TCPREMOTEHOST=localhost",
                "TCPREMOTEIP=127.0.0.1",
                "TCPREMOTEINFO=unset",
                "which=unset"
            ]
        );
        server.log.wait("end of the connection", |log| {
            let lines = log.lines();
            let ends = lines.iter().filter(|line| line.contains(": end ")).count();
            (ends == visit && lines.last()?.ends_with("status: 0/2")).then_some(())
        });
    }
    let lines = server.log.lines();
    let pid = |line: &str| line.split(' ').nth(2).unwrap_or_default().to_owned();
    assert_eq!(lines.len(), 11, "{lines:#?}");
    assert_eq!(lines[0], "tcpserver: status: 0/2");
    for visit in [&lines[1..6], &lines[6..]] {
        let number = pid(&visit[1]);
        assert_eq!(visit[0], "tcpserver: status: 1/2");
        assert_eq!(visit[1], format!("tcpserver: pid {number} from 127.0.0.1"));
        let ok = format!("tcpserver: ok {number} Local:127.0.0.1:{port} localhost:127.0.0.1::");
        assert!(visit[2].starts_with(&ok), "{}", visit[2]);
        assert_eq!(visit[3], format!("tcpserver: end {number} status 0"));
        assert_eq!(visit[4], "tcpserver: status: 0/2");
    }
}

#[test]
fn without_lookups_inherited_variables_of_clients_are_removed() {
    let folder = installed("plain");
    let server = start(&folder, &["-RHl0", "0", "0", "sh", "-c", PRINT_ENVIRONMENT]);
    let port = format!("TCPLOCALPORT={}", server.port());
    assert_eq!(
        lines_for(&server, "127.0.0.1"),
        [
            "PROTO=TCP",
            "TCPLOCALHOST=0",
            "TCPLOCALIP=127.0.0.1",
            &port,
            "TCPREMOTEHOST=unset",
            "TCPREMOTEIP=127.0.0.1",
            "TCPREMOTEINFO=unset",
            "which=unset"
        ]
    );
    // Variables of the server's own environment that would describe a client are removed.
    let mut start = ServerCommand::program(
        folder.0.join("tcpserver"),
        &["-1RHl0", "0", "0", "sh", "-c", PRINT_ENVIRONMENT],
    );
    start.command().env("TCPREMOTEHOST", "liar").env("TCPREMOTEINFO", "liar").env("which", "mine");
    let server = start.start();
    assert_eq!(
        lines_for(&server, "127.0.0.1")[4..],
        ["TCPREMOTEHOST=unset", "TCPREMOTEIP=127.0.0.1", "TCPREMOTEINFO=unset", "which=mine"]
    );
    assert!(server.log.lines().is_empty(), "{:?}", server.log.lines());
}

#[test]
fn compiled_rules_decide_and_set_variables() {
    let folder = installed("rules");
    let cdb = rules(
        &folder,
        "127.0.0.2:allow,which=/first/\n127.0.0.3:deny\n127.0.0.4-6:deny\n127.:allow,which=+third+,TCPREMOTEHOST=\"mine\"\n:deny\n",
    );
    let server = start(&folder, &["-vRHl0", "-x", &cdb, "127.0.0.1", "0", "sh", "-c", PRINT_ENVIRONMENT]);
    assert_eq!(lines_for(&server, "127.0.0.2").last().map(String::as_str), Some("which=first"));
    assert!(lines_for(&server, "127.0.0.3").is_empty() && lines_for(&server, "127.0.0.5").is_empty());
    assert_eq!(
        lines_for(&server, "127.9.9.9")[4..],
        ["TCPREMOTEHOST=mine", "TCPREMOTEIP=127.9.9.9", "TCPREMOTEINFO=unset", "which=third"]
    );
    let denied = |log: &tine_e2e::Log| {
        let lines = log.lines();
        let deny = lines.iter().find(|line| line.starts_with("tcpserver: deny "))?.clone();
        let pid = deny.split(' ').nth(2)?;
        lines.contains(&format!("tcpserver: end {pid} status 25600")).then_some(deny)
    };
    let deny = server.log.wait("a denied client", denied);
    assert!(deny.contains(" 0:127.0.0.1:") && deny.contains(" :127.0.0.3::"), "{deny}");
    // tcprules replaces the database by rename(2); the next client is looked up in the new one.
    rules(&folder, "127.0.0.2:deny\n");
    assert!(lines_for(&server, "127.0.0.2").is_empty());
    assert_eq!(lines_for(&server, "127.0.0.3").last().map(String::as_str), Some("which=unset"));
}

#[test]
fn a_missing_rules_file_drops_every_client_unless_option_x_allows_them() {
    let folder = installed("lacking");
    let nowhere = folder.path("nowhere.cdb");
    let server = start(&folder, &["-RHl0", "-x", &nowhere, "127.0.0.1", "0", "echo", "hello"]);
    assert!(lines_for(&server, "127.0.0.1").is_empty());
    let warning = format!("tcpserver: warning: dropping connection, unable to read {nowhere}: ");
    server.log.wait_for_line("warning", |line| line.starts_with(&warning));
    let server = start(&folder, &["-XRHl0", "-x", &nowhere, "127.0.0.1", "0", "echo", "hello"]);
    assert_eq!(lines_for(&server, "127.0.0.1"), ["hello"]);
    // A file that is not a database drops clients in spite of -X.
    let broken = folder.write("broken.cdb", "127.:deny\n").display().to_string();
    let server = start(&folder, &["-XqRHl0", "-x", &broken, "127.0.0.1", "0", "echo", "hello"]);
    assert!(lines_for(&server, "127.0.0.1").is_empty());
    assert!(server.log.lines().is_empty());
}

#[test]
fn host_names_and_ident_answers_reach_rules_and_environment() {
    network::own();
    let folder = installed("names");
    // An ident server (RFC 1413) that answers for one address and keeps the other waiting.
    let identd = TcpListener::bind("0.0.0.0:113").expect("a free port");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in identd.incoming() {
            let mut stream = stream.expect("a query");
            let mut query = [0; 64];
            let length = stream.read(&mut query).expect("a query");
            let ports = String::from_utf8_lossy(&query[..length]).trim_end().to_owned();
            match stream.peer_addr().expect("a connected socket").ip().to_string().as_str() {
                "127.0.0.1"
                    if stream.local_addr().expect("a connected socket").ip().to_string() == "127.0.0.9" =>
                {
                    kept.push(stream)
                }
                _ => stream
                    .write_all(format!("{ports} : USERID : UNIX : joe\r\n").as_bytes())
                    .expect("the server reads"),
            }
        }
    });
    let cdb = rules(
        &folder,
        "joe@127.0.0.1:allow,which=/ident/\n=localhost:allow,which=/name/\n127.0.0.9:allow,which=/silent/\n:allow,which=/anybody/\n",
    );
    let server =
        start(&folder, &["-ht3", "-l0", "-x", &cdb, "127.0.0.1", "0", "sh", "-c", PRINT_ENVIRONMENT]);
    assert_eq!(
        lines_for(&server, "127.0.0.1")[4..],
        ["TCPREMOTEHOST=localhost", "TCPREMOTEIP=127.0.0.1", "TCPREMOTEINFO=joe", "which=ident"]
    );
    // A client whose ident server does not answer waits, and no other client does.
    let mut silent = Client::from_source("127.0.0.9", server.port());
    for _ in 0..5 {
        assert_eq!(lines_for(&server, "127.0.0.1").last().map(String::as_str), Some("which=ident"));
    }
    silent.expect_silence(Duration::from_millis(1));
    assert!(silent.read_text().ends_with("TCPREMOTEINFO=unset\nwhich=silent\n"));
    let server = start(&folder, &["-hR", "-l0", "-x", &cdb, "127.0.0.1", "0", "sh", "-c", PRINT_ENVIRONMENT]);
    assert_eq!(lines_for(&server, "127.0.0.1").last().map(String::as_str), Some("which=name"));
    assert_eq!(lines_for(&server, "127.0.0.77").last().map(String::as_str), Some("which=anybody"));
}

#[test]
fn clients_over_the_limit_of_tcpserver_wait() {
    let folder = installed("limit");
    let server = start(&folder, &["-vRHl0", "-c2", "127.0.0.1", "0", "cat"]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    clients[0].echo("a");
    clients[1].echo("b");
    clients[2].send("c");
    server.log.wait_for_line("two connections", |line| line == "tcpserver: status: 2/2");
    clients.remove(0).finish();
    clients[1].expect("c");
    assert!(!server.log.lines().iter().any(|line| line.contains("status: 3/2")));
}

#[test]
fn programs_outlive_tcpserver() {
    let folder = installed("outlive");
    for signal in [Signal::TERM, Signal::KILL] {
        let mut server = start(&folder, &["-RHl0", "127.0.0.1", "0", "sh", "-c", "echo $$; exec cat"]);
        let mut client = server.connect();
        let mut pid = String::new();
        while !pid.ends_with('\n') {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).expect("a process id");
            pid.push(byte[0].into());
        }
        let port = server.port();
        server.signal(signal);
        let code = server.wait_for_exit().code();
        assert_eq!(code, (signal == Signal::TERM).then_some(0));
        client.echo("still served");
        // The port is free: at once after TERM, and after KILL when the helpers have ended.
        let again = || TcpListener::bind(("127.0.0.1", port)).ok();
        let free =
            if signal == Signal::TERM { again() } else { wait_until("the port is free", again).into() };
        assert!(free.is_some());
        assert!(client.finish().is_empty());
        let pid: i32 = pid.trim().parse().expect("a process id");
        wait_until("the program has ended", || (!procfs::is_running(pid)).then_some(()));
    }
}

#[test]
fn a_program_of_tcpserver_outlives_its_client() {
    let folder = installed("gone");
    let file = folder.path("done");
    let script = format!("read line; sleep 1; echo $line > {file}");
    let server = start(&folder, &["-vRHl0", "127.0.0.1", "0", "sh", "-c", &script]);
    let mut client = server.connect();
    client.send("work\n");
    server.log.wait("lines of the connection", |log| (log.lines().len() > 2).then_some(()));
    client.reset();
    wait_until("the program has written its file", || {
        std::fs::read_to_string(&file).ok().filter(|text| text == "work\n")
    });
}

#[test]
fn options_d_and_capital_d_set_tcp_nodelay() {
    let folder = installed("delay");
    let script = "import socket; s = socket.socket(fileno=0); print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), flush=True)";
    for (flag, value) in [("-d", "0"), ("-D", "1"), ("-Dd", "0"), ("-1", "0")] {
        let server = start(&folder, &[flag, "-RHl0", "127.0.0.1", "0", "python3", "-c", script]);
        assert_eq!(lines_for(&server, "127.0.0.1"), [value], "{flag}");
    }
}

#[test]
fn tcpserver_logs_wait_statuses() {
    let folder = installed("status");
    let server = start(&folder, &["-vRHl0", "127.0.0.1", "0", "sh", "-c", "read code; exit $code"]);
    let mut client = server.connect();
    client.send("3\n").read_to_end();
    let has_ended = |lines: &[String]| lines.iter().filter(|line| line.contains(": end ")).count();
    server.log.wait("end of the first connection", |log| (has_ended(&log.lines()) == 1).then_some(()));
    let mut client = server.connect();
    let pid = server.log.wait("second connection", |log| {
        let lines = log.lines();
        let pids = lines
            .iter()
            .filter_map(|line| line.strip_prefix("tcpserver: ok ")?.split(' ').next()?.parse().ok());
        pids.collect::<Vec<i32>>().get(1).copied()
    });
    kill(pid, Signal::KILL);
    client.expect_closed();
    server.log.wait("both end lines", |log| {
        let lines = log.lines();
        let ends: Vec<&String> = lines.iter().filter(|line| line.contains(": end ")).collect();
        (ends.len() == 2).then(|| {
            assert!(
                ends[0].ends_with("status 768") && ends[1].ends_with(&format!("end {pid} status 9")),
                "{ends:?}"
            );
        })
    });
}
