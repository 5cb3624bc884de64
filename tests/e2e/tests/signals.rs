//! Signals lose no connection, and inherited dispositions and masks have no effect.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{EchoClients, Folder, Server, ServerCommand, kill, tine};

#[test]
fn stopping_and_continuing_every_process_loses_no_connection() {
    for options in [&[][..], &["--spares", "4"]] {
        let server = Server::serve(options);
        let others = EchoClients::start(server.port(), 20);
        for round in 0..10 {
            let processes = server.processes();
            assert!(processes.len() > 20);
            for process in &processes {
                kill(process.pid, Signal::STOP);
            }
            // Clients connect and send while every process is stopped.
            let mut new: Vec<_> = (0..5).map(|_| server.connect()).collect();
            new.iter_mut().for_each(|client| {
                client.send(format!("round {round}"));
            });
            for process in &processes {
                kill(process.pid, Signal::CONT);
                (0..20).for_each(|_| kill(process.pid, Signal::CHILD));
            }
            for client in &mut new {
                client.expect(format!("round {round}")).half_close();
                assert!(client.read_to_end().is_empty());
            }
            others.wait_for_exchanges(40);
        }
        others.finish();
        let ends = server.log.wait_for("end", 70);
        assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
        assert!(server.log.of("restart").is_empty());
    }
}

#[test]
fn a_server_started_with_every_signal_ignored_and_blocked_serves_and_drains() {
    // Python can block signals; a shell can only ignore them.
    let block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); \
                 [signal.signal(s, signal.SIG_IGN) for s in range(1, 65) if s not in (9, 19, 32, 33)]; \
                 os.execvp(sys.argv[1], sys.argv[1:])";
    let mut server = ServerCommand::wrapped(["python3", "-c", block], ["--max-connections", "5"]).start();
    for number in 0..20 {
        server.connect().echo(format!("{number}")).finish();
    }
    let ends = server.log.wait_for("end", 20);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// Signals that would end a process by default, and that scripts and container engines send.
const HARMLESS: [Signal; 5] = [Signal::USR1, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::IO];

#[test]
fn signals_sent_by_habit_end_no_connection() {
    let server = Server::serve(&[]);
    let others = EchoClients::start(server.port(), 3);
    // Without access rules and a log file, HUP has no effect, either.
    for (number, signal) in std::iter::once(Signal::HUP).chain(HARMLESS).enumerate() {
        server.signal(signal);
        server.log.wait_for("warning", number + 1);
    }
    others.wait_for_exchanges(30);
    others.finish();
    assert!(server.log.of("restart").is_empty());
}

#[test]
fn signals_sent_by_habit_to_the_master_end_no_connection() {
    let (_folder, server) = services();
    let mut client = server.connect();
    client.echo("before");
    for (number, signal) in HARMLESS.into_iter().enumerate() {
        server.signal(signal);
        server.log.wait_for("warning", number + 1);
    }
    client.echo("after").finish();
    assert!(server.log.of("restart").is_empty());
}

/// Two services with an endless drain.
fn services() -> (Folder, Server) {
    let folder = Folder::new("signals");
    let text = "[defaults]\ndrain-timeout = '1h'\n[services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\n";
    let file = folder.write("tine.toml", text).display().to_string();
    let server = ServerCommand::program(tine(), &["serve", "--log", "json", "-1", "--config", &file]).start();
    (folder, server)
}

#[test]
fn quit_ends_the_connections_with_or_without_a_drain_before() {
    for signals in [&[Signal::QUIT][..], &[Signal::TERM, Signal::QUIT], &[Signal::POWER, Signal::QUIT]] {
        let one = Server::serve(&["--drain-timeout", "1h"]);
        for (_folder, mut server) in
            [(None, one)].into_iter().chain([services()].map(|(folder, server)| (Some(folder), server)))
        {
            let mut client = server.connect();
            client.echo("x");
            server.log.wait_for("accept", 1);
            for (number, signal) in signals.iter().enumerate() {
                assert!(server.log.of("end").is_empty());
                server.signal(*signal);
                server.log.wait_for("drain", number.min(1));
                if signals.len() > 1 && number == 0 {
                    server.log.wait_for("drain", 1);
                    client.echo("still served");
                }
            }
            client.expect_closed();
            assert_eq!(server.wait().code(), Some(0), "{signals:?}");
            assert_eq!(outcome(&server.log.of("end")[0]), "signal TERM");
            server.wait_until_gone();
        }
    }
}

#[test]
fn a_second_quit_kills() {
    let mut server = Server::program(&[], &["sh", "-c", "trap '' TERM; echo ready; sleep 600"]);
    let mut client = server.connect();
    client.expect("ready\n");
    server.log.wait_for("accept", 1);
    server.signal(Signal::QUIT);
    server.log.wait_for("drain", 1);
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(outcome(&server.log.of("end")[0]), "signal KILL");
}

#[test]
fn ctrl_c_starts_the_drain_and_reaches_no_connection() {
    // A terminal sends SIGINT to its foreground process group, here that of the server.
    let mut start = ServerCommand::serve(["--drain-timeout", "20s"]);
    start.command().process_group(0);
    let mut server = start.start();
    let mut client = server.connect();
    client.echo("x");
    server.log.wait_for("accept", 1);
    let status = Command::new("kill").args(["-INT", "--", &format!("-{}", server.pid())]).status();
    assert!(status.expect("kill is installed").success());
    server.log.wait_for("drain", 1);
    client.echo("still served").finish();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(outcome(&server.log.of("end")[0]), "exit 0");
}
