//! Starts that cannot succeed: each ends with its reason, in one line and with exit code 111,
//! before any report of readiness, and leaves no process behind. What can be served is served.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::cgroup::DelegatedCgroup;
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, procfs, tine, wait_until};

/// An environment variable that each process of a server inherits.
const MARK: &str = "TINE_START_MARK";

/// An ordinary user that no other test uses: limits on processes count those of its user.
const ORDINARY: [&str; 6] =
    ["setpriv", "--reuid=61007", "--regid=61007", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];

/// Starts a server that cannot start, with every receiver of readiness, and returns its reason.
fn reason(name: &str, wrapper: &[&str], words: &[&str]) -> String {
    let folder = Folder::new(&format!("start-{name}"));
    let notify = folder.0.join("notify");
    let socket = UnixDatagram::bind(&notify).expect("a socket");
    socket.set_nonblocking(true).expect("a socket option");
    let (mut ready, writer) = std::io::pipe().expect("a pipe");
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("an open descriptor");
    let mark = format!("{name}-{}", std::process::id());
    let pid_file = folder.path("pid");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "20"]).args(wrapper).arg(folder.copy_of_tine());
    command.args(["serve", "-1", "--pid-file", &pid_file, "--ready-fd"]).arg(writer.as_raw_fd().to_string());
    command.args(words).env(MARK, &mark).env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
    let output = command.output().expect("timeout is installed");
    drop(writer);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(111), "{name}: {err}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{name}");
    let mut bytes = Vec::new();
    ready.read_to_end(&mut bytes).expect("no process holds the descriptor");
    assert!(bytes.is_empty(), "{name}");
    let notified = socket.recv(&mut [0; 64]).expect_err("no notification");
    assert_eq!(notified.kind(), ErrorKind::WouldBlock, "{name}");
    assert!(!std::path::Path::new(&pid_file).exists(), "{name}");
    let left = procfs::all_with(&format!("{MARK}={mark}"));
    assert!(left.iter().all(procfs::Process::is_zombie), "{name}: {left:?}");
    let lines: Vec<&str> = err.lines().filter(|line| !line.contains(" warning ")).collect();
    assert_eq!(lines.len(), 1, "{name}: {err}");
    assert!(lines[0].starts_with("tine: ") && lines[0].contains("; "), "{name}: {err}");
    lines[0].to_owned()
}

/// A start that fails: name, what executes the server, its words, parts of the reason.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

/// Asserts the reasons of some starts.
fn fail(table: &[Row]) {
    for (name, wrapper, words, parts) in table {
        let reason = reason(name, wrapper, words);
        parts.iter().for_each(|part| assert!(reason.contains(part), "{name}: '{part}' is not in: {reason}"));
    }
}

const WITHOUT_CAPABILITIES: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
const OTHER_GROUPS: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--groups=4"];
const ROOTLESS: &[&str] = &["unshare", "--user", "--map-root-user"];

#[test]
fn a_user_that_the_server_cannot_become() {
    let nobody: &[&str] = &["127.0.0.1:0", "--user", "nobody"];
    let what = "cannot change to user 65534 and group 65534";
    fail(&[
        ("ordinary", &ORDINARY, nobody, &["forker", what, "group: operation not permitted", "CAP_SETUID"]),
        ("capabilities", WITHOUT_CAPABILITIES, nobody, &["forker", what, "group: operation not permitted"]),
        ("groups", OTHER_GROUPS, nobody, &["forker", what, "supplementary groups: operation not permitted"]),
        ("rootless", ROOTLESS, nobody, &["forker", what, "invalid argument", "user namespace"]),
        ("spares", &ORDINARY, &["127.0.0.1:0", "--user", "root", "--spares", "2"], &["user 0 and group 0"]),
        ("program", &ORDINARY, &["127.0.0.1:0", "--group", "4", "--", "true"], &["cannot change to group 4"]),
    ]);
}

#[test]
fn a_user_that_the_server_is_already_needs_no_privilege() {
    let folder = Folder::new("start-public");
    let tine = folder.copy_of_tine().display().to_string();
    let nobody: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let unknown: &[&str] = &["setpriv", "--reuid=61008", "--regid=61009", "--clear-groups"];
    for (wrapper, options) in [
        (nobody, &["--user", "nobody"][..]),
        (OTHER_GROUPS, &["--user", "nobody", "--supplementary-groups", "adm"]),
        (unknown, &["--user", "61008", "--group", "61009"]),
        (unknown, &["--group", "61009", "--when-full", "reject=x", "--stderr", "log"]),
        (ROOTLESS, &["--user", "root", "--supplementary-groups", "none"]),
        (WITHOUT_CAPABILITIES, &[]),
    ] {
        let groups = options.contains(&"none").then_some(["setpriv", "--clear-groups"]);
        let words: Vec<&str> = groups.iter().flatten().chain(wrapper).copied().collect();
        let mut start = ServerCommand::program(words[0], &words[1..]);
        start.command().arg(&tine).args(["serve", "--log", "json", "-1", "127.0.0.1:0"]);
        start.command().args(options).args(["--", "cat"]);
        let server = start.start();
        server.connect().echo("served").finish();
    }
}

