//! Access rules: the most specific rule that matches a client decides whether it is served.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use tine_e2e::load::load;
use tine_e2e::names::{REJECT, outcome, total};
use tine_e2e::{Client, Folder, LocalClient, Server, ServerCommand, network, procfs, run, tine};

fn is_served(port: u16, source: &str) -> bool {
    Client::from_source(source, port).is_served()
}

#[test]
fn the_most_specific_access_rule_decides() {
    let rules = [
        "--deny",
        "127.5.0.0/16",
        "--allow",
        "127.5.5.0/24",
        "--deny",
        "127.5.5.5",
        "--allow",
        "127.0.0.0/8",
    ];
    for options in
        [&[][..], &["--spares", "4"], &["--spares", "4", "--reuse", "100"], &["--when-full", "reject=full\n"]]
    {
        let server = Server::serve(&[&rules[..], options].concat());
        for (source, served) in [
            ("127.0.0.1", true),
            ("127.5.1.1", false),
            ("127.5.5.1", true),
            ("127.5.5.5", false),
            ("127.6.0.1", true),
        ] {
            assert_eq!(is_served(server.port(), source), served, "{source} {options:?}");
        }
        let rejected = server.log.wait_for(REJECT, 2);
        assert!(rejected.iter().all(|event| event["reason"] == "denied"), "{rejected:?}");
        assert!(
            rejected[0]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.5.1.1:")),
            "{rejected:?}"
        );
    }
}

#[test]
fn an_allow_list_denies_every_other_address() {
    let server = Server::serve(&["--allow", "127.0.0.1"]);
    assert!(is_served(server.port(), "127.0.0.1") && !is_served(server.port(), "127.0.0.2"));
    let server = Server::serve(&["--deny", "127.0.0.2", "--deny", "2001:db8::/32"]);
    assert!(is_served(server.port(), "127.0.0.1") && !is_served(server.port(), "127.0.0.2"));
}

#[test]
fn a_rules_file_has_the_syntax_of_tcprules() {
    let folder = Folder::new("access-rules");
    let rules = folder.write("rules", "# guests\n127.1.2.3:allow\n127.1.:deny\n127.2.3.37-53:deny\n:allow\n");
    let server = Server::serve(&["--rules", &rules.display().to_string()]);
    for (source, served) in [
        ("127.1.2.3", true),
        ("127.1.9.9", false),
        ("127.2.3.40", false),
        ("127.2.3.54", true),
        ("127.9.9.9", true),
    ] {
        assert_eq!(is_served(server.port(), source), served, "{source}");
    }
}

#[test]
fn access_rules_do_not_apply_to_unix_sockets() {
    let folder = Folder::new("access-unix");
    let path = folder.path("echo");
    let server = Server::serve(&[&format!("unix:{path}"), "--deny", "any"]);
    let mut stream = UnixStream::connect(&path).expect("a listening socket");
    stream.write_all(b"x").expect("the server receives");
    stream.read_exact(&mut [0]).expect("an echo");
    assert!(!is_served(server.port(), "127.0.0.1"));
}

#[test]
fn a_flood_of_denied_clients_takes_no_slot_and_is_summarised_in_the_log() {
    let server = Server::serve(&["-c", "1", "--deny", "127.8.0.0/16"]);
    let address = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["crr", &address, "-n", "300", "-c", "4", "--source", "127.8.0.0/28"]);
    assert_eq!(loaded.state("ok"), 0, "{}", loaded.report["summary"]);
    loaded.expect_sum();
    assert!(is_served(server.port(), "127.0.0.1"));
    assert_eq!(server.log.wait_for("accept", 1).len(), 1);
    // At most ten lines a second; summary lines count the others.
    let (rejected, lines) = server.log.wait("total of 300 rejected clients", |log| {
        let events = log.of(REJECT);
        (total(&events) >= 300).then_some((total(&events), events.len()))
    });
    assert!(rejected == 300 && lines < 200, "{rejected} rejected clients in {lines} lines");
}

