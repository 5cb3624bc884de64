//! Clients that vanish while they receive: their processes are ended as soon as those of idle
//! clients. A client that only reads slowly is not: its host answers the probes of the kernel.
//! Clients that are gone before they are accepted harm no other one.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::{FORKER, SPARE, outcome};
use tine_e2e::network::{self, ClientNamespace};
use tine_e2e::{Server, TEST_TIMEOUT, kill, wait_until};

/// Five seconds of silence.
const KEEP_ALIVE: [&str; 6] =
    ["--keep-alive-time", "1s", "--keep-alive-interval", "1s", "--keep-alive-probes", "4"];

/// A server that sends without end, by a program or by a built-in service, at an address that the
/// client namespace reaches.
fn sender(kind: &str, options: &[&str]) -> Server {
    let options = [&KEEP_ALIVE[..], options].concat();
    match kind {
        "program" => Server::program(&[&options[..], &[network::SERVER]].concat(), &["yes"]),
        "terminal" => Server::program(&[&options[..], &["--pty", network::SERVER]].concat(), &["yes"]),
        _ => Server::serve(&[&options[..], &["--service", "chargen", network::SERVER]].concat()),
    }
}

/// Connects from the client namespace.
fn connect(clients: &ClientNamespace, server: &Server) -> TcpStream {
    let address = (network::SERVER_IP, server.port());
    let stream = clients.run(|| TcpStream::connect(address).expect("the server listens"));
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    stream
}

fn receive(client: &mut TcpStream, bytes: usize) {
    client.read_exact(&mut vec![0; bytes]).expect("the server sends");
}

/// Whether the kernel probes a closed receive window of the client with this port (proc_net(5)).
fn probes_window(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("/proc is mounted");
    let peer = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2).is_some_and(|remote| remote.ends_with(&peer))
            && fields.get(5).is_some_and(|timer| timer.starts_with("04:"))
    })
}

#[test]
fn a_client_that_vanishes_while_it_receives_ends_its_program_or_service() {
    network::own();
    let clients = ClientNamespace::connect();
    let servers = ["program", "terminal", "service"].map(|kind| sender(kind, &[]));
    let mut streams = servers.each_ref().map(|server| connect(&clients, server));
    streams.iter_mut().for_each(|stream| receive(stream, 1_000_000));
    clients.vanish();
    let vanished = Instant::now();
    for server in &servers {
        let end = server.log.wait_for("end", 1).remove(0);
        assert_eq!(outcome(&end), "timeout keep-alive", "{end}");
        assert!(vanished.elapsed() > Duration::from_millis(4_500), "{:?}", vanished.elapsed());
    }
}

#[test]
fn a_client_that_vanishes_with_its_window_closed_ends_its_service() {
    network::own();
    let clients = ClientNamespace::connect();
    let server = sender("service", &[]);
    let mut stream = connect(&clients, &server);
    receive(&mut stream, 100_000);
    let port = stream.local_addr().expect("bound").port();
    wait_until("the kernel probes the closed window", || probes_window(port).then_some(()));
    clients.vanish();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "timeout keep-alive");
}

#[test]
fn a_client_that_reads_nothing_for_longer_than_that_lives() {
    network::own();
    let clients = ClientNamespace::connect();
    let servers = ["program", "service"].map(|kind| sender(kind, &[]));
    let mut streams = servers.each_ref().map(|server| connect(&clients, server));
    streams.iter_mut().for_each(|stream| receive(stream, 100_000));
    // More than the silence that ends a client, and several probes.
    let until = Instant::now() + Duration::from_secs(12);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
    for (server, stream) in servers.iter().zip(&mut streams) {
        assert!(server.log.of("end").is_empty(), "{:?}", server.log.of("end"));
        receive(stream, 10_000_000);
    }
}

#[test]
fn with_client_gone_leave_a_program_outlives_a_client_that_vanishes_or_resets() {
    network::own();
    let clients = ClientNamespace::connect();
    let script = "trap '' TERM; head -c 10000000 /dev/zero & sleep 10; kill $!; exit 5";
    let options = [&KEEP_ALIVE[..], &["--client-gone", "leave", network::SERVER]].concat();
    let server = Server::program(&options, &["sh", "-c", script]);
    let [mut vanishes, mut resets] = [connect(&clients, &server), connect(&clients, &server)];
    receive(&mut vanishes, 1_000);
    receive(&mut resets, 1_000);
    rustix::net::sockopt::set_socket_linger(&resets, Some(Duration::ZERO)).expect("a socket option");
    drop(resets);
    clients.vanish();
    for end in server.log.wait_for("end", 2) {
        assert_eq!(outcome(&end), "exit 5", "{end}");
    }
}

/// Half of them have sent something. The kernel knows no address of such a client any more
/// (ENOTCONN of getpeername(2)).
#[test]
fn clients_that_reset_before_they_are_accepted_harm_no_other_one() {
    let service = |options: &[&str]| Server::serve(options);
    // Parts of lines on standard error would get between the lines of the log.
    let program = |options: &[&str]| {
        Server::program(&[&["--stderr", "null"], options].concat(), &["sh", "-c", "read line; echo $line"])
    };
    for (server, ends) in [
        (service(&[]), 20),
        (service(&["--spares", "3"]), 20),
        // The delayer disconnects a client that is gone.
        (service(&["--max-connections-per-source", "1", "--when-limited", "delay"]), 1),
        (service(&["--proxy-from", "127.0.0.1", "--proxy-others", "serve"]), 0),
        (program(&[]), 20),
        (program(&["--lingering-close"]), 20),
        (program(&["--reverse-dns", "--remote-host"]), 20),
    ] {
        let processes = [FORKER, SPARE].map(|name| server.named(name)).concat();
        processes.iter().for_each(|process| kill(process.pid, Signal::STOP));
        for number in 0..20 {
            let mut client = server.connect();
            if number % 2 == 0 {
                client.send("line\n");
            }
            client.reset();
        }
        processes.iter().for_each(|process| kill(process.pid, Signal::CONT));
        server.log.wait_for("end", ends);
        let mut next = server.connect();
        if ends == 0 {
            next.send("PROXY TCP4 192.0.2.7 192.0.2.1 4000 22\r\n");
        }
        assert!(next.echo("next\n").finish().is_empty());
        assert!(server.log.of("error").is_empty(), "{:?}", server.log.lines());
        assert!(server.log.of("restart").is_empty(), "{:?}", server.log.lines());
    }
}
