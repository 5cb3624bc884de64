//! Clients of Unix sockets: the source of a limit is the user, and programs learn the name of a
//! client that has one.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tine_e2e::names::REJECT;
use tine_e2e::{Client, Folder, LocalClient, Server, run, tine, wait_until};

/// Two users that nobody else is.
const ALICE: u32 = 61_101;
const BOB: u32 = 61_102;

/// A server on a Unix socket, which every user may connect to, and on a TCP port.
struct UnixServer {
    server: Server,
    path: String,
    _folder: Folder,
}

impl UnixServer {
    fn start(test: &str, options: &[&str], program: Option<&[&str]>) -> UnixServer {
        let folder = Folder::new(&format!("unix-clients-{test}"));
        std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o755)).expect("our folder");
        let path = folder.path("socket");
        let address = format!("unix:{path}");
        let options = [options, &[&address]].concat();
        let server = match program {
            Some(program) => Server::program(&options, program),
            None => Server::serve(&options),
        };
        UnixServer { server, path, _folder: folder }
    }

    fn client(&self, uid: u32) -> LocalClient {
        LocalClient::of_user(uid, &self.path)
    }

    /// Waits for the first rejection, which must be of this user and for this reason.
    fn expect_reject(&self, uid: u32, reason: &str) {
        let rejects = self.server.log.wait_for(REJECT, 1);
        let expected = |reject: &serde_json::Value| {
            reject["peer"] == format!("uid:{uid}").as_str() && reject["reason"] == reason
        };
        assert!(rejects.iter().all(expected), "{rejects:?}");
    }
}

#[test]
fn a_user_at_its_connection_limit_is_rejected_and_others_are_served() {
    let limit = ["--max-connections-per-source", "2", "--when-full", "reject=too many\\n"];
    for (options, program, reason) in [
        (&limit[..], None, "source"),
        (&limit, Some(&["cat"][..]), "source"),
        (&[&limit[..], &["--spares", "2"]].concat(), None, "source"),
        (&["--max-connections-per-prefix", "2", "--when-limited", "reject=too many\\n"], None, "prefix"),
    ] {
        let server = UnixServer::start("limit", options, program);
        let mut first = [ALICE; 2].map(|uid| server.client(uid));
        assert!(first.iter_mut().all(LocalClient::echo));
        assert_eq!(server.client(ALICE).finish(), "too many\n", "{options:?}");
        let mut second = [BOB; 2].map(|uid| server.client(uid));
        assert!(second.iter_mut().all(LocalClient::echo));
        server.expect_reject(ALICE, reason);
        // A TCP client is another source, too.
        assert!(Client::from_source("127.0.0.2", server.server.port()).is_served());
        // When a connection ends, the next client is served.
        let [mut kept, ended] = first;
        assert_eq!(ended.finish(), "");
        let next = wait_until("the next client is served", || {
            let mut client = server.client(ALICE);
            client.echo().then_some(client)
        });
        assert!(kept.echo());
        drop((next, second));
        let peers = server.server.log.wait_for("accept", 6);
        let of =
            |uid: u32| peers.iter().filter(|event| event["peer"] == format!("uid:{uid}").as_str()).count();
        assert!(of(ALICE) >= 3 && of(BOB) == 2, "{peers:?}");
    }
}

#[test]
fn a_user_over_its_rate_is_rejected_and_others_are_served() {
    for options in [["--rate-per-source", "2/d"], ["--rate-per-prefix", "2/d"]] {
        let server = UnixServer::start("rate", &options, None);
        let served = [ALICE, ALICE, ALICE, BOB, BOB, BOB].map(|uid| server.client(uid).echo());
        assert_eq!(served, [true, true, false, true, true, false], "{options:?}");
        let rejects = server.server.log.wait_for(REJECT, 2);
        let peers: Vec<_> =
            rejects.iter().map(|reject| reject["peer"].as_str().unwrap_or_default()).collect();
        assert_eq!(peers, [format!("uid:{ALICE}"), format!("uid:{BOB}")]);
        assert!(rejects.iter().all(|reject| reject["reason"] == "rate"), "{rejects:?}");
    }
}

