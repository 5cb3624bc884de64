//! `tine client`, against `tine serve` and against servers that misbehave.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::{Server, kill, run, tine};

fn client(words: &[&str]) -> Command {
    let mut command = Command::new(tine());
    command.arg("client").args(words);
    command
}

/// Serves one connection, in a thread. Returns the address.
fn serve_once(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || serve(listener.accept().expect("a client").0));
    address
}

#[test]
fn standard_input_and_output_are_copied_as_by_nc() {
    let server = Server::serve(&[]);
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut piped = client(&[&format!("localhost:{}", server.port())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let (mut stdin, text) = (piped.stdin.take().expect("piped"), sent.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&text).expect("taken"));
    let mut received = Vec::new();
    piped.stdout.take().expect("piped").read_to_end(&mut received).expect("read");
    writer.join().expect("all written");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    assert!(piped.wait().expect("ends").success());
}

#[test]
fn the_reply_is_awaited_after_the_end_of_input() {
    let address = serve_once(|mut stream| {
        let mut request = String::new();
        stream.read_to_string(&mut request).expect("the request, to its end");
        stream.write_all(format!("answer to {request}").as_bytes()).expect("taken");
    });
    let (code, out, _) = run(client(&[&address]).stdin(Stdio::null()));
    assert_eq!((code, out.as_str()), (0, "answer to "));
}

#[test]
fn messages_have_numbers() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let (code, out, err) =
        run(&mut client(&[&address, "-m", r"data : {n}\n\0", "--every", "5ms", "--count", "3"]));
    assert_eq!((code, out.as_str()), (0, "data : 0\n\0data : 1\n\0data : 2\n\0"));
    assert_eq!(err, "1 connections, 3 messages, 30 bytes sent, 30 received, 0 errors, 0 wrong replies\n");
}

#[test]
fn each_connection_has_its_own_process_unless_they_are_divided_among_some() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    for (processes, number) in [(None, 30), (Some("4"), 4)] {
        let before = server.log.of("accept").len();
        let mut command = client(&[&address, "-m", "x{n}\n", "--every", "20ms", "-c", "30", "-q"]);
        if let Some(processes) = processes {
            command.args(["--processes", processes]);
        }
        let mut running = command.stderr(Stdio::null()).spawn().expect("starts");
        let pid = i32::try_from(running.id()).expect("an id");
        server.log.wait_for("accept", before + 30);
        let workers = tine_e2e::procfs::children(pid);
        assert_eq!(workers.len(), number);
        kill(pid, Signal::INT);
        assert_eq!(running.wait().expect("ends").code(), Some(130));
    }
}

#[test]
fn connections_go_to_each_address_in_turn() {
    let servers = [Server::serve(&[]), Server::serve(&[])];
    let addresses = servers.each_ref().map(|server| format!("127.0.0.1:{}", server.port()));
    for processes in ["30", "4"] {
        let mut command =
            client(&[&addresses[0], &addresses[1], "-m", "x{n}\n", "--every", "5ms", "--count", "20"]);
        command.args(["-c", "30", "--expect-echo", "-q", "--processes", processes]);
        let (code, out, err) = run(&mut command);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    }
    for server in &servers {
        let ends = server.log.wait_for("end", 30);
        assert_eq!(ends.len(), 30);
        assert!(ends.iter().all(|end| end["outcome"] == "exit 0" && end["in"] == end["out"]), "{ends:?}");
    }
}

#[test]
fn a_wrong_reply_is_exit_code_3() {
    let address = serve_once(|mut stream| {
        let mut message = [0; 4];
        stream.read_exact(&mut message).expect("a message");
        stream.write_all(b"abcX").expect("taken");
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "abcd", "--expect-echo"]));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("connection 1: a reply differs") && err.contains("1 wrong replies"), "{err}");
}

