//! Stopping: the accept queue is served, nobody is cut before the drain time, exit 0, nothing left.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::{FORKER, SPARE, outcome, pid};
use tine_e2e::{Client, Server, kill};

fn everybody_gets_theirs(options: &[&str]) {
    let mut server = Server::serve(options);
    let mut busy: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    busy.iter_mut().for_each(|client| {
        client.echo("first half, ");
    });
    // Stopped forkers accept nobody: these wait in the queue.
    let stopped: Vec<i32> =
        server.named(FORKER).iter().chain(&server.named(SPARE)).map(|one| one.pid).collect();
    stopped.iter().for_each(|pid| kill(*pid, Signal::STOP));
    let mut queued: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    queued.iter_mut().for_each(|client| {
        client.send("from the queue");
    });
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    stopped.iter().for_each(|pid| kill(*pid, Signal::CONT));
    for client in &mut queued {
        client.expect("from the queue").half_close();
        assert!(client.read_to_end().is_empty());
    }
    for client in &mut busy {
        client.echo("second half").half_close();
        assert!(client.read_to_end().is_empty());
    }
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
    let ends = server.log.of("end");
    assert_eq!(ends.len(), 150);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
    assert_eq!(server.log.of("stop").len(), 1);
    std::net::TcpStream::connect(("127.0.0.1", server.port())).expect_err("nobody listens");
}

#[test]
fn a_drain_serves_every_connection_and_the_whole_backlog() {
    everybody_gets_theirs(&[]);
}

#[test]
fn a_drain_serves_every_connection_and_the_whole_backlog_with_spares() {
    everybody_gets_theirs(&["--spares", "8"]);
}

#[test]
fn a_drain_serves_the_backlog_even_when_every_slot_is_taken() {
    let mut server = Server::serve(&["--max-connections", "2"]);
    let mut served: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    served.iter_mut().for_each(|client| {
        client.echo("x");
    });
    let mut queued: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    queued.iter_mut().for_each(|client| {
        client.send("queued");
    });
    server.signal(Signal::INT);
    server.log.wait_for("drain", 1);
    drop(served);
    for client in &mut queued {
        client.expect("queued").finish();
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn connections_are_ended_at_the_drain_timeout_and_not_before() {
    let mut server = Server::serve(&["--drain-timeout", "700ms"]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    server.signal(Signal::TERM);
    let asked = Instant::now();
    server.log.wait_for("drain", 1);
    clients.iter_mut().for_each(|client| {
        client.echo("not cut before the time");
    });
    assert_eq!(server.wait().code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(700), "{:?}", asked.elapsed());
    server.wait_until_gone();
    clients.iter_mut().for_each(Client::expect_closed);
    assert!(server.log.of("end").iter().all(|end| outcome(end) == "signal TERM"));
}

#[test]
fn idle_helpers_do_not_delay_the_stop() {
    for (options, program) in
        [(&["--when-full", "reject=x"][..], None), (&["--stderr", "log"], Some(&["cat"][..]))]
    {
        let options = [options, &["--drain-timeout", "20s"]].concat();
        let mut server = match program {
            Some(program) => Server::program(&options, program),
            None => Server::serve(&options),
        };
        server.connect().echo("x").finish();
        server.signal(Signal::TERM);
        let asked = Instant::now();
        assert_eq!(server.wait().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        server.wait_until_gone();
    }
}

#[test]
fn a_second_signal_ends_connections_and_a_third_kills_them() {
    let mut server = Server::serve(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    // One is stopped: the second signal wakes it, so that it can end.
    kill(pid(&server.log.wait_for("accept", 5)[0]), Signal::STOP);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log.of("end").iter().all(|end| outcome(end) == "signal TERM"));
    server.wait_until_gone();

    let mut server = Server::serve(&[]);
    let mut client = server.connect();
    client.echo("x");
    server.log.wait_for("accept", 1);
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        server.signal(signal);
        server.log.wait_for("drain", 1);
    }
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
}

#[test]
fn a_drain_under_load_cuts_no_accepted_connection() {
    let mut server = Server::serve(&[]);
    let port = server.port();
    let loaders: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut served = 0;
                // A refused connection is the end of the listener; a connection that was made and
                // accepted must be served to its end.
                while let Ok(stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
                    let mut client = Client { stream };
                    client.stream.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("set");
                    let sent = std::io::Write::write_all(&mut client.stream, b"hello");
                    let mut answer = [0; 5];
                    match sent.and_then(|()| std::io::Read::read_exact(&mut client.stream, &mut answer)) {
                        Ok(()) => served += 1,
                        // It came after the drain began, and was still in the queue when it closed.
                        Err(_) => break,
                    }
                }
                served
            })
        })
        .collect();
    server.log.wait_for("end", 500);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let served: usize = loaders.into_iter().map(|loader| loader.join().expect("no wrong byte")).sum();
    let ends = server.log.of("end");
    assert!(ends.iter().all(|end| outcome(end) == "exit 0" || outcome(end) == "reset"), "{ends:?}");
    let answered = ends.iter().filter(|end| end["out"] == 5).count();
    assert_eq!(answered, served, "every connection that was accepted was answered");
}
