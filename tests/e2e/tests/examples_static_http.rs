//! The example `static_http`, with curl and wrk as clients.

use std::process::Command;

use tine_e2e::examples::example;
use tine_e2e::programs::succeeds;
use tine_e2e::{Folder, Server};

/// A directory with files, one of them beside it, and the server of the directory.
fn files(name: &str) -> (Folder, Server) {
    let folder = Folder::new(name);
    let root = folder.path("root");
    std::fs::create_dir_all(format!("{root}/sub")).expect("a folder");
    std::fs::write(format!("{root}/index.html"), "<p>welcome").expect("a file");
    std::fs::write(format!("{root}/sub/notes.txt"), "notes").expect("a file");
    std::fs::write(format!("{root}/data"), "x".repeat(1 << 20)).expect("a file");
    std::fs::write(folder.path("secret.txt"), "secret").expect("a file");
    for (target, name) in [("sub/notes.txt", "inside"), ("../secret.txt", "outside"), ("/etc", "absolute")] {
        std::os::unix::fs::symlink(target, format!("{root}/{name}")).expect("a link");
    }
    let server = example("static_http", &[&root]);
    (folder, server)
}

/// Runs curl for paths of the server, on one connection if that stays open.
fn curl(server: &Server, options: &[&str], paths: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--path-as-is", "--noproxy", "*"]).args(options);
    curl.args(paths.iter().map(|path| format!("http://127.0.0.1:{}{path}", server.port())));
    succeeds(&mut curl)
}

#[test]
fn curl_receives_files_and_their_kinds() {
    let (_folder, server) = files("http-kinds");
    assert_eq!(curl(&server, &[], &["/sub/notes.txt", "/", "/inside?query"]), "notes<p>welcomenotes");
    assert_eq!(curl(&server, &[], &["/data"]).len(), 1 << 20);
    let head = curl(&server, &["--head"], &["/"]).replace('\r', "");
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\nContent-Type: text/html; charset=utf-8\nContent-Length: 10\nConnection: keep-alive\n\n"
    );
    let connections = curl(&server, &["--write-out", "%{num_connects} "], &["/inside", "/inside", "/none"]);
    assert_eq!(connections, "notes1 notes0 0 ", "one connection");
    let closed =
        curl(&server, &["--header", "Connection: close", "--write-out", "%{num_connects} "], &["/", "/"]);
    assert_eq!(closed, "<p>welcome1 <p>welcome1 ");
}

#[test]
fn what_is_not_served_has_its_status() {
    let (_folder, server) = files("http-statuses");
    let status = |options: &[&str], path: &str| {
        let options = [options, &["--write-out", "%{http_code}"]].concat();
        curl(&server, &options, &[path])
    };
    for path in [
        "/none",
        "/sub",
        "/sub/",
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/outside",
        "/absolute/hostname",
        "//etc/hostname",
    ] {
        assert_eq!(status(&[], path), "404", "{path}");
    }
    assert_eq!(status(&["--request", "DELETE"], "/"), "405");
    assert_eq!(status(&["--data", "GET / HTTP/1.1"], "/"), "405");
    assert_eq!(status(&["--header", &format!("Long: {}", "x".repeat(9000))], "/"), "400");
    assert_eq!(status(&["--header", "Host:"], "/"), "400");
    assert_eq!(status(&["--http1.0"], "/"), "<p>welcome200");
    for request in ["GET /\r\n\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\nno field\r\n\r\n", "GET / HTTP/9\r\n\r\n"]
    {
        let reply = server.connect().send(request).read_text();
        assert!(reply.starts_with("HTTP/1.1 400 "), "{request:?}: {reply}");
    }
}

#[test]
fn requests_that_come_together_are_all_answered() {
    let (_folder, server) = files("http-together");
    let request = "GET /inside HTTP/1.1\r\nHost: here\r\n\r\n";
    let replies = server.connect().send(request.repeat(3)).finish();
    assert_eq!(String::from_utf8_lossy(&replies).matches("\r\n\r\nnotes").count(), 3);
}

#[test]
fn wrk_finds_no_error() {
    let (_folder, server) = files("http-wrk");
    let url = format!("http://127.0.0.1:{}/inside", server.port());
    let report = succeeds(Command::new("wrk").args(["-t", "1", "-c", "16", "-d", "1s", &url]));
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let line = report.lines().find_map(|line| line.strip_prefix("Requests/sec:")).expect(&report);
    assert!(line.trim().parse::<f64>().expect(line) > 100.0, "{report}");
    println!("{report}");
}
