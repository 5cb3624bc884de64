//! `tine warm-check`: what is in the way of a warm start of real programs, and that nothing of them
//! is left.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::{Folder, kill, procfs, run, tine, wait_until};

/// Python without a site and without variables that change it.
const PYTHON: [&str; 4] = ["/usr/bin/python3", "-I", "-S", "-c"];

/// Checks a program. Returns the exit code, the rows of the report, and standard error. No process
/// with the variables of the check is left.
fn check(options: &[&str], program: &[&str]) -> (i32, Vec<String>, String) {
    check_by(&[&tine().display().to_string()], options, program)
}

fn check_by(command: &[&str], options: &[&str], program: &[&str]) -> (i32, Vec<String>, String) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mark = format!("{}.{number}", std::process::id());
    let mut check = Command::new(command[0]);
    check.args(&command[1..]).arg("warm-check").args(options).arg("--").args(program);
    let (code, out, err) = run(check.env("WARM_CHECK_OF_TEST", &mark));
    let left = procfs::all_with(&format!("WARM_CHECK_OF_TEST={mark}"));
    assert!(left.is_empty(), "{program:?}: {left:?}");
    // One space between the columns.
    let rows = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    (code, rows.collect(), err)
}

/// Asserts that a program can be started warm, with these rows in the report.
fn assert_warm(options: &[&str], program: &[&str], parts: &[&str]) {
    let (code, rows, err) = check(options, program);
    assert_eq!((code, err.as_str()), (0, ""), "{program:?}: {rows:?}");
    for part in parts {
        assert!(rows.iter().any(|row| row.contains(part)), "{program:?}: {part}: {rows:?}");
    }
}

/// Asserts that a program cannot be started warm, for this reason alone.
fn assert_refused(options: &[&str], program: &[&str], reason: &str) {
    let (code, rows, err) = check(options, program);
    assert_eq!(code, 100, "{program:?}: {rows:?} {err}");
    let refused: Vec<_> = rows.iter().filter(|row| row.contains(" refused ")).collect();
    assert!(refused.len() == 1 && refused[0].contains(reason), "{program:?}: {reason}: {rows:?}");
}

/// A Python program.
fn python(text: &str) -> Vec<&str> {
    [&PYTHON[..], &[text]].concat()
}

#[test]
fn ordinary_filters_can_be_started_warm() {
    assert_warm(&[], &["cat"], &["stop ok read of descriptor 0", "descriptors ok none besides"]);
    // It is linked statically, and copies from its input to its output in the kernel.
    assert_warm(&[], &["busybox", "cat"], &["stop ok ", "variables ok "]);
    assert_warm(&[], &["busybox", "httpd", "-i"], &["stop ok "]);
    // It speaks first.
    assert_warm(&[], &["echo", "hello"], &["stop ok write of descriptor 1"]);
    // It gives way to another program.
    assert_warm(&[], &["sh", "-c", "exec cat"], &["dash, then ", "stop ok read of descriptor 0"]);
    assert_warm(&[], &["sh", "-c", "exec 7<&0 <&-; read x <&7"], &["stop ok read of descriptor "]);
}

#[test]
fn a_script_is_opened_again_and_its_earlier_children_do_not_matter() {
    let folder = Folder::new("warm-script");
    let script = folder.write("script", "expr 1 + 1 >/dev/null\nread line\necho $line\n");
    let path = script.display().to_string();
    assert_warm(&[], &["sh", &path], &[&format!("{path} at "), "to be opened again", "children ok none"]);
}