#[test]
fn a_user_over_its_limit_is_delayed_and_others_are_served() {
    let options = ["--max-connections-per-source", "1", "--when-limited", "delay", "--delay-timeout", "1h"];
    let server = UnixServer::start("delay", &options, Some(&["cat"]));
    let mut first = server.client(ALICE);
    assert!(first.echo());
    let mut queued = server.client(ALICE);
    let mut other = server.client(BOB);
    assert!(other.echo());
    // The client in the queue has no process.
    assert_eq!(server.server.log.wait_for("accept", 2).len(), 2);
    drop(first);
    assert!(queued.echo());
    drop((queued, other));
    server.server.log.wait_for("end", 3);
    assert!(server.server.log.of(REJECT).is_empty());
}

#[test]
fn a_user_whose_connection_crashed_gets_a_penalty_unless_it_is_exempt() {
    let crash = ["sh", "-c", "read line && kill -SEGV $$"];
    for (exempt, is_exempt) in [
        (None, false),
        // An address is none of a client of a Unix socket.
        (Some("127.0.0.2"), false),
        (Some("uid:61102"), false),
        (Some("uid:61101"), true),
    ] {
        let mut options = vec!["--per-source-penalties", "yes"];
        options.extend(exempt.iter().flat_map(|client| ["--per-source-penalty-exempt-list", client]));
        let server = UnixServer::start("penalty", &options, Some(&crash));
        server.client(ALICE).echo();
        server.server.log.wait_for("end", 1);
        server.client(ALICE).echo();
        if is_exempt {
            server.server.log.wait_for("end", 2);
        } else {
            server.expect_reject(ALICE, "penalty");
            assert_eq!(server.server.log.wait_for("penalty", 1)[0]["peer"], "uid:61101");
        }
        // Another user is served.
        server.client(BOB).echo();
        server.server.log.wait_for("end", if is_exempt { 3 } else { 2 });
        assert_eq!(server.server.log.of(REJECT).len(), usize::from(!is_exempt), "{exempt:?}");
    }
}

#[test]
fn groups_and_unknown_users_cannot_be_exempt_from_penalties() {
    for (client, error) in [
        ("gid:100", "a group cannot be exempt from penalties"),
        ("uid:no-such-user", "there is no user 'no-such-user'"),
    ] {
        let words = ["--per-source-penalties", "yes", "--per-source-penalty-exempt-list", client];
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(words).arg("127.0.0.1:0"));
        assert!(code == 100 && err.contains(error) && err.lines().count() == 1, "{code} {err}");
    }
    // Where users alone are exempt, addresses are not.
    let options = ["--per-source-penalties", "yes", "--per-source-penalty-exempt-list", "uid:0"];
    let server = Server::program(&options, &["sh", "-c", "kill -SEGV $$"]);
    assert_eq!(Client::from_source("127.0.0.2", server.port()).read_to_end(), b"");
    assert_eq!(server.log.wait_for("penalty", 1)[0]["reason"], "crash");
}

