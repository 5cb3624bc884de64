//! Times that end a connection: of programs, services and handlers alike; the log says which it was.

use std::time::{Duration, Instant};

use tine_e2e::names::outcome;
use tine_e2e::{Client, Server};

/// Each way to serve echo.
fn servers(options: &[&str]) -> Vec<Server> {
    let with = |more: &[&'static str]| [more, options].concat();
    vec![
        Server::program(&with(&[]), &["cat"]),
        Server::serve(&with(&[])),
        Server::serve(&with(&["--spares", "2"])),
        Server::serve(&with(&["--spares", "2", "--reuse", "10"])),
    ]
}

fn over_after(client: &mut Client, least: u64, most: u64) {
    let begun = Instant::now();
    client.expect_closed();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(least) && took < Duration::from_millis(most), "{took:?}");
}

fn how(server: &Server, number: usize) -> String {
    outcome(&server.log.wait_for("end", number)[number - 1]).to_owned()
}

#[test]
fn idle_timeout_closes_a_silent_connection() {
    for server in servers(&["--idle-timeout", "1s"]) {
        let mut client = server.connect();
        // As long as something comes, it goes on.
        for number in 0..8 {
            client.echo(format!("{number}\n"));
            std::thread::park_timeout(Duration::from_millis(150));
        }
        over_after(&mut client, 700, 4_000);
        assert_eq!(how(&server, 1), "timeout idle");
    }
}

#[test]
fn max_lifetime_closes_an_active_connection() {
    for server in servers(&["--max-lifetime", "1s"]) {
        let mut client = server.connect();
        let begun = Instant::now();
        let mut turns = 0;
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        while std::io::Write::write_all(&mut client.stream, b"x").is_ok() {
            let mut answer = [0];
            if !matches!(std::io::Read::read(&mut client.stream, &mut answer), Ok(1)) {
                break;
            }
            turns += 1;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let took = begun.elapsed();
        assert!(turns > 3 && took >= Duration::from_millis(950) && took < Duration::from_secs(4), "{took:?}");
        assert_eq!(how(&server, 1), "timeout lifetime");
    }
}

#[test]
fn first_byte_timeout_closes_a_client_that_sends_nothing() {
    for server in servers(&["--first-byte-timeout", "1s"]) {
        let mut speaks = server.connect();
        speaks.echo("in time");
        let mut silent = server.connect();
        over_after(&mut silent, 900, 4_000);
        assert_eq!(how(&server, 1), "timeout first-byte");
        speaks.echo("later").finish();
        assert_eq!(how(&server, 2), "exit 0");
    }
}

#[test]
fn a_program_that_ignores_term_is_killed_after_a_timeout() {
    let server = Server::program(
        &["--max-lifetime", "300ms"],
        &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
    );
    over_after(&mut server.connect(), 2_000, 6_000);
    assert_eq!(how(&server, 1), "timeout lifetime");
}

#[test]
fn max_lifetime_holds_over_unix_sockets() {
    let path = std::env::temp_dir().join(format!("tine-timeouts-{}.socket", std::process::id()));
    let server = Server::serve(&["--max-lifetime", "300ms", &format!("unix:{}", path.display())]);
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("listens");
    let mut nothing = Vec::new();
    std::io::Read::read_to_end(&mut client, &mut nothing).expect("the end");
    assert_eq!(how(&server, 1), "timeout lifetime");
}
