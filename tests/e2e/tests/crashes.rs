//! Crash reports: what a connection leaves that ends by a signal or a panic.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::http::{get, observer_of};
use tine_e2e::{Folder, Server, ServerCommand, built, kill, run, tine, wait_until};

/// A server whose handler crashes as it is asked to, with a directory of reports.
fn faulty(folder: &Folder, more: &[&str]) -> Server {
    let directory = folder.path("crashes");
    ServerCommand::program(built("misbehave"), &[&[directory.as_str()], more].concat()).start()
}

/// Sends a fault, and returns the report about its connection.
fn report_of(server: &Server, folder: &Folder, fault: &str) -> Value {
    let before = server.log.of("crash").len();
    server.connect().send(fault).expect_closed();
    let crash = &server.log.wait_for("crash", before + 1)[before];
    let name = crash["report"].as_str().expect("a name");
    let text = std::fs::read_to_string(folder.path(&format!("crashes/{name}.json"))).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&report["id"], &report["cause"]), (&crash["id"], &crash["cause"]), "{report}");
    report
}

fn text<'a>(report: &'a Value, key: &str) -> &'a str {
    report[key].as_str().unwrap_or_default()
}

#[test]
fn a_handler_leaves_the_place_of_its_panic_and_the_address_of_its_fault() {
    let folder = Folder::new("crashes-handler");
    let server = faulty(&folder, &[]);
    let panicked = report_of(&server, &folder, "W");
    assert_eq!((text(&panicked, "outcome"), text(&panicked, "panic")), ("panic with words", "with words"));
    assert!(text(&panicked, "place").contains("misbehave.rs:"), "{panicked}");
    assert_eq!(text(&panicked, "cause"), format!("panic at {}", text(&panicked, "place")));
    assert_eq!(panicked["stderr"][0], "last words");
    let message = |line: &Value| line.as_str().is_some_and(|line| line.contains("panicked at"));
    assert!(panicked["stderr"].as_array().is_some_and(|lines| lines.iter().any(message)), "{panicked}");
    assert!(text(&panicked, "handler").contains("misbehave"), "{panicked}");
    assert!(text(&panicked, "peer").starts_with("127.0.0.1:"), "{panicked}");
    for key in ["duration_ms", "cpu_ms", "peak_memory_bytes", "bytes_in", "pid"] {
        assert!(panicked[key].as_f64().is_some_and(|number| number > 0.0), "{key}: {panicked}");
    }
    // What it wrote went to the standard error of the server, as without reports.
    server.log.wait_for_line("its words", |line| line.starts_with("last words"));
    // A stack that has overflowed faults in the handler, at an address of its own.
    let overflowed = report_of(&server, &folder, "O");
    assert_eq!((text(&overflowed, "signal"), overflowed.get("panic")), ("SEGV", None));
    let is_number =
        |text: &str| u64::from_str_radix(text.trim_start_matches("+0x"), 16).is_ok_and(|at| at > 0);
    assert!(text(&overflowed, "address").starts_with("0x"), "{overflowed}");
    assert!(is_number(text(&overflowed, "instruction")), "{overflowed}");
    assert_eq!(text(&overflowed, "cause"), format!("signal SEGV at {}", text(&overflowed, "instruction")));
    // The same fault is the same cause.
    assert_eq!(report_of(&server, &folder, "O")["cause"], overflowed["cause"]);
    // A signal that was sent has no address.
    let sent = report_of(&server, &folder, "S");
    assert_eq!((text(&sent, "signal"), &sent["address"]), ("SEGV", &Value::Null), "{sent}");
    let aborted = report_of(&server, &folder, "A");
    assert_eq!(text(&aborted, "signal"), "ABRT");
    assert!(aborted["stderr"].to_string().contains("memory allocation of"), "{aborted}");
    // Errors and exits are no crashes, and other connections go on.
    for other in ["E", "X"] {
        server.connect().send(other).expect_closed();
    }
    server.connect().echo("x").finish();
    server.log.wait_for("end", 8);
    assert_eq!(server.log.of("crash").len(), 5);
}

#[test]
fn a_worker_that_panics_leaves_a_report() {
    let folder = Folder::new("crashes-worker");
    let server = faulty(&folder, &["workers"]);
    server.connect().echo("x").finish();
    let panicked = report_of(&server, &folder, "P");
    assert_eq!((text(&panicked, "panic"), &panicked["stderr"]), ("as asked", &json!([])));
    assert!(text(&panicked, "place").contains("misbehave.rs:"), "{panicked}");
    assert_eq!(text(&report_of(&server, &folder, "O"), "signal"), "SEGV");
}