#[test]
fn an_invalid_access_rule_keeps_the_server_from_starting() {
    let folder = Folder::new("access-wrong");
    let bad = folder.write("bad", "127.0.0.1:allow\n127.0.0.:perhaps\n").display().to_string();
    for (options, error) in [
        (&["--allow", "127.0.0.1/24"][..], "its block is 127.0.0.0/24"),
        (&["--deny", "nobody"], "not an IP address"),
        (&["--allow", "::1", "--deny", "::1"], "both allowed and denied"),
        (&["--rules", "/nowhere"], "cannot read rules"),
        (&["--rules", &bad], "bad:2: '127.0.0.:perhaps' has neither"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(options).arg("127.0.0.1:0"));
        assert!(code == 100 && err.contains(error) && err.lines().count() == 1, "{options:?}: {code} {err}");
    }
}

#[test]
fn explain_names_the_rule_and_the_limits_of_a_client() {
    let folder = Folder::new("access-explain");
    folder.write("rules", "127.5.:deny\n");
    let rules = folder.path("rules");
    let text = format!(
        "[services.open]\nlisten = \"127.0.0.1:0\"\n[services.few]\nlisten = \"127.0.0.1:0\"\nallow = [\"127.0.0.0/8\"]\nrules = [\"{rules}\"]\n"
    );
    let config = folder.write("tine.toml", &text).display().to_string();
    let explain = |peer: &str| run(Command::new(tine()).args(["explain", &config, peer]));
    for (peer, few) in [
        ("127.0.0.1", "few: allowed by: allow 127.0.0.0/8".to_owned()),
        ("127.5.0.1", format!("few: denied by: {rules}:1: 127.5.:deny")),
        ("::ffff:127.5.0.1", format!("few: denied by: {rules}:1: 127.5.:deny")),
        ("192.0.2.1", "few: denied: no rule allows it, and others are allowed".to_owned()),
    ] {
        let (code, out, err) = explain(peer);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, format!("open: allowed: there are no rules\n{few}\n"), "{peer}");
    }
    let text = "[defaults]\nmax-connections-per-source = 3\nmax-connections-per-source-fleet = 9\nrate-per-prefix = \"60/min:100\"\nper-source-penalties = \"yes\"\nper-source-penalty-exempt-list = [\"192.0.2.7\"]\nwhen-limited = \"delay\"\n[services.it]\nlisten = \"127.0.0.1:0\"\nprogram = [\"cat\"]\nreverse-dns = true\ndeny = [\"=.bad.example\"]\n";
    let config = folder.write("limits.toml", text).display().to_string();
    for (words, lines) in [
        (
            &["192.0.2.7", "--name", "a.good.example"][..],
            "it: allowed: no rule matches\n  its host is a.good.example\n  its source, 192.0.2.7: at most 3 at a time\n  its prefix, 192.0.2.0/24: at most 1/s:100\n  its source over all nodes, 192.0.2.7: at most 9 at a time\n  it is exempt from penalties\n  beyond that, it is delayed for 10s at most\n  beyond a limit over all nodes, it is rejected (reason=fleet)\n",
        ),
        (
            &["192.0.2.7", "--name", "a.bad.example"],
            "it: denied by: deny =.bad.example\n  its host is a.bad.example\n",
        ),
        (
            &["2001:db8::7:0:0:1", "--name", "x", "--connections", "3"],
            "it: allowed: no rule matches\n  its host is x\n  its source, 2001:db8::/64: at most 3 at a time\n  its prefix, 2001:db8::/56: at most 1/s:100\n  its source over all nodes, 2001:db8::/64: at most 9 at a time\n  it gets penalties for faults of its connections\n  beyond that, it is delayed for 10s at most\n  beyond a limit over all nodes, it is rejected (reason=fleet)\n  with 3 connections, it is delayed (reason=source)\n",
        ),
    ] {
        let (code, out, err) = run(Command::new(tine()).args(["explain", &config]).args(words));
        assert_eq!((code, out.as_str(), err.as_str()), (0, lines, ""));
    }
    let (code, _, err) = explain("no-address");
    assert!(code == 100 && err.lines().count() == 1, "{err}");
}

