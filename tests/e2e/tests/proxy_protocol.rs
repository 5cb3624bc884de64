//! The PROXY protocol (`--proxy-from`): the addresses in the headers of proxies are those of the
//! connections, whatever the mode of the server; other clients are closed, or served as they are.

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::{REJECT, outcome};
use tine_e2e::proxies::{behind_proxies, binary, ipv4, line, proxied};
use tine_e2e::{Client, Folder, Server, ServerCommand, run, tine};

const MODES: [&[&str]; 4] =
    [&[], &["--forkers", "1"], &["--spares", "4"], &["--spares", "4", "--reuse", "100"]];

/// The event about a connection of this proxy.
fn of_proxy(server: &Server, event: &str, proxy: &str) -> Value {
    server.log.wait(&format!("{event} of {proxy}"), |log| {
        log.of(event).into_iter().find(|event| event["proxy"] == proxy)
    })
}

/// The event about a client, once there is one.
fn rejected(server: &Server, peer: &str) -> Value {
    server.log.wait(&format!("{peer} is rejected"), |log| {
        log.of(REJECT).into_iter().find(|event| event["peer"] == peer)
    })
}

#[test]
fn a_header_in_single_bytes_gives_the_connection_its_addresses() {
    let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0xff; 16], &[0, 7, 0, 80]].concat();
    let tlvs = [&ipv4([192, 0, 2, 4])[..], &[2, 0, 4], b"host", &[4, 1, 0], &[0; 256]].concat();
    for mode in MODES {
        let server = behind_proxies(&[], mode);
        for (header, peer) in [
            (line("192.0.2.1").into_bytes(), "192.0.2.1:4711"),
            (b"PROXY TCP6 2001:db8::2 ::1 65535 0\r\n".to_vec(), "[2001:db8::2]:65535"),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n".to_vec(), "192.0.2.1:1"),
            (binary(0x21, 0x11, &ipv4([192, 0, 2, 3])), "192.0.2.3:4711"),
            (binary(0x21, 0x11, &tlvs), "192.0.2.4:4711"),
            (binary(0x21, 0x21, &ipv6), "[2001:db8::1]:7"),
        ] {
            let mut client = server.connect();
            header.chunks(1).for_each(|byte| _ = client.send(byte));
            client.echo("after the header");
            let accept = of_proxy(&server, "accept", &client.address());
            assert_eq!(accept["peer"], peer, "{mode:?}");
            assert_eq!(client.finish(), b"", "no byte of the header is echoed");
            let end = of_proxy(&server, "end", accept["proxy"].as_str().expect("a proxy"));
            assert_eq!((&end["peer"], &end["in"]), (&Value::from(peer), &Value::from(16)), "{mode:?}");
        }
    }
}

#[test]
fn a_header_and_data_in_one_segment_are_told_apart() {
    for mode in MODES {
        let server = behind_proxies(&[], mode);
        let data = vec![b'x'; 100_000];
        let mut client = server.connect();
        let all = [&binary(0x21, 0x11, &ipv4([192, 0, 2, 1])), &data[..]].concat();
        let mut sender = client.stream.try_clone().expect("a descriptor");
        let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &all));
        client.expect(&data);
        sending.join().expect("no panic").expect("the server receives");
    }
}

#[test]
fn a_connection_of_the_proxy_itself_has_its_own_addresses() {
    let server = behind_proxies(&[], &[]);
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        binary(0x20, 0, &[]),
        binary(0x20, 0x11, &ipv4([192, 0, 2, 3])),
        // Of families that are not TCP, too.
        binary(0x21, 0, &[]),
        binary(0x21, 0x12, &ipv4([192, 0, 2, 3])),
        binary(0x21, 0x31, &[b'/'; 216]),
    ] {
        let mut client = server.connect();
        client.send(&header).echo("x");
        let accept = of_proxy(&server, "accept", &client.address());
        assert_eq!(accept["peer"], client.address().as_str(), "{}", header.escape_ascii());
    }
}

