//! The built-in services (`--service`), over TCP and Unix sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{SystemTime, UNIX_EPOCH};

use tine_e2e::names::outcome;
use tine_e2e::{Server, ServerCommand, wait_until};

#[test]
fn the_echo_service_works_over_unix_sockets() {
    let path = std::env::temp_dir().join(format!("tine-services-{}", std::process::id()));
    let name = format!("tine-services-{}", std::process::id());
    let mut start = ServerCommand::serve(["--max-connections", "9"]);
    start.command().arg(format!("unix:{}", path.display())).arg(format!("unix:@{name}"));
    let mut server = start.start();
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    for stream in [UnixStream::connect(&path), UnixStream::connect_addr(&address)] {
        let mut stream = stream.expect("a listening socket");
        stream.write_all(b"hello").expect("the server receives");
        stream.shutdown(std::net::Shutdown::Write).expect("a connected socket");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        assert_eq!(reply, "hello");
    }
    let peer = format!("uid:{}", rustix::process::geteuid().as_raw());
    let ends = server.log.wait_for("end", 2);
    assert!(ends.iter().all(|end| end["peer"] == peer.as_str() && outcome(end) == "exit 0"), "{ends:?}");
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    assert!(!path.exists(), "the server removes its socket");
}

#[test]
fn the_discard_service_sends_nothing_back() {
    let server = Server::serve(&["--service", "discard"]);
    let mut client = server.connect();
    client.send(vec![b'x'; 1 << 20]).half_close();
    assert!(client.read_to_end().is_empty());
    let end = server.log.wait_for("end", 1).remove(0);
    assert_eq!((end["in"].as_u64(), end["out"].as_u64()), (Some(1 << 20), Some(0)));
}

#[test]
fn the_chargen_service_sends_the_pattern_of_rfc_864() {
    let server = Server::serve(&["--service", "chargen"]);
    let mut client = server.connect();
    let mut text = vec![0; 74 * 200];
    client.stream.read_exact(&mut text).expect("a stream without end");
    let line = |number: usize| -> Vec<u8> {
        let characters = (0..72).map(|at| b' ' + ((number + at) % 95) as u8);
        characters.chain(*b"\r\n").collect()
    };
    for (number, received) in text.chunks(74).enumerate() {
        assert_eq!(received, line(number));
    }
    drop(client);
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "reset");
}

#[test]
fn the_daytime_and_time_services_send_the_current_time() {
    let server = Server::serve(&["--service", "daytime"]);
    // Unread input of the client does not destroy the reply.
    let text = server.connect().send(vec![b'?'; 100_000]).read_text();
    assert!(text.len() == 22 && text.ends_with("Z\r\n") && text.starts_with("20"), "{text:?}");
    let server = Server::serve(&["--service", "time"]);
    let bytes = server.connect().read_to_end();
    let received = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 2_208_988_800;
    assert!(u64::from(received).abs_diff(now) <= 2, "{received} is not {now}");
}

#[test]
fn verbose_logging_shows_received_bytes() {
    let server = Server::serve(&["-v"]);
    server.connect().echo(b"line\n\x00\xff\"").finish();
    let line = server.log.wait_for("receive", 1).remove(0);
    assert_eq!((line["id"].as_u64(), line["bytes"].as_u64()), (Some(1), Some(8)));
    assert_eq!(line["data"], "line\n\0\\xff\"");
}

#[test]
fn quiet_and_log_off_write_nothing() {
    for options in [&["-q"][..], &["--log", "off"]] {
        let mut server = Server::serve(options);
        server.connect().echo("x").finish();
        server.signal(rustix::process::Signal::TERM);
        assert!(server.wait().success());
        assert_eq!(server.log.lines(), [""; 0], "{options:?}");
    }
}

#[test]
fn connections_inherit_keep_alive_from_the_listener() {
    let server = Server::serve(&[]);
    let mut client = server.connect();
    client.echo("x");
    let port = server.port();
    let shown = wait_until("ss shows the timer", || {
        let (_, out, _) = tine_e2e::run(std::process::Command::new("ss").args([
            "-tnoH",
            "state",
            "established",
            "sport",
            &format!("= :{port}"),
        ]));
        out.contains("keepalive").then_some(out)
    });
    assert!(shown.contains("timer:(keepalive,59sec") || shown.contains("timer:(keepalive,1min"), "{shown}");
}
