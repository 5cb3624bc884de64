//! Limits on what a connection uses: `--memory-max`, `--tasks-max`, `--cpu-quota`, and what a log
//! says where one was reached.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::outcome;
use tine_e2e::{Folder, Server, run, tine, wait_until};

/// All kinds of jails in which a program can have limits.
const JAILS: [&[&str]; 4] = [
    &["--jail=none"],
    &["--jail=light", "--user", "nobody"],
    &["--jail=full"],
    &["--jail", "--user", "nobody"],
];

/// A program that takes this much memory, and stays if it gets it.
fn takes(mebibytes: u32) -> String {
    format!("import sys\nx = bytearray({mebibytes} << 20)\nprint('has it', flush=True)\nsys.stdin.read()\n")
}

fn python(options: &[&str], script: &str) -> Server {
    Server::program(options, &["/usr/bin/python3", "-c", script])
}

/// The cgroups of a server, in all hierarchies.
fn cgroups_of(server: &Server) -> Vec<PathBuf> {
    let name = format!("tine.{}", server.pid());
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str() == Some(&name) {
                    found.push(entry.path());
                } else {
                    left.push(entry.path());
                }
            }
        }
    }
    found
}

fn end(server: &Server, number: usize) -> Value {
    server.log.wait_for("end", number).remove(number - 1)
}

#[test]
fn a_connection_beyond_its_memory_is_ended_and_the_others_are_not() {
    for jail in JAILS {
        let options = [jail, &["--memory-max", "40M"]].concat();
        let server = python(&options, "import os\nexec(os.sys.stdin.readline().replace(';', '\\n'))\n");
        let program = |mebibytes| takes(mebibytes).replace('\n', ";");
        let mut other = server.connect();
        other.send(format!("{}\n", program(4))).expect("has it\n");
        let mut client = server.connect();
        client.send(format!("{}\n", program(200)));
        assert_eq!(client.read_to_end(), b"", "{jail:?}");
        assert_eq!(outcome(&end(&server, 1)), "memory limit", "{jail:?}");
        assert_eq!(other.finish(), b"");
        assert_eq!(outcome(&end(&server, 2)), "exit 0", "{jail:?}");
        // The slot is as good as new.
        let mut next = server.connect();
        next.send(format!("{}\n", program(4))).expect("has it\n").finish();
        assert_eq!(outcome(&end(&server, 3)), "exit 0", "{jail:?}");
    }
}

#[test]
fn memory_of_all_processes_and_of_tmp_counts_together() {
    let script = "head -c 12M /dev/zero > /tmp/a; for i in 1 2 3 4; do \
                  python3 -c 'x = bytearray(12 << 20); input()' & done; wait; wait -n; exit 1";
    let server = Server::program(&["--jail", "--memory-max", "32M"], &["sh", "-c", script]);
    server.connect().half_close().read_to_end();
    assert_eq!(outcome(&end(&server, 1)), "memory limit");
}

#[test]
fn processes_are_counted_and_the_limit_is_told() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo all";
    for jail in JAILS {
        let options = [jail, &["--tasks-max", "6", "--kill-mode", "group"]].concat();
        let server = Server::program(&options, &["sh", "-c", script]);
        // Two at a time: each has its own.
        let mut clients = [server.connect(), server.connect()];
        for client in &mut clients {
            assert!(!client.half_close().read_text().contains("all"), "{jail:?}");
        }
        for number in [1, 2] {
            assert_eq!(outcome(&end(&server, number)), "process limit", "{jail:?}");
        }
        let few = script.replace(" 4 5 6 7 8 9", "");
        let server = Server::program(&options, &["sh", "-c", &few]);
        server.connect().half_close().expect("all\n");
        assert_eq!(outcome(&end(&server, 1)), "exit 0", "{jail:?}");
    }
}

#[test]
fn what_a_connection_leaves_in_tmp_is_not_counted_for_the_next_one() {
    let script = "head -c 12M /dev/zero > /tmp/a && echo written";
    let options = ["--jail", "--memory-max", "20M", "--max-connections", "1", "--forkers", "1"];
    let server = Server::program(&options, &["sh", "-c", script]);
    for number in 1..=20 {
        assert_eq!(server.connect().half_close().read_text(), "written\n");
        assert_eq!(outcome(&end(&server, number)), "exit 0");
    }
}

#[test]
fn a_limit_that_was_reached_counts_for_penalties() {
    let options = ["--jail", "--memory-max", "40M", "--per-source-penalties", "crash:60s"];
    let server = python(&options, &takes(200));
    assert_eq!(server.connect().read_to_end(), b"");
    assert_eq!(outcome(&end(&server, 1)), "memory limit");
    assert_eq!(server.log.wait_for("penalty", 1)[0]["reason"], "crash");
}

#[test]
fn processor_time_is_limited() {
    let script = "import time\nstart = time.monotonic()\nwhile time.process_time() < 0.3: pass\n\
                  print(time.monotonic() - start)\n";
    for jail in JAILS {
        let server = python(&[jail, &["--cpu-quota", "20%"]].concat(), script);
        let text = server.connect().half_close().read_text();
        let seconds: f64 = text.trim().parse().expect("a number");
        // A fifth of a processor: 0.3 s of it take 1.5 s, less what the first period has given.
        assert!(seconds > 1.0, "{jail:?}: {seconds}");
    }
}

