//! Privileges: with `--user`, connections cannot become root again or signal the supervisor.

use std::process::Command;

use rustix::process::Signal;
use tine_e2e::cgroup::DelegatedCgroup;
use tine_e2e::names::{outcome, pid};
use tine_e2e::{Folder, Server, ServerCommand, procfs, run, tine};

use crate::intruder::{self, Intruder};

const MODES: [&[&str]; 2] = [&[], &["--spares", "4"]];

#[test]
fn with_user_a_handler_has_no_capability_and_cannot_become_root() {
    for mode in MODES {
        let server = intruder::serve(&[&["--user", "nobody"], mode]);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        assert_eq!(procfs::ids(intruder.pid, "Uid"), ["65534"; 4]);
        assert_eq!(procfs::ids(intruder.pid, "Gid"), ["65534"; 4]);
        assert_eq!(procfs::ids(intruder.pid, "Groups"), ["65534"]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(procfs::status(intruder.pid, set), "0000000000000000", "{set}");
        }
        for what in ["user", "effective-user", "group", "groups"] {
            intruder.denied(&format!("become-root {what}"), "Operation not permitted");
        }
    }
}

#[test]
fn with_user_a_program_has_no_capability_and_cannot_become_root() {
    let script = "id -u; id -g; id -G
        grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | cut -f 2 | sort -u
        for change in --reuid=0 '--regid=0 --keep-groups' --groups=0; do
            setpriv $change true 2>/dev/null && echo \"permitted: $change\"
        done; true";
    for options in [&[][..], &["--spares", "2"], &["--pty"]] {
        let options = [options, &["--user", "nobody", "--group", "daemon"]].concat();
        let server = Server::program(&options, &["sh", "-c", script]);
        let output = server.connect().half_close().read_text().replace('\r', "");
        assert_eq!(output, "65534\n1\n1\n0000000000000000\n", "{options:?}");
    }
}

#[test]
fn with_user_capabilities_that_the_server_was_given_are_not_passed_on() {
    let folder = Folder::new("capabilities");
    let tine = folder.copy_of_tine();
    let ambient = ["--inh-caps=+setuid,+setgid,+kill", "--ambient-caps=+setuid,+setgid,+kill"];
    let ids = ["--reuid=61005", "--regid=61005", "--clear-groups"];
    for options in [&["--user", "nobody"][..], &["--user", "61005"], &["--user", "nobody", "--spares", "2"]] {
        let mut start = ServerCommand::program("setpriv", &[&ids[..], &ambient].concat());
        start.command().arg(&tine).args(["serve", "--log", "json", "-1", "127.0.0.1:0"]).args(options);
        start.command().args(["--", "grep", "-E", "^Cap(Inh|Prm|Eff|Amb)", "/proc/self/status"]);
        let text = start.start().connect().half_close().read_text();
        assert_eq!(
            text.lines().filter(|line| line.ends_with("0000000000000000")).count(),
            4,
            "{options:?}: {text}"
        );
    }
}

#[test]
fn with_user_a_handler_cannot_signal_the_supervisor() {
    for mode in MODES {
        let mut server = intruder::serve(&[&["--user", "nobody"], mode]);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        for signal in [Signal::KILL, Signal::STOP, Signal::TERM, Signal::HUP, Signal::USR2] {
            intruder
                .denied(&format!("signal {} {}", server.pid(), signal.as_raw()), "Operation not permitted");
        }
        assert!(intruder.client.finish().is_empty());
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert!(server.log.of("warning").is_empty(), "no signal reached the supervisor");
    }
}

/// Not a promise but a limit that SECURITY.md names: all connections of a server have one user. The
/// server survives, and the log says what happened.
#[test]
fn a_handler_can_end_a_sibling_of_the_same_user_and_the_log_shows_the_signal() {
    let server = intruder::serve(&[&["--user", "nobody"]]);
    let mut sibling = Intruder::from_source("127.0.0.3", &server);
    let mut intruder = Intruder::from_source("127.0.0.2", &server);
    intruder.done(&format!("signal {} {}", sibling.pid, Signal::TERM.as_raw()));
    sibling.client.expect_closed();
    let end = server.log.wait_for("end", 1).remove(0);
    assert_eq!((pid(&end), outcome(&end)), (sibling.pid, "signal TERM"));
    intruder.done("pid");
}

#[test]
fn a_helper_that_cannot_give_up_its_privileges_keeps_the_server_from_starting() {
    let cgroups = DelegatedCgroup::new("helpers");
    let directory = cgroups.path.to_str().expect("a path in UTF-8");
    // With cgroups, forkers keep their privileges.
    let options = ["serve", "127.0.0.1:0", "--user", "nobody", "--cgroup", directory];
    for (helper, option) in
        [("rejector", ["--when-full", "reject=x"]), ("stderr logger", ["--stderr", "log"])]
    {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-setuid", "--inh-caps=-setuid", "--"]).arg(tine());
        let (code, _, err) = run(command.args(options).args(option).args(["--", "cat"]));
        assert_eq!((code, err.lines().count()), (111, 1), "{err}");
        let reason =
            format!("{helper}: cannot change to user 65534 and group 65534: user: operation not permitted");
        assert!(err.contains(&reason), "{err}");
    }
}
