//! Under the names `s6-tcpserver`, `s6-tcpserver-access` and `s6-ipcserver`: the options,
//! variables, rules, log lines and exit codes that their documentation describes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tine_e2e::{Client, Folder, LocalClient, Log, Server, ServerCommand, run, tine, wait_until};

/// A directory with a copy of `tine` under each name.
fn installed(test: &str) -> Folder {
    let folder = Folder::new(&format!("s6-{test}"));
    std::fs::copy(tine(), folder.0.join("tine")).expect("a copy");
    for name in ["s6-tcpserver", "s6-tcpserver-access", "s6-ipcserver"] {
        std::os::unix::fs::symlink("tine", folder.0.join(name)).expect("a link");
    }
    std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o755)).expect("our directory");
    folder
}

fn start(folder: &Folder, words: &[&str]) -> Server {
    ServerCommand::program(folder.0.join("s6-tcpserver"), &[&["-1"], words].concat()).start()
}

fn reply_to(server: &Server, source: &str) -> String {
    Client::from_source(source, server.port()).read_text()
}

#[test]
fn usage_errors_exit_with_100() {
    let folder = installed("usage");
    for (name, words) in [
        ("s6-tcpserver", &["127.0.0.1", "0"][..]),
        ("s6-tcpserver", &["localhost", "0", "cat"]),
        ("s6-tcpserver", &["-x", "127.0.0.1", "0", "cat"]),
        ("s6-tcpserver-access", &["-v", "2"]),
        ("s6-ipcserver", &["-a", "9", "sock", "cat"]),
        ("s6-ipcserver", &["sock"]),
    ] {
        let (code, _, err) = run(Command::new(folder.0.join(name)).args(words));
        assert!(
            code == 100 && err.starts_with(&format!("{name}: usage: {name} ")),
            "{words:?}: {code} {err}"
        );
    }
    let (code, _, err) =
        run(Command::new(folder.0.join("s6-tcpserver-access")).env_remove("PROTO").arg("cat"));
    assert_eq!((code, err.as_str()), (100, "s6-tcpserver-access: fatal: PROTO not set\n"));
    let (code, _, err) = run(Command::new(folder.0.join("s6-tcpserver")).args(["192.0.2.1", "0", "cat"]));
    assert!(code == 111 && err.starts_with("s6-tcpserver: fatal: unable to bind"), "{err}");
}

#[test]
fn variables_and_log_lines_are_those_of_s6_tcpserver() {
    let folder = installed("log");
    let script = "echo $PROTO $TCPLOCALIP $TCPLOCALPORT $TCPREMOTEIP $TCPCONNNUM; cat";
    let mut server = start(&folder, &["-v", "-c", "5", "-C", "2", "127.0.0.1", "0", "sh", "-c", script]);
    let port = server.port();
    let count = |log: &Log, text: &str| log.lines().iter().filter(|line| line.contains(text)).count();
    let mut first = Client::from_source("127.0.0.2", port);
    assert_eq!(first.read_line(), format!("TCP 127.0.0.1 {port} 127.0.0.2 0\n").trim_end());
    let mut second = Client::from_source("127.0.0.2", port);
    assert_eq!(second.read_line(), format!("TCP 127.0.0.1 {port} 127.0.0.2 1"));
    // The third of an address is closed at once.
    assert_eq!(reply_to(&server, "127.0.0.2"), "");
    server.log.wait("the rejection", |log| (count(log, " reject 127.0.0.2_") == 1).then_some(()));
    let mut other = Client::from_source("127.0.0.3", port);
    assert_eq!(other.read_line(), format!("TCP 127.0.0.1 {port} 127.0.0.3 0"));
    for (client, ended) in [(first, 1), (second, 2), (other, 3)] {
        let mut client = client;
        client.finish();
        server.log.wait("an end", |log| (count(log, "status: ") == 4 + ended).then_some(()));
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    server.log.wait_for_line("the end", |line| line.ends_with("exiting"));
    let shown: Vec<String> = server
        .log
        .lines()
        .iter()
        .map(|line| {
            let words = line.trim_start_matches("s6-tcpserverd: info: ").split(' ');
            let word = |word: &str| match word.split_once('_') {
                Some((ip, _port)) => format!("{ip}_P"),
                None if word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_digit()) => "N".into(),
                None => word.to_owned(),
            };
            words.map(word).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "starting - bound to ip 127.0.0.1 port N",
            "status: 0/5",
            "accept 127.0.0.2_P pid N count 1/2",
            "status: 1/5",
            "accept 127.0.0.2_P pid N count 2/2",
            "status: 2/5",
            "reject 127.0.0.2_P count 2/2",
            "accept 127.0.0.3_P pid N count 1/2",
            "status: 3/5",
            "end pid N exitcode 0 count 1/2",
            "status: 2/5",
            "end pid N exitcode 0 count 0/2",
            "status: 1/5",
            "end pid N exitcode 0 count 0/2",
            "status: 0/5",
            "received SIGTERM, quitting",
            "exiting",
        ]
    );
}