#[test]
fn files_and_settings_that_a_program_cannot_have() {
    let without =
        |path: &str| format!("mount --make-rprivate / && mount -t tmpfs none {path} && exec \"$@\"");
    let (dev, pts) = (without("/dev"), without("/dev/pts"));
    let dev: &[&str] = &["unshare", "--mount", "sh", "-c", &dev, "sh"];
    let pts: &[&str] = &["unshare", "--mount", "sh", "-c", &pts, "sh"];
    let read_only = "mount --make-rprivate / && mount -t tmpfs -o ro none /mnt && exec \"$@\"";
    let read_only: &[&str] = &["unshare", "--mount", "sh", "-c", read_only, "sh"];
    let closed = Folder::new("start-closed");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&closed.0, std::fs::Permissions::from_mode(0o700)).expect("our folder");
    let closed = closed.0.to_str().expect("a path in UTF-8");
    let missing = "/no/such/directory/tine.pid";
    fail(&[
        ("null", dev, &["127.0.0.1:0"], &["/dev/null cannot be opened: no such file", "mknod -m 666"]),
        (
            "terminal",
            pts,
            &["127.0.0.1:0", "--pty", "--", "cat"],
            &["no pseudoterminal can be opened", "devpts"],
        ),
        (
            "directory",
            &[],
            &["127.0.0.1:0", "--user", "nobody", "--cwd", closed, "--", "cat"],
            &["cannot change to the working directory", closed, "permission denied"],
        ),
        ("nice", &ORDINARY, &["127.0.0.1:0", "--nice=-5", "--", "cat"], &["forker 1", "its nice value"]),
        (
            "limit",
            &[&["prlimit", "--nofile=100:100"], &ORDINARY[..]].concat(),
            &["127.0.0.1:0", "--limit-nofile", "200", "--spares", "2", "--", "cat"],
            &["forker 1", "its limit nofile: operation not permitted"],
        ),
        (
            "pid-file",
            &[],
            &["127.0.0.1:0", "--pid-file", missing],
            &["cannot write the pid file", missing, "a directory of it does not exist"],
        ),
        (
            "pid-directory",
            &[],
            &["127.0.0.1:0", "--pid-file", closed],
            &["cannot write the pid file", "is a directory; check the path: it is a directory"],
        ),
        (
            "pid-read-only",
            read_only,
            &["127.0.0.1:0", "--pid-file", "/mnt/pid"],
            &["cannot write the pid file /mnt/pid: read-only file system", "below /run"],
        ),
    ]);
}

#[test]
fn a_cgroup_that_no_connection_can_enter() {
    let cgroups = DelegatedCgroup::new("start");
    let directory = cgroups.path.to_str().expect("a path in UTF-8");
    let words: &[&str] = &["127.0.0.1:0", "--cgroup", directory, "--", "cat"];
    let allow =
        |number: &str| std::fs::write(cgroups.path.join("cgroup.max.descendants"), number).expect("a limit");
    allow("0");
    fail(&[("cgroup-0", &[], words, &["cannot create the cgroup", "cgroup.max.descendants"])]);
    allow("1");
    fail(&[(
        "cgroup-1",
        &[],
        words,
        &["forker 1", "its cgroup: resource temporarily unavailable; raise cgroup.max"],
    )]);
    assert!(
        std::fs::read_dir(&cgroups.path).expect("a cgroup").flatten().all(|entry| !entry.path().is_dir())
    );
}

#[test]
fn a_limit_on_processes_that_leaves_none_for_a_connection() {
    // Of a user of its own: the limit counts all processes of a user, also those of other tests.
    let user = ["setpriv", "--reuid=61030", "--regid=61030", "--clear-groups"];
    let limited = |number: &'static str| {
        [&["prlimit", number], &user[..], &["--bounding-set=-all", "--inh-caps=-all"]].concat()
    };
    let one: &[&str] = &["127.0.0.1:0", "-q", "--forkers", "1"];
    let helper: &[&str] = &["127.0.0.1:0", "-q", "--forkers", "1", "--when-full", "reject=x"];
    let helpers = &[helper, &["--max-connections-per-source", "5", "--when-limited", "delay"]].concat();
    fail(&[
        ("forker", &limited("--nproc=1"), one, &["unavailable; raise the limit on processes"]),
        ("sibling", &limited("--nproc=2"), one, &["unavailable; raise the limit on processes"]),
        (
            "connection",
            &limited("--nproc=3"),
            helper,
            &["forker 1: cannot fork for a connection", "ulimit -u"],
        ),
        ("helper", &limited("--nproc=3"), helpers, &["fork: resource temporarily unavailable"]),
    ]);
}