#[test]
fn a_hundred_thousand_rules_take_no_memory_of_forkers() {
    let folder = Folder::new("access-many");
    let lines = (0..100_000u32)
        .map(|number| format!("10.{}.{}.{}:deny\n", number >> 16, number >> 8 & 255, number & 255));
    let rules = folder.write("rules", &(lines.collect::<String>() + "127.3.3.3:deny\n"));
    let server = Server::serve(&["--rules", &rules.display().to_string()]);
    assert!(is_served(server.port(), "127.3.3.4") && !is_served(server.port(), "127.3.3.3"));
    // The rules lie in shared memory; a forker has no copy of them.
    let forker = server.forkers()[0];
    let kib = procfs::anonymous_memory(forker);
    assert!((1..2048).contains(&kib), "{kib} KiB");
}

#[test]
fn a_changed_rules_file_applies_without_a_restart() {
    for options in [&[][..], &["--spares", "4"], &["--spares", "4", "--reuse", "100"]] {
        let folder = Folder::new("access-reload");
        let rules = folder.write("rules", "127.1.:deny\n");
        let path = rules.display().to_string();
        let server = Server::serve(&[&["--rules", &path], options].concat());
        let port = server.port();
        let mut held = Client::connect(port);
        held.echo("before");
        assert!(!is_served(port, "127.1.0.1") && is_served(port, "127.2.0.1"));
        let forkers = server.forkers();
        // Written in place, then replaced by rename(2) as editors and tcprules do.
        folder.write("rules", "127.2.:deny\n127.3.:deny\n");
        assert_eq!(server.log.wait_for("reload", 1)[0]["rules"], 2);
        assert!(is_served(port, "127.1.0.1") && !is_served(port, "127.2.0.1"), "{options:?}");
        folder.write("new", "127.3.:deny\n");
        std::fs::rename(folder.path("new"), &rules).expect("replaced");
        assert_eq!(server.log.wait_for("reload", 2)[1]["rules"], 1);
        assert!(is_served(port, "127.2.0.1") && !is_served(port, "127.3.0.1"), "{options:?}");
        // From one rule to many, which need a larger table.
        let many = (0..20_000).map(|number| format!("10.0.{}.{}:deny\n", number >> 8, number & 255));
        folder.write("rules", &(many.collect::<String>() + "127.4.:deny\n"));
        server.log.wait_for("reload", 3);
        assert!(is_served(port, "127.3.0.1") && !is_served(port, "127.4.0.1"), "{options:?}");
        held.echo("after");
        assert_eq!(server.forkers(), forkers, "no forker was replaced");
    }
}

#[test]
fn an_invalid_rules_file_keeps_the_old_rules() {
    let folder = Folder::new("access-fault");
    let rules = folder.write("rules", "127.1.:deny\n");
    let server = Server::serve(&["--rules", &rules.display().to_string()]);
    folder.write("rules", "127.2.:deny\n127.3.:perhaps\n");
    let error = server.log.wait_for("error", 1)[0]["text"].to_string();
    assert!(error.contains("keeping the old ones") && error.contains("rules:2:"), "{error}");
    assert!(!is_served(server.port(), "127.1.0.1") && is_served(server.port(), "127.2.0.1"));
    // A file that was removed keeps them, too, and is reported on SIGHUP.
    std::fs::remove_file(&rules).expect("the file exists");
    server.signal(rustix::process::Signal::HUP);
    server.log.wait_for("error", 2);
    assert!(!is_served(server.port(), "127.1.0.1"));
    folder.write("rules", "127.2.:deny\n");
    server.log.wait_for("reload", 1);
    assert!(is_served(server.port(), "127.1.0.1") && !is_served(server.port(), "127.2.0.1"));
    server.signal(rustix::process::Signal::HUP);
    server.log.wait_for("reload", 2);
}