#[test]
fn a_close_or_reset_by_the_server_is_reported() {
    let address = serve_once(|mut stream| {
        let _ = stream.read(&mut [0; 100]);
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "x", "--every", "10ms"]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("the server closed connection 1"), "{err}");
    let address = serve_once(|stream| {
        let _ = (&stream).read(&mut [0; 100]);
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("set");
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "x", "--every", "1s"]));
    assert_eq!(code, 111, "{err}");
    assert!(err.contains("reset by the server: 1"), "{err}");
    let address = serve_once(|mut stream| {
        let _ = stream.read(&mut [0; 100]);
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "x", "--every", "10ms", "--count", "1000"]));
    assert_eq!(code, 111, "{err}");
    assert!(err.contains("closed early by the server: 1"), "{err}");
}

#[test]
fn a_server_that_never_closes_is_awaited_for_the_timeout_only() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let address = serve_once(move |mut stream| {
        let _ = stream.read(&mut [0; 100]);
        stream.write_all(b"x").expect("taken");
        let _ = released.recv();
    });
    let (code, out, err) = run(&mut client(&[&address, "-m", "x", "--count", "1", "--wait", "200ms"]));
    assert_eq!((code, out.as_str()), (0, "x"), "{err}");
    drop(release);
}

#[test]
fn a_failed_connection_is_exit_code_111_and_a_usage_error_100() {
    for (words, parts) in [
        (
            &["127.0.0.1:1"][..],
            &["cannot connect to 127.0.0.1:1", "connection refused", "start a server"][..],
        ),
        (&["127.0.0.1:1", "-m", "x"], &["cannot connect to 127.0.0.1:1", "connection refused"]),
        (&["no-such-host.invalid:1"], &["cannot resolve 'no-such-host.invalid'"]),
        (&["unix:/no/such/socket"], &["cannot connect to unix:/no/such/socket", "no such file"]),
    ] {
        let (code, _, err) = run(&mut client(words));
        assert_eq!(code, 111, "{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{err}");
    }
    for words in [&["127.0.0.1:1", "127.0.0.1:2"][..], &["nonsense"], &[], &["127.0.0.1:1", "--every", "1s"]]
    {
        let (code, _, err) = run(&mut client(words));
        assert_eq!((code, err.lines().count()), (100, 1), "{err}");
    }
}

