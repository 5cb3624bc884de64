//! `tine load` against servers that misbehave: each failure has a state, and nothing hangs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::load::{command, echo_through, load, server};
use tine_e2e::{Server, kill, network, procfs, run, wait_until};

/// Offset at which the servers below corrupt the stream of every connection.
const WRONG: u64 = 9_999_991;

/// Loads a corrupting server with an echo. Returns the number of connections with wrong bytes, and
/// the first diagnosis.
fn diagnosed(address: &str) -> (u64, serde_json::Value) {
    let loaded = load(&["echo", address, "-n", "4", "-c", "2", "--size", "10M"]);
    assert_eq!(loaded.code, 3, "{} {}", loaded.err, loaded.report["summary"]);
    loaded.expect_sum();
    (loaded.state("mismatch") + loaded.state("long"), loaded.report["findings"]["faults"][0].clone())
}

/// Returns the position of the corruption in bytes that begin at an offset.
fn position(offset: u64, bytes: &[u8]) -> Option<usize> {
    (offset..offset + bytes.len() as u64).contains(&WRONG).then(|| (WRONG - offset) as usize)
}

#[test]
fn changed_bytes_are_diagnosed() {
    network::own();
    let address = server(|stream| {
        echo_through(stream, |offset, bytes| {
            if let Some(at) = position(offset, bytes) {
                bytes[at] ^= 0x20;
            }
        })
    });
    let (number, fault) = diagnosed(&address);
    assert_eq!((number, fault["offset"].as_u64()), (4, Some(WRONG)));
    assert_eq!(
        (fault["fault"]["kind"].as_str(), fault["fault"]["bytes"].as_u64()),
        (Some("changed"), Some(1))
    );
    let (expected, got) = (fault["expected"].as_str().expect("bytes"), fault["got"].as_str().expect("bytes"));
    assert!(expected[..2] != got[..2] && expected[2..] == got[2..], "{fault}");
}

#[test]
fn lost_bytes_are_diagnosed() {
    network::own();
    let address = server(|stream| {
        echo_through(stream, |offset, bytes| {
            position(offset, bytes).map(|at| bytes.remove(at));
        })
    });
    let (number, fault) = diagnosed(&address);
    assert_eq!((number, fault["offset"].as_u64()), (4, Some(WRONG)));
    assert_eq!((fault["fault"]["kind"].as_str(), fault["fault"]["bytes"].as_u64()), (Some("lost"), Some(1)));
}

#[test]
fn doubled_bytes_are_diagnosed() {
    network::own();
    let address = server(|stream| {
        echo_through(stream, |offset, bytes| {
            if let Some(at) = position(offset, bytes) {
                bytes.insert(at, bytes[at]);
            }
        })
    });
    let (number, fault) = diagnosed(&address);
    assert_eq!(
        (number, fault["offset"].as_u64()),
        (4, Some(WRONG + 1)),
        "the second of them is the wrong one"
    );
    assert_eq!(
        (fault["fault"]["kind"].as_str(), fault["fault"]["bytes"].as_u64()),
        (Some("doubled"), Some(1))
    );
}

#[test]
fn bytes_out_of_order_are_diagnosed() {
    network::own();
    let address = server(|stream| {
        echo_through(stream, |offset, bytes| {
            if let Some(at) = position(offset, bytes) {
                let other = if at + 1 < bytes.len() { at + 1 } else { at - 1 };
                bytes.swap(at, other);
            }
        })
    });
    let (number, fault) = diagnosed(&address);
    assert_eq!(number, 4);
    assert!(fault["offset"].as_u64().expect("an offset").abs_diff(WRONG) <= 1, "{fault}");
    assert_eq!(fault["fault"]["kind"].as_str(), Some("out-of-order"));
}

