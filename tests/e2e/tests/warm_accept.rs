//! Programs that accept their clients themselves: each client is served by a copy, whose call of
//! accept(2) returns it, and whose next one ends it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::outcome;

use tine_e2e::{Folder, Server, kill, procfs, run, tine, wait_until};

const PYTHON: &str = "/usr/bin/python3";

fn serve(options: &[&str], program: &[&str]) -> Server {
    let options = [&["--warm", "--warm-until", "accept", "--forkers", "1"], options].concat();
    Server::program(&options, program)
}

fn python(script: &str) -> Server {
    serve(&["--stderr", "log"], &[PYTHON, "-c", script])
}

fn answer(server: &Server, text: &str) -> String {
    let mut client = server.connect();
    client.send(text).half_close();
    client.read_text()
}

/// The ends of connections, each of which has to be served by a copy that has exited with code 0.
fn ends(server: &Server, number: usize) -> Vec<Value> {
    let ends = server.log.wait_for("end", number);
    for end in &ends {
        assert_eq!((outcome(end), end["start"].as_str()), ("exit 0", Some("warm")), "{end}");
    }
    ends
}

fn template(server: &Server) -> i32 {
    let ready = server
        .log
        .wait("a template", |log| log.of("warm").into_iter().rev().find(|line| line["state"] == "ready"));
    ready["pid"].as_i64().expect("a process") as i32
}

#[test]
fn each_client_is_accepted_by_a_copy_of_its_own() {
    let script = "\
        import os, socket, sys\n\
        assert os.environ['LISTEN_FDS'] == '1' and int(os.environ['LISTEN_PID']) == os.getpid()\n\
        assert 'TCPREMOTEIP' not in os.environ\n\
        listener = socket.socket(fileno=3)\n\
        while True:\n\
        \x20   client, address = listener.accept()\n\
        \x20   line = client.recv(100).decode()\n\
        \x20   print('noise', file=sys.stderr, flush=True)\n\
        \x20   fds = sorted(os.listdir('/proc/self/fd'))[:-1]\n\
        \x20   client.sendall(f'{line} {os.getpid()} {address[0]}:{address[1]} {fds} {client.fileno()}'.encode())\n\
        \x20   client.close()\n";
    let server = python(script);
    let mut pids = BTreeSet::new();
    for number in 1..=3 {
        let mut client = server.connect();
        let address = client.address();
        client.send("hello").half_close();
        let pid = server.log.wait_for("accept", number)[number - 1]["pid"].as_i64().expect("a process");
        let expected = format!("hello {pid} {address} ['0', '1', '2', '3', '4'] 4");
        assert_eq!(client.read_text(), expected);
        assert!(pids.insert(pid));
    }
    ends(&server, 3);
    let noise = |log: &[Value]| log.iter().filter(|line| line["text"] == "noise").count() == 3;
    server.log.wait("standard error", |log| noise(&log.of("stderr")).then_some(()));
}

#[test]
fn servers_of_several_kinds_end_after_their_client() {
    let of_socketserver = |kind: &str| {
        format!(
            "import os, socketserver, time\n\
            class Echo(socketserver.StreamRequestHandler):\n\
            \x20   def handle(self):\n\
            \x20       for line in self.rfile: self.wfile.write(line)\n\
            class Server(socketserver.{kind}): pass\n\
            server = Server(('127.0.0.1', 0), Echo, bind_and_activate=False)\n\
            import socket\n\
            server.socket.close()\n\
            server.socket = socket.socket(fileno=3)\n\
            server.serve_forever()\n"
        )
    };
    let one_loop = "\
        import select, socket\n\
        listener = socket.socket(fileno=0)\n\
        listener.setblocking(False)\n\
        clients = []\n\
        while True:\n\
        \x20   ready, _, _ = select.select([listener] + clients, [], [])\n\
        \x20   for one in ready:\n\
        \x20       if one is listener:\n\
        \x20           try: clients.append(listener.accept()[0])\n\
        \x20           except BlockingIOError: pass\n\
        \x20       else:\n\
        \x20           data = one.recv(1000)\n\
        \x20           if data: one.sendall(data)\n\
        \x20           else:\n\
        \x20               clients.remove(one)\n\
        \x20               one.close()\n";
    let kinds = ["TCPServer", "ThreadingTCPServer", "ForkingTCPServer"].map(of_socketserver);
    for script in kinds.iter().map(String::as_str).chain([one_loop]) {
        let server = python(script);
        let mut held = server.connect();
        held.echo("first\n");
        assert_eq!(answer(&server, "a\nb\n"), "a\nb\n", "{script}");
        held.echo("second\n");
        held.half_close();
        assert_eq!(held.read_to_end(), b"");
        ends(&server, 2);
    }
    let perl = "use IO::Socket; open my $l, '+<&=3'; $l = IO::Socket::INET->new_from_fd(3, 'r+'); \
        while (my $c = $l->accept) { while (my $line = <$c>) { print $c uc $line } close $c }";
    let server = serve(&[], &["perl", "-e", perl]);
    assert_eq!(answer(&server, "a\nb\n"), "A\nB\n");
    ends(&server, 1);
}

