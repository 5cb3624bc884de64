//! Servers in tests: each is there when it is started, and gone with its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, test_kill_process};
use tine::testing::TestServer;
use tine::{Connection, ErrorKind, Handler, HandlerError, Server, Services};

fn bind() -> Result<Server, tine::Error> {
    Ok(Server::bind("127.0.0.1:0")?.forkers(1))
}

/// A handler that tells the id of its process, then echoes.
fn echo(mut connection: Connection) -> Result<(), HandlerError> {
    writeln!(connection, "{}", std::process::id())?;
    let mut buffer = [0; 64];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            length => connection.write_all(&buffer[..length])?,
        }
    }
}

/// Connects, and returns the id of the connection's process.
fn connect(server: &TestServer) -> (BufReader<std::net::TcpStream>, Pid) {
    let mut client = BufReader::new(server.connect());
    let mut line = String::new();
    client.read_line(&mut line).expect("a line");
    (client, pid(line.trim()))
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a number")).expect("a process id")
}

fn is_there(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

#[test]
fn a_server_serves_logs_and_stops() {
    let mut greetings = 0;
    let server = TestServer::start(bind, |mut connection| {
        greetings += 1;
        println!("printed {greetings}");
        Ok(connection.write_all(b"welcome")?)
    });
    let server = server.expect("it starts");
    for _ in 0..2 {
        let mut text = String::new();
        server.connect().read_to_string(&mut text).expect("a greeting");
        assert_eq!(text, "welcome");
    }
    let end = server.wait_for_line(|line| line.contains(" end "));
    assert!(end.contains("outcome=\"exit 0\""), "{end}");
    server.wait_for_line(|line| line == "printed 1");
    assert!(server.lines().iter().any(|line| line.contains(" listen ")));
    assert_eq!(server.addresses().len(), 1);
    let supervisor = pid(&server.pid().to_string());
    assert!(is_there(supervisor));
    server.stop().expect("an orderly stop");
    assert!(!is_there(supervisor));
    assert_eq!(greetings, 0, "the handler has run elsewhere");
}

#[test]
fn a_stop_drains() {
    let server = TestServer::start(bind, echo).expect("it starts");
    let (mut client, process) = connect(&server);
    std::thread::scope(|scope| {
        let lines = scope.spawn(|| {
            client.get_ref().write_all(b"one\n").expect("sent");
            let mut line = String::new();
            client.read_line(&mut line).expect("served");
            client.get_ref().shutdown(std::net::Shutdown::Write).expect("connected");
            client.read_line(&mut line).expect("the end");
            line
        });
        server.stop().expect("an orderly stop");
        assert_eq!(lines.join().expect("no panic"), "one\n");
    });
    assert!(!is_there(process));
}

#[test]
fn a_dropped_server_leaves_no_process() {
    let server = TestServer::start(bind, echo).expect("it starts");
    let (_client, process) = connect(&server);
    let supervisor = pid(&server.pid().to_string());
    assert!(is_there(process) && is_there(supervisor));
    drop(server);
    assert!(!is_there(process) && !is_there(supervisor));
}

#[test]
fn an_error_of_the_start_is_returned() {
    let error = TestServer::start(|| Ok(bind()?.max_connections(0)), echo).expect_err("no connection");
    assert_eq!(error.kind(), ErrorKind::InvalidValue, "{error}");
}

struct Unready;

impl Handler for Unready {
    fn on_start(&mut self) -> Result<(), HandlerError> {
        Err("not ready".into())
    }

    fn serve(&mut self, _connection: Connection) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_handler_is_returned() {
    let error = TestServer::start_handler(|| Ok((bind()?, Unready))).expect_err("not ready");
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(error.to_string().contains("the handler cannot start: not ready; "), "{error}");
}

#[test]
fn services_are_one_server() {
    let server = TestServer::start_services(|| {
        let say = |text: &'static str| {
            move |mut connection: Connection| -> Result<(), HandlerError> {
                Ok(connection.write_all(text.as_bytes())?)
            }
        };
        Ok(Services::new().service("a", bind()?, say("I am a")).service("b", bind()?, say("I am b")))
    });
    let server = server.expect("they start");
    for (address, expected) in server.addresses().iter().zip(["I am a", "I am b"]) {
        let mut text = String::new();
        let mut client = std::net::TcpStream::connect(address).expect("it listens");
        client.read_to_string(&mut text).expect("a text");
        assert_eq!(text, expected);
    }
    assert_eq!(server.addresses().len(), 2);
    server.stop().expect("an orderly stop");
}

#[test]
#[should_panic(expected = "the server has ended by a panic: no plan; it has written:")]
fn a_panic_while_building_is_one_of_the_test() {
    let _ = TestServer::start(|| panic!("no plan"), echo);
}

#[test]
fn a_line_that_cannot_come_is_a_panic_with_what_has_come() {
    let server = TestServer::start(|| Ok(bind()?.exit_after(1)), echo).expect("it starts");
    drop(server.connect());
    let waits = std::panic::AssertUnwindSafe(|| server.wait_for_line(|line| line == "never"));
    let thrown = std::panic::catch_unwind(waits).expect_err("it has ended");
    let text = thrown.downcast_ref::<String>().expect("a text");
    assert!(text.starts_with("waiting for a line: its process has ended; it has written:"), "{text}");
    assert!(text.contains(" stop"), "{text}");
    server.stop().expect("it has stopped by itself");
}

#[test]
#[should_panic(expected = "starts a second server; several services are one (start_services)")]
fn a_test_starts_one_server() {
    let first = TestServer::start(bind, echo).expect("it starts");
    first.stop().expect("an orderly stop");
    let _ = TestServer::start(bind, echo);
}

#[test]
fn a_thread_that_is_no_test_starts_none() {
    let thrown = std::thread::scope(|scope| {
        let thread = scope.spawn(|| TestServer::start(bind, echo).map(drop));
        thread.join().expect_err("not the thread of a test")
    });
    let text = thrown.downcast_ref::<&str>().expect("a text");
    assert!(text.contains("only be started in the thread of a #[test]"), "{text}");
}

/// Has a test of its own killed, and waits for the processes of its server.
#[test]
fn a_killed_test_leaves_no_process() {
    let path = std::env::current_exe().expect("a path");
    let arguments = ["a_test_that_is_killed", "--exact", "--ignored", "--nocapture"];
    let mut test = Command::new(path).args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(test.stdout.take().expect("piped")).lines();
    let line = lines.by_ref().map(|line| line.expect("text")).find(|line| line.starts_with("processes "));
    let line = line.expect("a line with its processes");
    let ended: Vec<_> = line["processes ".len()..]
        .split(' ')
        .map(|number| pidfd_open(pid(number), PidfdFlags::empty()).expect("it runs"))
        .collect();
    kill_process(Pid::from_child(&test), Signal::KILL).expect("it runs");
    test.wait().expect("a child");
    let deadline = Instant::now() + Duration::from_secs(60);
    for process in &ended {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 0 };
        let mut ask = [PollFd::new(process, PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut ask, Some(&left)), Ok(1), "a process is left");
    }
    assert_eq!(ended.len(), 2);
}

#[test]
#[ignore = "a_killed_test_leaves_no_process starts it"]
fn a_test_that_is_killed() {
    let server = TestServer::start(bind, echo).expect("it starts");
    let (mut client, process) = connect(&server);
    println!("\nprocesses {} {}", server.pid(), process.as_raw_nonzero());
    let _ = client.read_line(&mut String::new());
}