/// Starts a server with a limit on open files. True if it serves, false if it has said why not.
fn serves_with(limit: u32, words: &[&str]) -> bool {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "20", "prlimit", &format!("--nofile={limit}:{limit}")]).arg(tine());
    command.args(["serve", "-1", "-q", "127.0.0.1:0"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = command.spawn().expect("timeout is installed");
    let mut line = String::new();
    let out = server.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("text");
    if let Ok(port) = line.trim().parse() {
        Client::connect(port).echo("served").finish();
        kill(i32::try_from(server.id()).expect("a process id"), Signal::TERM);
    }
    let output = server.wait_with_output().expect("our child");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(111) => {
            assert!(line.is_empty() && err.contains("open files"), "{limit}: {err}");
            let lines = err.lines().filter(|line| !line.contains(" warning "));
            assert_eq!(lines.count(), 1, "{limit}: {err}");
            false
        }
        _ => {
            assert!(!line.is_empty(), "{limit}: {:?} {err}", output.status);
            true
        }
    }
}

#[test]
fn a_limit_on_open_files_is_enough_to_serve_or_ends_the_start() {
    let all = ["--when-full", "reject=x", "--max-connections-per-source", "5", "--when-limited", "delay"];
    for words in [&[][..], &[&all[..], &["--stderr", "log", "--", "cat"]].concat()] {
        let served: Vec<bool> = (4..64).step_by(3).map(|limit| serves_with(limit, words)).collect();
        assert!(served.is_sorted() && !served[0] && served[served.len() - 1], "{served:?}");
    }
}

#[test]
fn a_service_that_cannot_start_keeps_the_others_from_reporting() {
    let folder = Folder::new("start-services");
    let text =
        "[services.good]\nlisten = '127.0.0.1:0'\n[services.bad]\nlisten = '127.0.0.1:0'\nuser = 'nobody'\n";
    let file = folder.write("tine.toml", text);
    std::fs::set_permissions(&folder.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let file = file.to_str().expect("a path in UTF-8");
    fail(&[(
        "services",
        &ORDINARY,
        &["--config", file],
        &["tine: service bad: cannot start the server: forker", "operation not permitted"],
    )]);
}

/// Executes a server whose processes suffer a fault at the first system call after their fork.
fn with_fault(fault: &'static str) -> [&'static str; 5] {
    ["strace", "-f", "-qq", "-o/dev/null", fault]
}

#[test]
fn a_process_that_ends_without_a_report() {
    let strace = with_fault("-einject=setpgid:signal=KILL");
    fail(&[("silent", &strace, &["127.0.0.1:0"], &["forker", "has ended (signal KILL)", "dmesg"])]);
}

#[test]
fn a_start_that_hangs_can_be_stopped() {
    let tine = tine();
    let strace = with_fault("-einject=setpgid:signal=STOP");
    let mut command = Command::new(strace[0]);
    command.args(&strace[1..]).arg(&tine).args(["serve", "-1", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let strace = command.spawn().expect("strace is installed");
    let id = i32::try_from(strace.id()).expect("a process id");
    // TERM is a request from when it is blocked; before, it ends the process.
    let blocks = |pid: i32| {
        let mask = u64::from_str_radix(&procfs::status(pid, "SigBlk"), 16).unwrap_or_default();
        mask >> (Signal::TERM.as_raw() - 1) & 1 == 1
    };
    let supervisor = wait_until("the supervisor has forked", || {
        let supervisor = procfs::children(id).into_iter().next()?.pid;
        (blocks(supervisor) && procfs::children(supervisor).len() >= 2).then_some(supervisor)
    });
    kill(supervisor, Signal::TERM);
    let output = strace.wait_with_output().expect("our child");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?} {out}{err}", output.status);
    assert!(out.is_empty() && !err.contains("listen") && !err.contains("stop"), "{out}{err}");
}

#[test]
fn numbers_need_no_entry_in_a_database() {
    let script = "id -u; id -g; id -G; echo \"$HOME,$USER,$LOGNAME,$SHELL\"";
    for (options, ids) in [
        (&["--user", "61008"][..], "61008\n61008\n61008\n,,,\n"),
        (&["--user", "61008", "--group", "61009"], "61008\n61009\n61009\n,,,\n"),
        (&["--user", "61008", "--supplementary-groups", "61030"], "61008\n61008\n61008 61030\n,,,\n"),
    ] {
        let hide = "mount --make-rprivate / && mount --bind /dev/null /etc/passwd && \
                    mount --bind /dev/null /etc/group && exec \"$@\"";
        for wrapper in [&[][..], &["unshare", "--mount", "sh", "-c", hide, "sh"]] {
            let mut start = ServerCommand::wrapped(wrapper, options);
            start.command().args(["--", "/bin/sh", "-c", script]);
            let server: Server = start.start();
            assert_eq!(server.connect().read_text(), ids, "{wrapper:?} {options:?}");
        }
    }
}
