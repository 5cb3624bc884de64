//! Cases from the test suites of NetBSD's inetd and of systemd, written anew. (`bench/suites` runs
//! those of ucspi-tcp and ipsvd as they are.)

use std::process::Command;
use std::time::{Duration, Instant};

use tine_e2e::names::REJECT;
use tine_e2e::{Client, Folder, Server, ServerCommand, network, run, tine};

const PORT: u16 = 8001;

/// Imports an `inetd.conf` with these flags and serves it: `cat` on [`PORT`].
fn inetd(name: &str, flags: &str) -> (Folder, Server) {
    network::own();
    let folder = Folder::new(name);
    folder.write("inetd.conf", &format!("{PORT}\tstream\ttcp\t{flags}\tnobody\t/bin/cat\tcat\n"));
    let (code, toml, err) = run(Command::new(tine()).args(["import", "inetd", &folder.path("inetd.conf")]));
    assert_eq!(code, 0, "{err}");
    let toml = folder.write("tine.toml", &toml).display().to_string();
    let server = ServerCommand::program(tine(), &["serve", "--log", "json", "-1", "--config", &toml]).start();
    (folder, server)
}

/// With a limit of two, the third client is served when one of the others leaves.
#[test]
fn netbsd_accept_max_makes_the_third_client_wait() {
    let (_folder, server) = inetd("accept-max", "nowait/2");
    let mut two = [Client::connect(PORT), Client::connect(PORT)];
    two.iter_mut().for_each(|client| {
        client.echo("served");
    });
    let mut third = Client::connect(PORT);
    third.send("third");
    third.expect_silence(Duration::from_millis(300));
    assert_eq!(server.log.of("accept").len(), 2);
    let [mut first, mut second] = two;
    first.finish();
    third.expect("third");
    second.echo("still served");
}

/// Each address has its own limit of connections per minute.
#[test]
fn netbsd_ip_max_limits_the_rate_of_each_address() {
    let (_folder, server) = inetd("ip-max", "nowait/0/3");
    let served = |source: &str| (0..6).filter(|_| Client::from_source(source, PORT).is_served()).count();
    assert_eq!((served("127.0.0.2"), served("127.0.0.3")), (3, 3));
    assert!(server.log.of(REJECT).iter().all(|event| event["reason"] == "rate"));
}

/// Of a hundred clients at once, each interval accepts no more than the limit, and none is
/// rejected.
#[test]
fn systemd_poll_limit_spreads_a_burst_over_intervals() {
    const BURST: usize = 10;
    let interval = Duration::from_millis(500);
    let server = Server::serve(&["--rate-per-source", "20/s:10", "--when-limited", "delay"]);
    let start = Instant::now();
    let clients: Vec<Client> = (0..100).map(|_| Client::from_source("127.0.0.2", server.port())).collect();
    server.log.wait_for("accept", 4 * BURST);
    let accepted = server.log.of("accept").len();
    let intervals = start.elapsed().as_secs_f64() / interval.as_secs_f64();
    assert!(accepted as f64 <= BURST as f64 * (1.0 + intervals), "{accepted} after {intervals}");
    assert!(server.log.of(REJECT).is_empty(), "no client is rejected");
    // A client of another source is served before all of them.
    assert!(Client::from_source("127.0.0.3", server.port()).is_served());
    assert!(server.log.of("accept").len() < 101);
    drop(clients);
}

/// While two connections of a source are served, its third is rejected and another source is
/// served.
#[test]
fn systemd_max_connections_per_source_rejects_the_third_client() {
    let server = Server::serve(&["--max-connections-per-source", "2"]);
    let mut two: Vec<Client> = (0..2).map(|_| Client::from_source("127.0.0.2", server.port())).collect();
    two.iter_mut().for_each(|client| {
        client.echo("served");
    });
    assert!(!Client::from_source("127.0.0.2", server.port()).is_served());
    assert!(Client::from_source("127.0.0.3", server.port()).is_served());
    two.iter_mut().for_each(|client| {
        client.echo("still");
    });
}
