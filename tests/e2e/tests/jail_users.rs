//! `--uid-range` and `--private-users`: a user for each connection of a full jail.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tine_e2e::names::{outcome, pid};
use tine_e2e::{Folder, Server, ServerCommand, procfs, run, tine};

/// An ordinary user of a test, and the first of his subordinate ids.
const USER: &str = "61234";
const SUBORDINATE: i32 = 700_000;

/// Starts a program as an ordinary user, with these subordinate ids, in a mount namespace of its
/// own, since the files of the machine stay as they are.
fn words_of_user(folder: &Folder, ids: &str) -> Vec<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
    // newuidmap(1) wants a name.
    let passwd = format!("{passwd}tester:x:{USER}:{USER}::/:/bin/sh\n");
    for (name, text) in [("subuid", ids), ("subgid", ids), ("passwd", &passwd)] {
        folder.write(name, text);
    }
    let script = "mount --make-rprivate / && for file in subuid subgid passwd; do \
                  mount --bind \"$0/$file\" /etc/$file || exit 1; done; \
                  exec setpriv --reuid 61234 --regid 61234 --clear-groups \"$@\"";
    let words = ["unshare", "-m", "sh", "-c", script, &folder.path("")];
    words.map(str::to_owned).to_vec()
}

fn uid_of(pid: i32) -> i32 {
    procfs::ids(pid, "Uid")[0].parse().expect("a number")
}

#[test]
fn connections_have_the_users_of_a_range() {
    let options = ["--jail", "--uid-range", "300000-300010", "--max-connections", "10", "--forkers", "1"];
    let server = Server::program(&options, &["sh", "-c", "id -u; id -g; exec cat"]);
    let mut clients = [server.connect(), server.connect()];
    let mut uids: Vec<i32> = clients
        .iter_mut()
        .map(|client| {
            let (uid, gid) = (client.read_line(), client.read_line());
            assert_eq!(uid, gid);
            uid.trim().parse().expect("a number")
        })
        .collect();
    uids.sort_unstable();
    assert_eq!(uids, [300_000, 300_001]);
    for accept in server.log.wait_for("accept", 2) {
        assert!((300_000..300_010).contains(&uid_of(pid(&accept))));
    }
    // Those of the server have the last one.
    assert_eq!(uid_of(server.forkers()[0]), 300_010);
}

#[test]
fn an_ordinary_user_has_a_subordinate_user_for_each_connection() {
    let folder = Folder::new("jail-users");
    std::fs::set_permissions(folder.path(""), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let options = ["--jail", "--private-users", "range", "--max-connections", "10"];
    let ids = format!("ann:1:2\n{USER}:{SUBORDINATE}:11\n");
    let words = words_of_user(&folder, &ids);
    let mut command = ServerCommand::wrapped(&words, options);
    command.command().args(["--", "sh", "-c", "id -u; exec tail -f /dev/null"]);
    let server = command.start();
    let mut clients = [server.connect(), server.connect()];
    let mut uids: Vec<i32> =
        clients.iter_mut().map(|client| client.read_line().trim().parse().expect("a number")).collect();
    uids.sort_unstable();
    assert_eq!(uids, [SUBORDINATE, SUBORDINATE + 1]);
    for accept in server.log.wait_for("accept", 2) {
        assert!([SUBORDINATE, SUBORDINATE + 1].contains(&uid_of(pid(&accept))));
    }
    // The supervisor, which is another user, can end them.
    clients.into_iter().for_each(tine_e2e::Client::reset);
    for end in server.log.wait_for("end", 2) {
        assert_eq!(outcome(&end), "client gone");
    }
    // Too few, or none.
    for ids in [format!("{USER}:{SUBORDINATE}:10\n"), String::new()] {
        let words = words_of_user(&folder, &ids);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(tine()).args(["serve", "--control", "none", "127.0.0.1:0"]);
        let (code, out, err) = run(command.args(options).args(["--", "/bin/true"]));
        assert_eq!((code, out.as_str()), (111, ""), "{err}");
        assert!(err.contains("/etc/subuid has no range of 11 ids") && err.contains("usermod"), "{err}");
    }
}

#[test]
fn users_that_contradict_each_other_are_refused() {
    for (options, part) in [
        (&["--jail", "--uid-range", "300000-300009", "--max-connections", "10"][..], "10 connections"),
        (&["--jail", "--uid-range", "0-70000"], "is no range of users without root"),
        (&["--jail", "--uid-range", "300000-400000", "--user", "nobody"], "are both set"),
        (&["--jail", "--private-users", "range", "--user", "nobody"], "are both set"),
        (&["--jail", "--uid-range", "300000-400000", "--private-users", "self"], "none is to be used"),
        (&["--jail", "--private-users", "self"], "served by root"),
        (&["--jail=light", "--user", "nobody", "--uid-range", "300000-400000"], "only a full jail has it"),
        (&["--jail", "--uid-range", "300000"], "is no range"),
    ] {
        let mut command = Command::new(tine());
        command.args(["serve", "--control", "none", "127.0.0.1:0"]).args(options);
        let (code, out, err) = run(command.args(["--", "/bin/true"]));
        assert_eq!((code, out.as_str()), (100, ""), "{options:?}: {err}");
        assert!(err.contains(part), "{options:?}: {err}");
    }
}
