//! A program for each connection: what it starts with, its environment, its standard error, its
//! end.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::names::{outcome, pid, suppressed};
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

/// What a program sends to a client that only shuts its sending side down.
fn output(options: &[&str], program: &[&str]) -> String {
    Server::program(options, program).connect().half_close().read_text()
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

#[test]
fn a_program_reads_and_writes_the_socket_itself() {
    for options in [&[][..], &["--spares", "3"], &["--forkers", "1"]] {
        let server = Server::program(options, &["cat"]);
        let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.echo(format!("client {number}\n"));
        }
        for client in &mut clients {
            assert!(client.finish().is_empty());
        }
        let ends = server.log.wait_for("end", 20);
        assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
        // The kernel has counted what the program has read and written.
        assert!(ends.iter().all(|end| end["in"].is_u64() && end["in"] == end["out"]), "{ends:?}");
        wait_until("every process is reaped", || (procfs::zombies(server.pid()) == 0).then_some(()));
    }
}

#[test]
fn a_program_has_only_its_own_descriptors_default_signals_and_its_own_group() {
    for options in [&[][..], &["--spares", "2"]] {
        // The server is started with signals ignored and a descriptor open.
        let script = "trap '' PIPE HUP USR1; exec 7</dev/zero; exec \"$@\"";
        let mut start = ServerCommand::wrapped(["sh", "-c", script, "sh"], options);
        start.command().args(["--", "cat"]);
        let server = start.start();
        let mut client = server.connect();
        client.echo("x");
        let pid = pid(&server.log.wait_for("accept", 1)[0]);
        wait_until("the program is executed", || (procfs::process(pid)?.name == "cat").then_some(()));
        let descriptors = procfs::descriptors(pid);
        let numbers: Vec<i32> = descriptors.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2], "{descriptors:?}");
        assert!(
            descriptors[0].1.starts_with("socket:") && descriptors[0].1 == descriptors[1].1,
            "{descriptors:?}"
        );
        procfs::assert_default_signals(pid);
        assert_eq!(procfs::limit(pid, "Max core file size"), ("0".into(), "0".into()));
        let process = procfs::process(pid).expect("the program runs");
        assert_eq!((process.parent, process.group), (server.pid(), pid));
        // It is killed with the supervisor, even when its forker is already dead.
        server.forkers().into_iter().for_each(|forker| kill(forker, Signal::KILL));
        client.echo("still");
        server.signal(Signal::KILL);
        client.expect_closed();
        server.wait_until_gone();
    }
}

#[test]
fn the_environment_of_a_program_describes_the_connection() {
    let mut start = ServerCommand::serve(["--env", "OWN=two words", "--env", "TERM=dumb"]);
    start
        .command()
        .env("TCPREMOTEHOST", "stale")
        .env("LISTEN_FDNAMES", "stale")
        .env("KEPT", "yes")
        .args(["--", "env"]);
    let server = start.start();
    let mut client = server.connect();
    let address = client.stream.local_addr().expect("a bound socket");
    let text = client.half_close().read_text();
    let variables: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let (peer_port, server_port) = (address.port().to_string(), server.port().to_string());
    for (name, value) in [
        ("PROTO", "TCP"),
        ("TCPLOCALIP", "127.0.0.1"),
        ("TCPLOCALPORT", &server_port),
        ("TCPREMOTEIP", "127.0.0.1"),
        ("TCPREMOTEPORT", &peer_port),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", &peer_port),
        ("TINE_CONNECTION", "1"),
        ("OWN", "two words"),
        ("TERM", "dumb"),
        ("KEPT", "yes"),
    ] {
        assert_eq!(variables.get(name), Some(&value), "{name} in {text}");
    }
    for name in ["TCPREMOTEHOST", "LISTEN_FDNAMES", "LISTEN_FDS", "NOTIFY_SOCKET"] {
        assert_eq!(variables.get(name), None);
    }
}

