//! `--banner-file`: what each client gets before its program or service, in every model of
//! processes, and what a client that does not read it holds up: nothing but its own connection.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType};
use tine_e2e::names::outcome;
use tine_e2e::{Client, Folder, Log, Server, run, tine};

/// A connection whose kernel takes a few kilobytes that the client does not read.
fn small_connection(port: u16) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    // Before the connection: the window is chosen then (tcp(7)).
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1).expect("a socket option");
    rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).expect("a listening port");
    TcpStream::from(socket)
}

#[test]
fn every_model_of_processes_greets() {
    let folder = Folder::new("banner-models");
    let first = folder.write("first", "hello\r\n").display().to_string();
    let second = folder.write("second", "").display().to_string();
    let third = folder.path("third");
    std::fs::write(&third, b"\xff\0\n").expect("a folder of the test");
    let banner = ["--banner-file", &first, "--banner-file", &second, "--banner-file", &third];
    let greeting = b"hello\r\n\xff\0\n";
    for options in [&[][..], &["--spares", "2"], &["--spares", "1", "--forkers", "1", "--reuse", "10"]] {
        let server = Server::serve(&[&banner, options].concat());
        for _ in 0..4 {
            server.connect().expect(greeting).echo("after").finish();
        }
    }
    for options in [&[][..], &["--spares", "2"], &["--lingering-close"], &["--line-buffered"]] {
        let server = Server::program(&[&banner, options].concat(), &["cat"]);
        for _ in 0..4 {
            server.connect().expect(greeting).echo("after").finish();
        }
    }
    let terminal = Server::program(&[&banner, &["--pty"][..]].concat(), &["echo", "after"]);
    assert_eq!(terminal.connect().read_to_end(), [greeting, &b"after\n"[..]].concat());
}

#[test]
fn a_banner_counts_as_sent_and_denied_clients_do_not_get_it() {
    let folder = Folder::new("banner-denied");
    let file = folder.write("banner", "hello\n").display().to_string();
    let server = Server::serve(&["--banner-file", &file, "--deny", "127.0.0.9"]);
    assert_eq!(Client::from_source("127.0.0.9", server.port()).finish(), b"");
    assert_eq!(server.connect().finish(), b"hello\n");
    let end = &server.log.wait_for("end", 1)[0];
    assert_eq!((end["out"].as_u64(), outcome(end)), (Some(6), "exit 0"), "{end}");
}

#[test]
fn a_client_that_does_not_read_holds_up_no_other() {
    let folder = Folder::new("banner-unread");
    let file = folder.write("banner", &"x".repeat(64 << 10)).display().to_string();
    let options = ["--banner-file", &file, "--send-buffer", "4K", "--forkers", "1"];
    for (program, model) in
        [(&["cat"][..], &[][..]), (&["cat"], &["--spares", "1"]), (&[], &[]), (&[], &["--spares", "1"])]
    {
        let words = [&options[..], model].concat();
        let server = match program {
            [] => Server::serve(&words),
            program => Server::program(&words, program),
        };
        let unread = small_connection(server.port());
        let address = unread.local_addr().expect("a bound socket").to_string();
        server.log.wait_for("accept", 1);
        assert_eq!(server.connect().finish().len(), 64 << 10);
        let ended = |log: &Log| log.of("end").into_iter().find(|end| end["peer"] == *address);
        assert_eq!(ended(&server.log), None);
        drop(unread);
        let end = server.log.wait("end of the first connection", ended);
        assert_eq!(outcome(&end), "reset", "{program:?} {model:?}");
    }
    let server = Server::program(&[&options[..], &["--max-lifetime", "1s"]].concat(), &["cat"]);
    let _unread = small_connection(server.port());
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "timeout lifetime");
}

#[test]
fn a_file_that_cannot_be_the_banner_is_refused_at_the_start() {
    let folder = Folder::new("banner-refused");
    let large = folder.write("large", &"x".repeat((64 << 10) + 1)).display().to_string();
    let half = folder.write("half", &"x".repeat(33 << 10)).display().to_string();
    let (missing, directory) = (folder.path("missing"), folder.path("."));
    for (files, reason) in [
        (&[&missing][..], "missing: no such file or directory; check the path: the file"),
        (&[&directory], "is a directory; check the path: it is a directory"),
        (&[&large], "the banner is larger than 65536 bytes with "),
        (&[&half, &half], "half; shorten it, or have the program print it"),
    ] {
        let options: Vec<&str> = files.iter().flat_map(|file| ["--banner-file", file]).collect();
        let (code, out, err) = run(Command::new(tine()).args(["serve", "-1", "127.0.0.1:0"]).args(&options));
        assert_eq!((code, out.as_str(), err.lines().count()), (100, "", 1), "{err}");
        assert!(err.contains(reason), "{err}");
        let text = format!("[services.it]\nlisten = \"127.0.0.1:0\"\nbanner-file = {files:?}\n");
        let config = folder.write("tine.toml", &text);
        let (code, _, err) = run(Command::new(tine()).arg("check").arg(config));
        assert!(code == 100 && err.contains("tine.toml:1: ") && err.contains(reason), "{err}");
    }
}
