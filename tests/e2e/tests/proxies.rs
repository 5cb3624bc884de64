//! Debian's HAProxy and nginx in front of a server with `--proxy-from`: it sees their clients.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::REJECT;
use tine_e2e::other_process::{OtherProcess, free_port};
use tine_e2e::{Client, Folder, Server, network, procfs, wait_until};

const MODES: [&[&str]; 2] = [&[], &["--spares", "2", "--reuse", "10"]];

/// A proxy on a port of 127.0.0.1. Dropping it ends it.
struct Proxy {
    _process: OtherProcess,
    port: u16,
    _folder: Folder,
}

/// Starts a proxy with this configuration, of its port and folder, and waits until it listens.
fn start(name: &str, words: &[&str], configuration: impl Fn(u16, &str) -> String) -> Proxy {
    let (port, folder) = (free_port(), Folder::new(name));
    let path = folder.write("configuration", &configuration(port, &folder.path("")));
    let mut command = Command::new(words[0]);
    let process = OtherProcess::start(command.args(&words[1..]).arg(path));
    let pid = process.pid();
    let proxy = Proxy { _process: process, port, _folder: folder };
    wait_until("the proxy listens", || {
        procfs::tcp_sockets(pid).iter().any(|socket| socket.is_listener).then_some(())
    });
    proxy
}

/// HAProxy with these options of its server.
fn haproxy(server: &Server, options: &str) -> Proxy {
    let to = server.port();
    start("haproxy", &["haproxy", "-db", "-q", "-f"], |port, _| {
        format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 30s\n  timeout client 30s\n  timeout server 30s\n  \
             timeout check 30s\nlisten tine\n  bind 127.0.0.1:{port}\n  server tine 127.0.0.1:{to} {options}\n"
        )
    })
}

fn nginx(server: &Server) -> Proxy {
    let to = server.port();
    start("nginx", &["nginx", "-e", "stderr", "-c"], |port, folder| {
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\npid {folder}/pid;\n\
             events {{ worker_connections 64; }}\nstream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{to}; \
             proxy_protocol on; }} }}\n"
        )
    })
}

/// A client that connects to a proxy from this address, with its address in the log.
fn connect(proxy: &Proxy, source: &str) -> (Client, String) {
    let client = Client::from_source(source, proxy.port);
    let address = client.address();
    (client, address)
}

/// The accept line of a client.
fn accept_of(server: &Server, peer: &str) -> Value {
    server.log.wait(&format!("an accept line of {peer}"), |log| {
        log.of("accept").into_iter().find(|event| event["peer"] == peer)
    })
}

fn check(server: &mut Server, proxy: &Proxy, what: &str) {
    for source in ["127.0.0.7", "127.0.0.8"] {
        let (mut client, address) = connect(proxy, source);
        client.echo("through the proxy");
        let accept = accept_of(server, &address);
        assert!(
            accept["proxy"].as_str().is_some_and(|proxy| proxy.starts_with("127.0.0.1:")),
            "{accept} {what}"
        );
        // The limit is about this source alone.
        let (mut second, _) = connect(proxy, source);
        assert_eq!(second.read_to_end(), b"busy\n", "{what}");
        assert_eq!(client.finish(), b"", "{what}");
    }
    assert!(server.log.of(REJECT).iter().all(|event| event["reason"] == "source"), "{what}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{what}");
}

fn serve(mode: &[&str]) -> Server {
    let limits = ["--max-connections-per-source", "1", "--when-full", "reject=busy\n"];
    Server::serve(&[&["--proxy-from", "127.0.0.1"], &limits[..], mode].concat())
}

#[test]
fn haproxy_in_front() {
    network::own();
    for mode in MODES {
        for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
            let mut server = serve(mode);
            let proxy = haproxy(&server, options);
            check(&mut server, &proxy, options);
        }
    }
}

/// A check closes its connection at once, so its line can say that it was reset; it never says that
/// the header was wrong, and the proxy goes on sending clients.
#[test]
fn health_checks_of_haproxy_are_connections_of_the_proxy_itself() {
    network::own();
    for options in ["send-proxy check", "send-proxy-v2 check", "send-proxy-v2 check check-send-proxy"] {
        let server = Server::serve(&["--proxy-from", "127.0.0.1"]);
        let proxy = haproxy(&server, &format!("{options} inter 50ms"));
        let checks = |log: &tine_e2e::Log| {
            let accepts = log.of("accept");
            accepts.iter().filter(|accept| accept["peer"] == accept["proxy"]).count()
        };
        server.log.wait("three checks", |log| (checks(log) >= 3).then_some(()));
        let (mut client, address) = connect(&proxy, "127.0.0.7");
        client.echo("x");
        accept_of(&server, &address);
        let faults = server.log.of(REJECT);
        let is_cut = |event: &Value| event["text"].as_str().is_some_and(|text| text.contains("ended before"));
        assert!(faults.iter().all(is_cut), "{options}: {faults:?}");
    }
}

#[test]
fn nginx_in_front() {
    network::own();
    for mode in MODES {
        let mut server = serve(mode);
        let proxy = nginx(&server);
        check(&mut server, &proxy, "nginx");
    }
}
