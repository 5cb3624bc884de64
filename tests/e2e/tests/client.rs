//! `tine client`, against `tine serve` and against servers that behave badly.

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

/// A server for one connection, in a thread.
fn once(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || serve(listener.accept().expect("a client").0));
    address
}

#[test]
fn piped_like_nc() {
    let server = Server::serve(&[]);
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut piped = client(&[&format!("localhost:{}", server.port())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let (mut stdin, text) = (piped.stdin.take().expect("piped"), sent.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&text).expect("taken"));
    let mut came = Vec::new();
    piped.stdout.take().expect("piped").read_to_end(&mut came).expect("read");
    writer.join().expect("all written");
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
    assert!(piped.wait().expect("ends").success());
}

#[test]
fn the_rest_is_waited_for_after_the_end_of_input() {
    let address = once(|mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question).expect("the question, to its end");
        stream.write_all(format!("answer to {question}").as_bytes()).expect("taken");
    });
    let (code, out, _) = run(client(&[&address]).stdin(Stdio::null()));
    assert_eq!((code, out.as_str()), (0, "answer to "));
}

#[test]
fn messages_with_numbers() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let (code, out, err) =
        run(&mut client(&[&address, "-m", r"data : {n}\n\0", "--every", "5ms", "--count", "3"]));
    assert_eq!((code, out.as_str()), (0, "data : 0\n\0data : 1\n\0data : 2\n\0"));
    assert_eq!(err, "1 connections, 3 messages, 30 bytes sent, 30 received, 0 errors, 0 wrong replies\n");
}

#[test]
fn many_connections_over_several_addresses_in_their_own_processes() {
    let servers = [Server::serve(&[]), Server::serve(&[])];
    let addresses = servers.each_ref().map(|server| format!("127.0.0.1:{}", server.port()));
    for (processes, bundles) in [(None, 30), (Some("4"), 4)] {
        let mut command =
            client(&[&addresses[0], &addresses[1], "-m", "x{n}\n", "--every", "5ms", "--count", "20"]);
        command.args(["-c", "30", "--expect-echo", "-q"]);
        if let Some(processes) = processes {
            command.args(["--processes", processes]);
        }
        let mut running = command.spawn().expect("starts");
        let pid = i32::try_from(running.id()).expect("an id");
        let seen = tine_e2e::soon("the crew is there", || {
            let crew = tine_e2e::procfs::children(pid).len();
            (crew == bundles).then_some(crew)
        });
        assert_eq!(seen, bundles);
        assert_eq!(running.wait().expect("ends").code(), Some(0));
    }
    for server in &servers {
        let ends = server.log.wait_for("end", 30);
        assert!(ends.iter().all(|end| end["outcome"] == "exit 0" && end["in"] == end["out"]), "{ends:?}");
    }
}

#[test]
fn a_reply_that_differs_is_exit_3() {
    let address = once(|mut stream| {
        let mut message = [0; 4];
        stream.read_exact(&mut message).expect("a message");
        stream.write_all(b"abcX").expect("taken");
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "abcd", "--expect-echo"]));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("connection 1: a reply differs") && err.contains("1 wrong replies"), "{err}");
}

#[test]
fn a_server_that_closes_or_resets() {
    let address = once(|mut stream| {
        let _ = stream.read(&mut [0; 100]);
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "x", "--every", "10ms"]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("the server closed connection 1"), "{err}");
    let address = once(|stream| {
        let _ = (&stream).read(&mut [0; 100]);
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("set");
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "x", "--every", "1s"]));
    assert_eq!(code, 111, "{err}");
    assert!(err.contains("reset by the server: 1"), "{err}");
    let address = once(|mut stream| {
        let _ = stream.read(&mut [0; 100]);
    });
    let (code, _, err) = run(&mut client(&[&address, "-m", "x", "--every", "10ms", "--count", "1000"]));
    assert_eq!(code, 111, "{err}");
    assert!(err.contains("closed early by the server: 1"), "{err}");
}

#[test]
fn a_server_that_never_closes_is_not_waited_for() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let address = once(move |mut stream| {
        let _ = stream.read(&mut [0; 100]);
        stream.write_all(b"x").expect("taken");
        let _ = released.recv();
    });
    let (code, out, err) = run(&mut client(&[&address, "-m", "x", "--count", "1", "--wait", "200ms"]));
    assert_eq!((code, out.as_str()), (0, "x"), "{err}");
    drop(release);
}

#[test]
fn addresses_that_nobody_answers() {
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
fn ctrl_c_ends_with_the_summary() {
    let server = Server::serve(&["-v"]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = client(&[&address, "-c", "5", "-m", "x", "--every", "20ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // Once each has sent something, all five know that they are connected.
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
fn a_worker_that_dies_is_named() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = client(&[&address, "-c", "3", "-m", "x", "--every", "20ms", "--count", "50"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    server.log.wait_for("accept", 3);
    let crew = tine_e2e::procfs::children(i32::try_from(running.id()).expect("an id"));
    let victim = crew.iter().find(|worker| worker.name == "tine: client 2").expect("named");
    kill(victim.pid, Signal::KILL);
    let mut err = String::new();
    running.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!(running.wait().expect("ends").code(), Some(111));
    assert!(err.contains(&format!("client 2 (pid {}) died: signal 9", victim.pid)), "{err}");
}
