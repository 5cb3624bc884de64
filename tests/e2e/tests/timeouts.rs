//! Timeouts that close a connection, whether a program, a service or a worker serves it. The
//! outcome in the log names the timeout.

use std::time::{Duration, Instant};

use tine_e2e::names::outcome;
use tine_e2e::{Client, Server};

/// One server for each way to serve echo.
fn echo_servers(options: &[&str]) -> Vec<Server> {
    let with = |more: &[&'static str]| [more, options].concat();
    vec![
        Server::program(&with(&[]), &["cat"]),
        Server::serve(&with(&[])),
        Server::serve(&with(&["--spares", "2"])),
        Server::serve(&with(&["--spares", "2", "--reuse", "10"])),
    ]
}

/// Asserts that the server closes a connection within these bounds, in milliseconds from now.
fn expect_closed_within(client: &mut Client, least: u64, most: u64) {
    let start = Instant::now();
    client.expect_closed();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(least) && took < Duration::from_millis(most), "{took:?}");
}

/// The outcome of the connection with this end line, counted from 1.
fn nth_outcome(server: &Server, number: usize) -> String {
    outcome(&server.log.wait_for("end", number)[number - 1]).to_owned()
}

#[test]
fn idle_timeout_closes_a_silent_connection() {
    for server in echo_servers(&["--idle-timeout", "1s"]) {
        let mut client = server.connect();
        // Traffic keeps the connection open.
        for number in 0..8 {
            client.echo(format!("{number}\n"));
            std::thread::park_timeout(Duration::from_millis(150));
        }
        expect_closed_within(&mut client, 700, 4_000);
        assert_eq!(nth_outcome(&server, 1), "timeout idle");
    }
}

#[test]
fn max_lifetime_closes_an_active_connection() {
    for server in echo_servers(&["--max-lifetime", "1s"]) {
        let mut client = server.connect();
        let start = Instant::now();
        let mut turns = 0;
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket option");
        while std::io::Write::write_all(&mut client.stream, b"x").is_ok() {
            if !matches!(std::io::Read::read(&mut client.stream, &mut [0]), Ok(1)) {
                break;
            }
            turns += 1;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let took = start.elapsed();
        assert!(turns > 3 && took >= Duration::from_millis(950) && took < Duration::from_secs(4), "{took:?}");
        assert_eq!(nth_outcome(&server, 1), "timeout lifetime");
    }
}

#[test]
fn first_byte_timeout_closes_a_client_that_sends_nothing() {
    for server in echo_servers(&["--first-byte-timeout", "1s"]) {
        let mut active = server.connect();
        active.echo("in time");
        let mut silent = server.connect();
        expect_closed_within(&mut silent, 900, 4_000);
        assert_eq!(nth_outcome(&server, 1), "timeout first-byte");
        active.echo("later").finish();
        assert_eq!(nth_outcome(&server, 2), "exit 0");
    }
}

#[test]
fn a_program_that_ignores_term_is_killed_after_a_timeout() {
    let server = Server::program(
        &["--max-lifetime", "300ms"],
        &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
    );
    expect_closed_within(&mut server.connect(), 2_000, 6_000);
    assert_eq!(nth_outcome(&server, 1), "timeout lifetime");
}

#[test]
fn max_lifetime_holds_over_unix_sockets() {
    let path = std::env::temp_dir().join(format!("tine-timeouts-{}.socket", std::process::id()));
    let server = Server::serve(&["--max-lifetime", "300ms", &format!("unix:{}", path.display())]);
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("a listening socket");
    let mut nothing = Vec::new();
    std::io::Read::read_to_end(&mut client, &mut nothing).expect("the end of the stream");
    assert_eq!(nth_outcome(&server, 1), "timeout lifetime");
}

#[test]
fn max_output_closes_a_connection_whose_client_has_received_too_much() {
    for server in echo_servers(&["--max-output", "100K"]) {
        let mut client = server.connect();
        for _ in 0..10 {
            client.echo("x".repeat(10 * 1024));
        }
        // As much as it may: nothing happens.
        std::thread::park_timeout(Duration::from_millis(200));
        client.echo("one more");
        expect_closed_within(&mut client, 0, 4_000);
        assert_eq!(nth_outcome(&server, 1), "output limit");
        // The next one begins at nothing.
        server.connect().echo("x").finish();
        assert_eq!(nth_outcome(&server, 2), "exit 0");
    }
    let server = Server::program(&["--max-output", "1M"], &["cat", "/dev/zero"]);
    let mut client = server.connect();
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
    let _ = std::io::copy(&mut client.stream, &mut std::io::sink());
    assert_eq!(nth_outcome(&server, 1), "output limit");
}
