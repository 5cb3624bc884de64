//! Listeners: wildcards of both families, absent addresses, ranges, zones, the files of Unix
//! sockets, and the options of sockets as the kernel has them.

use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use std::io::{Read, Write};

use rustix::process::Signal;
use tine_e2e::{Folder, Server, ServerCommand, TEST_TIMEOUT, network, tine, wait_until};

/// A server with these words after `tine serve`, once it is ready.
fn serve(words: &[&str]) -> Server {
    ServerCommand::program(tine(), &[&["serve", "--log", "json", "-1"], words].concat()).start()
}

/// A server with this configuration.
fn configured(folder: &Folder, text: &str) -> Server {
    let file = folder.write("tine.toml", text);
    serve(&["--config", file.to_str().expect("a path in UTF-8")])
}

/// Runs `tine` to its end: its exit code and both outputs.
fn run(words: &[&str]) -> (i32, String) {
    let (code, out, err) = tine_e2e::run(Command::new(tine()).args(words));
    (code, format!("{out}{err}"))
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a server answers to a client that sends this text and half-closes.
fn reply(address: impl std::net::ToSocketAddrs, text: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a socket listens");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    stream.write_all(text.as_bytes()).expect("the server receives");
    stream.shutdown(std::net::Shutdown::Write).expect("connected");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("the end of the stream");
    said
}

/// The warnings of a server, which is stopped first, so that its log is complete.
fn warnings(mut server: Server) -> Vec<String> {
    server.signal(Signal::TERM);
    server.wait();
    server.log.of("warning").iter().filter_map(|line| Some(line["text"].as_str()?.to_owned())).collect()
}

#[test]
fn the_wildcards_of_both_families_serve_beside_each_other() {
    network::own();
    for order in [["0.0.0.0:7001", "[::]:7001"], ["7001", "0.0.0.0:7001"]] {
        let server = serve(&order);
        assert_eq!(reply("127.0.0.1:7001", "four"), "four");
        assert_eq!(reply("[::1]:7001", "six"), "six");
        server.log.wait_for("listen", 2);
        let peer = server.log.wait_for("accept", 1)[0]["peer"].to_string();
        assert!(peer.starts_with("\"127.0.0.1:"), "{peer}");
    }
    let folder = Folder::new("families");
    let program = |text: &str| format!("program = ['echo', '{text}']\n");
    let text = format!(
        "[services.six]\nlisten = 7002\n{}[services.four]\nlisten = '0.0.0.0:7002'\n{}",
        program("six"),
        program("four")
    );
    let _server = configured(&folder, &text);
    assert_eq!((reply("127.0.0.1:7002", ""), reply("[::1]:7002", "")), ("four\n".into(), "six\n".into()));
    let _alone = serve(&["--bind-ipv6-only", "ipv6-only", "7003"]);
    assert_eq!(reply("[::1]:7003", "six"), "six");
    TcpStream::connect("127.0.0.1:7003").expect_err("IPv6 only");
}

#[test]
fn imported_lines_for_both_families_start() {
    network::own();
    let folder = Folder::new("inetd");
    let text = "7031 stream tcp4 nowait nobody /bin/cat cat\n7031 stream tcp6 nowait nobody /bin/cat cat\n";
    let file = folder.write("inetd.conf", text);
    let import = Command::new(tine()).args(["import", "inetd"]).arg(&file).output().expect("tine starts");
    let toml = String::from_utf8(import.stdout).expect("text in UTF-8");
    let server = configured(&folder, &toml);
    assert_eq!(run(&["check", &folder.path("tine.toml")]).0, 0);
    assert_eq!((reply("127.0.0.1:7031", "4"), reply("[::1]:7031", "6")), ("4".into(), "6".into()));
    drop(server);
}

#[test]
fn addresses_that_exclude_each_other_are_refused_before_the_start() {
    network::own();
    let folder = Folder::new("exclude");
    for (text, words) in [
        ("[services.a]\nlisten = ['127.0.0.1:7001', 'localhost:7001']", "already"),
        ("[services.a]\nlisten = 7001\n[services.b]\nlisten = '127.0.0.1:7001'", "bind-ipv6-only"),
        ("[services.a]\nlisten = '7001-7003'\n[services.b]\nlisten = '[::1]:7002'", "served by a already"),
    ] {
        let file = folder.write("tine.toml", text);
        let (code, said) = run(&["check", file.to_str().expect("a path in UTF-8")]);
        assert_eq!(code, 100, "{text}: {said}");
        assert!(said.contains(words) && said.contains("tine.toml:"), "{said}");
    }
    let (code, said) = run(&["serve", "0.0.0.0:7001", "127.0.0.1:7001"]);
    assert!(code == 100 && said.contains("cannot be listened on together"), "{code} {said}");
    let (code, said) = run(&["serve", "127.0.0.1:7001", "localhost:7001"]);
    assert!(code == 111 && said.contains("this server listens on 127.0.0.1:7001 already"), "{code} {said}");
}

#[test]
fn an_absent_address_keeps_no_other_service_from_starting() {
    network::own();
    let (code, said) = run(&["serve", "192.0.2.7:7001"]);
    assert!(code == 111 && said.contains("FreeBind"), "{code} {said}");
    let folder = Folder::new("absent");
    let text = "[services.absent]\nlisten = '192.0.2.7:7001'\n[services.here]\nlisten = '127.0.0.1:7002'\n";
    let server = configured(&folder, text);
    assert_eq!(reply("127.0.0.1:7002", "here"), "here");
    sh("ip address add 192.0.2.7/32 dev lo");
    assert_eq!(reply("192.0.2.7:7001", "now"), "now");
    let warned = warnings(server);
    assert!(warned.len() == 1 && warned[0].contains("192.0.2.7:7001"), "{warned:?}");
    let server = serve(&["--free-bind", "192.0.2.8:7001"]);
    sh("ip address add 192.0.2.8/32 dev lo");
    assert_eq!(reply("192.0.2.8:7001", "free"), "free");
    assert_eq!(warnings(server), Vec::<String>::new());
}

#[test]
fn the_log_has_the_backlog_in_force() {
    network::own();
    sh("echo 16 >/proc/sys/net/core/somaxconn");
    let folder = Folder::new("backlog");
    let unix = format!("unix:{}", folder.path("socket"));
    let server = serve(&["--backlog", "100", "127.0.0.1:7001", &unix]);
    for listen in server.log.wait_for("listen", 2) {
        assert_eq!(listen["backlog"], 16, "{listen}");
    }
    let warned = warnings(server);
    assert!(warned.len() == 1 && warned[0].contains("from 100 to 16"), "{warned:?}");
    assert!(warned[0].contains("net.core.somaxconn"), "{warned:?}");
    let server = serve(&["--backlog", "16", "127.0.0.1:7002"]);
    assert_eq!(server.log.wait_for("listen", 1)[0]["backlog"], 16);
    assert_eq!(warnings(server), Vec::<String>::new());
}

#[test]
fn the_file_of_a_unix_socket_has_its_mode_owner_and_group() {
    let folder = Folder::new("mode");
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o755)).expect("our folder");
    let path = folder.path("socket");
    let address = format!("unix:{path}");
    for (options, mode, uid, gid) in [
        (&["--user", "nobody"][..], 0o666, 0, 0),
        (&["--socket-mode", "0600"], 0o600, 0, 0),
        (
            &["--socket-mode", "0660", "--socket-user", "nobody", "--socket-group", "nogroup"],
            0o660,
            65534,
            65534,
        ),
    ] {
        let tine = tine();
        // The umask does not matter.
        let script = "umask 077; exec \"$@\"";
        let mut words = vec!["-c", script, "sh", tine.to_str().expect("a path in UTF-8")];
        words.extend(["serve", "--log", "json", "-1"]);
        words.extend(options);
        words.extend([&*address, "127.0.0.1:0"]);
        let server = ServerCommand::program("sh", &words).start();
        let file = std::fs::metadata(&path).expect("the socket");
        assert_eq!((file.mode() & 0o777, file.uid(), file.gid()), (mode, uid, gid), "{options:?}");
        let may = |user: &str| {
            let connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
            let mut command = Command::new("setpriv");
            // The first `python3` of PATH may belong to root alone.
            let python = ["--clear-groups", "env", "PATH=/usr/bin:/bin", "python3", "-c", connect];
            command.args(["--reuid", user, "--regid", user]).args(python);
            command.arg(&path).stderr(Stdio::null()).status().expect("setpriv").success()
        };
        let nobody = options.len() != 2 || mode == 0o666;
        assert_eq!((may("65534"), may("61004")), (nobody, mode == 0o666), "{options:?}");
        UnixStream::connect(&path).expect("root may connect");
        drop(server);
        std::fs::remove_file(&path).expect("the server was killed");
    }
    let (code, said) = run(&["serve", "--socket-user", "no-such-user", &address]);
    assert!(code == 100 && said.contains("no user 'no-such-user'"), "{code} {said}");
}

