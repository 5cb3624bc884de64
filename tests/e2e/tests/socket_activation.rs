//! Listeners that another process has opened and passes on (`LISTEN_FDS`, sd_listen_fds(3)).

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tine_e2e::{Client, Log, Server, kill, wait_until};

/// Executes a program with these descriptors from 3 on and its own id in LISTEN_PID, as a service
/// manager does. Arguments: the number of descriptors, the descriptors, the command.
const PASS: &str = "import os, sys; n = int(sys.argv[1]); \
    [os.dup2(int(f), 3 + i) for i, f in enumerate(sys.argv[2:2 + n])]; \
    os.environ['LISTEN_PID'] = str(os.getpid()); os.execvp(sys.argv[2 + n], sys.argv[2 + n:])";

/// A listener that a child inherits, its descriptor as text, and its port.
fn inheritable_listener(blocking: bool) -> (std::net::TcpListener, String, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(!blocking).expect("a socket option");
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).expect("an open descriptor");
    let number = listener.as_raw_fd().to_string();
    let port = listener.local_addr().expect("a bound socket").port();
    (listener, number, port)
}

#[test]
fn inherited_listeners_are_served_and_left_unchanged() {
    for (blocking, options) in
        [(true, &[][..]), (false, &[]), (false, &["--spares", "3"]), (true, &["--spares", "3"])]
    {
        let (listener, number, port) = inheritable_listener(blocking);
        let (_other, other_number, other_port) = inheritable_listener(blocking);
        rustix::net::listen(&listener, 5).expect("a smaller backlog");
        let mut command = Command::new("python3");
        command.args(["-c", PASS, "2", &number, &other_number]).arg(tine_e2e::tine());
        command.args(["serve", "-1", "--log", "json"]).args(options);
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "web:more").stdout(Stdio::piped());
        let mut server = command.stderr(Stdio::piped()).spawn().expect("python starts");
        let log = Log::from_pipe(server.stderr.take().expect("piped"));
        let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
        let mut next_port = || lines.next().expect("a line").expect("text").parse::<u16>().expect("a port");
        assert_eq!([next_port(), next_port()], [port, other_port]);
        for round in 0..20 {
            Client::connect(port).echo(format!("round {round}")).finish();
            Client::connect(other_port).echo(format!("round {round}")).finish();
        }
        // Other processes share the listener, so its flags and its backlog may not change.
        let flags = rustix::fs::fcntl_getfl(&listener).expect("an open descriptor");
        assert_eq!(flags.contains(rustix::fs::OFlags::NONBLOCK), !blocking);
        let listen = log.of("listen").remove(0);
        assert!(listen["address"].as_str().expect("text").ends_with("(web)"));
        assert_eq!(listen["backlog"], 5, "{listen}");
        assert_eq!(log.of("warning").len(), usize::from(blocking && !options.is_empty()));
        terminate(&server);
        assert!(server.wait().expect("our child").success());
    }
}

#[test]
fn an_inherited_listener_and_an_address_are_an_error() {
    let (_listener, number, _) = inheritable_listener(true);
    let mut command = Command::new("python3");
    command.args(["-c", PASS, "1", &number]).arg(tine_e2e::tine()).args(["serve", "127.0.0.1:0"]);
    let (code, _, err) = tine_e2e::run(command.env("LISTEN_FDS", "1"));
    assert_eq!(code, 100);
    assert!(err.contains("LISTEN_FDS") && err.contains("127.0.0.1:0"), "{err}");
}