#[test]
fn access_rules_set_variables_for_programs() {
    for options in [&[][..], &["--spares", "2"], &["--pty"], &["--max-connections-per-source", "9"]] {
        let folder = Folder::new("access-variables");
        let text = "127.1.:allow,RELAYCLIENT=\"\",COLOUR=/dark blue/\n127.2.:allow,COLOUR=\"red\"\n:allow\n";
        let rules = folder.write("rules", text).display().to_string();
        let options = [&["--rules", &rules, "--env", "COLOUR=none"], options].concat();
        let server = Server::program(
            &options,
            &["sh", "-c", "echo \"${RELAYCLIENT-unset} $COLOUR $(env | grep -c COLOUR)\""],
        );
        for (source, reply) in [
            ("127.1.0.1", " dark blue 1"),
            ("127.2.0.1", "unset red 1"),
            ("127.3.0.1", "unset none 1"),
            ("127.1.0.1", " dark blue 1"),
        ] {
            assert_eq!(reply_to(&server, source), reply, "{source} {options:?}");
        }
    }
}

#[test]
fn access_times_reject_clients_at_other_times() {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let hour = since.as_secs() / 3600;
    let window = |from: u64, to: u64| format!("{:02}:00-{:02}:00", (hour + from) % 24, (hour + to) % 24);
    // A window around the present time, and one that begins in two hours.
    for (window, served) in [(window(23, 2), true), (window(2, 3), false)] {
        let folder = Folder::new("access-times-now");
        let path = folder.path("socket");
        let mut start = ServerCommand::serve(["--access-times", &window, &format!("unix:{path}")]);
        start.command().env("TZ", "UTC");
        let server = start.start();
        assert_eq!(is_served(server.port(), "127.0.0.1"), served, "{window}");
        let local = UnixStream::connect(&path).expect("the server listens");
        assert_eq!(LocalClient::from(local).echo(), served, "{window}");
        if !served {
            let rejects = server.log.wait_for(REJECT, 2);
            assert!(rejects.iter().all(|reject| reject["reason"] == "time"), "{rejects:?}");
        }
    }
    let folder = Folder::new("access-times");
    let text = "[services.office]\nlisten = \"127.0.0.1:0\"\naccess-times = [\"Mon-Fri 08:00-17:00\", \"Sat 22:00-02:00\"]\ndeny = [\"10.0.0.0/8\"]\n";
    let config = folder.write("tine.toml", text).display().to_string();
    for (peer, at, decision) in [
        ("127.0.0.1", "2026-11-24T08:00", "allowed: no rule matches"),
        ("10.0.0.1", "Mon 12:00", "denied by: deny 10.0.0.0/8"),
        ("127.0.0.1", "Sun 01:59", "allowed: no rule matches"),
        (
            "127.0.0.1",
            "Sun 02:00",
            "denied at Sun 02:00: access-times is Mon-Fri 08:00-17:00, Sat 22:00-02:00",
        ),
    ] {
        let (code, out, err) = run(Command::new(tine()).args(["explain", &config, peer, "--at", at]));
        assert_eq!((code, out, err), (0, format!("office: {decision}\n"), String::new()), "{peer} {at}");
    }
    let (code, _, err) = run(Command::new(tine()).args(["explain", &config, "::1", "--at", "noon"]));
    assert!(code == 100 && err.contains("write 12:30"), "{err}");
}

/// Starts a server whose `/etc/hosts` names 127.0.0.5 good.example and 127.0.0.6 bad.example.
fn serve_with_hosts(folder: &Folder, options: &[&str]) -> Server {
    network::own();
    let hosts = "127.0.0.1 localhost\n127.0.0.5 good.example\n127.0.0.6 bad.example\n";
    let hosts = folder.write("hosts", hosts).display().to_string();
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut start = ServerCommand::wrapped(["unshare", "--mount", "sh", "-c", script, &hosts], options);
    start.command().args(["--", "sh", "-c", "echo ${TCPREMOTEHOST-unknown} $WHICH $REMOTE_HOST"]);
    start.start()
}

/// What a client from this address receives.
fn reply_to(server: &Server, source: &str) -> String {
    Client::from_source(source, server.port()).read_text().trim_end().to_owned()
}