#[test]
fn clients_wait_for_a_template() {
    let folder = Folder::new("warm-accept");
    let text = |name: &str| {
        format!(
            "import os, socket\n\
            listener = socket.socket(fileno=3)\n\
            while True:\n\
            \x20   client, _ = listener.accept()\n\
            \x20   client.sendall(b'{name} ' + client.recv(100))\n\
            \x20   if os.path.exists('{}'): os.kill(os.getpid(), 11)\n\
            \x20   client.close()\n",
            folder.path("crash")
        )
    };
    let script = folder.write("script", &text("one"));
    let server = serve(&[], &[PYTHON, &script.display().to_string()]);
    assert_eq!(answer(&server, "x"), "one x");
    // Crashes: there is no other way to serve a client.
    folder.write("crash", "");
    for _ in 0..5 {
        assert_eq!(answer(&server, "x"), "one x");
    }
    fs::remove_file(folder.path("crash")).expect("removed");
    // A template that is killed.
    let killed = template(&server);
    kill(killed, Signal::KILL);
    wait_until("it is gone", || (!procfs::is_running(killed)).then_some(()));
    assert_eq!(answer(&server, "x"), "one x");
    // An update that cannot be copied: the present one goes on.
    let broken = folder.write("broken", "import sys; sys.exit(1)\n");
    fs::rename(broken, &script).expect("replaced");
    server.log.wait("a refusal", |log| {
        log.of("warning").iter().any(|line| line.to_string().contains("exited with code 1")).then_some(())
    });
    assert_eq!(answer(&server, "x"), "one x");
    fs::rename(folder.write("two", &text("two")), &script).expect("replaced");
    wait_until("the new program", || (answer(&server, "x") == "two x").then_some(()));
}

#[test]
fn a_program_that_accepts_is_served_in_a_jail_with_a_room_of_its_own() {
    let script = "\
        import os, socket\n\
        listener = socket.socket(fileno=3)\n\
        while True:\n\
        \x20   client, _ = listener.accept()\n\
        \x20   client.sendall(f'{os.getpid()} {os.getuid()} {os.listdir(\"/tmp\")}'.encode())\n\
        \x20   if os.getpid() == 1: open('/tmp/x', 'w').close()\n\
        \x20   client.close()\n";
    for options in [&["--jail=full", "--jail-init", "no"][..], &["--jail=light", "--user", "nobody"]] {
        let server = serve(options, &[PYTHON, "-c", script]);
        let expected = if options[0] == "--jail=full" { "1 524288 []" } else { "" };
        for _ in 0..2 {
            assert!(answer(&server, "").starts_with(expected));
        }
        ends(&server, 2);
    }
}

#[test]
fn a_program_that_accepts_cannot_be_executed_for_a_connection() {
    let words = ["serve", "--warm=try", "--warm-until", "accept", "127.0.0.1:0", "--", "cat"];
    let (code, _, said) = run(Command::new(tine()).args(words));
    assert_eq!(code, 100, "{said}");
    assert!(said.contains("cannot be executed for a connection"), "{said}");
    let words = ["serve", "--warm", "--warm-until", "accept", "127.0.0.1:0", "--", "true"];
    let (code, _, said) = run(Command::new(tine()).args(words));
    assert_eq!(code, 100, "{said}");
    assert!(said.contains("exited with code 0 before it used"), "{said}");
    let (code, out, _) = run(Command::new(tine())
        .args(["warm-check", "--warm-until", "accept", "--", PYTHON, "-c"])
        .arg("import socket; socket.socket(fileno=3).accept()"));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("accept4 of descriptor 3") && out.contains("not compared"), "{out}");
}