#[test]
fn listeners_passed_to_another_process_are_ignored() {
    let mut command = Command::new(tine_e2e::tine());
    command.args(["serve", "-1", "127.0.0.1:0"]).env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("tine starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    Client::connect(line.trim().parse().expect("a port")).echo("x");
    server.kill().expect("our child");
    server.wait().expect("our child");
}

#[test]
fn services_listen_on_inherited_sockets_by_name() {
    let folder = tine_e2e::Folder::new("named");
    let text = "[services.web]\nlisten = 'fd:web'\nprogram = ['echo', 'web']\n\
        [services.more]\nlisten = ['fd:more', '127.0.0.1:0']\nprogram = ['echo', 'more']\n";
    let file = folder.write("tine.toml", text);
    let start = |names: &str| {
        let (web, web_number, web_port) = inheritable_listener(false);
        let (more, more_number, more_port) = inheritable_listener(false);
        let mut command = Command::new("python3");
        command.args(["-c", PASS, "2", &web_number, &more_number]).arg(tine_e2e::tine());
        command.args(["serve", "-1", "--log", "json", "--config"]).arg(&file);
        command
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", names)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        (command, [web_port, more_port], [web, more])
    };
    let (mut command, ports, _listeners) = start("web:more");
    let mut server = command.spawn().expect("python starts");
    let _log = Log::from_pipe(server.stderr.take().expect("piped"));
    let lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let printed: Vec<u16> = lines.take(3).map(|line| line.expect("text").parse().expect("a port")).collect();
    assert_eq!(printed[..2], ports);
    for (port, said) in [(ports[0], "web\n"), (ports[1], "more\n"), (printed[2], "more\n")] {
        assert_eq!(Client::connect(port).read_text(), said);
    }
    terminate(&server);
    assert!(server.wait().expect("our child").success());
    for (names, words) in [("web:other", "fd:other"), ("web:web", "no inherited socket has the name 'more'")]
    {
        let (mut command, _, _listeners) = start(names);
        let (code, _, err) = tine_e2e::run(&mut command);
        assert!(code == 100 && err.contains(words), "{code} {err}");
    }
}

/// A server with a program on an inherited socket, ready.
fn server_on(number: &str, script: &str) -> (Child, Log) {
    let mut command = Command::new("python3");
    command.args(["-c", PASS, "1", number]).arg(tine_e2e::tine());
    command.args(["serve", "--log", "json", "--", "sh", "-c", script]).env("LISTEN_FDS", "1");
    let mut server = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("python starts");
    let log = Log::from_pipe(server.stderr.take().expect("piped"));
    log.wait_for("listen", 1);
    (server, log)
}

fn terminate(server: &Child) {
    kill(i32::try_from(server.id()).expect("a process id"), Signal::TERM);
}

#[test]
fn a_restart_on_an_inherited_socket_refuses_no_client_and_cuts_no_reply() {
    for blocking in [false, true] {
        let (_listener, number, port) = inheritable_listener(blocking);
        let script = "read line; echo $line";
        let (mut first, log) = server_on(&number, script);
        let mut in_progress = Client::connect(port);
        log.wait_for("accept", 1);
        terminate(&first);
        log.wait_for("drain", 1);
        in_progress.send("in progress\n");
        assert_eq!(in_progress.read_text(), "in progress\n");
        assert!(first.wait().expect("our child").success());
        // The socket listens on, and the kernel keeps the client for the next server.
        let mut between = Client::connect(port);
        between.send("between\n");
        let (mut second, _log) = server_on(&number, script);
        assert_eq!(between.read_text(), "between\n");
        terminate(&second);
        assert!(second.wait().expect("our child").success());
    }
}

#[test]
fn the_descriptors_of_a_program_block_whatever_the_inherited_socket_does() {
    for blocking in [false, true] {
        let (_listener, number, port) = inheritable_listener(blocking);
        let (mut server, _log) = server_on(&number, "grep -h flags /proc/$$/fdinfo/0 /proc/$$/fdinfo/1");
        // Octal, as in open(2): O_RDWR and nothing else.
        assert_eq!(Client::connect(port).read_text(), "flags:\t02\nflags:\t02\n");
        terminate(&server);
        assert!(server.wait().expect("our child").success());
    }
}

#[test]
fn a_listener_that_nobody_passed_is_closed() {
    let (listener, _number, port) = inheritable_listener(false);
    let server = Server::serve(&["--spares", "2"]);
    server.connect().echo("x").finish();
    drop(listener);
    // It would stay in use as long as a process of the server has it.
    wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).ok());
}