#[test]
fn an_ipv6_socket_of_s6_takes_ipv6_clients_only() {
    let folder = installed("ipv6");
    let server = start(&folder, &["::", "0", "cat"]);
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
    let mut client = std::net::TcpStream::connect(("::1", server.port())).expect("IPv6");
    client.write_all(b"six").expect("sent");
    client.shutdown(Shutdown::Write).expect("ended");
    let mut reply = String::new();
    client.read_to_string(&mut reply).expect("a reply");
    assert_eq!(reply, "six");
}

#[test]
fn privileges_are_dropped_as_the_variables_of_s6_envuidgid_say() {
    let folder = installed("ids");
    let ids = "id -u; id -g; id -G";
    for (words, variables, meant) in [
        (&["-u", "65534", "-g", "65533"][..], &[][..], "65534\n65533\n65533\n"),
        (&["-G", "8,9", "-g", "8", "-u", "7"], &[], "7\n8\n8 9\n"),
        (&["-U"], &[("UID", "7"), ("GID", "8"), ("GIDLIST", "8,9")], "7\n8\n8 9\n"),
    ] {
        let words = [&["-1"], words, &["127.0.0.1", "0", "sh", "-c", ids]].concat();
        let mut command = ServerCommand::program(folder.0.join("s6-tcpserver"), &words);
        command.command().envs(variables.iter().copied());
        assert_eq!(reply_to(&command.start(), "127.0.0.1"), meant, "{words:?}");
    }
}

/// Writes the entry of a rule.
fn rule(folder: &Folder, entry: &str, files: &[(&str, &str)]) {
    files.iter().for_each(|(name, text)| {
        folder.write(&format!("rules/{entry}/{name}"), text);
    });
}

