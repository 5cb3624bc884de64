//! How a server notifies that it is ready: ports on standard output, `--ready-fd`, `NOTIFY_SOCKET`.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::{Client, Folder, ServerCommand, kill, procfs};

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
    server.signal(Signal::TERM);
    let received = socket.recv(&mut buffer).expect("a notification");
    assert_eq!(&buffer[..received], b"STOPPING=1\n");
    assert!(server.wait().success());
    std::fs::remove_file(path).expect("our socket");
}

#[test]
fn the_pid_file_is_written_before_readiness_and_removed_at_the_end() {
    let folder = Folder::new("pid-file");
    let path = folder.path("tine.pid");
    let config = folder.write("tine.toml", "[services.a]\nlisten = '127.0.0.1:0'\n").display().to_string();
    let serve = ["serve", "--log", "json", "-1", "--pid-file", &path];
    for words in [[&serve[..], &["127.0.0.1:0"]].concat(), [&serve[..], &["--config", &config]].concat()] {
        // Left by a server that was killed.
        std::fs::write(&path, "4711\n").expect("a file");
        let mut server = ServerCommand::program(tine_e2e::tine(), &words).start();
        let written = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(written, format!("{}\n", server.pid()));
        server.connect().echo("x").finish();
        // A process that is started later leaves the file alone.
        let children = procfs::children(server.pid());
        kill(children[0].pid, Signal::KILL);
        server.log.wait_for("restart", 1);
        server.connect().echo("x").finish();
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), written);
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert!(!std::path::Path::new(&path).exists());
        assert_eq!(std::fs::read_dir(&folder.0).expect("a directory").count(), 1);
    }
}

#[test]
fn a_service_manager_with_a_watchdog_hears_that_the_server_is_alive() {
    let folder = Folder::new("watchdog");
    let config = folder.write("tine.toml", "[services.a]\nlisten = '127.0.0.1:0'\n").display().to_string();
    let path = folder.0.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("a socket option");
    for words in [&["127.0.0.1:0"][..], &["--config", &config]] {
        let mut start = ServerCommand::program(tine_e2e::tine(), &[&["serve", "-1"], words].concat());
        start.command().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
        let mut server = start.start();
        let next = || {
            let mut buffer = [0; 64];
            let received = socket.recv(&mut buffer).expect("a notification");
            String::from_utf8_lossy(&buffer[..received]).into_owned()
        };
        assert_eq!(next(), "READY=1\n");
        (0..5).for_each(|_| assert_eq!(next(), "WATCHDOG=1\n"));
        // A stopped server is not alive.
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        let last = std::iter::repeat_with(next).find(|message| message != "WATCHDOG=1\n");
        assert_eq!(last.as_deref(), Some("STOPPING=1\n"));
        socket.set_nonblocking(true).expect("a socket option");
        while socket.recv(&mut [0; 64]).is_ok() {}
        socket.set_nonblocking(false).expect("a socket option");
    }
}

#[test]
fn a_watchdog_of_another_process_is_not_answered() {
    let folder = Folder::new("watchdog-other");
    let path = folder.0.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("a socket option");
    let mut start = ServerCommand::serve::<&str>([]);
    start.command().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let mut server = start.start();
    (0..20).for_each(|_| _ = server.connect().echo("x").finish());
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let mut messages = Vec::new();
    socket.set_nonblocking(true).expect("a socket option");
    let mut buffer = [0; 64];
    while let Ok(length) = socket.recv(&mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert_eq!(messages, ["READY=1\n", "STOPPING=1\n"]);
}