#[test]
fn programs_learn_the_name_of_a_client_that_has_one() {
    let server = UnixServer::start("name", &[], Some(&["env"]));
    let described = |client: LocalClient| {
        let all = client.finish();
        let about_client =
            |line: &&str| ["REMOTE_", "UNIXREMOTEE", "FORGED"].iter().any(|start| line.starts_with(start));
        all.split_inclusive('\n').filter(about_client).collect::<String>()
    };
    let folder = Folder::new("unix-clients-names");
    let start = folder.path("");
    let ids = "UNIXREMOTEEUID=0\nUNIXREMOTEEGID=0\n";
    for (file, shown) in [
        ("client", "client"),
        ("two words é", "two words é"),
        ("a\nFORGED=1", "a\\012FORGED=1"),
        ("b\\c\u{1b}[2J", "b\\134c\\033[2J"),
        // With the longest path, the kernel needs a byte beyond sockaddr_un.
        (&"x".repeat(108 - start.len()), &"x".repeat(108 - start.len())),
    ] {
        let client = LocalClient::named(format!("{start}{file}").as_bytes(), &server.path);
        assert_eq!(described(client), format!("{ids}REMOTE_ADDR={start}{shown}\n"));
    }
    let pid = std::process::id();
    for (name, shown) in [
        (format!("\0tine-client-{pid}"), format!("REMOTE_ADDR=@tine-client-{pid}\n")),
        (format!("\0tine\0-client-{pid}\n"), format!("REMOTE_ADDR=@tine\\000-client-{pid}\\012\n")),
    ] {
        let client = LocalClient::named(name.as_bytes(), &server.path);
        assert_eq!(described(client), ids.to_owned() + &shown);
    }
    let unbound = std::os::unix::net::UnixStream::connect(&server.path).expect("the server listens");
    assert_eq!(described(LocalClient::from(unbound)), ids);
    // The program behind a pseudo-terminal learns the same.
    let server = UnixServer::start("name-pty", &["--pty-raw"], Some(&["env"]));
    let client = LocalClient::named(folder.path("terminal").as_bytes(), &server.path);
    assert_eq!(described(client), format!("{ids}REMOTE_ADDR={start}terminal\n"));
}

#[test]
fn explain_decides_about_users_and_groups() {
    let folder = Folder::new("unix-clients-explain");
    let text = "[services.open]\nlisten = \"unix:@tine-a\"\n[services.few]\nlisten = \"unix:@tine-b\"\nallow = [\"uid:61101\", \"gid:61120\"]\ndeny = [\"gid:61121\", \"192.0.2.0/24\"]\nmax-connections-per-source = 3\nrate-per-prefix = \"60/min:100\"\nper-source-penalties = \"yes\"\nper-source-penalty-exempt-list = [\"uid:61101\"]\naccess-times = \"08:00-17:00\"\n";
    let config = folder.write("tine.toml", text).display().to_string();
    let limits = "\n  its source, uid:UID: at most 3 at a time\n  its prefix, uid:UID: at most 1/s:100\n";
    let served = |rule: &str, uid: &str, penalty: &str| {
        format!(
            "allowed by: allow {rule}{}  {penalty}\n  beyond that, it is rejected\n",
            limits.replace("UID", uid)
        )
    };
    let penalized = "it gets penalties for faults of its connections";
    for (words, few) in [
        ("uid:61101", served("uid:61101", "61101", "it is exempt from penalties")),
        ("uid:61102 gid:7 gid:61120", served("gid:61120", "61102", penalized)),
        (
            "uid:61102 gid:61120 --connections 3",
            served("gid:61120", "61102", penalized)
                + "  with 3 connections, it is rejected (reason=source)\n",
        ),
        ("uid:61102 gid:61120 gid:61121", "denied by: deny gid:61121\n".into()),
        ("uid:61102", "denied: no rule allows it, and others are allowed\n".into()),
        ("uid:61101 --at 2026-11-27T18:00", "denied at Fri 18:00: access-times is 08:00-17:00\n".into()),
        ("192.0.2.1", "denied by: deny 192.0.2.0/24\n".into()),
    ] {
        let noon = if words.contains("--at") { &[][..] } else { &["--at", "12:00"] };
        let words = words.split(' ').chain(noon.iter().copied());
        let words: Vec<&str> = words.collect();
        let (code, out, err) = run(Command::new(tine()).args(["explain", &config]).args(&words));
        let few_of_out = out.split_once("few: ").map(|(_, few)| few);
        assert_eq!((code, few_of_out, err.as_str()), (0, Some(few.as_str()), ""), "{words:?}");
        assert!(out.starts_with("open: allowed: there are no rules\n"), "{out}");
    }
    for words in [&["gid:0"][..], &["uid:0", "::1"], &["uid:no-such-user"], &["nobody"], &[]] {
        let (code, _, err) = run(Command::new(tine()).args(["explain", &config]).args(words));
        assert!(code == 100 && err.lines().count() == 1, "{words:?}: {code} {err}");
    }
}