#[test]
fn bytes_of_another_connection_are_diagnosed() {
    /// The request of the last connection, which the next one gets as its reply.
    static MIXED_UP: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    network::own();
    let address = server(|mut stream| {
        let mut request = [0; 256];
        loop {
            stream.read_exact(&mut request)?;
            let mut other = MIXED_UP.lock().expect("no panic under the lock");
            let answer = if other.is_empty() { request.to_vec() } else { other.clone() };
            *other = request.to_vec();
            stream.write_all(&answer)?;
        }
    });
    let loaded = load(&["crr", &address, "-n", "10", "-c", "2", "-p", "1", "--size", "256"]);
    assert_eq!(loaded.code, 3, "{}", loaded.report["summary"]);
    assert!(loaded.state("mismatch") >= 8, "{}", loaded.report["summary"]);
    let fault = &loaded.report["findings"]["faults"][0];
    let (own, other) = (fault["connection"].as_u64(), fault["fault"]["connection"].as_u64());
    assert!(fault["fault"]["kind"] == "foreign" && own != other && other < Some(10), "{fault}");
}

#[test]
fn replies_that_are_too_long_or_too_short_are_counted() {
    network::own();
    let more = server(|mut stream| {
        let mut request = [0; 64];
        stream.read_exact(&mut request)?;
        stream.write_all(&[&request[..], b"and more"].concat())
    });
    let loaded = load(&["crr", &more, "-n", "6"]);
    assert_eq!((loaded.code, loaded.state("long")), (3, 6), "{}", loaded.report["summary"]);
    let late = server(|stream| echo_then(stream, b"and more"));
    let loaded = load(&["echo", &late, "-n", "6", "--size", "1K"]);
    assert_eq!(
        (loaded.code, loaded.state("long")),
        (3, 6),
        "after the reply, too: {}",
        loaded.report["summary"]
    );
    let less = server(|mut stream| {
        let mut request = [0; 64];
        stream.read_exact(&mut request)?;
        stream.write_all(&request[..63])
    });
    let loaded = load(&["crr", &less, "-n", "6"]);
    assert_eq!(loaded.state("short"), 6, "{}", loaded.report["summary"]);
    loaded.expect_sum();
}

/// Echoes, and sends more at the end.
fn echo_then(mut stream: TcpStream, more: &[u8]) -> std::io::Result<()> {
    let mut all = Vec::new();
    std::io::copy(&mut stream.try_clone()?, &mut Tee(&mut stream, &mut all))?;
    stream.write_all(more)
}

/// Writes to a stream, and keeps a copy.
struct Tee<'a>(&'a mut TcpStream, &'a mut Vec<u8>);

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(bytes);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_close_a_reset_and_a_late_reply_have_states_of_their_own() {
    network::own();
    let closing = server(|mut stream| stream.read(&mut [0; 64]).map(drop));
    let loaded = load(&["crr", &closing, "-n", "6"]);
    assert_eq!((loaded.state("closed"), loaded.ended()), (6, 6), "{}", loaded.report["summary"]);

    let resetting = server(|mut stream| {
        stream.read_exact(&mut [0; 1])?;
        reset(&stream);
        Ok(())
    });
    let loaded = load(&["crr", &resetting, "-n", "6"]);
    assert_eq!((loaded.state("reset"), loaded.ended()), (6, 6), "{}", loaded.report["summary"]);

    let late = server(|mut stream| {
        let mut request = [0; 64];
        stream.read_exact(&mut request)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // Until the client times out.
        stream.read(&mut request).map(drop)
    });
    let began = Instant::now();
    let loaded = load(&["crr", &late, "-n", "4", "-c", "4", "--timeout", "300ms"]);
    assert_eq!((loaded.state("timeout"), loaded.ended()), (4, 4), "{}", loaded.report["summary"]);
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Has closing reset a connection.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("a socket");
}

#[test]
fn a_server_that_never_accepts_makes_connections_time_out() {
    network::own();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&listener, 1).expect("a smaller backlog");
    let address = listener.local_addr().expect("bound").to_string();
    let loaded = load(&["crr", &address, "-n", "12", "-c", "12", "--timeout", "400ms"]);
    // The kernel makes the connections that fit into the backlog, and no others.
    let (unanswered, unmade) = (loaded.state("timeout"), loaded.state("connect-timeout"));
    assert!(unanswered >= 1 && unmade >= 1 && unanswered + unmade == 12, "{}", loaded.report["summary"]);
    let reasons = loaded.report["validity"]["reasons"].to_string();
    assert!(loaded.code == 4 && reasons.contains("ListenOverflows"), "{} {reasons}", loaded.code);
    // The listener was open all the time.
    assert!(listener.as_raw_fd() > 0);
}

