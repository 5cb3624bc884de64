//! Cases of the suites of other super-servers, written anew: how many NetBSD's inetd serves at a time and in a minute, how
//! systemd holds a flood back. (Those of ucspi-tcp and ipsvd are run as they are, by `bench/suites`.)

use std::process::Command;
use std::time::{Duration, Instant};

use tine_e2e::names::REJECT;
use tine_e2e::{Client, Folder, Server, ServerCommand, network, run, tine};

const PORT: u16 = 8001;

/// Serves what an `inetd.conf` with these flags means: `cat` on [`PORT`].
fn inetd(name: &str, flags: &str) -> (Folder, Server) {
    network::own();
    let folder = Folder::new(name);
    folder.write("inetd.conf", &format!("{PORT}\tstream\ttcp\t{flags}\tnobody\t/bin/cat\tcat\n"));
    let (code, toml, complaint) =
        run(Command::new(tine()).args(["import", "inetd", &folder.path("inetd.conf")]));
    assert_eq!(code, 0, "{complaint}");
    let toml = folder.write("tine.toml", &toml).display().to_string();
    let server = ServerCommand::program(tine(), &["serve", "--log", "json", "-1", "--config", &toml]).start();
    (folder, server)
}

/// Two are served, the third is let in when one of them leaves.
#[test]
fn netbsd_accept_max_makes_the_third_client_wait() {
    let (_folder, server) = inetd("accept-max", "nowait/2");
    let mut two = [Client::connect(PORT), Client::connect(PORT)];
    two.iter_mut().for_each(|client| {
        client.echo("served");
    });
    let mut third = Client::connect(PORT);
    third.send("waits");
    third.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    assert!(std::io::Read::read(&mut third.stream, &mut [0; 1]).is_err(), "it has to wait");
    assert_eq!(server.log.of("accept").len(), 2);
    third.stream.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("set");
    let [mut first, mut second] = two;
    first.finish();
    third.expect("waits");
    second.echo("goes on");
}

/// So many of an address in a minute, and no fewer of another.
#[test]
fn netbsd_ip_max_limits_the_rate_of_each_address() {
    let (_folder, server) = inetd("ip-max", "nowait/0/3");
    let served = |source: &str| (0..6).filter(|_| Client::from_source(source, PORT).is_served()).count();
    assert_eq!((served("127.0.0.2"), served("127.0.0.3")), (3, 3));
    assert!(server.log.of(REJECT).iter().all(|event| event["reason"] == "rate"));
}

/// A hundred at once: in each interval no more are accepted than are meant to be, and nobody is turned away.
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
    assert!(server.log.of(REJECT).is_empty(), "nobody is turned away");
    // Somebody else does not wait until they have all come.
    assert!(Client::from_source("127.0.0.3", server.port()).is_served());
    assert!(server.log.of("accept").len() < 101);
    drop(clients);
}

/// Two of a source are served, its third is refused while they are, and another source's first is served.
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
