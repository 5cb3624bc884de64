//! Saying that it is ready, and serving sockets that somebody else opened.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use tine_e2e::{Client, ServerCommand};

#[test]
fn every_port_is_printed_and_standard_output_is_closed() {
    let path = std::env::temp_dir().join(format!("tine-ready-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let mut command = Command::new(tine_e2e::tine());
    command.args(["serve", "-q", "-1", "127.0.0.1:0", &unix, "[::1]:0"]).stdout(Stdio::piped());
    let mut server = command.spawn().expect("starts");
    let mut out = String::new();
    // To the end: no process of the server keeps standard output.
    server.stdout.take().expect("piped").read_to_string(&mut out).expect("read");
    let ports: Vec<u16> = out.lines().map(|line| line.parse().expect("a port")).collect();
    assert_eq!(ports.len(), 2, "{out}");
    Client::connect(ports[0]).echo("x");
    std::net::TcpStream::connect(("::1", ports[1])).expect("listens");
    std::os::unix::net::UnixStream::connect(&path).expect("listens");
    server.kill().expect("killed");
    server.wait().expect("ended");
    std::fs::remove_file(path).expect("left behind by the kill");
}

#[test]
fn readiness_is_notified_on_a_descriptor_and_to_the_service_manager() {
    let path = std::env::temp_dir().join(format!("tine-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("set");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let number = writer.as_raw_fd().to_string();
    let script = "fd=$1; shift; eval \"exec 9>&$fd\"; exec \"$@\"";
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("set");
    let mut start = ServerCommand::wrapped(["sh", "-c", script, "sh", &number], ["--ready-fd", "9"]);
    start.command().env("NOTIFY_SOCKET", &path);
    let mut server = start.start();
    drop(writer);
    let mut said = Vec::new();
    reader.read_to_end(&mut said).expect("closed after the newline");
    assert_eq!(said, b"\n");
    let mut buffer = [0; 64];
    let received = socket.recv(&mut buffer).expect("a notification");
    assert_eq!(&buffer[..received], b"READY=1\n");
    server.signal(rustix::process::Signal::TERM);
    let received = socket.recv(&mut buffer).expect("a notification");
    assert_eq!(&buffer[..received], b"STOPPING=1\n");
    assert!(server.wait().success());
    std::fs::remove_file(path).expect("removed");
}