#[test]
fn rules_of_addresses_decide_and_change_the_environment() {
    let folder = installed("rules");
    let access = folder.path("s6-tcpserver-access");
    rule(
        &folder,
        "ip4/127.0.0.2_32",
        &[("allow", ""), ("env/GREETING", "hello there \nrest\n"), ("env/GONE", "")],
    );
    rule(&folder, "ip4/127.0.0.0_29", &[("deny", "")]);
    // `allow` comes before `deny`.
    rule(&folder, "ip4/127.0.0.8_29", &[("allow", ""), ("deny", "")]);
    rule(&folder, "ip4/127.64.0.0_10", &[("allow", ""), ("exec", "echo by execline")]);
    rule(&folder, "ip4/127.1.0.0_16", &[("other", "")]);
    // execlineb, as far as this test needs it.
    let execlineb = folder.write("bin/execlineb", "#!/bin/sh\n[ \"$1\" = -c ] && exec $2\n");
    std::fs::set_permissions(&execlineb, PermissionsExt::from_mode(0o755)).expect("our file");
    let words = [
        "-1",
        "127.0.0.1",
        "0",
        &access,
        "-v2",
        "-H",
        "-l0",
        "-B",
        "banner ",
        "-i",
        &folder.path("rules"),
        "sh",
        "-c",
        "echo \"$GREETING.$GONE.$TCPLOCALHOST.$TCPREMOTEHOST.$TCPREMOTEINFO\"",
    ];
    let mut command = ServerCommand::program(folder.0.join("s6-tcpserver"), &words);
    let path = format!("{}:/usr/bin:/bin", folder.path("bin"));
    command.command().env("PATH", path).env("GONE", "gone").env("TCPREMOTEHOST", "liar");
    let server = command.start();
    for (source, reply) in [
        ("127.0.0.2", "banner hello there..0..\n"),
        ("127.0.0.3", "banner "),
        ("127.0.0.9", "banner .gone.0..\n"),
        ("127.65.0.1", "banner by execline\n"),
        // Without an entry, clients are denied.
        ("127.1.0.1", "banner "),
    ] {
        assert_eq!(reply_to(&server, source), reply, "{source}");
    }
    let ip = |line: &str| Some((line.split(' ').nth(2)?.to_owned(), line.split(' ').next_back()?.to_owned()));
    let lines =
        server.log.wait("a line for each client", |log| (log.lines().len() == 5).then(|| log.lines()));
    let decided: Vec<(String, String)> = lines.iter().filter_map(|line| ip(line)).collect();
    for (word, source) in [("allow", "127.0.0.2"), ("deny", "127.0.0.3"), ("deny", "127.1.0.1")] {
        assert!(decided.contains(&(word.into(), source.into())), "{lines:?}");
    }
}

#[test]
fn rules_of_host_names_come_after_those_of_addresses() {
    let folder = installed("names");
    let access = folder.path("s6-tcpserver-access");
    rule(&folder, "reversedns/localhost", &[("allow", "")]);
    let rules = folder.path("rules");
    let script = "echo \"$TCPREMOTEHOST.$TCPLOCALHOST\"";
    for (flag, reply) in [("-h", "localhost.localhost\n"), ("-p", "localhost.localhost\n"), ("-H", "")] {
        let words = ["127.0.0.1", "0", &access, flag, "-i", &rules, "sh", "-c", script];
        assert_eq!(reply_to(&start(&folder, &words), "127.0.0.1"), reply, "{flag}");
    }
}

#[test]
fn the_timeout_of_s6_tcpserver_access_ends_it_with_99() {
    use std::net::TcpListener;
    tine_e2e::network::own();
    let folder = installed("timeout");
    // An ident server that never answers.
    let _silent = TcpListener::bind("127.0.0.1:113").expect("a free port");
    let (code, ..) = run(Command::new(folder.0.join("s6-tcpserver-access"))
        .args(["-H", "-r", "-t", "100", "cat"])
        .envs([("PROTO", "TCP"), ("TCPLOCALIP", "127.0.0.1"), ("TCPLOCALPORT", "1")])
        .envs([("TCPREMOTEIP", "127.0.0.1"), ("TCPREMOTEPORT", "2")]));
    assert_eq!(code, 99);
}

/// A server for a Unix socket, ended when it is dropped.
struct IpcServer {
    process: Child,
    log: Log,
}

impl IpcServer {
    fn start(folder: &Folder, words: &[&str]) -> IpcServer {
        let mut process = Command::new(folder.0.join("s6-ipcserver"))
            .arg("-1")
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let log = Log::from_pipe(process.stderr.take().expect("piped"));
        let mut ready = Vec::new();
        process.stdout.take().expect("piped").read_to_end(&mut ready).expect("the end of the file");
        assert_eq!(ready, b"\n", "{:?}", log.lines());
        IpcServer { process, log }
    }
}

impl Drop for IpcServer {
    fn drop(&mut self) {
        let pid = self.process.id().cast_signed();
        tine_e2e::kill(pid, Signal::TERM);
        assert_eq!(self.process.wait().expect("our child").code(), Some(0));
    }
}