/// Ends by a fault, a signal or usually, as its client asks.
const PROGRAM: [&str; 3] = [
    "sh",
    "-c",
    "echo words of $$ >&2; read fault; case $fault in \
     fault) exec python3 -c 'import ctypes; ctypes.string_at(0x1234)';; \
     exit) exit 3;; pipe) kill -PIPE $$;; *) kill -$fault $$;; esac",
];

/// A server of the program, with reports.
fn programs(name: &str, options: &[&str]) -> Controlled {
    let directory = std::env::temp_dir().join(format!("tine-crashes-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let directory = directory.display().to_string();
    Controlled::serve(name, &[&["--crash-dir", directory.as_str()], options].concat(), &PROGRAM)
}

fn groups(controlled: &Controlled) -> Vec<Value> {
    serde_json::from_str(&controlled.done(&["crashes", "--json"])).expect("JSON")
}

/// Has a program end, and waits until its connection has.
fn end_by(controlled: &Controlled, fault: &str) {
    let before = controlled.server.log.of("end").len();
    let mut client = controlled.server.connect();
    client.send(format!("{fault}\n")).expect_closed();
    controlled.server.log.wait_for("end", before + 1);
}

#[test]
fn reports_of_programs_are_grouped_by_cause_and_shown() {
    let controlled = programs("crashes-programs", &["--observe", "127.0.0.1:0", "--stderr", "log"]);
    for fault in ["ABRT", "KILL", "ABRT", "exit", "pipe"] {
        end_by(&controlled, fault);
    }
    controlled.server.log.wait_for("crash", 3);
    let found = groups(&controlled);
    let shown: Vec<(&str, &Value)> =
        found.iter().map(|group| (text(group, "cause"), &group["count"])).collect();
    assert_eq!(shown, [("signal ABRT", &json!(2)), ("signal KILL", &json!(1))]);
    assert_eq!(found[0]["program"], json!(PROGRAM));
    // One of them, by its name and by its connection.
    let name = found[0]["reports"][0].as_str().expect("a name");
    let report: Value = serde_json::from_str(&controlled.done(&["crashes", name, "--json"])).expect("JSON");
    assert_eq!((&report["id"], &report["name"]), (&json!(3), &json!(name)));
    assert_eq!(report["stderr"][0], format!("words of {}", report["pid"]));
    let by_id = controlled.done(&["crashes", "3", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&by_id).expect("JSON"), report);
    let table = controlled.done(&["crashes"]);
    assert!(table.starts_with("COUNT  LAST") && table.contains("signal KILL"), "{table}");
    let shown = controlled.done(&["crashes", "2"]);
    assert!(shown.contains("cause        signal KILL") && shown.contains("  words of "), "{shown}");
    let (code, _, err) = controlled.tine(&["crashes", "77"]);
    assert!(code == 111 && err.contains("there is no such crash report"), "{err}");
    // The same over HTTP.
    let address = observer_of(&controlled.server);
    assert_eq!(get(&address, "/api/v1/crashes").json()["groups"], json!(found));
    assert_eq!(get(&address, &format!("/api/v1/crashes/{name}")).json(), report);
    assert_eq!(get(&address, "/api/v1/crashes/77").status, 404);
}

#[test]
fn the_kernel_tells_where_a_program_has_faulted() {
    let controlled = programs("crashes-kernel", &[]);
    // The kernel writes ten such lines in five seconds, for all processes of the machine.
    let report = wait_until("a report", || {
        end_by(&controlled, "fault");
        let crashes = controlled.server.log.wait_for("crash", 1);
        let name = crashes.last().and_then(|crash| crash["report"].as_str()).expect("a name").to_owned();
        let report = controlled.done(&["crashes", &name, "--json"]);
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let may_read = std::fs::File::open("/dev/kmsg").is_ok() && procfs_tells_faults();
        (report.get("kernel").is_some() || !may_read).then_some(report)
    });
    assert_eq!(text(&report, "signal"), "SEGV");
    if report.get("kernel").is_some() {
        assert_eq!(text(&report, "address"), "0x1234", "{report}");
        let expected = format!("[{}]: segfault at 1234 ", report["pid"]);
        assert!(text(&report, "kernel").contains(&expected), "{report}");
        assert!(text(&report, "cause").starts_with("signal SEGV at "), "{report}");
    }
}

/// Whether the kernel writes about faults of programs.
fn procfs_tells_faults() -> bool {
    std::fs::read_to_string("/proc/sys/debug/exception-trace").is_ok_and(|text| text.trim() == "1")
}

#[test]
fn what_the_server_and_operators_end_is_no_crash() {
    let mut controlled = programs("crashes-ended", &["--drain-timeout", "100ms"]);
    let mut killed = controlled.server.connect();
    controlled.server.log.wait_for("accept", 1);
    controlled.done(&["kill", "1"]);
    killed.expect_closed();
    let mut left = controlled.server.connect();
    controlled.server.log.wait_for("accept", 2);
    assert_eq!(groups(&controlled), Vec::<Value>::new());
    controlled.server.signal(Signal::TERM);
    left.expect_closed();
    assert!(controlled.server.wait().success());
    let outcomes: Vec<Value> =
        controlled.server.log.of("end").iter().map(|end| end["outcome"].clone()).collect();
    assert_eq!(outcomes, ["killed", "signal TERM"]);
    assert!(controlled.server.log.of("crash").is_empty());
}

#[test]
fn a_storm_of_crashes_is_served_and_reported_in_part() {
    let controlled = programs("crashes-storm", &["-q"]);
    for _ in 0..60 {
        controlled.server.connect().send("ABRT\n").expect_closed();
    }
    wait_until("all have ended", || {
        let status = controlled.json(&["status"]);
        (status[0]["ended"] == 60).then_some(())
    });
    let reports =
        wait_until("reports", || groups(&controlled)[0]["count"].as_u64().filter(|count| *count >= 10));
    assert!(reports <= 60, "{reports}");
    // The logger is a helper like others: another one takes its place.
    let logger = controlled.server.named("tine: logger")[0].pid;
    kill(logger, Signal::KILL);
    controlled.server.log.wait_for("restart", 1);
    let before = controlled.server.log.of("crash").len();
    wait_until("a report after the restart", || {
        controlled.server.connect().send("BUS\n").expect_closed();
        (controlled.server.log.of("crash").len() > before).then_some(())
    });
}

#[test]
fn each_service_has_reports_of_its_own_for_its_user() {
    let folder = Folder::new("crashes-services");
    let config = folder.write(
        "server.toml",
        &format!(
            "control = '{0}'\nstate-directory = 'none'\ncrash-dir = '{1}'\nlog = 'json'\nprint-ports = true\n\
             [services.a]\nlisten = '127.0.0.1:0'\nuser = 'nobody'\nprogram = ['sh', '-c', 'kill -ABRT $$']\n\
             [services.b]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n",
            folder.path("c.sock"),
            folder.path("crashes"),
        ),
    );
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o755)).expect("our folder");
    let mut command = ServerCommand::program(tine(), &["serve", "--config", &config.display().to_string()]);
    command.command();
    let server = command.start();
    server.connect().expect_closed();
    server.log.wait_for("crash", 1);
    let (code, out, err) = run(std::process::Command::new(tine()).args([
        "crashes",
        "a:1",
        "--json",
        "--control",
        &folder.path("c.sock"),
    ]));
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((text(&report, "service"), text(&report, "signal")), ("a", "ABRT"));
    let directory = std::fs::metadata(folder.path("crashes/a")).expect("a directory");
    let (_, nobody, _) = run(std::process::Command::new("id").args(["-u", "nobody"]));
    assert_eq!((directory.uid().to_string(), directory.mode() & 0o777), (nobody.trim().to_owned(), 0o700));
    let file = folder.path(&format!("crashes/a/{}.json", text(&report, "name")));
    assert_eq!(std::fs::metadata(file).expect("a report").mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path("crashes/b")).expect("a directory").count(), 0);
}