#[test]
fn with_reverse_dns_rules_match_host_names() {
    for mode in [&[][..], &["--spares", "2"]] {
        let folder = Folder::new("access-names");
        let rules = "=good.example:allow,WHICH=/good/\n=.example:deny\n127.0.0.9:allow,WHICH=/address/\n:allow,WHICH=/other/\n";
        let rules = folder.write("rules", rules).display().to_string();
        let server = serve_with_hosts(&folder, &[&["--reverse-dns", "--rules", &rules], mode].concat());
        assert_eq!(reply_to(&server, "127.0.0.5"), "good.example good");
        assert_eq!(reply_to(&server, "127.0.0.6"), "");
        let ends = server.log.wait_for("end", 2);
        let denied = ends.iter().any(|end| outcome(end) == "error denied by host name: bad.example");
        assert!(denied, "{ends:?}");
        assert_eq!(reply_to(&server, "127.0.0.9"), "unknown address");
        assert_eq!(reply_to(&server, "127.0.0.8"), "unknown other");
        folder.write("rules", "=.example:allow,WHICH=/new/\n:deny\n");
        server.log.wait_for("reload", 1);
        assert_eq!(reply_to(&server, "127.0.0.6"), "bad.example new");
        assert_eq!(reply_to(&server, "127.0.0.8"), "");
    }
}

#[test]
fn without_reverse_dns_no_host_name_is_looked_up() {
    let folder = Folder::new("access-no-names");
    let server = serve_with_hosts(&folder, &[]);
    assert_eq!(reply_to(&server, "127.0.0.5"), "unknown");
    drop(server);
    let allowed = ["--reverse-dns", "--remote-host", "--allow", "=good.example", "--allow", "127.0.0.8"];
    let server = serve_with_hosts(&folder, &allowed);
    assert_eq!(reply_to(&server, "127.0.0.5"), "good.example good.example");
    assert_eq!(reply_to(&server, "127.0.0.8"), "unknown 127.0.0.8");
    assert_eq!(
        (reply_to(&server, "127.0.0.6"), reply_to(&server, "127.0.0.9")),
        (String::new(), String::new())
    );
}

#[test]
fn clients_of_unix_sockets_are_judged_by_user_and_groups() {
    let folder = Folder::new("local");
    std::fs::set_permissions(&folder.0, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("our folder");
    let path = folder.path("socket");
    let served = |uid: &str, groups: &str| {
        let talk = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'x'); \
            s.shutdown(1); sys.exit(s.recv(9) != b'x')";
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--regid", uid, "--groups", groups]);
        // The first `python3` of PATH may belong to root alone.
        command.args(["env", "PATH=/usr/bin:/bin", "python3", "-c", talk]).arg(&path);
        command.stderr(Stdio::null()).status().expect("setpriv").success()
    };
    for (options, expected) in [
        (&["--allow", "uid:61010"][..], [true, false, false]),
        (&["--allow", "gid:61020", "--spares", "2"], [false, false, true]),
        (&["--deny", "uid:61011", "--deny", "127.0.0.2"], [true, false, true]),
        (&["--allow", "127.0.0.1"], [true, true, true]),
    ] {
        let address = format!("unix:{path}");
        let server = Server::serve(&[options, &[&address]].concat());
        let clients = [("61010", "61010"), ("61011", "61011"), ("61012", "61020")];
        assert_eq!(clients.map(|(uid, groups)| served(uid, groups)), expected, "{options:?}");
        let denied = expected.iter().filter(|served| !**served).count();
        let peers: Vec<String> = (clients.iter().zip(expected))
            .filter(|(_, served)| !served)
            .map(|((uid, _), _)| format!("uid:{uid}"))
            .collect();
        let rejects = server.log.wait_for("reject", denied);
        assert_eq!(rejects.iter().filter_map(|reject| reject["peer"].as_str()).collect::<Vec<_>>(), peers);
        assert!(rejects.iter().all(|reject| reject["reason"] == "denied"), "{rejects:?}");
        // TCP clients are not affected.
        assert!(server.connect().is_served());
    }
}
