//! How a server notifies that it is ready: ports on standard output, `--ready-fd`, `NOTIFY_SOCKET`.

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
    let mut server = command.spawn().expect("tine starts");
    let mut out = String::new();
    // Reading ends only if every process of the server has closed its standard output.
    server.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    let ports: Vec<u16> = out.lines().map(|line| line.parse().expect("a port")).collect();
    assert_eq!(ports.len(), 2, "{out}");
    Client::connect(ports[0]).echo("x");
    std::net::TcpStream::connect(("::1", ports[1])).expect("a listening port");
    std::os::unix::net::UnixStream::connect(&path).expect("a listening socket");
    server.kill().expect("our child");
    server.wait().expect("our child");
    std::fs::remove_file(path).expect("a killed server leaves its socket");
}

#[test]
fn readiness_is_notified_on_a_descriptor_and_to_the_service_manager() {
    let path = std::env::temp_dir().join(format!("tine-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("a socket option");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let number = writer.as_raw_fd().to_string();
    let script = "fd=$1; shift; eval \"exec 9>&$fd\"; exec \"$@\"";
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("an open descriptor");
    let mut start = ServerCommand::wrapped(["sh", "-c", script, "sh", &number], ["--ready-fd", "9"]);
    start.command().env("NOTIFY_SOCKET", &path);
    let mut server = start.start();
    drop(writer);
    let mut written = Vec::new();
    reader.read_to_end(&mut written).expect("the server closes it after the newline");
    assert_eq!(written, b"\n");
    let mut buffer = [0; 64];
    let received = socket.recv(&mut buffer).expect("a notification");
    assert_eq!(&buffer[..received], b"READY=1\n");
    server.signal(rustix::process::Signal::TERM);
    let received = socket.recv(&mut buffer).expect("a notification");
    assert_eq!(&buffer[..received], b"STOPPING=1\n");
    assert!(server.wait().success());
    std::fs::remove_file(path).expect("our socket");
}
