//! The jail of connections: what programs and handlers lose, what is required, what is told.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use tine_e2e::control::Controlled;
use tine_e2e::environment::{Environment, warnings};
use tine_e2e::filters::{run_under, under};
use tine_e2e::http::{get, observer_of};
use tine_e2e::names::{outcome, pid};
use tine_e2e::{Folder, Server, procfs, run, tine};

const LIGHT: [&str; 3] = ["--jail=light", "--user", "nobody"];

/// The layers of a light jail.
const LAYERS: [&str; 5] = ["no-new-privileges", "capabilities", "seccomp", "landlock.fs", "landlock.scope"];

/// What a shell script prints that is served with these options.
fn printed(options: &[&str], script: &str) -> String {
    let server = Server::program(options, &["sh", "-c", script]);
    server.connect().half_close().read_text()
}

/// A directory that anyone may write.
fn open_to_all(folder: &Folder, name: &str) -> String {
    let path = folder.path(name);
    std::fs::create_dir(&path).expect("a directory");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("permissions");
    path
}

#[test]
fn a_program_has_no_privileges_and_a_filter() {
    let script = "grep -E '^(CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t '";
    let jailed = printed(&LIGHT, script);
    for line in ["NoNewPrivs:1", "Seccomp:2", "CapEff:0000000000000000", "CapPrm:0000000000000000"] {
        assert!(jailed.lines().any(|found| found == line), "{line}: {jailed}");
    }
    let free = printed(&[], script);
    for line in ["NoNewPrivs:0", "CapEff:0000000000000000"] {
        assert!(free.lines().any(|found| found == line) == (line == "NoNewPrivs:0"), "{line}: {free}");
    }
}

/// Each protection alone: a script that prints `got` without it and something else with it.
#[test]
fn each_protection_alone_takes_what_it_names() {
    let folder = Folder::new("jail-alone");
    let secret = folder.write("secret", "got\n");
    let secret = secret.to_str().expect("a path in UTF-8");
    let open = open_to_all(&folder, "open");
    let write = format!("touch {open}/file && echo got");
    let python = |text: &str| format!("python3 -c '{text}' && echo got");
    let socket = python("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)");
    let personality = python("import ctypes, sys; sys.exit(ctypes.CDLL(None).personality(0x0040000) == -1)");
    let code = python("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)");
    let suid = format!("cp /bin/true {open}/true.$$ && chmod u+s {open}/true.$$ && echo got");
    let real_time = python("import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))");
    let rows: &[(&[&str], &str, &str)] = &[
        (&["--protect-system", "strict"], "nobody", &write),
        (&["--inaccessible-paths", secret], "nobody", &format!("cat {secret}")),
        (&["--restrict-address-families", "AF_UNIX AF_INET"], "nobody", &socket),
        (&["--restrict-address-families", "~AF_NETLINK"], "nobody", &socket),
        (&["--restrict-namespaces", "yes"], "nobody", "unshare -U true && echo got"),
        (&["--lock-personality", "yes"], "nobody", &personality),
        (&["--memory-deny-write-execute", "yes"], "nobody", &code),
        (&["--restrict-suid-sgid", "yes"], "nobody", &suid),
        (&["--system-call-filter", "~@chown"], "root", &format!("chown nobody {open} && echo got")),
        (&["--system-call-filter", "~mkdir ~mkdirat"], "nobody", &format!("mkdir {open}/$$ && echo got")),
        (&["--capability-bounding-set", "none"], "root", &format!("chown daemon {open} && echo got")),
        (&["--restrict-realtime", "yes"], "root", &real_time),
    ];
    for (options, user, script) in rows {
        let options = [*options, &["--user", user]].concat();
        let with = printed(&options, script);
        assert_eq!(with, "", "{options:?}: {script}");
        assert_eq!(printed(&["--user", user], script), "got\n", "without {options:?}: {script}");
    }
}

#[test]
fn files_can_be_written_below_the_paths_for_it() {
    let folder = Folder::new("jail-files");
    let (open, other) = (open_to_all(&folder, "open"), open_to_all(&folder, "other"));
    let script = format!(
        "for at in {open} {other} /tmp /dev/shm; do touch $at/jail.$$ && rm $at/jail.$$ && echo $at; done; echo x > /dev/null && echo null"
    );
    let options = [&LIGHT[..], &["--read-write-paths", &open]].concat();
    assert_eq!(printed(&options, &script), format!("{open}\nnull\n"));
    let without = printed(&["--user", "nobody"], &script);
    assert_eq!(without, format!("{open}\n{other}\n/tmp\n/dev/shm\nnull\n"));
    // Beside the directory of what is inaccessible, all is as it was.
    folder.write("other/secret", "secret");
    let options = [&LIGHT[..], &["--inaccessible-paths", &other]].concat();
    let found = printed(
        &options,
        &format!("cat {other}/secret; ls {open} && cat /etc/hostname > /dev/null && echo read"),
    );
    assert_eq!(found, "read\n");
}

