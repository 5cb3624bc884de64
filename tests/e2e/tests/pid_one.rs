//! The server as process 1 of a container: it reaps the orphans that it inherits, and TERM and the
//! other signals work although the kernel protects process 1 from those without an effect of their
//! own (pid_namespaces(7)).

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, tine, wait_until};

/// Starts a server as process 1 of a pid namespace, with a `/proc` of its own. Returns its process
/// id outside, too.
fn serve(words: &[&str]) -> (Server, i32) {
    let tine = tine().display().to_string();
    let unshare = ["--pid", "--fork", "--mount", "--propagation", "private", "--mount-proc", &tine, "serve"];
    let all = [&unshare[..], &["--log", "json", "-1"], words].concat();
    let server = ServerCommand::program("unshare", &all).start();
    let children = procfs::children(server.pid());
    assert_eq!(children.len(), 1, "unshare has one child");
    assert_eq!(procfs::ids(children[0].pid, "NSpid")[1], "1");
    (server, children[0].pid)
}

#[test]
fn orphans_are_reaped_and_term_drains() {
    for mode in [&[][..], &["--spares", "2"], &["--kill-mode", "all"]] {
        // Each orphan has a session of its own, and a child that it leaves behind.
        let script =
            "for n in 1 2 3; do (setsid sh -c 'sh -c \"sleep 0.1\" & echo orphan' &); done; sleep 0.05; cat";
        let (mut server, supervisor) = serve(&[mode, &["127.0.0.1:0", "--", "sh", "-c", script]].concat());
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.expect("orphan\norphan\norphan\n").half_close();
            assert!(client.read_to_end().is_empty());
        }
        server.log.wait_for("end", 3);
        let forkers =
            || procfs::children(supervisor).into_iter().filter(|child| !child.name.starts_with("tine: "));
        wait_until("no orphan and no zombie is left", || (forkers().count() == 0).then_some(()));
        let mut last = server.connect();
        last.expect("orphan\norphan\norphan\n");
        server.log.wait_for("accept", 4);
        kill(supervisor, Signal::TERM);
        server.log.wait_for("drain", 1);
        assert!(last.finish().is_empty());
        assert_eq!(server.wait().code(), Some(0));
        assert!(server.log.of("end").iter().all(|end| outcome(end) == "exit 0"));
        server.wait_until_gone();
    }
}

#[test]
fn a_master_as_process_one_reaps_and_stops() {
    let folder = Folder::new("pid-one");
    let text = "[services.a]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', '(setsid sleep 0.1 &); cat']\n";
    let file = folder.write("tine.toml", text).display().to_string();
    let (mut server, master) = serve(&["--config", &file]);
    server.connect().echo("x\n").finish();
    server.log.wait_for("end", 1);
    let service = procfs::children(master)[0].pid;
    // What the killed supervisor leaves behind is the master's, which reaps it.
    kill(service, Signal::KILL);
    server.log.wait_for("restart", 1);
    server.connect().echo("x\n").finish();
    wait_until("one supervisor is left", || {
        let children = procfs::children(master);
        (children.len() == 1 && !children[0].is_zombie()).then_some(())
    });
    for signal in [Signal::USR1, Signal::ALARM, Signal::QUIT] {
        kill(master, signal);
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.log.of("warning").len(), 2);
    server.wait_until_gone();
}

#[test]
fn process_one_stays_when_it_is_replaced() {
    let folder = Folder::new("pid-one-replace");
    let text = "[services.a]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', '(setsid sleep 0.1 &); cat']\n";
    let file = folder.write("tine.toml", text).display().to_string();
    let program = ["127.0.0.1:0", "--", "sh", "-c", "(setsid sleep 0.1 &); cat"];
    for words in [&program[..], &["--config", &file]] {
        let (mut server, first) = serve(words);
        let mut held = server.connect();
        held.echo("x\n");
        for number in 1..=2 {
            kill(first, Signal::USR2);
            server.log.wait_for("replaced", number);
            held.echo("y\n");
            server.connect().echo("z\n").finish();
        }
        assert_eq!(procfs::ids(first, "NSpid")[1], "1");
        // Process 1 reaps the orphans of all generations, and its own children.
        wait_until("no zombie is left", || (procfs::zombies(first) == 0).then_some(()));
        kill(first, Signal::TERM);
        held.echo("draining\n").finish();
        assert_eq!(server.wait().code(), Some(0));
        server.wait_until_gone();
    }
}