#[test]
fn an_address_without_a_listener_is_exit_code_111() {
    network::own();
    let (code, out, err) = run(&mut command(&["crr", "127.0.0.1:9", "-n", "20", "-c", "4"]));
    assert_eq!(code, 111, "{out}{err}");
    assert!(out.contains("20 refused") && err.contains("nothing could be reached (refused)"), "{out}{err}");
    // A run without any connection ends before its time.
    let began = Instant::now();
    let loaded = load(&["crr", "127.0.0.1:9", "-d", "60s"]);
    assert_eq!(loaded.code, 111);
    assert!(began.elapsed() < Duration::from_secs(20) && loaded.state("refused") > 10);
    loaded.expect_sum();
    let loaded = load(&["crr", "unix:/nowhere/at/all", "-n", "3"]);
    assert_eq!((loaded.code, loaded.state("refused")), (111, 3));
}

#[test]
fn a_server_that_is_killed_leaves_refused_connections_in_a_valid_result() {
    network::own();
    let mut server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = command(&["crr", &address, "-d", "4s", "--json", "-"]);
    let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    server.log.wait_for("end", 20);
    kill(server.pid(), Signal::KILL);
    server.wait();
    let output = running.wait_with_output().expect("it ends");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let states = &report["summary"]["states"];
    assert!(states["ok"].as_u64() >= Some(20) && states["refused"].as_u64() > Some(0), "{states}");
    assert_eq!(output.status.code(), Some(0), "errors are part of the measurement: {}", report["validity"]);
}

#[test]
fn a_result_that_cannot_be_written_is_exit_code_1() {
    network::own();
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let (code, out, err) = run(&mut command(&["crr", &address, "-n", "10", "--json", "/dev/full"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("cannot write /dev/full: no space left on device"), "{err}");
    assert!(out.contains("10 ok"), "the summary is there all the same: {out}");
}

#[test]
fn a_worker_that_is_killed_makes_the_run_invalid_and_the_others_continue() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = command(&["crr", &address, "-d", "3s", "-p", "3", "--json", "-"]);
    let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let coordinator = i32::try_from(running.id()).expect("a process id");
    let worker = wait_until("the workers are there", || {
        procfs::children(coordinator).iter().find(|child| child.name == "tine: load 2").map(|child| child.pid)
    });
    server.log.wait_for("end", 50);
    kill(worker, Signal::KILL);
    let output = running.wait_with_output().expect("it ends");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((output.status.code(), report["validity"]["valid"].as_bool()), (Some(4), Some(false)));
    assert_eq!(report["lost"][0]["worker"], 1, "{}", report["lost"]);
    assert!(report["validity"]["reasons"][0].as_str().is_some_and(|why| why.contains("signal 9")));
    // The other workers continued to the end.
    let seconds = report["findings"]["seconds"].as_array().expect("seconds");
    assert!(seconds.len() >= 3 && seconds[2]["done"].as_u64() > Some(0), "{seconds:?}");
}

#[test]
fn an_interrupted_load_prints_its_figures() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let address = format!("127.0.0.1:{}", server.port());
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = command(&["crr", &address, "-d", "60s"]);
        let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let before = server.log.of("end").len();
        server.log.wait_for("end", before + 20);
        kill(i32::try_from(running.id()).expect("a process id"), signal);
        let output = running.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(text.contains("interrupted") && text.contains(" ok"), "{text}");
        assert!(!text.contains("INVALID"), "{text}");
    }
}

