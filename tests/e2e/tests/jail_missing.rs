//! What a program finds missing in a full jail, and what helps: the table of docs/jails.md.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use tine_e2e::recipe::recipes;
use tine_e2e::{Folder, Server};

/// Options beside `--jail`, a script, and a part of what it prints, or nothing.
type Probe = (&'static str, &'static str, &'static str);

/// The rows of the page.
const MISSING: &[(&str, &[Probe])] = &[
    (
        "an entry in `/etc/passwd`, for users of their own",
        &[("", "whoami 2>/dev/null || echo none", "none"), ("--user nobody", "whoami", "nobody")],
    ),
    (
        "a home directory",
        &[
            ("", "cd && pwd && echo \"$USER$LOGNAME$SHELL\"", "/tmp\n"),
            ("--user nobody", "cd 2>/dev/null || echo \"$HOME\"", "/nonexistent"),
            ("--user nobody --env HOME=/tmp", "cd && pwd", "/tmp"),
            ("--set-login-environment no --env HOME=/root", "cd 2>/dev/null || echo none", "none"),
        ],
    ),
    (
        "the directory in `TMPDIR`, which is the server's",
        &[
            ("--env TMPDIR=/var/lib", "mktemp 2>&1", "failed to create file"),
            ("--env TMPDIR=/var/lib --unset-env TMPDIR", "mktemp", "/tmp/tmp."),
        ],
    ),
    (
        "`/opt`, `/home`, `/srv`, `/var`",
        &[
            ("", "ls -d /opt /home /srv /var/lib 2>/dev/null", ""),
            ("--bind-read-only-paths /var/lib", "ls -d /var/lib/*", "/var/lib/dpkg"),
        ],
    ),
    ("the owners of files", &[("", "stat -c %U /etc/passwd", "nobody")]),
    ("files that only root can read", &[("", "cat /etc/shadow 2>&1", "Permission denied")]),
    (
        "`/proc/cpuinfo`, `/proc/meminfo`, `/proc/mounts`, `/sys`",
        &[
            ("", "ls /proc/cpuinfo /proc/meminfo /proc/mounts /sys 2>/dev/null", ""),
            ("--bind-read-only-paths /sys", "ls -d /sys/kernel", "/sys/kernel"),
            ("", "free 2>&1", "/proc/meminfo"),
            ("", "uptime 2>&1", "Cannot get system uptime"),
            ("", "[ $(nproc) -gt 0 ] && grep -c . /proc/self/mounts >/dev/null && echo work", "work"),
        ],
    ),
    (
        "`/dev/ptmx` and `/dev/pts`",
        &[
            ("", "script -qc true /dev/null 2>&1", "failed to create pseudo-terminal"),
            ("--pty", "tty", "/dev/pts/0"),
        ],
    ),
    ("`/dev/log` and other sockets of services", &[("", "ls /dev/log /run/* 2>/dev/null", "")]),
    (
        "the network, also that of the machine itself",
        &[
            ("", "nc -vz 127.0.0.1 1 2>&1", "Permission denied"),
            ("", "nc -uvz 127.0.0.1 1 2>&1", "Network is unreachable"),
            ("", "getent ahosts tine.example || echo unknown", "unknown"),
            ("--private-network no", "nc -vz 127.0.0.1 1 2>&1", "Connection refused"),
        ],
    ),
    (
        "room and descriptors",
        &[
            ("", "df -k /tmp | grep -c ' 16384 '; df -i /tmp | grep -c ' 1024 '", "1\n1"),
            ("", "ulimit -n; ulimit -f; ulimit -p", "64\n32768\n64"),
            (
                "--limit-nofile 99 --limit-fsize 1M --limit-nproc 98",
                "ulimit -n; ulimit -f; ulimit -p",
                "99\n2048\n98",
            ),
        ],
    ),
    (
        "the right to gain privileges",
        &[("", "su -c id 2>&1; grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1")],
    ),
    (
        "the right to trace",
        &[
            ("", "strace -e none true 2>&1", "Operation not permitted"),
            ("--system-call-filter ptrace", "strace -e none true 2>&1", "exited with 0"),
        ],
    ),
    (
        "other system calls",
        &[
            ("", "unshare -U true 2>&1", "Operation not permitted"),
            ("--system-call-error-number ENOSYS", "unshare -U true 2>&1", "Function not implemented"),
            ("", "nice true 2>&1", "Operation not permitted"),
            ("--system-call-filter setpriority", "nice echo nice", "nice"),
        ],
    ),
];

#[test]
fn what_a_program_finds_missing_is_missing() {
    let (_, text) =
        recipes().split_once("\n### What a program finds missing\n").expect("a part of the section");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let rows: Vec<&str> = rows.filter(|cell| !["missing", "---"].contains(cell)).collect();
    assert_eq!(rows, MISSING.iter().map(|(row, _)| *row).collect::<Vec<_>>());
    for (row, probes) in MISSING {
        for (options, script, expected) in *probes {
            let options: Vec<&str> = options.split_whitespace().collect();
            let server = Server::program(&[&["--jail"], &options[..]].concat(), &["sh", "-c", script]);
            let answer = server.connect().half_close().read_text().replace('\r', "");
            let found = if expected.is_empty() { answer.is_empty() } else { answer.contains(expected) };
            assert!(found, "{row}: {options:?} {script}: {answer}");
        }
    }
}

#[test]
fn sockets_of_services_can_be_connected_to_where_they_are_named() {
    let folder = Folder::new("jail-sockets");
    let path = folder.path("service");
    let listener = UnixListener::bind(&path).expect("a listener");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let service = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(b"service\n").expect("it reads");
    });
    let script = format!("nc -NU {path} 2>&1 </dev/null");
    let answer = |options: &[&str]| {
        let server = Server::program(&[&["--jail"], options].concat(), &["sh", "-c", &script]);
        server.connect().half_close().read_text()
    };
    assert!(answer(&[]).contains("No such file or directory"));
    let directory = folder.0.display().to_string();
    assert_eq!(answer(&["--bind-read-only-paths", &directory]), "service\n");
    service.join().expect("it has served");
}