#[test]
fn a_refused_call_returns_the_error_that_is_set_or_ends_the_process() {
    let script = "mkdir /tmp/never.$$ 2>&1";
    let filter = ["--user", "nobody", "--system-call-filter", "~mkdir ~mkdirat"];
    let told = |error: &str| printed(&[&filter[..], &["--system-call-error-number", error]].concat(), script);
    assert!(told("EPERM").contains("Operation not permitted"));
    assert!(told("ENOSYS").contains("Function not implemented"));
    let options = [&filter[..], &["--system-call-error-number", "kill"]].concat();
    let server = Server::program(&options, &["mkdir", "/tmp/never"]);
    server.connect().expect_closed();
    assert_ended_by_filter(&server, "mkdir");
}

/// Checks that the filter has ended the first connection. The kernel's log, which does not have
/// each call, has the name.
fn assert_ended_by_filter(server: &Server, call: &str) {
    let end = server.log.wait_for("end", 1).remove(0);
    let outcome = outcome(&end);
    assert!(outcome == "signal SYS" || outcome == format!("seccomp: {call}"), "{outcome}");
}

/// The attempts before the first client are made in processes that the filter may end.
#[test]
fn a_jail_whose_filter_ends_processes_serves() {
    for mode in ["--jail=light", "--jail=full"] {
        for terms in ["", "~kill ~socket", "~clone ~wait4"] {
            let options = [
                mode,
                "--user",
                "nobody",
                "--system-call-error-number",
                "kill",
                "--system-call-filter",
                terms,
            ];
            let server = Server::program(&options, &["echo", "served"]);
            assert_eq!(server.connect().read_text(), "served\n", "{options:?}");
            // A call that the jail refuses in any case.
            let server = Server::program(&options[..5], &["unshare", "-U", "true"]);
            server.connect().expect_closed();
            assert_ended_by_filter(&server, "unshare");
        }
    }
}

#[test]
fn neither_the_server_nor_another_connection_can_be_signalled() {
    let signals = |options: &[&str]| {
        let server = Server::program(options, &["sh"]);
        let (mut first, mut second) = (server.connect(), server.connect());
        first.send("echo $$\n");
        let mut pids = vec![first.read_line().trim().to_owned()];
        pids.extend(server.forkers().iter().map(ToString::to_string));
        let answers = pids.iter().map(|pid| {
            second.send(format!("kill -0 {pid} 2>/dev/null && echo got || echo refused\n"));
            second.read_line()
        });
        let answers: Vec<String> = answers.collect();
        // Its own children are in the jail.
        second.send("sleep 9 & kill $! && echo ended\n");
        assert_eq!(second.read_line(), "ended");
        answers
    };
    assert_eq!(signals(&LIGHT), ["refused"; 3]);
    assert_eq!(signals(&["--user", "nobody"]), ["got"; 3]);
}

#[test]
fn all_kinds_of_processes_serve_in_a_jail() {
    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&LIGHT[..], more].concat()
    }
    for more in [&[][..], &["--spares", "2"], &["--spares", "2", "--reuse", "3"], &["--titles"]] {
        let server = Server::serve(&with(more));
        (0..8).for_each(|_| _ = server.connect().echo("x").finish());
        assert_eq!(
            server.log.wait_for("end", 8).iter().filter(|end| outcome(end) != "exit 0").count(),
            0,
            "{more:?}"
        );
    }
    for more in [
        &[][..],
        &["--spares", "2"],
        &["--line-buffered"],
        &["--lingering-close"],
        &["--reverse-dns"],
        &["--stderr", "log"],
        &["--nice", "5"],
        &["--limit-nofile", "64"],
        &["--system-call-filter", "~@network-io"],
    ] {
        let server = Server::program(
            &with(more),
            &["sh", "-c", "read line && echo \"$line\"; grep -h ^Seccomp: /proc/self/status"],
        );
        let mut client = server.connect();
        client.send("hello\n");
        assert_eq!(client.read_line(), "hello", "{more:?}");
        assert_eq!(client.read_line(), "Seccomp:\t2", "{more:?}");
        client.finish();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0", "{more:?}");
    }
    let server = Server::program(&with(&["--pty"]), &["sh", "-c", "test -t 0 && stty size"]);
    assert_eq!(server.connect().read_text().trim_end(), "24 80");
}