#[test]
fn killing_the_coordinator_ends_its_workers() {
    network::own();
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut running = command(&["hold", &address, "-c", "10", "-d", "60s"]).spawn().expect("it starts");
    server.log.wait_for("accept", 10);
    let coordinator = i32::try_from(running.id()).expect("a process id");
    let workers: Vec<i32> = procfs::children(coordinator).iter().map(|child| child.pid).collect();
    assert!(!workers.is_empty());
    running.kill().expect("our child");
    running.wait().expect("our child");
    wait_until("the workers have ended", || {
        workers.iter().all(|pid| procfs::process(*pid).is_none_or(|one| one.state == 'Z')).then_some(())
    });
}

#[test]
fn the_latency_of_an_open_loop_includes_a_stall() {
    network::own();
    // Serves one connection after the other, and stalls before number 100.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            if number == 100 {
                std::thread::park_timeout(Duration::from_millis(600));
            }
            let _ = echo_through(stream, |_, _| {});
        }
    });
    let loaded = load(&["crr", &address, "--rate", "200/s", "-d", "3s", "-c", "20", "--max-lateness", "1s"]);
    assert_eq!(loaded.number("/summary/errors"), 0.0, "{}", loaded.report["summary"]);
    // 120 of 600 arrivals fall into the stall, although only 20 connections are open at a time.
    assert!(loaded.number("/summary/latency_ns/p90") > 150e6, "{}", loaded.report["summary"]["latency_ns"]);
    assert!(loaded.number("/summary/latency_ns/max") > 500e6);
    // From the actual start, only those 20 are slow.
    assert!(loaded.number("/summary/uncorrected_ns/p90") < loaded.number("/summary/latency_ns/p90"));
    assert!(loaded.number("/findings/waited") > 50.0, "{}", loaded.report["findings"]["waited"]);
}

#[test]
fn a_late_client_makes_an_open_loop_invalid() {
    network::own();
    let server = Server::serve(&["-c", "2000"]);
    let address = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["crr", &address, "--rate", "400/s", "-d", "1s", "-p", "1", "--max-lateness", "1ns"]);
    let reasons = loaded.report["validity"]["reasons"].to_string();
    assert!(loaded.code == 4 && reasons.contains("late"), "{} {reasons}", loaded.code);
    let (code, out, _) =
        run(&mut command(&["crr", &address, "--rate", "400/s", "-d", "1s", "--max-lateness", "1ns"]));
    assert!(code == 4 && out.starts_with("INVALID: "), "the verdict comes first: {out}");
}

#[test]
fn an_address_that_is_removed_leaves_connections_without_source_or_route() {
    network::own();
    let ip = |words: &[&str]| assert_eq!(run(std::process::Command::new("ip").args(words)).0, 0, "{words:?}");
    ip(&["addr", "add", "10.9.9.1/32", "dev", "lo"]);
    let listener = TcpListener::bind("10.9.9.1:0").expect("the address is ours");
    let address = listener.local_addr().expect("bound").to_string();
    let (sender, served) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                // The client closes after the reply.
                if echo_through(stream, |_, _| {}).is_ok() {
                    let _ = sender.send(());
                }
            });
        }
    });
    let mut running = command(&["crr", &address, "-c", "4", "-p", "1", "-d", "3s", "--timeout", "1s"]);
    let running = running.args(["--source", "10.9.9.1", "--json", "-"]);
    let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    (0..20).for_each(|_| served.recv().expect("connections end"));
    ip(&["addr", "del", "10.9.9.1/32", "dev", "lo"]);
    let output = running.wait_with_output().expect("it ends");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let states = report["summary"]["states"].as_object().expect("states");
    // At most four connections were in flight. The source address is removed as well, so further
    // connections have no port.
    assert!(states["ok"].as_u64() >= Some(16) && states["no-ports"].as_u64() > Some(0), "{states:?}");
    let sum: u64 = states.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(report["summary"]["connections"].as_u64(), Some(sum), "{states:?}");

    // Without a source, there is no route to the address.
    let loaded = load(&["crr", &address, "-n", "4", "--timeout", "500ms"]);
    assert_eq!((loaded.code, loaded.state("no-route")), (4, 4), "{}", loaded.report["summary"]);
}