#[test]
fn a_cleared_environment_holds_the_configured_and_the_connections_variables() {
    let text = output(&["--clear-env", "--env", "PATH", "--env", "A=1"], &["/usr/bin/env"]);
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let connection =
        ["PROTO", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEIP", "TCPREMOTEPORT", "REMOTE_ADDR", "REMOTE_PORT"];
    assert_eq!(names, [&["PATH", "A"], &connection[..], &["TINE_CONNECTION"]].concat());
}

#[test]
fn a_program_starts_with_the_configured_directory_umask_nice_value_and_limits() {
    let script = sh("pwd; umask; nice; ulimit -n; ulimit -Hn; ulimit -f; ulimit -t");
    for options in [&[][..], &["--spares", "1"]] {
        let more = ["--cwd", "/usr/share", "--umask", "027", "--nice", "3", "--limit-nofile", "50:60"];
        let limits = ["--limit-fsize", "1M", "--limit-cpu", "10s"];
        // sh counts blocks of 512 bytes.
        let expected = "/usr/share\n0027\n3\n50\n60\n2048\n10\n";
        assert_eq!(output(&[options, &more, &limits].concat(), &script), expected);
    }
}

#[test]
fn programs_start_with_the_open_files_limit_that_the_server_was_given() {
    let mut start =
        ServerCommand::wrapped(["prlimit", "--nofile=300:2000", "--"], ["--max-connections", "1500"]);
    start.command().args(["--", "sh", "-c", "ulimit -n; ulimit -Hn"]);
    let server = start.start();
    assert_eq!(server.connect().finish(), b"300\n2000\n");
}

#[test]
fn standard_error_goes_to_the_client_the_server_or_nowhere() {
    let script = sh("echo to the client; echo to standard error >&2");
    assert_eq!(output(&["--stderr", "client"], &script), "to the client\nto standard error\n");
    for (target, lines) in [("null", 0), ("server", 1)] {
        let mut server = Server::program(&["--stderr", target], &script);
        assert_eq!(server.connect().finish(), b"to the client\n");
        server.signal(Signal::TERM);
        server.wait();
        let count = server.log.lines().iter().filter(|line| *line == "to standard error").count();
        assert_eq!(count, lines);
    }
}

#[test]
fn standard_error_lines_appear_in_the_log_with_the_connection_id() {
    let script = "echo \"first line of $TINE_CONNECTION\" >&2; printf 'no \\033[31mnewline' >&2; echo out";
    for options in [&["--stderr", "log"][..], &["--stderr", "log", "--spares", "2"]] {
        let mut server = Server::program(options, &sh(script));
        for _ in 0..10 {
            assert_eq!(server.connect().finish(), b"out\n");
        }
        let lines = server.log.wait_for("stderr", 20);
        for id in 1..=10u64 {
            let texts: Vec<&str> = lines
                .iter()
                .filter(|line| line["id"] == id)
                .filter_map(|line| line["text"].as_str())
                .collect();
            assert_eq!(texts, [format!("first line of {id}"), "no \u{1b}[31mnewline".into()]);
        }
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        server.wait_until_gone();
    }
}

#[test]
fn a_flood_on_standard_error_delays_no_connection_and_is_summarised_in_the_log() {
    let server =
        Server::program(&["--stderr", "log"], &sh("yes xxxxxxxxxxxxxxxxxxxxxxxx >&2 & cat; kill $!"));
    let mut loud = server.connect();
    let mut other = server.connect();
    for number in 0..50 {
        loud.echo(format!("loud {number}\n"));
        other.echo(format!("other {number}\n"));
    }
    // Before the programs are killed: on a busy machine they have written nothing yet.
    server.log.wait("summary line", |log| {
        log.of("stderr").iter().any(|line| suppressed(line) > Some(0)).then_some(())
    });
    loud.finish();
    other.finish();
    server.log.wait_for("end", 2);
}

#[test]
fn a_programs_arguments_pass_through_no_shell() {
    assert_eq!(output(&[], &["printf", "%s|", "a b", "", "$HOME", "*"]), "a b||$HOME|*|");
}

#[test]
fn a_program_runs_with_the_configured_user_and_groups() {
    assert_eq!(output(&["--user", "nobody"], &sh("id -un; id -Gn | wc -w")), "nobody\n1\n");
    let groups = |groups: &str| {
        output(&["--user", "nobody", "--group", "daemon", "--supplementary-groups", groups], &sh("id -Gn"))
    };
    assert_eq!(groups("adm,60"), "daemon adm games\n");
    assert_eq!(groups("none"), "daemon\n");
}

#[test]
fn a_programs_exit_code_or_signal_is_logged() {
    for (script, expected) in [
        ("exit 0", "exit 0"),
        ("exit 111", "exit 111"),
        ("kill -SEGV $$", "signal SEGV"),
        ("kill -9 $$", "signal KILL"),
    ] {
        let server = Server::program(&[], &sh(script));
        server.connect().half_close().expect_closed();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), expected);
    }
}

