//! With `--cgroup`, every process that a program starts is found and ended, even one in a session
//! of its own, without a parent and with an empty environment.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::cgroup::{DelegatedCgroup, cgroups_in};
use tine_e2e::names::{CGROUP_CLEANER, outcome};
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

/// A shell command that leaves a daemon behind which nothing connects with the program that started
/// it.
const START_DAEMON: &str = "(env -i /usr/bin/setsid -f sleep 1009 >/dev/null 2>&1 </dev/null)";

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_detached_daemon_ends_when_its_client_disconnects() {
    let cgroups = DelegatedCgroup::new("gone");
    let server =
        cgroups.shell(&[], &format!("{START_DAEMON}; read -r line && exec tail -f /dev/null; exit 0"));
    let mut other = server.connect();
    let mut client = server.connect();
    client.send("stay\n");
    wait_until("both daemons run", || (cgroups.daemons() == 2).then_some(()));
    client.reset();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "client gone");
    assert_eq!(cgroups.daemons(), 1, "the other connection's daemon runs");
    other.half_close();
    assert_eq!(outcome(&server.log.wait_for("end", 2)[1]), "exit 0");
    // The default kill mode, `process`: the daemon runs until the server stops.
    assert_eq!(cgroups.daemons(), 1);
    stop(server);
    assert_eq!((cgroups.members(), cgroups_in(&cgroups.path)), (BTreeSet::new(), Vec::new()));
}

#[test]
fn with_kill_mode_all_a_detached_daemon_ends_with_its_program() {
    let cgroups = DelegatedCgroup::new("all");
    for mode in [&["--spares", "2"][..], &["--pty"], &[]] {
        let server =
            cgroups.shell(&[mode, &["--kill-mode", "all"]].concat(), &format!("{START_DAEMON}; echo done"));
        for number in 1..=3 {
            assert_eq!(server.connect().read_to_end(), b"done\n");
            assert_eq!(outcome(&server.log.wait_for("end", number)[number - 1]), "exit 0");
            assert_eq!(cgroups.daemons(), 0, "{mode:?}");
        }
        stop(server);
    }
}

#[test]
fn a_new_connection_never_shares_a_cgroup_with_a_surviving_daemon() {
    let cgroups = DelegatedCgroup::new("place");
    // The program of the first client starts a daemon; the second client has the same slot.
    let script = format!(
        "read -r line; [ \"$line\" = daemon ] && {{ {START_DAEMON}; exit; }}; echo second; exec tail -f /dev/null"
    );
    let server = cgroups.shell(&["--max-connections", "1", "--forkers", "1"], &script);
    server.connect().send("daemon\n").read_to_end();
    server.log.wait_for("end", 1);
    let mut second = server.connect();
    second.send("x\n").expect("second\n");
    wait_until("the daemon of the first connection runs", || (cgroups.daemons() == 1).then_some(()));
    second.reset();
    assert_eq!(outcome(&server.log.wait_for("end", 2)[1]), "client gone");
    assert_eq!(cgroups.daemons(), 1, "the daemon of the first connection still runs");
    // When the daemon ends, its cgroup is removed.
    let daemon = cgroups.members().into_iter().next().expect("a daemon");
    let of_slots = || cgroups_in(&cgroups_in(&cgroups.path)[0]);
    assert_eq!(of_slots().len(), 2);
    kill(daemon, Signal::KILL);
    wait_until("the daemon's cgroup is removed", || (of_slots().len() == 1).then_some(()));
    stop(server);
}

#[test]
fn killing_the_supervisor_kills_every_process_in_its_cgroups() {
    let cgroups = DelegatedCgroup::new("killed");
    let server = cgroups.shell(&[], &format!("{START_DAEMON}; cat"));
    let _client = server.connect();
    wait_until("the daemon runs", || (cgroups.daemons() == 1).then_some(()));
    kill(server.pid(), Signal::KILL);
    wait_until("every cgroup is removed", || cgroups_in(&cgroups.path).is_empty().then_some(()));
    assert_eq!(cgroups.members(), BTreeSet::new());
}

