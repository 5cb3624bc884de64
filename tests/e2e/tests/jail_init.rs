//! `--jail-init no`: the program of a connection is the first process of its pid namespace.

use std::collections::BTreeSet;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tine_e2e::jails::{mounts, namespaces_of, room_of, wait_until_namespaces_end};
use tine_e2e::names::{FIRST_JAILER, ROOM, outcome, pid};
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

fn serve(options: &[&str], program: &[&str]) -> Server {
    Server::program(&[&["--jail", "--jail-init", "no"], options].concat(), program)
}

fn shell(options: &[&str], script: &str) -> Server {
    serve(options, &["sh", "-c", script])
}

#[test]
fn the_program_is_process_1_and_alone() {
    let script = "echo $$; echo /proc/[0-9]*; grep NSpid /proc/self/status; id -u
        ls -A /tmp | wc -l; echo x > /tmp/x; hostname; pwd; readlink /proc/self/ns/net; kill -0 2 2>&1";
    let net = std::fs::read_link("/proc/self/ns/net").expect("a namespace").display().to_string();
    for options in [
        &[][..],
        &["--spares", "2"],
        &["--private-network", "loopback"],
        &["--system-call-filter", "~pidfd_open"],
        &["--private-tmp", "1M", "--temporary-file-system", "/own"],
    ] {
        let server = shell(options, script);
        for _ in 0..2 {
            let text = server.connect().half_close().read_text();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "1", "{options:?}: {text}");
            assert_eq!(lines[1], "/proc/1", "{options:?}: {text}");
            assert!(lines[3].parse::<i32>().is_ok_and(|uid| uid >= 524_288), "{options:?}: {text}");
            assert_eq!(lines[4..7], ["0", "tine", "/"], "{options:?}: {text}");
            assert_ne!(lines[7], net, "{options:?}");
            assert!(lines[8].contains("No such process"), "{options:?}: {text}");
        }
    }
    // A process that is forked, and executes the program later.
    let folder = Folder::new("jail-init");
    let banner = folder.write("banner", "hello\n");
    let server = shell(&["--banner-file", banner.to_str().expect("UTF-8")], "echo $$");
    assert_eq!(server.connect().read_text(), "hello\n1\n");
}

#[test]
fn every_kind_of_user_can_have_it() {
    let script = "id -u; echo $$";
    assert_eq!(shell(&["--user", "nobody"], script).connect().read_text(), "65534\n1\n");
    let mut command = ServerCommand::wrapped(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        ["--jail", "--jail-init", "no"],
    );
    command.command().args(["--", "sh", "-c", script]);
    assert_eq!(command.start().connect().read_text(), "65534\n1\n");
}

#[test]
fn many_at_once_are_each_alone() {
    let server = shell(&["--quiet"], "echo $$ $(ls -A /tmp | wc -l); echo x > /tmp/x; read line");
    let mut clients: Vec<_> = (0..60).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.read_line(), "1 0"));
    clients.iter_mut().for_each(|client| client.half_close().expect_closed());
}

#[test]
fn ends_are_told_as_they_were() {
    for (script, expected) in [
        ("exit 7", "exit 7"),
        // No signal that process 1 sends to itself ends it, unless it handles it.
        ("kill -TERM $$; kill -KILL $$; exit 8", "exit 8"),
        ("trap 'exit 9' TERM; kill -TERM $$; exit 8", "exit 9"),
    ] {
        let server = shell(&[], script);
        server.connect().expect_closed();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), expected, "{script}");
    }
    // A fault does, and KILL from outside.
    let fault = "import ctypes; ctypes.string_at(0)";
    let server = serve(&[], &["/usr/bin/python3", "-c", fault]);
    server.connect().expect_closed();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal SEGV");
    let server = shell(&[], "echo ready; exec sleep 1013");
    let mut client = server.connect();
    client.read_line();
    let program = pid(&server.log.wait_for("accept", 1)[0]);
    kill(program, Signal::TERM);
    assert!(procfs::is_running(program));
    kill(program, Signal::KILL);
    client.expect_closed();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal KILL");
}

#[test]
fn what_is_left_ends_with_the_program() {
    let leave = "for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM HUP; exec sleep 1014' &) ; done
        echo ready; read line";
    let server = shell(&[], leave);
    let mut client = server.connect();
    client.read_line();
    let room = room_of(pid(&server.log.wait_for("accept", 1)[0]));
    // Its orphans are its children: it has to reap them, or they stay until it ends.
    wait_until("they run", || (tine_e2e::jails::processes_in(&room).len() == 4).then_some(()));
    client.half_close().expect_closed();
    server.log.wait_for("end", 1);
    wait_until("nothing is left", || tine_e2e::jails::processes_in(&room).is_empty().then_some(()));
}

