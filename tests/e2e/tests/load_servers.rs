//! `tine load` against other servers: nginx, redis, socat, inetd.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tine_e2e::load::load;
use tine_e2e::{Folder, network, wait_until};

/// A server of another project, on a fixed port of a network namespace of its own. Dropping it
/// stops it.
struct OtherServer(Child);

impl OtherServer {
    fn start(port: u16, words: &[&str]) -> OtherServer {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut other = OtherServer(command.spawn().unwrap_or_else(|why| panic!("{}: {why}", words[0])));
        wait_until("it listens", || {
            assert_eq!(other.0.try_wait().expect("our child"), None, "{words:?} ended");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        other
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        // By SIGTERM, so that it also ends its children.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let ended = wait_until("it ends", || self.0.try_wait().transpose());
        drop(ended);
    }
}

#[test]
fn nginx_is_loaded_over_http() {
    network::own();
    let folder = Folder::new("load-nginx");
    let here = folder.0.display();
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {here}/pid;\nerror_log {here}/error;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path {here}/body;\n  proxy_temp_path {here}/proxy;\n\
         \x20 fastcgi_temp_path {here}/fastcgi;\n  uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n\
         \x20 server {{ listen 127.0.0.1:8080; location / {{ return 200 \"hello\\n\"; }} }}\n}}\n"
    );
    let config = folder.write("nginx.conf", &text).display().to_string();
    let _nginx = OtherServer::start(8080, &["nginx", "-e", &folder.path("error"), "-c", &config]);

    let kept = r"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let words =
        ["rr", "127.0.0.1:8080", "-m", kept, "--expect", r"re:^HTTP/1\.1 200 OK\r\n(?s:.*)\r\n\r\nhello\n$"];
    let loaded = load(&[&words[..], &["-n", "2000", "-c", "8", "--per-connection", "100"]].concat());
    loaded.expect_sound();
    assert_eq!(loaded.number("/findings/exchanges/done"), 2000.0);

    // The server closes the connection, which ends the reply.
    let once = r"GET / HTTP/1.0\r\n\r\n";
    let loaded =
        load(&["crr", "127.0.0.1:8080", "-m", once, "--expect", "end", "--close", "fin-server", "-n", "300"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 300);

    // A status that does not arrive is a wrong reply.
    let other = ["rr", "127.0.0.1:8080", "-m", kept, "--expect", "HTTP/1.1 404", "-n", "4", "-c", "2"];
    let loaded = load(&other);
    assert_eq!((loaded.code, loaded.state("mismatch")), (3, 4), "{}", loaded.report["summary"]);
}

#[test]
fn redis_is_loaded_with_commands() {
    network::own();
    let folder = Folder::new("load-redis");
    let here = folder.0.display().to_string();
    let words = ["redis-server", "--bind", "127.0.0.1", "--port", "6379", "--save", "", "--dir", &here];
    let _redis = OtherServer::start(6379, &words);
    let ping = ["-m", r"PING\r\n", "--expect", r"+PONG\r\n"];
    let loaded = load(&[&["rr", "127.0.0.1:6379", "-n", "5000", "-c", "10"][..], &ping].concat());
    loaded.expect_sound();
    assert_eq!(loaded.number("/summary/bytes/received"), 7.0 * 5000.0);
    load(&[&["crr", "127.0.0.1:6379", "-n", "500"][..], &ping].concat()).expect_sound();
    // Each request differs by the numbers of connection and exchange.
    let set = ["--template", r"SET c{c} {n}\r\n", "--expect", r"+OK\r\n"];
    load(&[&["rr", "127.0.0.1:6379", "-n", "1000", "-c", "5"][..], &set].concat()).expect_sound();
}

#[test]
fn a_forking_socat_echoes() {
    network::own();
    let _socat = OtherServer::start(
        7007,
        &["socat", "TCP-LISTEN:7007,bind=127.0.0.1,fork,reuseaddr,backlog=1024", "PIPE"],
    );
    let loaded = load(&["crr", "127.0.0.1:7007", "-n", "200", "-c", "8"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 200);
    load(&["echo", "127.0.0.1:7007", "-n", "4", "-c", "2", "--size", "2M"]).expect_sound();
}

#[test]
fn an_inetd_service_echoes() {
    network::own();
    let folder = Folder::new("load-inetd");
    let config = folder.write("inetd.conf", "127.0.0.1:7008 stream tcp nowait.100000 root /bin/cat cat\n");
    let config = config.display().to_string();
    let _inetd = OtherServer::start(7008, &["inetd", "-i", "-q", "1024", &config]);
    let loaded = load(&["crr", "127.0.0.1:7008", "-n", "200", "-c", "8"]);
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 200);
    load(&["echo", "127.0.0.1:7008", "-n", "4", "-c", "2", "--size", "2M"]).expect_sound();
}
