//! Signals lose no connection, and inherited dispositions and masks have no effect.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{EchoClients, Server, ServerCommand, kill};

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

#[test]
fn hup_and_usr2_end_no_connection() {
    let server = Server::serve(&[]);
    let others = EchoClients::start(server.port(), 3);
    server.signal(Signal::HUP);
    server.signal(Signal::USR2);
    server.log.wait_for("warning", 2);
    others.wait_for_exchanges(30);
    others.finish();
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