#[test]
fn a_drain_waits_and_then_ends_it() {
    for (script, expected) in [
        ("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done", "exit 5"),
        ("echo ready; exec sleep 1015", "signal KILL"),
    ] {
        let mut server = shell(&["--drain-timeout", "100ms"], script);
        let mut client = server.connect();
        client.read_line();
        server.signal(Signal::TERM);
        client.expect_closed();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), expected, "{script}");
        server.wait_for_exit();
        server.wait_until_gone();
    }
}

#[test]
fn two_hundred_connections_leave_nothing() {
    let before = mounts();
    let mut server = serve(&["--quiet"], &["true"]);
    let rooms = |server: &Server| server.named(ROOM).len();
    let is_idle = |server: &Server| {
        let forkers = server.forkers().len();
        let others = server.processes().len() - rooms(server);
        let is_idle = rooms(server) <= 9 * forkers && others == 1 + 2 * forkers;
        (is_idle && procfs::zombies(server.pid()) == 0).then_some(())
    };
    server.connect().expect_closed();
    wait_until("it is idle", || is_idle(&server));
    let mut namespaces = BTreeSet::new();
    for _ in 0..200 {
        server.connect().expect_closed();
        namespaces.extend(namespaces_of(&server.processes()));
    }
    wait_until("nothing is left", || is_idle(&server));
    assert_eq!(mounts(), before);
    server.signal(Signal::TERM);
    server.wait_for_exit();
    server.wait_until_gone();
    wait_until_namespaces_end(&namespaces);
}

#[test]
fn processes_of_the_jail_can_be_killed() {
    let mut server = shell(&[], "echo $$; exec sleep 1016");
    let mut kept = server.connect();
    assert_eq!(kept.read_line(), "1");
    let connection = pid(&server.log.wait_for("accept", 1)[0]);
    // Rooms that wait are replaced, also with their jailer.
    for room in server.named(ROOM) {
        // That of the connection ends by itself.
        let _ = Pid::from_raw(room.pid).map(|pid| kill_process(pid, Signal::KILL));
        wait_until("it has ended", || (!procfs::is_running(room.pid)).then_some(()));
    }
    for _ in 0..10 {
        let mut client = server.connect();
        assert_eq!(client.read_line(), "1");
        client.reset();
    }
    let jailer = wait_until("one process is the jailer", || match &server.named(FIRST_JAILER)[..] {
        [jailer] => Some(jailer.pid),
        _ => None,
    });
    kill(jailer, Signal::KILL);
    wait_until("clients are served", || (server.connect().read_line() == "1").then_some(()));
    assert!(procfs::is_running(connection));
    // Nothing stays of a server that was killed: neither of programs, nor of handlers.
    server.signal(Signal::KILL);
    server.wait_for_exit();
    server.wait_until_gone();
    wait_until("the connection ends", || (!procfs::is_running(connection)).then_some(()));
    for options in [&[][..], &["--spares", "2"], &["--spares", "2", "--reuse", "3"]] {
        let mut server = Server::serve(&[&["--jail", "--jail-init", "no"], options].concat());
        let mut client = server.connect();
        client.echo("x");
        let connection = pid(&server.log.wait_for("accept", 1)[0]);
        server.signal(Signal::KILL);
        server.wait_for_exit();
        server.wait_until_gone();
        wait_until("the connection ends", || (!procfs::is_running(connection)).then_some(()));
    }
}

#[test]
fn it_takes_a_full_jail_and_no_process_between() {
    for (options, part) in [
        (&["--jail", "--pty"][..], "jail-init is no"),
        (&["--jail", "--lingering-close"], "jail-init is no"),
        (&["--jail", "--line-buffered"], "jail-init is no"),
        (&["--jail=light", "--user", "nobody"], "jail-init is set"),
    ] {
        let mut command = Command::new(tine());
        command.args(["serve", "--control", "none", "--jail-init", "no"]).args(options);
        let (code, out, err) = run(command.args(["127.0.0.1:0", "--", "/bin/true"]));
        assert!(code == 100 && out.is_empty() && err.contains(part), "{options:?}: {code} {err}");
    }
}
