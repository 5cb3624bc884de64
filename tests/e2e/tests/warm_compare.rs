//! `tine warm-check` compares copies of real programs with executions, and says what differs.

use std::process::Command;

use tine_e2e::{Folder, procfs, run, tine};

/// Checks a program whose client sends this input. Returns the exit code and the rows of the
/// report. No process with the variables of the check is left.
fn check(input: &str, options: &[&str], program: &[&str]) -> (i32, Vec<String>) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mark = format!("{}.{number}", std::process::id());
    let folder = Folder::new(&format!("warm-compare-{number}"));
    let file = folder.write("input", input).display().to_string();
    let mut check = Command::new(tine());
    check.args(["warm-check", "--input", &file]).args(options).arg("--").args(program);
    let (code, out, err) = run(check.env("WARM_COMPARE_OF_TEST", &mark));
    let left = procfs::all_with(&format!("WARM_COMPARE_OF_TEST={mark}"));
    assert!(left.is_empty(), "{program:?}: {left:?}");
    assert_eq!(err, "", "{program:?}: {out}");
    // One space between the columns.
    let rows = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    (code, rows.collect())
}

fn assert_rows(rows: &[String], parts: &[&str]) {
    for part in parts {
        assert!(rows.iter().any(|row| row.contains(part)), "{part}: {rows:#?}");
    }
}

/// Asserts that copies do as executions, with these rows in the report.
fn assert_same(input: &str, options: &[&str], program: &[&str], parts: &[&str]) {
    let (code, rows) = check(input, options, program);
    assert_eq!(code, 0, "{program:?}: {rows:#?}");
    assert_rows(&rows, parts);
}

/// Asserts that copies do otherwise than executions, in these rows only.
fn assert_differs(input: &str, options: &[&str], program: &[&str], differences: &[&str]) {
    let (code, rows) = check(input, options, program);
    assert_eq!(code, 3, "{program:?}: {rows:#?}");
    let differing = rows.iter().filter(|row| row.contains(" differs ")).count();
    assert_eq!(differing, differences.len(), "{program:?}: {rows:#?}");
    assert_rows(&rows, differences);
}

/// Python without a site and without variables that change it.
const PYTHON: [&str; 5] = ["/usr/bin/python3", "-I", "-S", "-B", "-c"];

#[test]
fn filters_answer_and_end_the_same() {
    let parts = [
        "copy ok 3 descriptors, as in an execution",
        "answer ok 6 bytes, as of two executions",
        "exit ok exited with code 0, as two executions",
        "unique ok the executions do not differ",
        " renewed by each copy",
        "protected ",
        "saves - cold ",
        "files ok none",
    ];
    assert_same("hello\n", &[], &["cat"], &parts);
    // It is linked statically.
    assert_same("hello\n", &[], &["busybox", "cat"], &["answer ok 6 bytes"]);
    assert_same("GET /none HTTP/1.0\r\n\r\n", &[], &["busybox", "httpd", "-i"], &["answer ok ", "exit ok "]);
    // More than fits into the buffers of both sockets at once, and than is compared.
    let long = "line\n".repeat(300_000);
    // It can be told so by a signal or by an error, about which it complains.
    let cat = ["sh", "-c", "exec cat 2>/dev/null"];
    assert_same(&long, &[], &cat, &["read up to there", "exit ok not compared"]);
    // Nobody reads the input.
    assert_same("hello\n", &[], &["echo", "hello"], &["answer ok 6 bytes"]);
}

#[test]
fn each_copy_reads_a_long_script_from_its_own_offset() {
    let folder = Folder::new("warm-long-script");
    // The shell has read its first pieces by then, and reads on for each client.
    let padding = format!(": {}\n", "x".repeat(97)).repeat(200);
    let script = folder.write("script", &format!("read line\n{padding}echo $line\nexit 7\n"));
    let path = script.display().to_string();
    for shell in ["dash", "bash"] {
        let parts = ["copy ok 4 descriptors", "answer ok 6 bytes", "exit ok exited with code 7"];
        assert_same("hello\n", &["--warm-allow", "variables"], &[shell, &path], &parts);
    }
}

#[test]
fn words_of_each_connection_differ_in_each_copy() {
    let parts = ["unique ok 2 words of each execution and of each copy"];
    assert_same("\n", &[], &["sh", "-c", "read a; env | grep -E 'REMOTE_PORT|TINE_CONNECTION'"], &parts);
    // The client of each is another one, and its variables are not set.
    let text = "$x = <STDIN>; print $ENV{REMOTE_ADDR} // 'none', rand(), $$";
    let allow = ["--warm-allow", "variables"];
    assert_same("\n", &allow, &["perl", "-e", text], &["unique ok ", "variables allowed"]);
}

