//! A server whose replacement fails, or that stops meanwhile.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tine_e2e::control::Controlled;
use tine_e2e::replacement::{replace, script};
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, tine, wait_until};

#[test]
fn a_binary_that_cannot_take_over_changes_nothing() {
    let controlled = Controlled::serve("replace-broken", &["--upgrade-timeout", "1s"], &[]);
    let folder = &controlled.folder;
    let hello = |text: &str| {
        format!(
            "#!/usr/bin/python3\nimport os, socket\ns = socket.socket(fileno=int(os.environ['TINE_HANDOVER']))\n\
             s.send(b'''{text}''')\nwhile s.recv(1000): pass\n"
        )
    };
    let later = script(folder, "later", &hello(r#"{"message":"hello","version":99,"build":"9"}"#));
    let other = script(folder, "other", &hello("hello"));
    let liar = script(
        folder,
        "liar",
        &hello(r#"{"message":"hello","version":1,"build":"9"}"#)
            .replace("while ", "s.send(b'{\"message\":\"accepting\"}')\nwhile "),
    );
    let killed = script(folder, "killed", "#!/bin/sh\nkill -KILL $$\n");
    let sleeper = script(folder, "sleeper", "#!/bin/sh\nexec sleep 60\n");
    let missing = folder.path("missing");
    let text = folder.write("text", "no program").display().to_string();
    let mut held = controlled.server.connect();
    held.echo("x");
    let before = controlled.server.forkers();
    for (binary, expected, words) in [
        (missing.as_str(), 100, "cannot execute"),
        (&text, 100, "cannot execute"),
        ("/bin/false", 111, "exit 1"),
        ("/bin/true", 111, "exit 0"),
        (&killed, 111, "signal KILL"),
        (&sleeper, 111, "within 1 s"),
        (&later, 100, "version 99 of the hand-over"),
        (&other, 100, "is it tine?"),
        (&liar, 100, "is it tine?"),
    ] {
        let (code, out, err) = controlled.tine(&["upgrade", binary]);
        assert_eq!((code, out.as_str()), (expected, ""), "{binary}: {err}");
        assert!(err.contains(words), "{binary}: {err}");
        held.echo("y");
        controlled.server.connect().echo("z").finish();
        assert_eq!(controlled.server.forkers(), before, "{binary}");
    }
    assert_eq!(controlled.server.log.of("replaced").len(), 0);
    // And one that can take over does, afterwards.
    controlled.done(&["upgrade", &tine().display().to_string()]);
    controlled.server.connect().echo("x").finish();
    held.echo("x").finish();
}

#[test]
fn one_hand_over_at_a_time_and_a_stop_ends_it() {
    let controlled = Controlled::serve("replace-one", &[], &[]);
    let sleeper = script(&controlled.folder, "sleeper", "#!/bin/sh\nexec sleep 60\n");
    let mut first = controlled.command(&["upgrade", &sleeper]);
    let first = first.stderr(Stdio::piped()).spawn().expect("tine starts");
    controlled.server.log.wait_for("replace", 1);
    let (code, _, err) = controlled.tine(&["upgrade"]);
    assert!(code == 111 && err.contains("in progress"), "{err}");
    controlled.done(&["drain"]);
    let first = first.wait_with_output().expect("our child");
    assert_eq!(first.status.code(), Some(111), "{}", String::from_utf8_lossy(&first.stderr));
    controlled.server.wait_until_gone();
}

#[test]
fn a_server_that_stops_is_not_replaced() {
    let mut server = Server::serve(&[]);
    let mut held = server.connect();
    held.echo("x");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    server.signal(Signal::USR2);
    let error = server.log.wait_for("error", 1).remove(0);
    assert!(error["text"].as_str().is_some_and(|text| text.contains("the server stops")), "{error}");
    held.finish();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn drain_stops_all_generations_and_a_hand_over() {
    let one = "[defaults]\ndrain-timeout = '300ms'\n[services.a]\nlisten = '127.0.0.1:0'\n";
    for text in [one.to_owned(), format!("{one}[services.b]\nlisten = '127.0.0.1:0'\n")] {
        let folder = Folder::new("replace-drain");
        let sleeper = script(&folder, "sleeper", "#!/bin/sh\nexec sleep 60\n");
        let file = folder.write("tine.toml", &text).display().to_string();
        let socket = folder.path("c.sock");
        let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &socket];
        let mut server = ServerCommand::program(tine(), &serve).start();
        let mut held = server.connect();
        held.echo("x");
        replace(&server, 1);
        let command = |words: &[&str]| {
            let mut command = std::process::Command::new(tine());
            command.args(words).args(["--control", &socket]).stderr(Stdio::null());
            command.spawn().expect("tine starts")
        };
        let mut upgrade = command(&["upgrade", &sleeper]);
        server.log.wait_for("replace", 2);
        let mut drain = command(&["drain"]);
        held.expect_closed();
        assert_eq!(drain.wait().expect("our child").code(), Some(0), "{text}");
        assert_eq!(upgrade.wait().expect("our child").code(), Some(111), "{text}");
        server.wait_for_exit();
        server.wait_until_gone();
    }
}

/// Kills the new process a while after it was started, unless it serves already. The old one is
/// stopped meanwhile, so that it cannot leave accepting to a process that is being killed.
fn kill_new(server: &Server, number: usize, after: Duration) -> bool {
    let line = server.log.wait_for("replace", number).remove(number - 1);
    let new = i32::try_from(line["pid"].as_i64().expect("a process id")).expect("a process id");
    std::thread::sleep(after);
    let serves = server.log.of("replaced").last().map_or(server.pid(), |line| {
        i32::try_from(line["pid"].as_i64().expect("a process id")).expect("a process id")
    });
    kill(serves, Signal::STOP);
    wait_until("the old process is stopped", || {
        procfs::process(serves).is_some_and(|process| process.state == 'T').then_some(())
    });
    let is_new = serves != new && server.log.of("replaced").iter().all(|line| line["pid"] != new);
    if is_new {
        kill(new, Signal::KILL);
        wait_until("the new process has ended", || {
            procfs::process(new).is_none_or(|process| process.is_zombie()).then_some(())
        });
    }
    kill(serves, Signal::CONT);
    is_new
}

#[test]
fn a_new_process_that_is_killed_at_any_moment_changes_nothing() {
    let controlled = Controlled::serve("replace-killed", &["--spares", "2"], &[]);
    let server = &controlled.server;
    let mut held = server.connect();
    held.echo("x");
    let mut killed = 0;
    for number in 1..=8 {
        let mut upgrade = controlled.command(&["upgrade"]);
        let upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("tine starts");
        let is_killed = kill_new(server, number, Duration::from_millis(4 * number as u64 - 4));
        let done = upgrade.wait_with_output().expect("our child");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(if is_killed { 111 } else { 0 }), "{text}");
        assert!(!is_killed || text.contains("signal KILL"), "{text}");
        killed += usize::from(is_killed);
        held.echo("y");
        server.connect().echo("z").finish();
    }
    assert!(killed > 0, "at least the first one was killed");
    assert_eq!(server.log.of("replaced").len(), 8 - killed);
}

#[test]
fn a_server_that_is_killed_while_it_is_replaced_ends_as_a_whole() {
    for moment in 0..5 {
        let name = format!("replace-old-{moment}");
        let mut controlled = Controlled::serve(&name, &["--spares", "2"], &[]);
        let mut held = controlled.server.connect();
        held.echo("x");
        let mut upgrade = controlled.command(&["upgrade"]);
        let upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tine starts");
        std::thread::sleep(Duration::from_millis(15 * moment));
        kill(controlled.server.pid(), Signal::KILL);
        upgrade.wait_with_output().expect("our child");
        held.expect_closed();
        controlled.server.wait_for_exit();
        controlled.server.wait_until_gone();
    }
}

#[test]
fn a_server_that_counts_its_connections_is_not_replaced() {
    let controlled = Controlled::serve("replace-counted", &["--exit-after", "5"], &[]);
    let (code, _, err) = controlled.tine(&["upgrade"]);
    assert!(code == 100 && err.contains("exit-after"), "{err}");
    controlled.server.connect().echo("x").finish();
}