#[test]
fn the_program_has_the_environment_that_options_give_it() {
    let folder = Folder::new("warm-environment");
    let text = "#!/bin/sh\n[ \"$A $B\" = 'b ' ] && [ $(umask) = 0027 ] && read x\n";
    let script = folder.write("script", text);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("our file");
    let directory = script.parent().expect("a folder").display().to_string();
    let options = ["--env", "A=b", "--env=B=c", "--unset-env=B", "--umask=027", "--cwd", &directory];
    assert_warm(&options, &["./script"], &["stop ok read of descriptor 0"]);
    // Without them, it ends.
    assert_refused(&options[2..], &["./script"], "it exited with code 1");
    assert_warm(
        &["--limit-nofile=33", "--nice=3", "--argv0=x", "--clear-env"],
        &["/bin/sh", "-c", "[ \"$0 $(ulimit -n) $HOME\" = 'x 33 ' ] && read x"],
        &["stop ok read of descriptor 0"],
    );
    let (code, rows, err) = check(&["--cwd", "/no/such/directory"], &["cat"]);
    assert_eq!((code, rows.len()), (100, 0), "{err}");
    assert!(err.contains("there is no directory /no/such/directory; create it"), "{err}");
}

#[test]
fn the_program_has_the_variables_of_a_connection() {
    let (code, rows, err) = check(&[], &["sh", "-c", "env >&2; read x"]);
    assert_eq!(code, 0, "{rows:?}");
    for variable in
        ["PROTO=TCP", "TCPREMOTEIP=2001:db8:", "REMOTE_ADDR=2001:db8:", "REMOTE_PORT=5", "TCPLOCALPORT="]
    {
        assert!(err.lines().any(|line| line.starts_with(variable)), "{variable}: {err}");
    }
    assert!(err.contains("\nTINE_CONNECTION=1") || err.starts_with("TINE_CONNECTION=1"), "{err}");
}

#[test]
fn variables_that_a_program_has_copied() {
    let reads = python("import os, sys; sys.stdin.readline()");
    assert_refused(&[], &reads, "variables refused REMOTE_ADDR, ");
    assert_warm(
        &["--warm-allow", "pipe,variables"],
        &reads,
        &["variables allowed those of the connection are not set"],
    );
    assert_refused(&[], &["perl", "-e", "$x = <STDIN>"], "TCPREMOTEIP, TCPREMOTEPORT");
    assert_refused(&[], &["bash", "-c", "read x"], "copied by the program");
    // It has none of them any more, where it has removed them.
    let clears = "exec env -i /usr/bin/perl -e '$x = <STDIN>'";
    assert_warm(&[], &["sh", "-c", clears], &["perl", "variables ok "]);
}

/// What a Python program does before it reads, the row and reason, and what allows it.
const HINDRANCES: [(&str, &str, Option<&str>); 18] = [
    (
        "import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "threads refused 1 besides",
        None,
    ),
    (
        "import threading; t = threading.Thread(target=int); t.start(); t.join()",
        "threads refused 1 started and ended",
        Some("thread-exited"),
    ),
    ("import subprocess; subprocess.Popen(['sleep', '1000'])", "children refused sleep: ", None),
    ("import os; os.fork() or os._exit(0)", "children refused python3: ", None),
    (
        "import fcntl; f = open(__import__('sys').argv[1]); fcntl.flock(f, 2)",
        "locks refused FLOCK WRITE",
        Some("flock"),
    ),
    (
        "import fcntl; f = open(__import__('sys').argv[1], 'r+'); fcntl.lockf(f, 2)",
        "locks refused POSIX WRITE",
        Some("flock"),
    ),
    ("import signal; signal.alarm(1000)", "timers refused 1 set", Some("timer")),
    ("import signal; signal.setitimer(signal.ITIMER_VIRTUAL, 1000)", "timers refused 1 set", Some("timer")),
    (
        "import ctypes; c = ctypes.CDLL(None); assert c.timer_create(1, None, ctypes.byref(ctypes.c_long())) == 0",
        "timers refused 1 set",
        Some("timer"),
    ),
    ("import os; f = os.eventfd(0)", "is an eventfd", Some("eventfd")),
    ("import select, os; e = select.epoll(); e.register(2)", "is an epoll instance with ", Some("epoll")),
    ("import ctypes; assert ctypes.CDLL(None).timerfd_create(1, 0) > 2", "is a timerfd", Some("timerfd")),
    ("import ctypes; assert ctypes.CDLL(None).inotify_init() > 2", "inotify: whether", None),
    ("import socket; s = socket.socket()", "is a socket besides the connection", Some("socket")),
    ("import os; os.dup2(os.open('/dev/null', 0), 9); os.close(os.pipe()[0])", "is a pipe", Some("pipe")),
    ("import mmap; m = mmap.mmap(-1, 4096)", "memory refused /dev/zero", Some("shared-memory")),
    ("import tempfile; f = tempfile.TemporaryFile()", "which is deleted", None),
    (
        "import ctypes, struct; c = ctypes.CDLL(None); b = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000)); \
p = struct.pack('HxxxxxxQ', 1, ctypes.addressof(b)); assert c.prctl(38, 1, 0, 0, 0) == 0 == c.prctl(22, 2, p)",
        "filter refused the program has set one",
        None,
    ),
];

