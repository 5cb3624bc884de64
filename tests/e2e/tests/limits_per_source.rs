//! The connection limit of a source: clients over it are rejected, other sources are served. The
//! count survives the death of any process and returns to zero by itself.

use rustix::process::Signal;
use tine_e2e::names::{CONNECTION, FORKER, REJECT};
use tine_e2e::{Client, Random, Server, inject_fault, kill, wait_until};

/// Limits each source to three connections. `text` is what a rejected client receives.
fn three_per_source(options: &[&str], program: Option<&[&str]>, text: &str) {
    let options = [&["--max-connections-per-source", "3"], options].concat();
    let server = match program {
        Some(program) => Server::program(&options, program),
        None => Server::serve(&options),
    };
    let port = server.port();
    let mut first: Vec<Client> = (0..3).map(|_| Client::from_source("127.0.0.2", port)).collect();
    first.iter_mut().for_each(|client| {
        client.echo("served");
    });
    for _ in 0..20 {
        let mut rejected = Client::from_source("127.0.0.2", port);
        rejected.send(vec![b'x'; 1000]);
        assert_eq!(rejected.read_to_end(), text.as_bytes());
    }
    // Another source is served up to its own limit.
    let mut second: Vec<Client> = (0..3).map(|_| Client::from_source("127.0.0.3", port)).collect();
    second.iter_mut().for_each(|client| {
        client.echo("served");
    });
    assert_eq!(Client::from_source("127.0.0.3", port).read_to_end(), text.as_bytes());
    let rejected = server.log.wait_for(REJECT, 10);
    assert!(rejected.iter().all(|line| line["reason"] == "source"), "{rejected:?}");
    // Connections of killed forkers count.
    for forker in server.forkers() {
        kill(forker, Signal::KILL);
    }
    server.log.wait_for("restart", server.forkers().len());
    assert_eq!(Client::from_source("127.0.0.2", port).read_to_end(), text.as_bytes());
    // When a connection ends, the next client is served.
    first.pop().expect("three clients").finish();
    server.log.wait_for("end", 1);
    Client::from_source("127.0.0.2", port).echo("served").finish();
    drop(first);
    drop(second);
    server.log.wait_for("end", 7);
    let mut again: Vec<Client> = (0..3).map(|_| Client::from_source("127.0.0.2", port)).collect();
    again.iter_mut().for_each(|client| {
        client.echo("served again");
    });
}

#[test]
fn a_source_at_its_connection_limit_is_rejected_and_others_are_served() {
    three_per_source(&[], None, "");
}

#[test]
fn a_source_at_its_connection_limit_receives_the_reject_text() {
    three_per_source(&["--when-full", "reject=too many of you\\n"], None, "too many of you\n");
}

#[test]
fn the_connection_limit_of_a_source_holds_for_programs() {
    three_per_source(&[], Some(&["cat"]), "");
}

#[test]
fn the_connection_limit_of_a_source_holds_with_spares() {
    three_per_source(&["--spares", "4"], None, "");
}

/// A client sees that it is rejected before the forker continues. Its slot must be free by then.
#[test]
fn a_rejected_client_no_longer_counts_once_it_is_closed() {
    let server = Server::serve(&["--max-connections-per-source", "1"]);
    let delay = |forker| inject_fault(forker, "sendmsg:delay_exit=500000:when=1");
    let _faults: Vec<_> = server.forkers().into_iter().map(delay).collect();
    let mut served = server.connect();
    served.echo("served");
    assert!(server.connect().read_to_end().is_empty(), "the second client is rejected");
    served.finish();
    server.log.wait_for("end", 1);
    server.connect().echo("served");
}

#[test]
fn consecutive_connections_of_a_source_are_never_rejected() {
    let server = Server::serve(&["--max-connections-per-source", "1"]);
    for number in 0..200 {
        let mut client = server.connect();
        client.echo(format!("{number}")).finish();
        server.log.wait_for("end", number + 1);
    }
    assert!(server.log.of(REJECT).is_empty());
}

/// Clients connect, close and reset, and connections and forkers are killed, in a pseudo-random
/// order. Afterwards each source and each prefix can have exactly as many connections as at the
/// start.
#[test]
fn connection_counts_of_sources_return_to_zero_after_any_mix_of_ends() {
    for options in [&[][..], &["--spares", "4"], &["--when-limited", "delay", "--delay-timeout", "100ms"]] {
        let limits = ["--max-connections-per-source", "3", "--max-connections-per-prefix", "5"];
        let server = Server::serve(&[&["--forkers", "2"], &limits[..], options].concat());
        let mut random = Random::new(3);
        let mut clients: Vec<Client> = Vec::new();
        for step in 0..300 {
            match random.below(10) {
                0..6 => {
                    let source = format!("127.{}.0.{}", random.below(2), 2 + random.below(3));
                    clients.push(Client::from_source(&source, server.port()));
                }
                6 | 7 if !clients.is_empty() => drop(clients.swap_remove(random.below(clients.len()))),
                8 if !clients.is_empty() => clients.swap_remove(random.below(clients.len())).reset(),
                _ => {
                    let name = if step % 50 == 0 { FORKER } else { CONNECTION };
                    if let Some(process) = server.named(name).first() {
                        // It may have ended meanwhile.
                        let pid = rustix::process::Pid::from_raw(process.pid).expect("a process id");
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                    }
                }
            }
        }
        drop(clients);
        wait_until("every connection has ended", || {
            (server.named(CONNECTION).is_empty() && server.forkers().len() == 2).then_some(())
        });
        for prefix in ["127.0.0", "127.1.0"] {
            let mut full: Vec<Client> = Vec::new();
            for (source, served) in [(2, 3), (3, 2), (4, 0)] {
                for number in 0..4 {
                    let mut client = Client::from_source(&format!("{prefix}.{source}"), server.port());
                    if number < served {
                        client.echo("served");
                        full.push(client);
                    } else {
                        assert_eq!(client.read_to_end(), b"", "{prefix}.{source} {number} {options:?}");
                    }
                }
            }
        }
    }
}