#[test]
fn an_interrupt_ends_the_client_with_the_summary() {
    let server = Server::serve(&["-v"]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = client(&[&address, "-c", "5", "-m", "x", "--every", "20ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // All five are connected when each has sent a message.
    server.log.wait("a message of each", |log| {
        let senders: BTreeSet<u64> =
            log.of("receive").iter().filter_map(|line| line["id"].as_u64()).collect();
        (senders.len() == 5).then_some(())
    });
    kill(i32::try_from(running.id()).expect("an id"), Signal::INT);
    let mut err = String::new();
    running.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!(running.wait().expect("ends").code(), Some(130), "{err}");
    assert!(err.contains("5 connections, ") && err.contains(" 0 errors"), "{err}");
    server.log.wait_for("end", 5);
}

#[test]
fn a_worker_that_is_killed_is_reported_and_its_numbers_count() {
    let server = Server::serve(&["-v"]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = client(&[&address, "-c", "3", "-m", "x", "--every", "20ms", "--count", "50"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    server.log.wait("two messages of each", |log| {
        let events = log.of("receive");
        let number = |id: u64| events.iter().filter(|line| line["id"].as_u64() == Some(id)).count();
        (1..=3).all(|id| number(id) >= 2).then_some(())
    });
    let workers = tine_e2e::procfs::children(i32::try_from(running.id()).expect("an id"));
    let victim = workers.iter().find(|worker| worker.name == "tine: client 2").expect("named");
    kill(victim.pid, Signal::KILL);
    let mut err = String::new();
    running.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!(running.wait().expect("ends").code(), Some(111));
    assert!(err.contains(&format!("client 2 (pid {}) died: signal 9", victim.pid)), "{err}");
    assert!(err.contains("3 connections, ") && err.contains(" 0 errors, "), "{err}");
}

/// Serves one connection after another, in a thread. Returns the address.
fn serve_each(serve: impl Fn(usize, std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            serve(number, stream);
        }
    });
    address
}

#[test]
fn replies_of_several_connections_are_printed_with_their_number() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    for processes in ["1", "2", "5"] {
        let words = [&address, "-c", "5", "-m", "reply {c}.{n}", "--count", "1", "--processes", processes];
        let (code, out, err) = run(&mut client(&words));
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        let expected = ["1: reply 0.0", "2: reply 1.0", "3: reply 2.0", "4: reply 3.0", "5: reply 4.0"];
        assert_eq!((code, lines), (0, expected.to_vec()), "{err}");
        let summary = "5 connections, 5 messages, 45 bytes sent, 45 received, 0 errors, 0 wrong replies\n";
        assert_eq!(err, summary);
    }
}

#[test]
fn quiet_prints_neither_replies_nor_the_summary_unless_there_are_errors() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let (code, out, err) = run(&mut client(&[&address, "-q", "-m", "x", "--count", "1"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    let (code, out, err) = run(&mut client(&["127.0.0.1:1", "-q", "-m", "x"]));
    let summary = "0 connections, 0 messages, 0 bytes sent, 0 received, 1 errors, 0 wrong replies";
    assert_eq!((code, out.as_str()), (111, ""));
    assert!(err.ends_with(&format!("\n{summary}\nrefused: 1\n")), "{err}");
}

#[test]
fn an_error_of_several_connections_is_printed_once_for_each_process() {
    for (processes, lines) in [("1", 1), ("3", 3)] {
        let words = ["127.0.0.1:1", "-c", "6", "-m", "x", "--processes", processes];
        let (code, _, err) = run(&mut client(&words));
        let error = "tine: cannot connect to 127.0.0.1:1: connection refused; start a server there, or check the port\n";
        let summary =
            "0 connections, 0 messages, 0 bytes sent, 0 received, 6 errors, 0 wrong replies\nrefused: 6\n";
        assert_eq!((code, err), (111, error.repeat(lines) + summary));
    }
}

#[test]
fn unreachable_and_unanswered_addresses_are_counted_as_unreachable() {
    tine_e2e::network::own();
    let (code, _, err) = run(&mut client(&["10.77.0.1:1", "-m", "x"]));
    assert_eq!(code, 111, "{err}");
    let line = "tine: cannot connect to 10.77.0.1:1: network is unreachable; check the address, and the route to it (`ip route get ADDRESS`)\n";
    assert!(err.starts_with(line) && err.ends_with("\nunreachable: 1\n"), "{err}");
    // With a full backlog the kernel does not answer.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&listener, 0).expect("a smaller backlog");
    let address = listener.local_addr().expect("bound").to_string();
    let words = [&address, "-c", "4", "--processes", "1", "-m", "x", "--count", "1", "--wait", "300ms"];
    let (code, _, err) = run(&mut client(&words));
    assert_eq!(code, 111, "{err}");
    assert!(err.contains(&format!("cannot connect to {address}: connection timed out; ")), "{err}");
    assert!(err.contains("\nunreachable: "), "{err}");
}

#[test]
fn messages_are_sent_on_schedule_whether_or_not_the_server_replies() {
    let address = serve_once(|mut stream| {
        let mut messages = String::new();
        stream.read_to_string(&mut messages).expect("the messages, to the end of the stream");
        stream.write_all(messages.to_uppercase().as_bytes()).expect("taken");
    });
    let words = [&address, "-m", "m{n};", "--every", "10ms", "--count", "4"];
    let (code, out, err) = run(&mut client(&words));
    assert_eq!((code, out.as_str()), (0, "M0;M1;M2;M3;"), "{err}");
    assert_eq!(err, "1 connections, 4 messages, 12 bytes sent, 12 received, 0 errors, 0 wrong replies\n");
}

#[test]
fn messages_without_an_interval_are_sent_at_once() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let words =
        [&address, "-m", "0123456789", "--every", "0s", "--count", "2000", "--expect-echo", "-c", "2"];
    let (code, _, err) = run(&mut client(&words));
    let summary =
        "2 connections, 4000 messages, 40000 bytes sent, 40000 received, 0 errors, 0 wrong replies\n";
    assert_eq!((code, err.as_str()), (0, summary));
}

#[test]
fn an_echo_that_is_missing_or_too_long_is_an_error() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let silent = serve_once(move |mut stream| {
        let mut message = [0; 4];
        stream.read_exact(&mut message).expect("a message");
        stream.write_all(b"ab").expect("taken");
        let _ = released.recv();
    });
    let words = [&silent, "-m", "abcd", "--count", "1", "--expect-echo", "--wait", "200ms"];
    let (code, out, err) = run(&mut client(&words));
    assert_eq!((code, out.as_str()), (111, "ab"), "{err}");
    assert!(err.starts_with("tine: connection 1 timed out after 200ms (--wait)\n"), "{err}");
    assert!(err.ends_with(" 1 errors, 0 wrong replies\ntimed out: 1\n"), "{err}");
    drop(release);
    let long = serve_once(|mut stream| {
        let mut message = [0; 4];
        stream.read_exact(&mut message).expect("a message");
        stream.write_all(b"abcde").expect("taken");
    });
    let (code, _, err) = run(&mut client(&[&long, "-m", "abcd", "--count", "1", "--expect-echo"]));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("connection 1: a reply differs from what was sent\n"), "{err}");
}

#[test]
fn a_connection_that_breaks_is_reported_with_its_error() {
    let address = serve_each(|number, stream| {
        let _ = (&stream).read(&mut [0; 100]);
        if number == 1 {
            rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("set");
        }
    });
    let words = [&address, "-c", "2", "--processes", "1", "-m", "x", "--every", "1s"];
    let (code, _, err) = run(&mut client(&words));
    assert_eq!(code, 111, "{err}");
    assert!(err.contains("tine: the server closed connection "), "{err}");
    assert!(err.contains(" broke: connection reset by peer\n"), "{err}");
    assert!(err.ends_with(" 1 errors, 0 wrong replies\nreset by the server: 1\n"), "{err}");
}

#[test]
fn status_lines_are_shown_on_a_terminal_only() {
    let server = Server::serve(&[]);
    let tine = tine().display().to_string();
    let words = format!(
        "{tine} client 127.0.0.1:{} -c 3 --processes 2 -m x{{n}} --every 300ms --count 3",
        server.port()
    );
    // script(1) gives the client a terminal, and copies its output.
    let on_terminal =
        |words: &str| run(Command::new("script").args(["-qec", words, "/dev/null"]).env("TERM", "xterm"));
    let (code, shown, _) = on_terminal(&words);
    assert_eq!(code, 0, "{shown}");
    for part in ["client 1 2 open, ", "client 2 1 open, ", " messages, ", " bytes sent, ", " received"] {
        assert!(shown.contains(part), "{part} in {shown:?}");
    }
    assert!(shown.contains("3 connections, 9 messages, "), "the summary follows: {shown:?}");
    let (_, quiet, _) = on_terminal(&format!("{words} -q"));
    assert!(!quiet.contains(" open, "), "{quiet:?}");
}

#[test]
fn a_client_whose_output_nobody_reads_can_be_interrupted() {
    let server = Server::serve(&["--service", "chargen"]);
    let address = format!("127.0.0.1:{}", server.port());
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = client(&[&address, "-c", "2", "-m", "x", "--every", "20ms"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let pid = i32::try_from(running.id()).expect("an id");
        tine_e2e::wait_until("both processes wait for a reader", || {
            let workers = tine_e2e::procfs::children(pid);
            let waits = |pid: i32| {
                let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
                place.contains("pipe_write")
            };
            (workers.len() == 2 && workers.iter().all(|worker| waits(worker.pid))).then_some(())
        });
        kill(pid, signal);
        assert_eq!(running.wait().expect("ends").code(), Some(130));
        let mut err = String::new();
        running.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
        assert!(err.contains("2 connections, ") && !err.contains("died"), "{err}");
    }
}