#[test]
fn what_a_program_has_before_it_reads_is_a_reason() {
    let folder = Folder::new("warm-hindrances");
    let file = folder.write("file", "text\n").display().to_string();
    for (before, reason, allowed) in HINDRANCES {
        let text = format!("{before}\n__import__('sys').stdin.readline()");
        let program = [&PYTHON[..], &[&text, &file]].concat();
        assert_refused(&["--warm-allow=variables"], &program, reason);
        if let Some(kind) = allowed {
            let options = format!("--warm-allow=variables,{kind}");
            assert_warm(&[&options], &program, &[" allowed "]);
        }
    }
}

#[test]
fn programs_that_do_not_get_to_the_point() {
    let soon = ["--warm-timeout", "2s"];
    assert_refused(&soon, &["sleep", "1000"], "within 2s, and waits in clock_nanosleep");
    assert_refused(&soon, &["sh", "-c", "sleep 1000 & wait"], "within 2s");
    assert_refused(&soon, &["sh", "-c", "while :; do :; done"], "within 2s: ");
    assert_refused(&soon, &["sh", "-c", "while :; do cd /; done"], "within 2s");
    assert_refused(&[], &["true"], "exited with code 0 before");
    assert_refused(&[], &["sh", "-c", "exit 7"], "exited with code 7 before");
    assert_refused(&[], &["sh", "-c", "kill -KILL $$"], "signal 9 ended it");
    assert_refused(&[], &["sh", "-c", "kill -STOP $$; read x"], "signal 19 stopped it");
    assert_refused(&[], &["sh", "-c", "cat; true"], "cat, would be the first to use its connection (read)");
    assert_refused(&[], &["sh", "-c", "(setsid sleep 1000 & ) ; sleep 0; exit 3"], "exited with code 3");
}

#[test]
fn a_program_can_say_when_it_is_ready() {
    let call = ["--warm-until", "call"];
    let ready = "test -e /.tine/ready; read x";
    assert_warm(&call, &["sh", "-c", ready], &["of /.tine/ready, after "]);
    let python_ready = "import os; os.path.exists('/.tine/ready'); __import__('sys').stdin.readline()";
    let options = [&call[..], &["--warm-allow", "variables"]].concat();
    assert_warm(&options, &python(python_ready), &["of /.tine/ready, after "]);
    // Also where its first use would do, and before one.
    assert_warm(&[], &["sh", "-c", ready], &["of /.tine/ready, after "]);
    // What it has written before would be in nobody's answer, or in that of each.
    let writes = format!("echo hello; {ready}");
    assert_refused(&call, &["sh", "-c", &writes], "(write of descriptor 1) before it looks at");
    assert_refused(&call, &["cat"], "(read of descriptor 0) before it looks at");
    assert_warm(&[], &["sh", "-c", &writes], &["stop ok write of descriptor 1"]);
}

