//! A set-user-ID program under a server that is not root: the server cannot signal it. The log says
//! so once, and the stop accounts for it.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::pid;
use tine_e2e::{Folder, ServerCommand, kill, procfs, run, tine, wait_until};

/// The server as nobody.
const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

/// A copy of setpriv(1) that is set-user-ID root, and one of the server that nobody may execute.
fn programs(folder: &Folder) -> (String, String) {
    let mode = |path: &str, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    mode(&folder.path(""), 0o755);
    let (setpriv, server) = (folder.path("setpriv"), folder.path("tine"));
    let (_, path, _) = run(std::process::Command::new("sh").args(["-c", "command -v setpriv"]));
    std::fs::copy(path.trim(), &setpriv).expect("setpriv is installed");
    std::fs::copy(tine(), &server).expect("the server under test");
    mode(&setpriv, 0o4755);
    mode(&server, 0o755);
    (setpriv, server)
}

/// The text of an `error` event that contains this.
fn has_text(event: &Value, text: &str) -> bool {
    event["text"].as_str().is_some_and(|found| found.contains(text))
}

#[test]
fn a_program_that_cannot_be_ended_is_named_and_accounted_for() {
    let folder = Folder::new("set-user-id");
    let (setpriv, server) = programs(&folder);
    let arguments =
        ["serve", "--log", "json", "-1", "--max-lifetime", "300ms", "--drain-timeout", "0s", "127.0.0.1:0"];
    let program = ["--", &setpriv, "--reuid=0", "sleep", "1001"];
    let mut command = ServerCommand::program(NOBODY[0], &NOBODY[1..]);
    command.command().arg(server).args(arguments).args(program);
    let mut server = command.start();
    let _client = server.connect();
    let program = pid(&server.log.wait_for("accept", 1)[0]);
    let errors = server.log.wait_for("error", 1);
    assert!(
        has_text(&errors[0], &format!("cannot end pid {program}: operation not permitted; ")),
        "{errors:?}"
    );
    wait_until("the program runs as root", || (procfs::ids(program, "Uid") == ["0"; 4]).then_some(()));
    // TERM, then KILL at once.
    for number in 1..=3 {
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 1);
        wait_until("the signal is handled", || {
            (procfs::status(server.pid(), "ShdPnd") == "0000000000000000").then_some(number)
        });
    }
    assert_eq!(server.wait_for_exit().code(), Some(111));
    server.log.wait_for_line("account", |line| {
        line.starts_with("tine: the server has stopped, but a process of it is left, ")
            && line.contains(&format!("pid {program}: operation not permitted; "))
    });
    assert_eq!(server.log.of("error").len(), 1, "one line for a process: {:?}", server.log.of("error"));
    assert!(procfs::is_running(program));
    kill(program, Signal::KILL);
}
