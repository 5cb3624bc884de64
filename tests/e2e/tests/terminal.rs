//! `--pty` and `--line-buffered`: programs that need a terminal, and programs that buffer their
//! output without one.

use tine_e2e::names::{outcome, pid};
use tine_e2e::{Server, procfs, wait_until};

#[test]
fn pty_gives_a_program_a_terminal() {
    let script = "tty >/dev/null && test -t 1 -a -t 2 && stty size; while read -r line; do echo \"got $line\"; done; echo over; exit 3";
    for options in [&["--pty"][..], &["--pty", "--spares", "2"]] {
        let server = Server::program(options, &["sh", "-c", script]);
        let mut client = server.connect();
        client.expect("24 80\n").send("one\n").expect("got one\n").send("two\n").expect("got two\n");
        client.half_close();
        assert_eq!(client.read_to_end(), b"over\n");
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 3");
    }
}

#[test]
fn a_terminal_has_the_configured_size() {
    for pty in ["--pty", "--pty-raw"] {
        let server = Server::program(&[pty, "--tty-rows", "50", "--tty-columns", "132"], &["stty", "size"]);
        assert_eq!(server.connect().read_text(), "50 132\n", "{pty}");
    }
}

#[test]
fn a_raw_terminal_passes_on_every_byte_as_it_comes() {
    let bytes: Vec<u8> = (0..=255).collect();
    let server = Server::program(&["--pty-raw"], &["head", "-c", "257"]);
    let mut client = server.connect();
    // No newline: in a terminal with lines, nothing would arrive.
    client.send("x").send(&bytes).half_close();
    assert_eq!(client.read_to_end(), [b"x", &bytes[..]].concat());
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0");
}

/// A line of a terminal has at most 4,095 bytes and its newline (termios(3)); a raw terminal has no
/// lines.
#[test]
fn a_long_line_is_cut_by_a_terminal_with_lines_only() {
    let line = format!("{}\n", "y".repeat(10_000));
    for (pty, length) in [("--pty", 4_096), ("--pty-raw", 10_001)] {
        let server = Server::program(&[pty], &["sh", "-c", "head -n 1 | wc -c"]);
        let mut client = server.connect();
        assert_eq!(client.send(&line).read_text().trim(), length.to_string(), "{pty}");
    }
}

#[test]
fn pty_passes_on_the_end_of_input_within_a_line() {
    let server = Server::program(&["--pty"], &["cat"]);
    let mut client = server.connect();
    client.send("no newline").half_close();
    assert_eq!(client.read_to_end(), b"no newline");
}

#[test]
fn the_relaying_process_holds_no_descriptor_of_the_server() {
    for options in [&["--pty"][..], &["--pty", "--stderr", "log", "--spares", "2"], &["--line-buffered"]] {
        let server = Server::program(options, &["cat"]);
        let mut client = server.connect();
        client.echo("x\n");
        let relay = pid(&server.log.wait_for("accept", 1)[0]);
        let relay = procfs::process(relay).expect("the relaying process runs");
        assert!(relay.name.starts_with("tine: conn"), "{}", relay.name);
        let descriptors = procfs::descriptors(relay.pid);
        // The three standard ones, the client, the terminal, the pidfd of the program.
        let sockets = descriptors.iter().filter(|(_, target)| target.starts_with("socket:")).count();
        assert_eq!((descriptors.len(), sockets), (6, 1), "{descriptors:?}");
    }
}

#[test]
fn line_buffered_output_arrives_line_by_line() {
    // Without --line-buffered, perl writes both lines only when it ends.
    let script = "while (<STDIN>) { print \"$.: $_\" }";
    let server = Server::program(&["--line-buffered"], &["perl", "-e", script]);
    let mut client = server.connect();
    client.send("a\n").expect("1: a\n").send("b\n").expect("2: b\n").half_close();
    assert!(client.read_to_end().is_empty());
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0");
}

#[test]
fn pty_and_line_buffered_output_arrives_complete() {
    for option in ["--pty", "--line-buffered"] {
        let server = Server::program(&[option], &["seq", "1", "300000"]);
        let received = server.connect().read_to_end();
        let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
        assert!(received == expected.as_bytes(), "{option}: {} of {} bytes", received.len(), expected.len());
    }
}

#[test]
fn a_signal_that_ends_a_program_behind_a_pty_is_logged() {
    let server = Server::program(&["--pty"], &["sh", "-c", "kill -SEGV $$"]);
    server.connect().expect_closed();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal SEGV");
}

#[test]
fn a_disconnect_leaves_no_process_behind_a_pty() {
    let server =
        Server::program(&["--pty", "--max-lifetime", "1s"], &["sh", "-c", "trap '' HUP TERM; sleep 1001"]);
    server.connect().reset();
    let end = server.log.wait_for("end", 1).remove(0);
    assert!(["client gone", "timeout lifetime", "reset"].contains(&outcome(&end)), "{end}");
    wait_until("the program has ended", || {
        server.named("sleep").iter().all(|one| one.is_zombie()).then_some(())
    });
}