#[test]
fn a_program_can_say_that_it_renews_its_variables() {
    let renews =
        python("import os; os.path.exists('/.tine/ready/variables'); __import__('sys').stdin.readline()");
    for options in [&[][..], &["--warm-until", "call"]] {
        let stop = "stop ok newfstatat of /.tine/ready/variables, after ";
        let renewed = "which renews them after its look at /.tine/ready/variables";
        assert_warm(options, &renews, &[stop, "variables ok REMOTE_ADDR, ", renewed]);
    }
    let sh = "test -e /.tine/ready/variables; read x";
    assert_warm(&[], &["sh", "-c", sh], &["of /.tine/ready/variables, ", "variables ok no copies"]);
    // It does not say so.
    let is_ready = python("import os; os.path.exists('/.tine/ready'); __import__('sys').stdin.readline()");
    assert_refused(&[], &is_ready, "renew them after a look at /.tine/ready/variables");
}

#[test]
fn a_set_user_id_program_is_not_started_by_others() {
    let folder = Folder::new("warm-set-user-id");
    let mode = |path: &str, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    let (own, cat) = (folder.copy_of_tine().display().to_string(), folder.path("cat"));
    std::fs::copy("/bin/cat", &cat).expect("cat(1)");
    mode(&folder.path(""), 0o755);
    mode(&own, 0o755);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", &own];
    for (permissions, reason) in [
        (0o4755, "cat, which is set-user-ID: "),
        (0o2755, "cat, which is set-group-ID: "),
        (0o711, "cat, which this user may not read: "),
    ] {
        mode(&cat, permissions);
        let (code, rows, err) = check_by(&nobody, &[], &[&cat]);
        assert_eq!((code, err.as_str()), (100, ""), "{rows:?}");
        assert!(rows.iter().any(|row| row.contains(reason)), "{reason}: {rows:?}");
    }
    mode(&cat, 0o755);
    let (code, rows, err) = check_by(&nobody, &[], &[&cat]);
    assert_eq!((code, err.as_str()), (0, ""), "{rows:?}");
    // PR_SET_DUMPABLE.
    let hides = python(
        "import ctypes; assert ctypes.CDLL(None).prctl(4, 0) == 0; __import__('sys').stdin.readline()",
    );
    let (code, rows, err) = check_by(&nobody, &[], &hides);
    assert_eq!((code, err.as_str()), (100, ""), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("forbids others to look into it")), "{rows:?}");
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error() {
    let folder = Folder::new("warm-no-program");
    let text = folder.write("text", "no program\n").display().to_string();
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).expect("ours");
    for (program, part) in [
        ("no-such-program", "there is no program 'no-such-program'"),
        ("/etc/passwd", "permission denied"),
        (&text, "cannot execute"),
    ] {
        let (code, rows, err) = check(&[], &[program]);
        assert_eq!((code, rows.len()), (100, 0), "{err}");
        assert!(err.contains(part) && err.contains("; ") && err.lines().count() == 1, "{err}");
    }
    let (code, _, err) = run(Command::new(tine()).arg("warm-check"));
    assert!(code == 100 && err.contains("PROGRAM"), "{err}");
    let (code, _, err) = check(&["--warm-allow", "anything"], &["cat"]);
    assert!(code == 100 && err.contains("anything"), "{err}");
}

#[test]
fn a_check_that_is_killed_leaves_nothing() {
    let mark = format!("WARM_CHECK_OF_TEST=killed.{}", std::process::id());
    let (name, value) = mark.split_once('=').expect("a variable");
    let mut check = Command::new(tine())
        .args(["warm-check", "--", "sh", "-c", "setsid sleep 1000 & sleep 1000"])
        .env(name, value)
        .stdout(Stdio::null())
        .spawn()
        .expect("tine starts");
    let sleepers = || procfs::all_with(&mark).iter().filter(|process| process.name == "sleep").count();
    wait_until("both children run", || (sleepers() == 2).then_some(()));
    kill(i32::try_from(check.id()).expect("a process id"), Signal::KILL);
    assert_eq!(check.wait().expect("a child").signal(), Some(9));
    wait_until("nothing is left", || procfs::all_with(&mark).is_empty().then_some(()));
}