#[test]
fn socket_options_are_those_of_the_kernel() {
    network::own();
    let options = [
        "--bind-to-device",
        "lo",
        "--mark",
        "0x2a",
        "--ip-tos",
        "low-delay",
        "--reuse-port",
        "--keep-alive-interval",
        "7s",
        "--keep-alive-probes",
        "3",
        "--send-buffer",
        "64K",
        "--receive-buffer",
        "32K",
        "--tcp-congestion",
        "reno",
        "--ip-ttl",
        "9",
    ];
    let one = serve(&[&options[..], &["127.0.0.1:7001"]].concat());
    // The port is shared, and so would be the name of the control socket.
    let other = serve(&[&options[..], &["127.0.0.1:7001", "--control", "none"]].concat());
    let shown = sh("ss -tlneO --tos");
    assert_eq!(shown.matches("127.0.0.1%lo:7001").count(), 2, "{shown}");
    for words in ["fwmark:0x2a", "tos:0x10"] {
        assert_eq!(shown.matches(words).count(), 2, "{words} in {shown}");
    }
    assert_eq!(reply("127.0.0.1:7001", "x"), "x");
    assert_eq!(warnings(one).len() + warnings(other).len(), 0);
    // The address of another machine, for a transparent proxy.
    let proxy = serve(&["--transparent", "192.0.2.9:7002"]);
    assert_eq!(proxy.log.wait_for("listen", 1)[0]["address"], "192.0.2.9:7002");
    for (options, words) in [
        (&["--bind-to-device", "no-such-one"][..], "ip link"),
        (&["--tcp-congestion", "no-such-one"], "available_congestion_control"),
        (&["--ip-tos", "256"], "--ip-tos"),
        (&["--socket-mode", "8"], "octal"),
        (&["--keep-alive-probes", "128"], "--keep-alive-probes"),
        (&["--keep-alive-interval", "1500ms"], "whole seconds"),
        (&["--defer-accept", "500ms"], "whole seconds"),
    ] {
        let (code, said) = run(&[&["serve"], options, &["127.0.0.1:7003"]].concat());
        assert!(code == 100 || code == 111, "{options:?}: {code}");
        assert!(said.contains(words), "{options:?}: {said}");
    }
}