fn ask(path: &Path) -> String {
    let mut client = UnixStream::connect(path).expect("the server listens");
    client.shutdown(Shutdown::Write).expect("connected");
    let mut reply = String::new();
    client.read_to_string(&mut reply).expect("a reply");
    reply
}

#[test]
fn a_local_service_knows_its_clients() {
    let folder = installed("ipc");
    let path = folder.0.join("socket");
    let socket = path.display().to_string();
    let script = "echo \"$PROTO $IPCREMOTEEUID:$IPCREMOTEEGID $IPCCONNNUM $IPCREMOTEPATH $UNIXREMOTEEUID$REMOTE_ADDR\"";
    for (flags, mode, reply) in [
        (&[][..], 0o777, "IPC 0:0 0  \n"),
        (&["-a", "0600", "-v", "-c", "7", "-C", "7"], 0o600, "IPC 0:0 0  \n"),
        (&["-P"], 0o777, "IPC :   \n"),
    ] {
        let server = IpcServer::start(&folder, &[flags, &[&socket, "sh", "-c", script]].concat());
        let found = std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777;
        assert_eq!((found, ask(&path).as_str()), (mode, reply), "{flags:?}");
        if flags.contains(&"-v") {
            server.log.wait_for_line("the end", |line| line.contains("info: end pid"));
            let lines = server.log.lines();
            assert!(lines[0].ends_with("info: starting") && lines[1].ends_with("status: 0/7"), "{lines:?}");
            assert!(lines[2].contains("info: allow 0:0 pid ") && lines[3].ends_with("1/7"), "{lines:?}");
        }
    }
    let server = IpcServer::start(&folder, &[&socket, "sh", "-c", script]);
    let client = folder.path("client");
    let reply = LocalClient::named(client.as_bytes(), &socket).finish();
    assert_eq!(reply, format!("IPC 0:0 0 {client} \n"));
    drop(server);
}

#[test]
fn s6_ipcserver_limits_the_connections_of_a_user() {
    let folder = installed("ipc-limit");
    let socket = folder.path("socket");
    let script = "echo $IPCREMOTEEUID $IPCCONNNUM; exec cat";
    let server = IpcServer::start(&folder, &["-v", "-C", "2", &socket, "sh", "-c", script]);
    let first_line = |uid: u32| {
        let mut client = LocalClient::of_user(uid, &socket);
        (client.line(), client)
    };
    let (line, first) = first_line(61_101);
    assert_eq!(line, "61101 0");
    let (line, second) = first_line(61_101);
    assert_eq!(line, "61101 1");
    assert_eq!(first_line(61_101).0, "");
    let (line, other) = first_line(61_102);
    assert_eq!(line, "61102 0");
    drop((first, second, other));
    for text in [
        " info: allow 61101:61101 pid ",
        " count 2/2",
        " info: deny 61101:61101 count 2/2",
        " uid 61102 exitcode 0",
        " status: 0/40",
    ] {
        server.log.wait_for_line(text, |line| line.contains(text));
    }
    // Without a lookup of credentials, users are not counted.
    drop(server);
    let server = IpcServer::start(&folder, &["-P", "-C", "1", &socket, "sh", "-c", script]);
    let clients = [61_101; 2].map(first_line);
    assert!(clients.iter().all(|(line, _)| line.is_empty()), "a line without numbers");
    assert!(clients.into_iter().all(|(_, mut client)| client.echo()));
    drop(server);
}

#[test]
fn programs_outlive_s6_ipcserver() {
    let folder = installed("outlive");
    let path = folder.0.join("socket");
    let server = IpcServer::start(&folder, &[&path.display().to_string(), "cat"]);
    let mut client = UnixStream::connect(&path).expect("the server listens");
    let mut echo = |text: &[u8]| {
        client.write_all(text).expect("sent");
        let mut reply = vec![0; text.len()];
        client.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply, text);
    };
    echo(b"before");
    drop(server);
    wait_until("nobody listens", || UnixStream::connect(&path).is_err().then_some(()));
    echo(b"after");
}