#[test]
fn handlers_have_the_limits_too() {
    for options in [
        &["--jail=none"][..],
        &["--jail"],
        &["--jail=light", "--user", "nobody"],
        &["--jail", "--spares", "2"],
    ] {
        let server = Server::serve(&[options, &["--memory-max", "64M", "--tasks-max", "4"]].concat());
        let mut client = server.connect();
        client.echo("x");
        let cgroup = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let pid = server.log.wait_for("accept", 1)[0]["pid"].as_i64().expect("a number") as i32;
        let lines = cgroup(pid);
        assert!(lines.contains(&format!("/tine.{}/slot-", server.pid())), "{options:?}: {lines}");
        if options.contains(&"nobody") {
            assert_ne!(tine_e2e::procfs::ids(pid, "Uid")[0], "0");
        }
        client.finish();
        assert_eq!(outcome(&end(&server, 1)), "exit 0");
    }
}

/// The kernel suppresses such lines of its log if there are more than ten in five seconds, on the
/// whole machine: then the signal is told alone.
#[test]
fn a_call_that_the_filter_ends_a_program_for_is_named() {
    let options = ["--jail", "--system-call-error-number", "kill"];
    let server = Server::program(&options, &["unshare", "-U", "true"]);
    let mut number = 0;
    let named = wait_until("the kernel has told the call", || {
        number += 1;
        server.connect().half_close().read_to_end();
        let end = end(&server, number);
        (outcome(&end) != "signal SYS").then_some(end)
    });
    assert_eq!(outcome(&named), "seccomp: unshare");
    assert_eq!(named["jail"], "full");
}

#[test]
fn a_profile_sets_what_is_not_set() {
    let server = Server::program(&["--jail", "--jail-profile", "ctf"], &["sh", "-c", "echo here; read x"]);
    let layers: Vec<String> = server.log.of("jail").iter().map(|line| line["layer"].to_string()).collect();
    for limit in ["memory-max", "tasks-max", "cpu-quota"] {
        assert!(layers.iter().any(|layer| layer.contains(limit)), "{layers:?}");
    }
    server.connect().expect("here\n").finish();
    let bomb = "sh -c 'x() { x | x & }; x' 2>/dev/null; sleep 60 & sleep 60 & sleep 60 & sleep 60 & sleep 60 & exit 1";
    let options = ["--jail", "--jail-profile", "ctf", "--max-lifetime", "300ms"];
    let server = Server::program(&options, &["sh", "-c", bomb]);
    let start = Instant::now();
    server.connect().read_to_end();
    assert!(start.elapsed() < Duration::from_secs(10));
    wait_until("nothing is left", || server.named("sleep").is_empty().then_some(()));
}

#[test]
fn cgroups_are_removed_however_the_server_ends() {
    for signal in [Signal::TERM, Signal::KILL] {
        for jail in JAILS {
            let options =
                [jail, &["--memory-max", "64M", "--tasks-max", "10", "--cpu-quota", "50%"]].concat();
            let mut server = Server::program(&options, &["cat"]);
            let mut client = server.connect();
            client.echo("x");
            // Three hierarchies of version 1, or one of version 2.
            let cgroups = cgroups_of(&server);
            assert!([1, 3].contains(&cgroups.len()), "{jail:?}: {cgroups:?}");
            if signal == Signal::TERM {
                client.finish();
            }
            server.signal(signal);
            server.wait();
            wait_until("its cgroups are gone", || cgroups_of(&server).is_empty().then_some(()));
        }
    }
}

#[test]
fn a_limit_that_cannot_be_set_keeps_the_server_from_starting() {
    // Without the file system of cgroups.
    let serve = |options: &[&str]| {
        let mut command = Command::new("bwrap");
        command.args(["--dev-bind", "/", "/", "--tmpfs", "/sys/fs/cgroup", "--unshare-net"]);
        command.arg(tine()).args(["serve", "--control", "none", "127.0.0.1:0"]);
        run(command.args(options).args(["--", "/bin/true"]))
    };
    let (code, out, err) = serve(&["--jail=none", "--memory-max", "64M"]);
    assert_eq!((code, out.as_str()), (111, ""), "{err}");
    assert!(err.contains("the jail cannot have memory-max") && err.contains("Delegate=yes"), "{err}");
    let folder = Folder::new("jail-limits");
    let file = folder.write("tine.toml", "[services.a]\nlisten = \"127.0.0.1:0\"\nmemory-max = \"64M\"\n");
    let (code, out, _) = run(Command::new(tine()).arg("check").arg(&file));
    assert_eq!(code, 0);
    assert!(out.contains("memory-max on: 65536 KiB"), "{out}");
    for (option, value) in [("--memory-max", "1K"), ("--tasks-max", "0"), ("--cpu-quota", "0%")] {
        let (code, _, err) = run(Command::new(tine()).args(["serve", option, value, "127.0.0.1:0"]));
        assert!(code == 100 && err.contains("set a higher limit"), "{option}: {code} {err}");
    }
    for (option, value) in [("--memory-max", "x"), ("--tasks-max", "-1"), ("--cpu-quota", "20")] {
        let word = format!("{option}={value}");
        let (code, _, err) = run(Command::new(tine()).args(["serve", &word, "127.0.0.1:0"]));
        assert!(code == 100 && err.contains(value), "{option}: {code} {err}");
    }
}