#[test]
fn the_cgroup_cleaner_is_restarted_and_the_next_server_removes_leftover_cgroups() {
    let cgroups = DelegatedCgroup::new("cleaner");
    let server = cgroups.shell(&[], &format!("{START_DAEMON}; exec cat"));
    let _client = server.connect();
    wait_until("the daemon runs", || (cgroups.daemons() == 1).then_some(()));
    let cleaner = || server.named(CGROUP_CLEANER).first().map(|one| one.pid);
    let first = wait_until("the cgroup cleaner runs", cleaner);
    kill(first, Signal::KILL);
    let second = wait_until("another cgroup cleaner runs", || cleaner().filter(|pid| *pid != first));
    // Killed together with the supervisor, it cannot remove the cgroups.
    kill(second, Signal::STOP);
    kill(server.pid(), Signal::KILL);
    kill(second, Signal::KILL);
    wait_until("every process of the server has ended", || {
        server.processes().iter().all(|one| one.is_zombie()).then_some(())
    });
    assert_eq!(cgroups.daemons(), 1);
    let next = cgroups.program(&[], &["cat"]);
    assert_eq!(cgroups.daemons(), 0);
    assert_eq!(cgroups_in(&cgroups.path).len(), 1);
    stop(next);
}

#[test]
fn a_program_of_another_user_cannot_leave_its_cgroup() {
    let cgroups = DelegatedCgroup::new("user");
    let root = cgroups.path.join("cgroup.procs");
    for mode in [&[][..], &["--spares", "1"], &["--pty"]] {
        let script =
            format!("id -u; echo 0 2>/dev/null >{} || echo denied; cat /proc/self/cgroup", root.display());
        let server = cgroups.shell(&[mode, &["--user", "nobody"]].concat(), &script);
        let text = server.connect().read_text();
        let (_, nobody, _) = run(Command::new("id").args(["-u", "nobody"]));
        let text = text.replace('\r', "");
        assert!(text.starts_with(&format!("{nobody}denied\n")), "{mode:?}: {text}");
        assert!(text.contains(&format!("/tine.{}/slot-", server.pid())), "{mode:?}: {text}");
        stop(server);
    }
}

#[test]
fn an_invalid_cgroup_directory_keeps_the_server_from_starting() {
    for (path, why) in [("/tmp", "not a cgroup v2 directory"), ("/no/such", "no such file")] {
        let output = Command::new(tine())
            .args(["serve", "--cgroup", path, "127.0.0.1:0", "--", "cat"])
            .stdin(Stdio::null())
            .output()
            .expect("tine starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(100), "{text}");
        assert!(text.contains(why) && text.contains("Delegate=yes"), "{text}");
    }
}

#[test]
fn a_connection_whose_cgroup_cannot_be_entered_ends_with_an_error_in_the_log() {
    let cgroups = DelegatedCgroup::new("full");
    let server = cgroups.program(&[], &["cat"]);
    fs::write(cgroups.path.join("cgroup.max.descendants"), "1").expect("a limit");
    assert_eq!(server.connect().read_to_end(), b"");
    let end = server.log.wait_for("end", 1).remove(0);
    let outcome = outcome(&end);
    assert!(outcome.contains("cannot execute") && outcome.contains("its cgroup"), "{outcome}");
    fs::write(cgroups.path.join("cgroup.max.descendants"), "max").expect("no limit");
    let mut client = server.connect();
    client.echo("again\n");
    drop(client);
    stop(server);
}

#[test]
fn a_restarted_service_kills_what_is_left_in_its_cgroups() {
    let cgroups = DelegatedCgroup::new("many");
    let folder = Folder::new("cgroup-many");
    let text = format!(
        "[services.daemon]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', '''{START_DAEMON}; echo here; cat''']\ncgroup = '{}'\nkill-mode = 'all'\n",
        cgroups.path.display()
    );
    let file = folder.write("tine.toml", &text);
    let config = file.to_str().expect("a path in UTF-8");
    let server =
        ServerCommand::program(tine(), &["serve", "--log", "json", "-1", "--config", config]).start();
    let mut client = server.connect();
    client.expect("here\n");
    wait_until("the daemon runs", || (cgroups.daemons() == 1).then_some(()));
    let supervisor = || procfs::children(server.pid()).first().map(|child| child.pid);
    let first = supervisor().expect("a supervisor");
    kill(first, Signal::KILL);
    wait_until("another supervisor runs", || supervisor().filter(|pid| *pid != first));
    let mut client = server.connect();
    client.expect("here\n");
    wait_until("the second daemon runs", || (cgroups.daemons() == 1).then_some(()));
    assert_eq!(cgroups_in(&cgroups.path).len(), 1, "the cgroups of the first supervisor are removed");
    client.half_close();
    assert_eq!(client.read_to_end(), b"");
    wait_until("no daemon runs", || (cgroups.daemons() == 0).then_some(()));
    stop(server);
    assert_eq!(cgroups_in(&cgroups.path).len(), 0);
}