#[test]
fn a_directory_that_cannot_be_written_ends_the_start() {
    let folder = Folder::new("crashes-denied");
    folder.write("file", "");
    std::fs::create_dir(folder.path("of-root")).expect("our folder");
    for (directory, options, why) in [
        ("file/x", &[][..], "cannot make the directory of crash reports"),
        ("file", &[], "cannot make the directory of crash reports"),
        ("of-root", &["--user", "nobody"], "cannot write crash reports in"),
    ] {
        let mut command = std::process::Command::new(tine());
        command.args(["serve", "127.0.0.1:0", "--control", "none", "--crash-dir", &folder.path(directory)]);
        let (code, _, err) = run(command.args(options));
        assert!(code == 111 && err.contains(why), "{directory}: {code} {err}");
    }
}

#[test]
fn without_a_directory_there_are_no_reports() {
    let controlled = Controlled::serve("crashes-none", &["--observe", "127.0.0.1:0"], &[]);
    let (code, _, err) = controlled.tine(&["crashes"]);
    assert!(code == 111 && err.contains("start the server with --crash-dir DIR"), "{err}");
    let answer = get(&observer_of(&controlled.server), "/api/v1/crashes");
    assert!(answer.status == 404 && answer.body.contains("--crash-dir"), "{answer:?}");
    assert!(controlled.server.named("tine: logger").is_empty());
}
