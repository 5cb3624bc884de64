//! The process that connects for full jails (`--network-allow`): when it is killed, when its
//! callers end, and many calls at once.

use std::process::Command;

use rustix::process::Signal;
use tine_e2e::names::{CONNECTOR, outcome, pid};
use tine_e2e::outgoing::{BEGIN, FullListener, Greeter, lines, server};
use tine_e2e::server::kill;
use tine_e2e::{Client, Folder, Server, ServerCommand, procfs, run, tine, wait_until};

fn connector(server: &Server) -> i32 {
    wait_until("there is a connector", || server.named(CONNECTOR).first().map(|process| process.pid))
}

#[test]
fn a_connector_that_was_killed_is_replaced_and_leaves_no_call_without_an_answer() {
    let (allowed, full) = (Greeter::start("127.0.0.1"), FullListener::start());
    let script = format!(
        "def first():\n\
         \x20   tries('hanging', lambda: connected('127.0.0.1', {full}))\n\
         one = threading.Thread(target=first); one.start()\n\
         input()\n\
         one.join()\n\
         tries('later', lambda: connected('127.0.0.1', {allowed}))\n",
        allowed = allowed.port(),
        full = full.port(),
    );
    let full_endpoint = format!("127.0.0.1:{}", full.port());
    let server = server(&["--forkers", "1"], &[allowed.endpoint(), full_endpoint], &script);
    let mut client = server.connect();
    let first = connector(&server);
    wait_for_sockets(first, 1);
    kill(first, Signal::KILL);
    assert_eq!(client.read_line(), "hanging Network is down");
    client.send("\n");
    assert_eq!(client.read_line(), "later hello");
    let restart = server.log.wait_for("restart", 1).remove(0);
    assert_eq!((restart["role"].as_str(), outcome(&restart)), (Some("connector"), "signal KILL"));
    assert_ne!(connector(&server), first);
    // The forker has not changed; its next connections have the next connector.
    let mut client = server.connect();
    wait_for_sockets(connector(&server), 1);
    kill(connector(&server), Signal::KILL);
    assert_eq!(client.read_line(), "hanging Network is down");
}

/// Waits until the connector has so many connections that are being made.
fn wait_for_sockets(connector: i32, number: usize) {
    wait_until("the connector has these sockets", || {
        let sockets = procfs::tcp_sockets(connector).len();
        (sockets == number).then_some(())
    });
}

#[test]
fn a_caller_that_has_ended_leaves_nothing_in_the_connector() {
    let full = FullListener::start();
    let script = format!(
        "for _ in range(5):\n\
         \x20   threading.Thread(target=lambda: connected('127.0.0.1', {})).start()\n",
        full.port()
    );
    let server = server(&["--forkers", "1"], &[format!("127.0.0.1:{}", full.port())], &script);
    let connector = connector(&server);
    let before = procfs::descriptors(connector).len();
    let _client = server.connect();
    wait_for_sockets(connector, 5);
    let accept = server.log.wait_for("accept", 1).remove(0);
    kill(pid(&accept), Signal::KILL);
    wait_for_sockets(connector, 0);
    assert_eq!(procfs::descriptors(connector).len(), before);
}

#[test]
fn a_caller_with_a_timeout_waits_no_longer() {
    let full = FullListener::start();
    let script = format!(
        "import struct\n\
         stream = socket.socket()\n\
         stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 300000))\n\
         tries('timeout', lambda: stream.connect(('127.0.0.1', {})))\n",
        full.port()
    );
    let server = server(&[], &[format!("127.0.0.1:{}", full.port())], &script);
    assert_eq!(lines(&mut server.connect()), ["timeout Operation now in progress"]);
}

#[test]
fn many_connect_at_once() {
    const NUMBER: usize = 200;
    let allowed = Greeter::start("127.0.0.1");
    let (endpoint, port) = (allowed.endpoint(), allowed.port());
    let script = format!("read line; exec 3<>/dev/tcp/127.0.0.1/{port}; read line <&3; echo $line");
    let options = ["--jail", "--network-allow", &endpoint, "--stderr", "client"];
    let server = Server::program(&options, &["bash", "-c", &script]);
    let mut clients: Vec<Client> = (0..NUMBER).map(|_| server.connect()).collect();
    server.log.wait_for("accept", NUMBER);
    clients.iter_mut().for_each(|client| _ = client.send("\n"));
    for client in &mut clients {
        assert_eq!(client.read_line(), "hello");
    }
}

#[test]
fn a_drained_server_leaves_no_connector() {
    let allowed = Greeter::start("127.0.0.1");
    let script =
        format!("input()\ntries('in a drain', lambda: connected('127.0.0.1', {}))\n", allowed.port());
    let mut server = server(&["--drain-timeout", "20s"], &[allowed.endpoint()], &script);
    let mut client = server.connect();
    server.log.wait_for("accept", 1);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    client.send("\n");
    assert_eq!(client.read_line(), "in a drain hello");
    drop(client);
    assert!(server.wait().success());
    server.wait_until_gone();
}

#[test]
fn connections_of_before_a_reload_keep_their_endpoints() {
    let (old, new) = (Greeter::start("127.0.0.1"), Greeter::start("127.0.0.1"));
    let folder = Folder::new("jail-connector-reload");
    let write = |endpoint: &str| {
        let script =
            format!("{BEGIN}while input(): tries('port', lambda: connected('127.0.0.1', {}))\n", old.port());
        let text = format!(
            "log = 'json'\ncontrol = '{}'\nstate-directory = 'none'\n\
             [services.one]\nlisten = '127.0.0.1:0'\njail = 'full'\nnetwork-allow = '{endpoint}'\n\
             stderr = 'client'\nprogram = ['/usr/bin/python3', '-c', \"\"\"{script}\"\"\"]\n",
            folder.path("c.sock"),
        );
        folder.write("tine.toml", &text)
    };
    let file = write(&old.endpoint());
    let file = file.to_str().expect("a path in UTF-8");
    let server = ServerCommand::program(tine(), &["serve", "-1", "--config", file]).start();
    let mut first = server.connect();
    first.send("x\n");
    assert_eq!(first.read_line(), "port hello");
    write(&new.endpoint());
    let (code, stdout, stderr) =
        run(Command::new(tine()).args(["reload", "--control", &folder.path("c.sock")]));
    assert_eq!(code, 0, "{stdout} {stderr}");
    let mut second = server.connect();
    for (client, expected) in [(&mut first, "port hello"), (&mut second, "port Permission denied")] {
        client.send("x\n");
        assert_eq!(client.read_line(), expected);
    }
}