#[test]
fn a_deferred_client_is_accepted_when_it_sends() {
    let server = serve(&["--defer-accept", "60s", "127.0.0.1:0"]);
    let mut silent = server.connect();
    let mut talker = server.connect();
    talker.echo("first");
    let accepted = server.log.wait_for("accept", 1);
    assert_eq!((accepted.len(), accepted[0]["peer"].as_str()), (1, Some(&*talker.address())));
    silent.echo("second");
    assert_eq!(server.log.wait_for("accept", 2)[1]["peer"], silent.address());
}

#[test]
fn ports_have_names_and_ranges() {
    network::own();
    let server = serve(&["127.0.0.1:http", "[::1]:8000-8003"]);
    assert_eq!(server.port(), 80);
    assert_eq!(reply("127.0.0.1:80", "x"), "x");
    for port in 8000..=8003 {
        assert_eq!(reply(("::1", port), "x"), "x");
    }
    for (address, words) in
        [("no-such-service", "getent services"), ("8003-8000", "lower"), ("1000-2000", "at most 64")]
    {
        let (code, said) = run(&["serve", address]);
        assert!(code == 100 && said.contains(words), "{code} {said}");
    }
    let (code, said) = run(&["serve", "7000-7063", "9000"]);
    assert!(code == 100 && said.contains("65 listening sockets"), "{code} {said}");
}

