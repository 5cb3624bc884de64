//! `--jail`: the users, processes, files and network of the machine stay outside.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::environment::warnings;
use tine_e2e::filters::{run_under, under};
use tine_e2e::names::{FIRST_JAILER, INIT, outcome, pid};
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

/// The first user of connections.
const FIRST: i32 = 524_288;

fn shell(options: &[&str], script: &str) -> Server {
    Server::program(&[&["--jail"], options].concat(), &["sh", "-c", script])
}

/// What a shell script prints in a full jail.
fn printed(options: &[&str], script: &str) -> String {
    shell(options, script).connect().half_close().read_text()
}

/// The processes of a server with this name in `ps`, whose first characters the kernel keeps.
fn named(server: &Server, name: &str) -> Vec<i32> {
    server.named(name).iter().map(|process| process.pid).collect()
}

#[test]
fn a_program_sees_nothing_of_the_machine() {
    let script = "id -u; echo $$; echo /proc/[0-9]*; hostname; ls -d /home /root /srv /sys 2>/dev/null
        readlink /proc/self/ns/net; ulimit -n; cat /proc/self/uid_map; ls /tmp | wc -l; pwd";
    let server = shell(&[], script);
    let mut clients = [server.connect(), server.connect()];
    let answers = clients.each_mut().map(|client| client.half_close().read_text());
    let net = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let mut uids: Vec<i32> = Vec::new();
    for answer in &answers {
        let lines: Vec<&str> = answer.lines().collect();
        let [uid, own, processes, host, network, files, map, in_tmp, directory] = lines[..] else {
            panic!("{answer}")
        };
        uids.push(uid.parse::<i32>().expect("a number"));
        // The shell, which lists them itself: not the first process of the room.
        assert_eq!((own, processes), ("2", "/proc/2"));
        assert_eq!((host, files, in_tmp, directory), ("tine", "64", "0", "/"));
        assert_ne!(Path::new(network), net);
        assert!(map.split_whitespace().next() == Some("524288"), "{map}");
    }
    // Those of their slots. A forker can have claimed one for a client that another has accepted.
    assert!(uids[0] != uids[1] && uids.iter().all(|uid| (FIRST..FIRST + 1024).contains(uid)), "{uids:?}");
    // The machine sees them with the same users, and their forker is not root either.
    let forkers = server.forkers();
    assert!(!forkers.is_empty());
    for forker in forkers {
        assert!(procfs::ids(forker, "Uid").iter().all(|uid| uid.parse::<i32>().is_ok_and(|uid| uid > FIRST)));
    }
}

#[test]
fn the_option_without_a_value_is_a_full_jail_and_takes_no_other_word() {
    let folder = Folder::new("jail-word");
    for options in [&["--jail"][..], &["--jail=full"]] {
        let server = Server::program(options, &["sh", "-c", "echo $$"]);
        assert_eq!(server.connect().read_text(), "2\n", "{options:?}");
    }
    let file = folder.write("tine.toml", "[services.a]\nlisten = \"127.0.0.1:0\"\njail = \"full\"\n");
    let (code, out, err) = run(Command::new(tine()).arg("check").arg(&file));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("# jail of a: namespaces on: "), "{out}");
}

