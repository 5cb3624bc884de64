//! Who may come: blocks of addresses, of which the most specific decides, and what says so.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use tine_e2e::load::load;
use tine_e2e::{Client, Folder, Server, run, tine};

fn is_served(port: u16, source: &str) -> bool {
    Client::from_source(source, port).is_served()
}

#[test]
fn the_most_specific_rule_decides() {
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
        [&[][..], &["--spares", "4"], &["--spares", "4", "--reuse", "100"], &["--when-full", "refuse=full\n"]]
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
        let refused = server.log.wait_for("refuse", 2);
        assert!(refused.iter().all(|event| event["reason"] == "denied"), "{refused:?}");
        assert!(
            refused[0]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.5.1.1:")),
            "{refused:?}"
        );
    }
}

#[test]
fn who_is_not_allowed_is_denied_where_some_are() {
    let server = Server::serve(&["--allow", "127.0.0.1"]);
    assert!(is_served(server.port(), "127.0.0.1") && !is_served(server.port(), "127.0.0.2"));
    let server = Server::serve(&["--deny", "127.0.0.2", "--deny", "2001:db8::/32"]);
    assert!(is_served(server.port(), "127.0.0.1") && !is_served(server.port(), "127.0.0.2"));
}

#[test]
fn rules_as_tcpserver_has_them() {
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
fn unix_sockets_have_no_address() {
    let folder = Folder::new("access-unix");
    let path = folder.path("echo");
    let server = Server::serve(&[&format!("unix:{path}"), "--deny", "any"]);
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"x").expect("taken");
    stream.read_exact(&mut [0]).expect("an echo");
    assert!(!is_served(server.port(), "127.0.0.1"));
}

#[test]
fn a_denied_flood_takes_no_place_and_is_summed_up() {
    let server = Server::serve(&["-c", "1", "--deny", "127.8.0.0/16"]);
    let address = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["crr", &address, "-n", "300", "-c", "4", "--source", "127.8.0.0/28"]);
    assert_eq!(loaded.state("ok"), 0, "{}", loaded.report["summary"]);
    loaded.expect_sum();
    assert!(is_served(server.port(), "127.0.0.1"));
    assert_eq!(server.log.wait_for("accept", 1).len(), 1);
    // Ten lines a second at most; the rest are a number.
    let counted = server.log.wait("all refusals", |log| {
        let events = log.of("refuse");
        let counted: u64 = events.iter().map(|event| event["more"].as_u64().unwrap_or(1)).sum();
        (counted >= 300).then_some((counted, events.len()))
    });
    assert!(counted.0 == 300 && counted.1 < 200, "{counted:?}");
}

#[test]
fn what_is_no_rule_starts_nothing() {
    let folder = Folder::new("access-wrong");
    let bad = folder.write("bad", "127.0.0.1:allow\n127.0.0.:perhaps\n").display().to_string();
    for (options, complaint) in [
        (&["--allow", "127.0.0.1/24"][..], "its block is 127.0.0.0/24"),
        (&["--deny", "nobody"], "this is no address"),
        (&["--allow", "::1", "--deny", "::1"], "both allowed and denied"),
        (&["--rules", "/nowhere"], "cannot read rules"),
        (&["--rules", &bad], "bad:2: '127.0.0.:perhaps' says neither"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(options).arg("127.0.0.1:0"));
        assert!(
            code == 100 && err.contains(complaint) && err.lines().count() == 1,
            "{options:?}: {code} {err}"
        );
    }
}

#[test]
fn explained_as_it_is_decided() {
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
        ("192.0.2.1", "few: denied: others are allowed, and no rule allows it".to_owned()),
    ] {
        let (code, out, err) = explain(peer);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, format!("open: allowed: there are no rules\n{few}\n"), "{peer}");
    }
    let (code, _, err) = explain("somebody");
    assert!(code == 100 && err.lines().count() == 1, "{err}");
}

#[test]
fn a_hundred_thousand_blocks_are_looked_up_as_few() {
    let folder = Folder::new("access-many");
    let lines = (0..100_000u32)
        .map(|number| format!("10.{}.{}.{}:deny\n", number >> 16, number >> 8 & 255, number & 255));
    let rules = folder.write("rules", &(lines.collect::<String>() + "127.3.3.3:deny\n"));
    let server = Server::serve(&["--rules", &rules.display().to_string()]);
    assert!(is_served(server.port(), "127.3.3.4") && !is_served(server.port(), "127.3.3.3"));
    // A forker holds none of the texts: its own memory is that of a server without rules.
    let forker = server.forkers()[0];
    let kib = |key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{forker}/smaps_rollup")).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line").trim().to_owned();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
    };
    assert!(kib("Anonymous:") < 2048, "{} KiB", kib("Anonymous:"));
}