#[test]
fn a_wrong_a_cut_and_a_late_header_close_the_connection_with_a_line_each() {
    let unknown_command = [binary(0x22, 0x11, &ipv4([192, 0, 2, 3])), b"data".to_vec()].concat();
    let patient = behind_proxies(&["--proxy-timeout", "1h"], &[]);
    let strict = behind_proxies(&["--proxy-timeout", "300ms"], &[]);
    for (server, bytes, ends, text) in [
        (&patient, &b"GET / HTTP/1.1\r\n\r\n"[..], false, "no PROXY header"),
        (&patient, b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n", false, "bad address or port"),
        (&patient, b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 25\n", false, "does not end with CRLF"),
        (&patient, &unknown_command, false, "unknown command"),
        (&patient, b"PROXY TCP4 192.0.2.1", true, "the connection ended"),
        (&patient, b"\r\n\r\n\0\r\nQ", true, "the connection ended"),
        (&patient, b"", true, "the connection ended"),
        (&strict, b"PROXY TCP4 192.0.2.1", false, "did not come in time"),
        (&strict, b"", false, "did not come in time"),
    ] {
        let mut client = server.connect();
        client.send(bytes);
        if ends {
            client.half_close();
        }
        client.expect_closed();
        let event = rejected(server, &client.address());
        assert_eq!(event["reason"], "proxy");
        assert!(event["text"].as_str().is_some_and(|why| why.contains(text)), "{event}");
        assert!(server.log.of("accept").is_empty(), "no connection process has run");
    }
    assert_eq!(patient.log.of(REJECT).len(), 7, "a line each");
    proxied(&patient, "192.0.2.1").echo("others are served");
}

#[test]
fn clients_of_other_addresses_are_closed_unread_or_served_without_a_header() {
    for mode in MODES {
        let server = behind_proxies(&[], mode);
        let mut other = Client::from_source("127.0.0.2", server.port());
        other.send(line("192.0.2.1")).expect_closed();
        let event = rejected(&server, &other.address());
        assert_eq!((&event["reason"], &event["text"]), (&Value::from("proxy"), &Value::Null), "{mode:?}");
        assert!(server.log.of("accept").is_empty());
        let server = behind_proxies(&["--proxy-others", "serve"], mode);
        let mut other = Client::from_source("127.0.0.2", server.port());
        other.echo(line("192.0.2.1"));
        let accept = server.log.wait_for("accept", 1).remove(0);
        assert_eq!((&accept["peer"], &accept["proxy"]), (&Value::from(other.address()), &Value::Null));
        server.connect().send("x").expect_closed();
    }
}

#[test]
fn limits_and_rules_are_about_the_address_in_the_header() {
    for mode in MODES {
        let options = ["--max-connections-per-source", "1", "--deny", "203.0.113.0/24"];
        let server = behind_proxies(&[&options[..], &["--when-full", "reject=busy\n"]].concat(), mode);
        let mut first = proxied(&server, "192.0.2.1");
        first.echo("first");
        let mut second = proxied(&server, "192.0.2.1");
        assert_eq!(second.read_text(), "busy\n");
        proxied(&server, "192.0.2.2").echo("another source");
        proxied(&server, "203.0.113.7").expect_closed();
        for (peer, reason) in [("192.0.2.1:4711", "source"), ("203.0.113.7:4711", "denied")] {
            let event = rejected(&server, peer);
            assert_eq!(event["reason"], reason, "{mode:?}");
            assert!(event["proxy"].as_str().is_some_and(|proxy| proxy.starts_with("127.0.0.1:")), "{event}");
        }
    }
}

#[test]
fn a_delayed_client_keeps_the_addresses_of_its_header() {
    for mode in MODES {
        let limits = ["--max-connections-per-source", "1", "--when-limited", "delay"];
        let server = behind_proxies(&limits, mode);
        let mut first = proxied(&server, "192.0.2.1");
        first.echo("first");
        let mut second = proxied(&server, "192.0.2.1");
        second.send("second");
        let mut other = proxied(&server, "192.0.2.2");
        other.echo("not delayed");
        first.finish();
        second.expect("second");
        let accept = of_proxy(&server, "accept", &second.address());
        assert_eq!(accept["peer"], "192.0.2.1:4711", "{mode:?}");
    }
}

#[test]
fn a_penalty_is_that_of_the_client_and_not_of_the_proxy() {
    let options = ["--proxy-from", "127.0.0.1", "--per-source-penalties", "crash:1h"];
    let server = Server::program(
        &options,
        &["sh", "-c", "read line; case $line in crash) kill -SEGV $$;; *) echo ok; esac"],
    );
    assert_eq!(proxied(&server, "192.0.2.1").send("crash\n").read_text(), "");
    let penalty = server.log.wait_for("penalty", 1).remove(0);
    assert_eq!(
        (&penalty["peer"], &penalty["reason"]),
        (&Value::from("192.0.2.1:4711"), &Value::from("crash"))
    );
    proxied(&server, "192.0.2.1").expect_closed();
    assert_eq!(rejected(&server, "192.0.2.1:4711")["reason"], "penalty");
    assert_eq!(proxied(&server, "192.0.2.2").send("hello\n").read_text(), "ok\n");
}

#[test]
fn a_program_has_the_addresses_of_the_header_in_its_variables() {
    let variables = "PROTO TCPLOCALIP TCPLOCALPORT TCPREMOTEIP TCPREMOTEPORT REMOTE_ADDR REMOTE_PORT";
    let script = format!("for name in {variables}; do eval echo \\$$name; done");
    for mode in [&[][..], &["--spares", "2"]] {
        let options = [&["--proxy-from", "127.0.0.1"], mode].concat();
        let server = Server::program(&options, &["sh", "-c", &script]);
        let shown = proxied(&server, "192.0.2.1").read_text();
        assert_eq!(shown, "TCP\n198.51.100.1\n25\n192.0.2.1\n4711\n192.0.2.1\n4711\n", "{mode:?}");
        let mut local = server.connect();
        let (ip, port) = (Ipv4Addr::LOCALHOST, local.stream.local_addr().expect("bound").port());
        let shown = local.send(binary(0x20, 0, &[])).read_text();
        assert_eq!(shown, format!("TCP\n{ip}\n{}\n{ip}\n{port}\n{ip}\n{port}\n", server.port()), "{mode:?}");
    }
}

#[test]
fn bytes_of_the_header_are_not_the_first_byte_of_the_client() {
    let server = behind_proxies(&["--first-byte-timeout", "2s"], &[]);
    let mut silent = proxied(&server, "192.0.2.1");
    let mut speaking = proxied(&server, "192.0.2.2");
    speaking.echo("x");
    silent.expect_closed();
    let end = of_proxy(&server, "end", &silent.address());
    assert_eq!(outcome(&end), "timeout first-byte");
    speaking.echo("still served");
}

#[test]
fn proxies_over_a_unix_socket_speak_for_clients_over_tcp() {
    let folder = Folder::new("proxy-unix");
    let path = folder.path("socket");
    let options = ["--proxy-from", "unix", "--idle-timeout", "1h", "--spares", "1"];
    let mut command = ServerCommand::serve(options);
    command.command().arg(format!("unix:{path}"));
    let mut server = command.start();
    server.connect().expect_closed();
    let mut proxy = UnixStream::connect(&path).expect("a listening socket");
    std::io::Write::write_all(&mut proxy, format!("{}data", line("192.0.2.1")).as_bytes()).expect("room");
    proxy.shutdown(Shutdown::Write).expect("connected");
    let mut reply = String::new();
    proxy.read_to_string(&mut reply).expect("a reply");
    assert_eq!(reply, "data");
    let end = server.log.wait_for("end", 1).remove(0);
    let proxy = Value::from(format!("uid:{}", rustix::process::geteuid().as_raw()));
    assert_eq!((&end["peer"], &end["proxy"]), (&Value::from("192.0.2.1:4711"), &proxy));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn options_are_validated_and_explained() {
    for (options, part) in [
        (&["--proxy-from", "host"][..], "invalid address block 'host'"),
        (&["--proxy-from", "192.0.2.1/24"], "its block is 192.0.2.0/24"),
        (&["--proxy-from", ""], "invalid address block ''"),
        (&["--proxy-others", "close"], "possible values: reject, serve"),
        (&["--proxy-timeout", "0s"], "it cannot be zero"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(options).arg("127.0.0.1:0"));
        assert_eq!(code, 100, "{options:?}: {err}");
        assert!(err.contains(part), "{options:?}: {err}");
    }
    let folder = Folder::new("proxy-options");
    let keys = "proxy-from = \"192.0.2.0/25,unix\"\nproxy-timeout = \"5s\"";
    let path = folder.write("tine.toml", &format!("[services.echo]\nlisten = \"127.0.0.1:0\"\n{keys}\n"));
    let (code, out, err) = run(Command::new(tine()).arg("check").arg(&path));
    assert_eq!(code, 0, "{err}");
    let lines =
        ["proxy-from = [\"192.0.2.0/25\", \"unix\"]", "proxy-others = \"reject\"", "proxy-timeout = \"5s\""];
    assert!(lines.iter().all(|line| out.contains(line)), "{out}");
    for (peer, part) in [
        ("192.0.2.7", "it is a proxy: it must send a PROXY header within 5s"),
        ("192.0.2.200", "it is rejected (reason=proxy)"),
    ] {
        let (code, out, err) = run(Command::new(tine()).arg("explain").arg(&path).arg(peer));
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(part), "{out}");
    }
}