#[test]
fn files_are_there_as_far_as_they_were_named() {
    // Below /tmp, which a jail has its own of, and elsewhere.
    for folder in [Folder::new("jail-binds"), Folder::new_in("/var/tmp", "jail-binds")] {
        let write = |name: &str| {
            let path = folder.write(name, "content\n");
            std::fs::set_permissions(
                path.parent().expect("its folder"),
                std::fs::Permissions::from_mode(0o777),
            )
            .expect("ours");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (read, both, hidden) = (write("read/file"), write("both/file"), write("read/hidden"));
        let (read_in, both_in) = (folder.path("read"), folder.path("both"));
        let program = folder.write("program", "#!/bin/sh\nexec 2>/dev/null\ncat \"$1\"; echo x > \"$2\"\n");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let program = program.to_str().expect("UTF-8");
        let printed = |options: &[&str], reads: &str, writes: &str| {
            let server = Server::program(&[&["--jail"], options].concat(), &[program, reads, writes]);
            let text = server.connect().half_close().read_text();
            (text, outcome(&server.log.wait_for("end", 1)[0]).to_owned())
        };
        let (ok, failed) = ("exit 0".to_owned(), "exit 2".to_owned());
        let content = "content\n".to_owned();
        assert_eq!(printed(&[], &read, &read), (String::new(), failed.clone()));
        let new = format!("{read_in}/new");
        assert_eq!(printed(&["--bind-read-only-paths", &read_in], &read, &new), (content.clone(), failed));
        let new = format!("{both_in}/new");
        assert_eq!(printed(&["--read-write-paths", &both_in], &both, &new), (content, ok));
        assert_eq!(std::fs::read_to_string(&new).expect("written"), "x\n");
        let options = ["--bind-read-only-paths", &read_in, "--inaccessible-paths", &hidden];
        assert_eq!(printed(&options, &hidden, "/tmp/x"), (String::new(), "exit 0".to_owned()));
    }
    let hidden = ["--inaccessible-paths", "/usr/share"];
    assert_eq!(printed(&hidden, "ls /usr/share/doc 2>&1 | grep -c denied"), "1\n");
    assert_eq!(printed(&["--cwd", "/usr/share"], "pwd"), "/usr/share\n");
    for option in ["--bind-read-only-paths", "--read-write-paths", "--inaccessible-paths"] {
        let words = ["serve", "--jail", "--control", "none", "127.0.0.1:0", option, "/nowhere"];
        let (code, _, err) = run(Command::new(tine()).args(words));
        assert!(code == 111 && err.contains("/nowhere") && err.contains("check the path"), "{code} {err}");
    }
}

#[test]
fn all_kinds_of_processes_serve_in_a_full_jail() {
    for more in [
        &[][..],
        &["--user", "nobody"],
        &["--spares", "2"],
        &["--spares", "2", "--reuse", "3"],
        &["--titles"],
        &["--forkers", "2"],
    ] {
        let server = Server::serve(&[&["--jail"], more].concat());
        (0..8).for_each(|_| _ = server.connect().echo("x").finish());
        let ends = server.log.wait_for("end", 8);
        assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{more:?}: {ends:?}");
        // In the log, processes have the numbers that the machine knows them by.
        assert!(ends.iter().all(|end| pid(end) > 2), "{more:?}: {ends:?}");
    }
    for more in [
        &[][..],
        &["--user", "nobody"],
        &["--spares", "2"],
        &["--line-buffered"],
        &["--lingering-close"],
        &["--reverse-dns"],
        &["--stderr", "log"],
        &["--nice", "5"],
        &["--private-network", "no"],
        &["--system-call-filter", "~@network-io"],
    ] {
        let server = Server::program(
            &[&["--jail"], more].concat(),
            &["sh", "-c", "read line && echo \"$line\"; grep -hE '^(Seccomp|CapPrm):' /proc/self/status"],
        );
        let mut client = server.connect();
        client.send("hello\n");
        assert_eq!(client.read_line(), "hello", "{more:?}");
        assert_eq!(client.read_line(), "CapPrm:\t0000000000000000", "{more:?}");
        assert_eq!(client.read_line(), "Seccomp:\t2", "{more:?}");
        client.finish();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0", "{more:?}");
    }
    let server = shell(&["--pty"], "test -t 0 && stty size && tty");
    assert_eq!(server.connect().read_text().replace('\r', ""), "24 80\n/dev/pts/0\n");
}

#[test]
fn an_ordinary_user_has_full_jails_too() {
    let mut command =
        ServerCommand::wrapped(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], ["--jail"]);
    command.command().args(["--", "sh", "-c", "id -u; echo $$; kill -0 1 2>&1; echo /proc/[0-9]*"]);
    let server = command.start();
    let answer = server.connect().half_close().read_text();
    let lines: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("65534", "2", "/proc/2"), "{answer}");
    assert!(lines[2].contains("not permitted"), "{answer}");
}

#[test]
fn ends_are_told_as_they_were() {
    for (script, expected) in
        [("exit 7", "exit 7"), ("kill -SEGV $$", "signal SEGV"), ("kill -TERM $$", "signal TERM")]
    {
        let server = shell(&[], script);
        server.connect().expect_closed();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), expected, "{script}");
    }
    let server = shell(&[], "echo ready; exec sleep 1003");
    let mut client = server.connect();
    client.read_line();
    kill(pid(&server.log.wait_for("accept", 1)[0]), Signal::KILL);
    client.expect_closed();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal KILL");
}

/// Nothing that a program leaves outlives it: not what detaches, nor what ignores signals.
#[test]
fn everything_ends_with_the_program() {
    let leave =
        "trap '' TERM HUP INT; for i in 1 2 3; do setsid sh -c 'trap \"\" TERM; exec sleep 1004' & done
        sleep 0.1; echo ready; read line";
    let server = shell(&[], leave);
    let sleeps = || {
        let found = server.processes().into_iter().filter(|process| process.name == "sleep");
        found.map(|process| process.pid).collect::<Vec<_>>()
    };
    let mut client = server.connect();
    client.read_line();
    wait_until("they run", || (sleeps().len() == 3).then_some(()));
    client.half_close();
    server.log.wait_for("end", 1);
    let ended = Instant::now();
    wait_until("nothing is left", || sleeps().is_empty().then_some(()));
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
}

#[test]
fn bombs_stay_in_their_jail() {
    let bomb = "head -c 64M /dev/zero > /tmp/full 2>/dev/null; ls -l /tmp/full | tr -s ' ' | cut -d' ' -f5
        f() { while :; do f & done; }; f 2>/dev/null";
    let server = shell(&[], bomb);
    let mut client = server.connect();
    let size: u64 = client.read_line().parse().expect("a size");
    assert!(size <= 16 << 20, "{size}");
    // Others are served beside it, with all that they may have.
    let mut other = server.connect();
    other.read_line();
    let processes = server.processes().into_iter();
    let mut uids: Vec<String> =
        processes.filter_map(|process| procfs::ids(process.pid, "Uid").into_iter().next()).collect();
    uids.sort_unstable();
    assert!(uids.chunk_by(|one, other| one == other).all(|of_user| of_user.len() <= 64), "{uids:?}");
    other.reset();
    client.reset();
    wait_until("both are gone", || {
        let processes = server.processes();
        (!processes.iter().any(|process| process.name == "sh" || process.name == "sleep")).then_some(())
    });
}

