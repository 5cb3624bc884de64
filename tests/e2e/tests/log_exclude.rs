//! `--log-exclude`: connections of these addresses, such as health checks of load balancers, have
//! lines in the log only if they fail.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::{REJECT, outcome};
use tine_e2e::proxies::{behind_proxies, binary, proxied};
use tine_e2e::{Client, Folder, Server, ServerCommand, TEST_TIMEOUT, run, tine};

const MODES: [&[&str]; 4] =
    [&[], &["--spares", "2"], &["--spares", "2", "--reuse", "100"], &["--spares", "1", "--reuse", "2"]];

/// Stops a server, and returns its lines about connections, without the ports of peers.
fn stop(mut server: Server) -> Vec<(String, u64, String)> {
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let is_about_connections = |event: &Value| event["event"] == "accept" || event["event"] == "end";
    let lines = server.log.events().into_iter().filter(is_about_connections).map(|event| {
        let peer = event["peer"].as_str().expect("a peer");
        let peer = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
        let what = match outcome(&event) {
            "" => "accept".to_owned(),
            outcome => outcome.to_owned(),
        };
        (peer.to_owned(), event["id"].as_u64().expect("an id"), what)
    });
    lines.collect()
}

fn line(peer: &str, id: u64, what: &str) -> (String, u64, String) {
    (peer.to_owned(), id, what.to_owned())
}

#[test]
fn connections_that_end_as_usual_have_no_lines_and_count() {
    for mode in MODES {
        let options = ["--log-exclude", "127.7.0.0/16", "--log-exclude", "127.0.0.9"];
        let server = Server::serve(&[&options, mode].concat());
        let port = server.port();
        for source in ["127.7.0.1", "127.0.0.9", "127.7.255.255"] {
            Client::from_source(source, port).echo("healthy?").finish();
        }
        let mut reset = Client::from_source("127.7.0.1", port);
        reset.echo("healthy?");
        reset.reset();
        Client::from_source("127.0.0.8", port).echo("a client").finish();
        let ends = server.log.wait_for("end", 1);
        assert_eq!(ends[0]["peer"].as_str().map(|peer| &peer[..10]), Some("127.0.0.8:"), "{mode:?}");
        let log = server.log.clone();
        assert_eq!(
            stop(server),
            [line("127.0.0.8", 5, "accept"), line("127.0.0.8", 5, "exit 0")],
            "{mode:?}"
        );
        assert_eq!(log.of("stop")[0]["connections"], 5);
    }
}

#[test]
fn connections_that_fail_have_an_end_line() {
    for mode in [&[][..], &["--spares", "2"]] {
        let options = ["--log-exclude", "127.0.0.0/8"];
        let program = ["sh", "-c", "read word; case $word in exit) exit 3;; kill) kill -ABRT $$;; esac"];
        let server = Server::program(&[&options, mode].concat(), &program);
        for word in ["exit\n", "well\n", "kill\n"] {
            assert_eq!(server.connect().send(word).read_to_end(), b"");
        }
        server.log.wait_for("end", 2);
        let mut lines = stop(server);
        lines.sort();
        assert_eq!(lines, [line("127.0.0.1", 1, "exit 3"), line("127.0.0.1", 3, "signal ABRT")], "{mode:?}");
    }
    for mode in MODES {
        let options = ["--log-exclude", "any", "--first-byte-timeout", "200ms", "--deny", "127.0.0.9"];
        let server = Server::serve(&[&options, mode].concat());
        server.connect().expect_closed();
        server.log.wait_for("end", 1);
        Client::from_source("127.0.0.9", server.port()).expect_closed();
        server.log.wait_for(REJECT, 1);
        assert_eq!(stop(server), [line("127.0.0.1", 1, "timeout first-byte")], "{mode:?}");
    }
}

#[test]
fn the_address_of_the_client_decides_not_that_of_its_proxy() {
    for mode in MODES {
        let server = behind_proxies(&["--log-exclude", "127.0.0.1"], mode);
        // A health check of the proxy itself.
        let mut check = server.connect();
        check.send(binary(0x20, 0, &[])).echo("healthy?").finish();
        proxied(&server, "192.0.2.1").echo("a client").finish();
        server.log.wait_for("end", 1);
        let lines = stop(server);
        assert_eq!(lines, [line("192.0.2.1", 2, "accept"), line("192.0.2.1", 2, "exit 0")], "{mode:?}");
    }
}

#[test]
fn clients_of_unix_sockets_are_named_by_their_user() {
    let logged = [line("uid", 1, "accept"), line("uid", 1, "exit 0")];
    for (number, (excluded, lines)) in [("any", &logged[..]), ("uid:root", &[])].into_iter().enumerate() {
        let folder = Folder::new(&format!("log-exclude-unix-{number}"));
        let path = folder.path("socket");
        let options = ["--log-exclude", excluded, "--log-exclude", "127.0.0.1", &format!("unix:{path}")];
        let server = Server::serve(&options);
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
        stream.write_all(b"x").expect("the server receives");
        stream.read_exact(&mut [0]).expect("a reply");
        drop(stream);
        server.log.wait_for("end", lines.len() / 2);
        server.connect().echo("not logged").finish();
        assert_eq!(stop(server), lines, "{excluded}");
    }
}

#[test]
fn each_service_has_its_own_list_and_explain_names_it() {
    let folder = Folder::new("log-exclude-services");
    let text = "[defaults]\nlog-exclude = ['127.0.0.0/8']\n[services.a]\nlisten = '127.0.0.1:0'\n\
        [services.b]\nlisten = '127.0.0.1:0'\nlog-exclude = ['192.0.2.1']\n";
    let file = folder.write("tine.toml", text);
    let file = file.to_str().expect("a path in UTF-8");
    let server = ServerCommand::program(tine(), &["serve", "--config", file, "--log", "json", "-1"]).start();
    server.connect().echo("a").finish();
    Client::connect(server.log.port_of("b")).echo("b").finish();
    server.log.wait_for("end", 1);
    let log = server.log.clone();
    assert_eq!(stop(server), [line("127.0.0.1", 1, "accept"), line("127.0.0.1", 1, "exit 0")]);
    assert_eq!((log.of("accept")[0]["service"].as_str(), log.of("end").len()), (Some("b"), 1));
    let (code, out, err) = run(Command::new(tine()).args(["explain", file, "127.0.0.1"]));
    assert_eq!(code, 0, "{err}");
    let (first, second) = out.split_once("b: ").expect("both services");
    let excluded = "its connections are logged only if they fail";
    assert!(first.contains(excluded) && !second.contains(excluded), "{out}");
}