#[test]
fn handlers_are_in_the_jail_before_they_read_a_byte() {
    let server = Server::serve(&LIGHT);
    let mut client = server.connect();
    client.echo("x");
    let pid = pid(&server.log.wait_for("accept", 1)[0]);
    assert_eq!(procfs::status(pid, "NoNewPrivs"), "1");
    assert_eq!(procfs::status(pid, "Seccomp"), "2");
    client.finish();
}

#[test]
fn the_parent_of_a_program_holds_nothing_of_the_jail() {
    for option in ["--lingering-close", "--pty"] {
        let server = Server::program(&[&LIGHT[..], &[option]].concat(), &["sh", "-c", "echo ready; cat"]);
        let mut client = server.connect();
        client.read_line();
        let parent = pid(&server.log.wait_for("accept", 1)[0]);
        let open = procfs::descriptors(parent);
        assert!(open.iter().all(|(_, target)| !target.contains("landlock")), "{option}: {open:?}");
    }
}

#[test]
fn what_is_asked_for_wrongly_starts_nothing() {
    let refused = |options: &[&str], part: &str| {
        let words = ["serve", "--control", "none", "127.0.0.1:0"];
        let (code, _, err) = run(Command::new(tine()).args(words).args(options));
        assert_eq!(code, 100, "{options:?}: {err}");
        assert!(err.contains(part) && err.lines().count() == 1, "{options:?}: {err}");
    };
    refused(&["--jail=light"], "another user");
    refused(&["--jail=light", "--user", "root"], "another user");
    refused(&["--jail=auto", "--user", "root"], "another user");
    refused(&["--jail=full", "--user", "root"], "another user");
    // The option does not take the next word, which is an address.
    refused(&["--jail", "light", "--user", "nobody"], "light");
    refused(&["--jail=light", "--user", "nobody", "--private-network", "yes"], "only a full jail");
    refused(&["--jail=light", "--user", "nobody", "--bind-read-only-paths", "/srv"], "only a full jail");
    refused(&["--jail", "--protect-system", "no"], "read-write-paths");
    refused(&["--jail=heavy"], "possible values");
    refused(&["--system-call-filter", "~@nothing"], "@system-service");
    refused(&["--system-call-filter", "reed"], "reed");
    refused(&["--system-call-error-number", "EVERYTHING"], "EPERM");
    refused(&["--restrict-address-families", "AF_NOTHING"], "AF_INET6");
    refused(&["--capability-bounding-set", "CAP_NOTHING"], "capabilities(7)");
    refused(&["--read-write-paths", "/tmp"], "protect-system");
    refused(&["--jail=light", "--user", "nobody", "--no-new-privileges", "no"], "no-new-privileges");
}

#[test]
fn a_path_that_is_missing_ends_the_start() {
    for option in ["--read-write-paths", "--inaccessible-paths"] {
        let options = ["serve", "--control", "none", "127.0.0.1:0", option, "/nowhere"];
        let (code, _, err) = run(Command::new(tine()).args(options).args(LIGHT));
        assert_eq!(code, 111, "{option}: {err}");
        assert!(err.contains("/nowhere") && err.contains("check the path"), "{option}: {err}");
    }
}

/// What the system refuses: the calls, the layer that lacks them, the cause that is told.
const REFUSED: [(&str, &str, &str); 5] = [
    ("EPERM:landlock_create_ruleset,landlock_restrict_self", "landlock.fs", "container"),
    ("ENOSYS:landlock_create_ruleset", "landlock.fs", "5.13"),
    ("EOPNOTSUPP:landlock_create_ruleset", "landlock.fs", "not enabled"),
    ("EPERM:seccomp", "seccomp", "container"),
    ("EINVAL:seccomp", "seccomp", "filters of system calls"),
];

#[test]
fn a_jail_that_is_required_does_not_start_without_a_layer() {
    for (filter, layer, cause) in REFUSED {
        let serve = ["serve", "--control", "none", "127.0.0.1:0"];
        let (code, _, err) = run_under(&[filter], &[&serve[..], &LIGHT].concat());
        assert_eq!(code, 111, "{filter}: {err}");
        assert!(err.contains(layer) && err.contains(cause), "{filter}: {err}");
        // Named alone, it is required whatever the mode. A full jail would do without Landlock.
        let option = if layer == "seccomp" { "--restrict-namespaces=yes" } else { "--protect-system=strict" };
        let auto = ["--jail=auto", "--user", "nobody", option];
        let (code, _, err) = run_under(&["EPERM:unshare", filter], &[&serve[..], &auto].concat());
        assert_eq!(code, 111, "{filter} {option}: {err}");
    }
}

