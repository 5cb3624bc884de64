//! The example `keyvalue`, with the clients of Redis.

use std::process::Command;

use tine_e2e::Server;
use tine_e2e::examples::example;
use tine_e2e::programs::succeeds;

/// Runs a tool of Redis at a server.
fn tool(name: &str, server: &Server, arguments: &[&str]) -> String {
    let port = server.port().to_string();
    succeeds(Command::new(name).args(["-h", "127.0.0.1", "-p", &port]).args(arguments))
}

#[test]
fn redis_cli_reads_and_changes_the_store() {
    let server = example("keyvalue", &[]);
    for (command, reply) in [
        ("PING", "PONG"),
        ("ECHO hello", "hello"),
        ("SET greeting hello", "OK"),
        ("SET greeting other NX", ""),
        ("GET greeting", "hello"),
        ("TTL greeting", "-1"),
        ("EXPIRE greeting 100", "1"),
        ("TTL greeting", "100"),
        ("SET greeting again", "OK"),
        ("TTL greeting", "-1"),
        ("SET greeting short EX 0", "OK"),
        ("GET greeting", ""),
        ("TTL greeting", "-2"),
        ("EXPIRE greeting 100", "0"),
        ("SET lease mine px 90000 nx", "OK"),
        ("TTL lease", "90"),
        ("INCR visits", "1"),
        ("INCRBY visits 41", "42"),
        ("INCRBY visits -2", "40"),
        ("MGET visits nothing lease", "40\n\nmine"),
        ("EXISTS visits nothing lease", "2"),
        ("DBSIZE", "2"),
        ("DEL visits nothing", "1"),
        ("FLUSHDB", "OK"),
        ("DBSIZE", "0"),
        ("CONFIG GET save", ""),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(tool("redis-cli", &server, &words).trim_end(), reply, "{command}");
    }
    for (command, why) in [
        ("SET key value XX", "syntax error"),
        ("SET key value EX soon", "not an integer"),
        ("SHUTDOWN", "unknown command"),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(tool("redis-cli", &server, &words).contains(why), "{command}");
    }
    let number = i64::MAX.to_string();
    tool("redis-cli", &server, &["SET", "number", &number]);
    assert!(tool("redis-cli", &server, &["INCR", "number"]).contains("overflow"));
    let long = "x".repeat(2000);
    assert!(tool("redis-cli", &server, &["SET", "key", &long]).contains("too long"));
}

#[test]
fn words_in_lines_are_requests_too() {
    let server = example("keyvalue", &[]);
    let mut client = server.connect();
    // Three requests in one packet, and one that comes in two.
    client.send("set key value\r\n\r\nGET key\r\n*2\r\n$3\r\nGET\r\n$3\r\nk").send("ey\r\nQUIT\r\n");
    client.expect("+OK\r\n$5\r\nvalue\r\n$5\r\nvalue\r\n+OK\r\n");
    assert_eq!(client.read_to_end(), b"");
    // Neither is a request.
    for request in ["*1\r\n$99999999\r\n", "*999999999\r\n"] {
        server.connect().send(request).expect_closed();
    }
}

#[test]
fn redis_benchmark_finds_no_error() {
    let server = example("keyvalue", &[]);
    for pipeline in ["1", "16"] {
        let load = ["-t", "ping,set,get", "-n", "10000", "-c", "20", "-q", "-P", pipeline];
        let report = tool("redis-benchmark", &server, &load);
        // Each line is written anew while it runs.
        let lines: Vec<&str> = report.lines().filter_map(|line| line.rsplit('\r').next()).collect();
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET"] {
            let result = |line: &&&str| line.starts_with(&format!("{test}: "));
            assert!(
                lines.iter().find(result).is_some_and(|line| line.contains("requests per second")),
                "{report}"
            );
        }
        assert!(!report.to_lowercase().contains("err"), "{report}");
        println!("pipeline of {pipeline}:\n{}", lines.join("\n"));
    }
    assert_eq!(tool("redis-cli", &server, &["DBSIZE"]), "1\n");
}

#[test]
fn increments_of_many_connections_are_exact() {
    let server = example("keyvalue", &[]);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                tool("redis-benchmark", &server, &["-n", "2000", "-c", "20", "-q", "INCR", "visits"])
            });
        }
    });
    assert_eq!(tool("redis-cli", &server, &["GET", "visits"]), "4000\n");
}