#[test]
fn link_local_addresses_have_zones() {
    network::own();
    sh("ip link add tine0 type veth peer name tine1; ip link set tine0 up; ip link set tine1 up
        ip -6 address add fe80::7/64 dev tine0 nodad");
    let index = sh("cat /sys/class/net/tine0/ifindex 2>/dev/null || ip -o link show tine0 | cut -d: -f1");
    let index: u32 =
        sh("ip -o link show tine0 | cut -d: -f1").trim().parse().unwrap_or_else(|_| panic!("{index}"));
    let program = ["--", "sh", "-c", "echo $TCPREMOTEIP $REMOTE_ADDR $TCPLOCALIP"];
    let server = serve(&[&["[fe80::7%tine0]:7001"], &program[..]].concat());
    let address: Ipv6Addr = "fe80::7".parse().expect("an address");
    let said = reply(SocketAddrV6::new(address, 7001, 0, index), "");
    assert_eq!(said, "fe80::7%tine0 fe80::7%tine0 fe80::7%tine0\n");
    assert_eq!(server.log.wait_for("listen", 1)[0]["address"], "[fe80::7%tine0]:7001");
    let peer = server.log.wait_for("accept", 1)[0]["peer"].as_str().expect("text").to_owned();
    assert!(peer.starts_with("[fe80::7%tine0]:"), "{peer}");
    for (address, code, words) in [
        ("[fe80::7]:7002", 111, "[fe80::7%eth0]:7002"),
        ("[fe80::7%no-such-one]:7002", 111, "ip link"),
        ("[::1%tine0]:7002", 100, "link-local"),
    ] {
        let (exit, said) = run(&["serve", address]);
        assert!(exit == code && said.contains(words), "{exit} {said}");
    }
}

#[test]
fn what_is_in_the_way_of_a_unix_socket_is_named() {
    let folder = Folder::new("way");
    folder.write("file", "mine");
    std::fs::create_dir(folder.0.join("folder")).expect("a directory");
    let long = "x".repeat(120);
    for (path, code, words) in [
        ("file", 111, "a regular file is in the way"),
        ("folder", 111, "a directory is in the way"),
        ("no/socket", 111, "create the directory"),
        ("file/socket", 111, "a part of the path is a file"),
        (&long, 100, "107 bytes"),
    ] {
        let (exit, said) = run(&["serve", &format!("unix:{}", folder.path(path))]);
        assert!(exit == code && said.contains(words), "{path}: {exit} {said}");
    }
    assert_eq!(std::fs::read_to_string(folder.0.join("file")).expect("left alone"), "mine");
    let path = folder.path("socket");
    let _server = serve(&[&format!("unix:{path}"), "127.0.0.1:0"]);
    wait_until("the socket is there", || UnixStream::connect(&path).ok());
    let (exit, said) = run(&["serve", &format!("unix:{path}")]);
    assert!(exit == 111 && said.contains("ss -lxp"), "{exit} {said}");
}