#[test]
fn an_automatic_jail_does_without_and_says_so() {
    for (filter, layer, cause) in REFUSED {
        let options = ["--control", "none", "--jail=auto", "--user", "nobody"];
        let words = under(&["EPERM:unshare", filter]);
        let environment = Environment::new(words.clone());
        let mut command = tine_e2e::ServerCommand::wrapped(words, options);
        command.command().args(["--", "grep", "^NoNewPrivs", "/proc/self/status"]);
        let server = command.start();
        server.log.wait_for("listen", 1);
        let texts = warnings(&server);
        assert!(texts.iter().any(|text| text.contains(layer) && text.contains(cause)), "{filter}: {texts:?}");
        assert_eq!(server.connect().read_text(), "NoNewPrivs:\t1\n", "{filter}");
        environment.stop(server);
    }
}

/// A kernel that says yes and does nothing: only an attempt finds out.
#[test]
fn a_jail_that_does_not_hold_serves_nobody() {
    for (filter, attempt) in
        [("SUCCESS:landlock_restrict_self", "write a file"), ("SUCCESS:seccomp", "make a user namespace")]
    {
        let serve = ["serve", "--control", "none", "127.0.0.1:0"];
        let (code, _, err) = run_under(&[filter], &[&serve[..], &LIGHT].concat());
        assert_eq!(code, 111, "{filter}: {err}");
        assert!(err.contains("does not hold") && err.contains(attempt), "{filter}: {err}");
        let (code, _, err) = run_under(&[filter], &["jail-check"]);
        assert_eq!(code, 111, "{filter}: {err}");
        // It begins with a full jail, in which other attempts come first.
        assert!(err.contains("does not hold"), "{filter}: {err}");
    }
}

#[test]
fn what_is_in_force_is_told_everywhere() {
    let jailed = Controlled::serve("jail-told", &[&LIGHT[..], &["--observe", "127.0.0.1:0"]].concat(), &[]);
    let lines = jailed.server.log.of("jail");
    let layers: Vec<&str> = lines.iter().filter_map(|line| line["layer"].as_str()).collect();
    assert_eq!(layers, LAYERS);
    assert!(lines.iter().all(|line| line["state"] == "on"), "{lines:?}");
    let status = jailed.status();
    assert_eq!(status["jail"]["mode"], "light");
    let told: Vec<&Value> =
        status["jail"]["layers"].as_array().expect("layers").iter().map(|one| &one["layer"]).collect();
    assert_eq!(told, LAYERS);
    assert!(jailed.done(&["status"]).contains("light: no-new-privileges, capabilities, seccomp"));
    let metrics = get(&observer_of(&jailed.server), "/metrics");
    for layer in LAYERS {
        let name = format!("tine_jail_layer{{service=\"{}\",layer=\"{layer}\"}}", jailed.server.port());
        assert_eq!(metrics.metric(&name), Some(1.0), "{name}");
    }
    let folder = Folder::new("jail-check");
    let file = folder.write(
        "tine.toml",
        "[services.echo]\nlisten = \"127.0.0.1:0\"\nuser = \"nobody\"\njail = \"light\"\nmemory-deny-write-execute = \"yes\"\n",
    );
    let (code, out, err) = run(Command::new(tine()).arg("check").arg(&file));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("# jail of echo: seccomp on: "), "{out}");
    let (code, out, err) = run(Command::new(tine()).arg("jail-check").arg(&file));
    assert_eq!((code, err.as_str()), (0, ""));
    for layer in LAYERS.iter().chain(&["memory-deny-write-execute"]) {
        let row = out.lines().find(|line| line.split_whitespace().nth(1) == Some(layer));
        assert!(row.is_some_and(|row| row.split_whitespace().nth(2) == Some("on")), "{layer}: {out}");
    }
}

#[test]
fn a_missing_layer_is_told_by_its_exit_code() {
    let (code, out, err) = run_under(&["EOPNOTSUPP:landlock_create_ruleset"], &["jail-check"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(out.lines().any(|line| line.contains("landlock.fs") && line.contains("lsm=")), "{out}");
}