#[test]
fn processes_of_the_jail_can_be_killed() {
    let mut server = shell(&[], "echo ready; exec sleep 1006");
    let mut client = server.connect();
    client.read_line();
    // The first process of the room: the connection ends with it, as the kernel has it.
    let connection = pid(&server.log.wait_for("accept", 1)[0]);
    let room = std::fs::read_link(format!("/proc/{connection}/ns/pid")).expect("a namespace");
    let of_room = |name: &str| {
        let inits = named(&server, name).into_iter();
        inits
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok().as_ref() == Some(&room))
            .collect()
    };
    let inits: Vec<i32> = of_room(INIT);
    assert_eq!(inits.len(), 1);
    kill(inits[0], Signal::KILL);
    client.expect_closed();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "signal KILL");
    // A jailer: its forker and it are started again, and connections go on.
    let mut kept = server.connect();
    kept.read_line();
    // The first process of a room has its name for a moment.
    let jailer = wait_until("one process is the jailer", || match named(&server, FIRST_JAILER)[..] {
        [jailer] => Some(jailer),
        _ => None,
    });
    kill(jailer, Signal::KILL);
    for _ in 0..4 {
        let mut client = server.connect();
        client.read_line();
        client.reset();
    }
    assert!(procfs::is_running(pid(&server.log.wait_for("accept", 2)[1])));
    for forker in server.forkers() {
        kill(forker, Signal::KILL);
    }
    wait_until("other forkers", || (!server.forkers().is_empty()).then_some(()));
    let mut client = server.connect();
    client.read_line();
    assert!(procfs::is_running(pid(&server.log.wait_for("accept", 2)[1])));
    // Of the whole server, nothing stays.
    server.signal(Signal::KILL);
    server.wait_for_exit();
    server.wait_until_gone();
}

#[test]
fn many_jails_leave_nothing() {
    let server = Server::program(&["--jail", "--quiet"], &["true"]);
    let count =
        |what: &str| std::fs::read_to_string("/proc/mounts").map_or(0, |text| text.matches(what).count());
    let before = count("\n");
    server.connect().expect_closed();
    // The server's processes, and 8 rooms for each forker, beside one that it may have in hand.
    let is_idle = || {
        let (forkers, inits) = (server.forkers().len(), named(&server, INIT).len());
        let others = server.processes().len() - inits;
        (inits <= 9 * forkers && others == 1 + 2 * forkers).then_some(())
    };
    wait_until("it is idle", is_idle);
    for _ in 0..1_000 {
        server.connect().expect_closed();
    }
    wait_until("nothing is left", is_idle);
    assert_eq!(count("\n"), before);
}

/// What the system refuses, the step that is named, the cause.
const REFUSED: [(&str, &str, &str); 6] = [
    ("EPERM:unshare", "unshare of a user namespace", "container"),
    ("EPERM:mount", "private mounts", "container"),
    ("ENOSYS:open_tree", "open_tree", "5.12"),
    ("ENOSYS:mount_setattr", "mount_setattr", "5.12"),
    ("EPERM:pivot_root", "pivot_root", "container"),
    ("ENOSPC:unshare", "unshare of a user namespace", "/proc/sys/user"),
];

#[test]
fn a_full_jail_that_cannot_be_had_starts_nothing_and_an_automatic_one_is_light() {
    for (filter, step, cause) in REFUSED {
        let serve = ["serve", "--control", "none", "--jail", "127.0.0.1:0"];
        let (code, _, err) = run_under(&[filter], &serve);
        assert_eq!(code, 111, "{filter}: {err}");
        assert!(err.contains("namespaces: ") && err.contains(step) && err.contains(cause), "{filter}: {err}");
        let options = ["--control", "none", "--jail=auto", "--user", "nobody"];
        let mut command = ServerCommand::wrapped(under(&[filter]), options);
        command.command().args(["--", "sh", "-c", "id -u; grep ^Seccomp: /proc/self/status; ls -d /var/log"]);
        let server = command.start();
        server.log.wait_for("listen", 1);
        let texts = warnings(&server);
        assert!(
            texts.iter().any(|text| text.contains("namespaces") && text.contains(cause)),
            "{filter}: {texts:?}"
        );
        assert_eq!(server.connect().read_text(), "65534\nSeccomp:\t2\n/var/log\n", "{filter}");
    }
    // Where everything is there, an automatic jail is a full one.
    let server = Server::program(&["--jail=auto"], &["sh", "-c", "echo $$"]);
    assert_eq!(server.connect().read_text(), "2\n");
}