#[test]
fn random_numbers_that_were_seeded_before() {
    let same = "unique differs bytes ";
    let lua = "io.stdout:setvbuf('full') math.random() io.read() print(math.random(1 << 60))";
    let (code, rows) = check("\n", &[], &["lua5.4", "-e", lua]);
    assert_eq!(code, 3, "{rows:#?}");
    assert_rows(&rows, &[same, "random numbers or a time taken at the start: call ready() of a helper"]);
    let perl = "srand(); $x = <STDIN>; print int(rand(1e15))";
    let allow = ["--warm-allow", "variables"];
    assert_differs("\n", &allow, &["perl", "-e", perl], &[same]);
}

#[test]
fn a_process_id_that_was_kept() {
    let named = "the process id of the template, which the program has kept";
    assert_differs("\n", &[], &["sh", "-c", "read a; echo id $$"], &[named]);
    let helpers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../share/warm");
    let begin = format!("import os, sys; sys.path.insert(0, '{helpers}'); import random, tine_warm");
    let end = "sys.stdin.readline(); print(pid, random.random(), os.environ['REMOTE_PORT'])";
    let before = format!("{begin}; pid = os.getpid(); tine_warm.ready(); {end}");
    assert_differs("\n", &[], &[&PYTHON[..], &[&before]].concat(), &[named]);
    let after = format!("{begin}; tine_warm.ready(); pid = os.getpid(); {end}");
    assert_same("\n", &[], &[&PYTHON[..], &[&after]].concat(), &["unique ok "]);
}

#[test]
fn a_variable_that_was_not_renewed_is_named() {
    // It says that it renews them, and does not.
    let text = "import os, sys; os.path.exists('/.tine/ready/variables'); sys.stdin.readline(); \
                print(os.environ['REMOTE_PORT'], os.environ['TINE_CONNECTION'])";
    let named =
        |name: &str| format!(": the value of {name} in the template: read the variable after ready()");
    let port = named("TCPREMOTEPORT, REMOTE_PORT");
    let program = [&PYTHON[..], &[text]].concat();
    assert_differs("\n", &[], &program, &[&port, &named("TINE_CONNECTION")]);
    let address =
        text.replace("os.environ['REMOTE_PORT'], os.environ['TINE_CONNECTION']", "os.environ['REMOTE_ADDR']");
    let program = [&PYTHON[..], &[&address]].concat();
    assert_differs("\n", &[], &program, &["answer differs bytes 0 to 37 of a copy are \"2001:db8:"]);
}

#[test]
fn a_copy_that_ends_in_another_way() {
    // Its own id is not that of the process.
    let text = "read a; kill -TERM $$ 2>/dev/null; exit 3";
    let (code, rows) = check("\n", &[], &["sh", "-c", text]);
    // Where copies can signal the template, they have ended it.
    if rows.iter().any(|row| row.starts_with("protected ok")) {
        assert_eq!(code, 3, "{rows:#?}");
        assert_rows(
            &rows,
            &["exit differs a copy exited with code 3, where two executions ended by signal 15"],
        );
    }
}

#[test]
fn a_file_that_was_made_before_is_shared() {
    let folder = Folder::new("warm-files");
    let path = folder.path("own");
    let text = format!("echo x > {path}; cd /; mkdir -p {path}.d; read a; cat {path}");
    let created = format!("files ok {path} created, {path}.d created: once, for all connections");
    assert_same("\n", &[], &["sh", "-c", &text], &[&created, "answer ok 2 bytes"]);
    // The first copy takes what the others expect, and each execution makes its own.
    let text = format!("echo x > {path}.e; read a; cat {path}.e 2>/dev/null && rm {path}.e");
    assert_differs(
        "\n",
        &[],
        &["sh", "-c", &text],
        &["answer differs ", "exit differs a copy exited with code 1"],
    );
}

#[test]
fn programs_that_do_not_end_are_compared_by_what_they_have_answered() {
    let soon = ["--warm-timeout", "1s"];
    let parts = ["answer ok 3 bytes", "exit ok had not ended within the time, as two executions"];
    assert_same("\n", &soon, &["sh", "-c", "read a; echo hi; exec sleep 1000"], &parts);
    // Those that leave a child behind, in a session of its own.
    let text = "read a; echo hi; (setsid sleep 1000 </dev/null >/dev/null 2>&1 &); exit 4";
    assert_same("\n", &[], &["sh", "-c", text], &["exit ok exited with code 4"]);
}

#[test]
fn an_input_that_cannot_be_read_is_an_error() {
    let (code, out, err) = run(Command::new(tine()).args(["warm-check", "--input", "/none", "--", "cat"]));
    assert_eq!((code, out.as_str()), (100, ""), "{err}");
    assert!(err.contains("cannot read /none: ") && err.lines().count() == 1, "{err}");
}