#[test]
fn a_program_that_cannot_be_executed_keeps_the_server_from_starting() {
    let folder = Folder::new("program-errors");
    let file = |name: &str, mode: u32, text: &str| {
        let path = folder.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("our file");
        path.display().to_string()
    };
    for (program, part) in [
        ("no-such-program".to_owned(), "no program 'no-such-program' in PATH"),
        ("/no/such/program".to_owned(), "no such file"),
        (file("plain", 0o644, "#!/bin/sh\n"), "permission denied"),
        (file("text", 0o755, "echo\n"), "#!/bin/sh"),
        (file("lost", 0o755, "#!/no/such/interpreter\n"), "/no/such/interpreter"),
        (folder.path(""), "not a regular file"),
    ] {
        let (code, out, err) = run(Command::new(tine()).args(["serve", "127.0.0.1:0", "--", &program]));
        assert_eq!((code, out.as_str(), err.lines().count()), (100, "", 1), "{err}");
        assert!(err.contains(part), "{err}");
    }
    for (words, part) in [
        (&["--cwd", "/no/such/folder", "127.0.0.1:0", "--", "cat"][..], "/no/such/folder"),
        (&["--spares", "2", "--reuse", "5", "127.0.0.1:0", "--", "cat"], "--reuse"),
        (&["--service", "echo", "127.0.0.1:0", "--", "cat"], "--service"),
        (&["--umask", "9", "127.0.0.1:0", "--", "cat"], "octal"),
        (&["--limit-nofile", "2:1", "127.0.0.1:0", "--", "cat"], "above the hard one"),
        (&["--limit-as", "1X", "127.0.0.1:0", "--", "cat"], "no size"),
        (&["--cwd", "/", "127.0.0.1:0"], "PROGRAM"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(words));
        assert_eq!((code, err.lines().count()), (100, 1), "{err}");
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn a_program_that_disappears_fails_one_connection_with_one_log_line() {
    for options in [&[][..], &["--spares", "2"]] {
        let folder = Folder::new("program-removed");
        let write = || {
            let path = folder.write("program", "#!/bin/sh\necho here\n");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
            path
        };
        let path = write();
        let server = Server::program(options, &[&path.display().to_string()]);
        assert_eq!(server.connect().read_to_end(), b"here\n");
        std::fs::remove_file(&path).expect("the program exists");
        server.connect().expect_closed();
        write();
        assert_eq!(server.connect().read_to_end(), b"here\n");
        let ends = server.log.wait_for("end", 3);
        let failed: Vec<_> = ends.iter().filter(|end| outcome(end) != "exit 0").collect();
        assert_eq!(failed.len(), 1, "{ends:?}");
        let outcome = outcome(failed[0]);
        assert!(
            outcome.starts_with("error cannot execute /") && outcome.ends_with("no such file or directory"),
            "{outcome}"
        );
        assert!(server.log.of("restart").is_empty());
    }
}

#[test]
fn the_environment_names_a_unix_client_by_its_process_and_user_ids() {
    let path = std::env::temp_dir().join(format!("tine-program-{}.socket", std::process::id()));
    let mut start = ServerCommand::serve(["--env", "TCPREMOTEIP=mine"]);
    start.command().arg(format!("unix:{}", path.display())).args(["--", "env"]);
    let server = start.start();
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("a listening socket");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut client, &mut text).expect("text");
    let pid = format!("UNIXREMOTEPID={}", std::process::id());
    for line in ["PROTO=UNIX", &pid, "UNIXREMOTEEUID=0", "TINE_CONNECTION=1"] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    assert!(!text.contains("TCPLOCAL"), "{text}");
    drop(server);
}

#[test]
fn four_thousand_programs_leak_no_descriptor_or_process() {
    let server = Server::program(&["--log", "off"], &["true"]);
    let port = server.port();
    let descriptors = || -> Vec<usize> {
        let processes = [vec![server.pid()], server.forkers()].concat();
        processes.into_iter().map(|pid| procfs::descriptors(pid).len()).collect()
    };
    // The server is ready before every descriptor is open. A supervisor that has reaped a program
    // and a forker that waits have opened all of theirs.
    tine_e2e::Client::connect(port).expect_closed();
    let is_waiting =
        |pid: i32| procfs::descriptors(pid).iter().any(|(_, target)| target.contains("eventpoll"));
    let only_forkers = || {
        let forkers = server.forkers();
        (procfs::children(server.pid()).len() == forkers.len() && forkers.into_iter().all(is_waiting))
            .then_some(())
    };
    wait_until("the first program is reaped and the forkers wait", only_forkers);
    let before = descriptors();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    tine_e2e::Client::connect(port).expect_closed();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("closed connections"));
    wait_until("only forkers are left", only_forkers);
    // The pidfd of the last program is closed just after it is reaped.
    wait_until("no process has more descriptors than before", || {
        descriptors().iter().zip(&before).all(|(now, before)| now <= before).then_some(())
    });
}
