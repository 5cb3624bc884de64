//! The environments of containers and sandboxes: the table of `docs/containers.md`, a test for each
//! row.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::documents::{tests_in, tests_named_in};
use tine_e2e::environment::Without::{Complete, Less, Refused};
use tine_e2e::environment::{Environment, warnings};
use tine_e2e::filters::{DOCKER, OLD_DOCKER, PODMAN, USER_SPACE_KERNEL, under};
use tine_e2e::names::FORKER;
use tine_e2e::{ServerCommand, kill, procfs, run, tine, wait_until};

/// Makes the command the first process of a pid namespace, with a `/proc` of its own. The namespace
/// ends with the test.
const AS_PID_1: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"];

/// Takes all capabilities away.
const NO_CAPABILITIES: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];

/// Leaves the capabilities of a container of Docker's (`docker run`, section "Runtime privilege and
/// Linux capabilities" of its manual).
const CAPABILITIES_OF_DOCKER: &[&str] = &[
    "setpriv",
    "--inh-caps=-all",
    "--bounding-set=-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write",
    "--",
];

fn words(parts: &[&[&str]]) -> Vec<OsString> {
    parts.concat().iter().map(OsString::from).collect()
}

/// A read-only root with `/usr` and tine, with `/dev`, and with what these options of bwrap(1) add.
fn small_root(options: &[&str]) -> Environment {
    Environment::new(words_of_small_root(options))
}

fn words_of_small_root(options: &[&str]) -> Vec<OsString> {
    let tine = tine();
    let folder = tine.parent().and_then(Path::to_str).expect("a path in UTF-8");
    let links =
        ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"];
    let binds = ["--ro-bind", "/usr", "/usr", "--ro-bind", folder, folder, "--dev", "/dev"];
    words(&[&["bwrap", "--die-with-parent"], &binds, &links, options, &["--remount-ro", "/", "--"]])
}

/// Checks everything that a server can do.
fn check_all(environment: &Environment) {
    environment.check_handler(Complete);
    environment.check_program(Complete);
    environment.check_services(Complete);
}

#[test]
fn as_pid_1() {
    check_all(&Environment::new(AS_PID_1));
}

#[test]
fn as_pid_1_what_programs_leave_behind_is_reaped_and_killed_at_the_stop() {
    let environment = Environment::new(AS_PID_1);
    let script =
        "exec 3>&1 >/dev/null; (setsid sh -c 'sleep 0.2' 3>&- &); (setsid sleep 1000 3>&- &); echo bye >&3";
    let server = environment.serve(&[], &["sh", "-c", script], Complete).expect("it starts");
    for _ in 0..5 {
        assert_eq!(server.connect().finish(), b"bye\n");
    }
    server.log.wait_for("end", 5);
    let first = server.named("tine").into_iter().find(|process| process.name == "tine").expect("it runs");
    wait_until("orphans that have exited are reaped", || {
        let children = procfs::children(first.pid);
        let sleeping = children.iter().filter(|child| child.name == "sleep" && !child.is_zombie()).count();
        (sleeping == 5 && children.iter().all(|child| !child.is_zombie())).then_some(())
    });
    environment.stop(server);
}

#[test]
fn in_the_proc_of_another_pid_namespace() {
    let foreign = &["unshare", "--pid", "--fork", "--kill-child", "--"];
    let environment = Environment::new(foreign);
    environment.check_handler(Less("it is that of another pid namespace"));
    environment.check_many_ends(Less("it is that of another pid namespace"));
    let ending = ["--kill-mode", "all"];
    assert!(environment.serve(&ending, &["cat"], Refused("/proc cannot be used")).is_none());
}

/// Root in a user namespace, without any user of the machine but an ordinary one.
#[test]
fn rootless() {
    let ordinary = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    check_all(&Environment::new(ordinary.iter().chain(&["unshare", "--user", "--map-root-user", "--"])));
}

#[test]
fn without_capabilities() {
    check_all(&Environment::new(NO_CAPABILITIES));
}

#[test]
fn with_a_read_only_root_and_without_tmp() {
    let environment = small_root(&["--proc", "/proc", "--ro-bind", "/etc", "/etc"]);
    environment.check_handler(Complete);
    environment.check_program(Complete);
}

#[test]
fn without_a_place_for_the_control_socket() {
    let environment = small_root(&["--proc", "/proc"]);
    let part = "no control socket: cannot make the directory /run/tine: ";
    let server = environment.serve(&[], &[], Complete).expect("served");
    let texts = server.log.of("warning");
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0]["text"].as_str().is_some_and(|text| text.contains(part)), "{texts:?}");
    environment.stop(server);
    // `/dev/shm` can be written in there.
    let socket = ["--control", "/dev/shm/c.sock", "--state-directory", "none"];
    let server = environment.serve(&socket, &[], Complete).expect("served");
    assert!(server.log.of("warning").is_empty(), "{:?}", server.log.lines());
    environment.stop(server);
}

#[test]
fn without_users() {
    let environment = small_root(&["--proc", "/proc"]);
    environment.check_handler(Complete);
    environment.check_program(Complete);
}

#[test]
fn without_users_a_name_is_refused() {
    let words = words_of_small_root(&["--proc", "/proc"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(tine()).args(["serve", "--user", "nobody", "127.0.0.1:0"]);
    let (code, out, err) = run(&mut command);
    assert_eq!((code, out.as_str(), err.lines().count()), (100, "", 1), "{err}");
    assert!(err.contains("there is no user 'nobody'"), "{err}");
}

#[test]
fn without_proc() {
    let environment = small_root(&[]);
    environment.check_handler(Less("/proc cannot be used: no such file or directory"));
    environment.check_many_ends(Less("outlive it"));
    environment.check_terminal(Less("outlive it"));
    let refused = Refused("/proc cannot be used to find the descendants of programs");
    for mode in ["group", "all"] {
        assert!(environment.serve(&["--kill-mode", mode], &["cat"], refused).is_none());
    }
}

#[test]
fn without_proc_exited_orphans_are_reaped() {
    let environment = small_root(&[]);
    let script = "exec 3>&1 >/dev/null; (setsid sh -c 'sleep 0.2' 3>&- &); echo bye >&3";
    let server = environment.serve(&[], &["sh", "-c", script], Less("/proc")).expect("it starts");
    for _ in 0..5 {
        assert_eq!(server.connect().finish(), b"bye\n");
    }
    let first = server.processes().into_iter().find(|process| process.name == "tine").expect("it runs");
    wait_until("no orphan is left", || {
        procfs::children(first.pid).iter().all(|child| child.name.starts_with(FORKER)).then_some(())
    });
    environment.stop(server);
}

#[test]
fn without_proc_and_without_the_calls_that_replace_it() {
    let small_root = |filter: &str| [words_of_small_root(&[]), under(&[filter])].concat();
    // Open descriptors are searched for.
    let server = ServerCommand::wrapped(small_root("EPERM:close_range"), [""; 0]).start();
    server.connect().echo("x").finish();
    let warnings = warnings(&server);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].contains("close_range"), "{warnings:?}");
    // Threads cannot be counted.
    let words = small_root("EPERM:unshare");
    let mut command = Command::new(&words[0]);
    let (code, out, err) = run(command.args(&words[1..]).arg(tine()).args(["serve", "127.0.0.1:0"]));
    assert_eq!((code, out.as_str()), (100, ""), "{err}");
    assert!(err.contains("cannot be counted without /proc"), "{err}");
}

#[test]
fn without_dev() {
    let tine = tine();
    let folder = tine.parent().and_then(Path::to_str).expect("a path in UTF-8");
    let binds =
        ["--ro-bind", "/usr", "/usr", "--symlink", "usr/lib64", "/lib64", "--ro-bind", folder, folder];
    let environment = Environment::new([&["bwrap"], &binds[..], &["--proc", "/proc", "--"]].concat());
    assert!(environment.serve(&[], &[], Refused("/dev/null cannot be opened")).is_none());
}

#[test]
fn without_pseudoterminals() {
    let device = ["--dev-bind", "/dev/null", "/dev/null"];
    let empty = ["--tmpfs", "/dev"];
    let environment = small_root(&[&["--proc", "/proc"], &empty[..], &device].concat());
    assert!(environment.serve(&["--pty"], &["cat"], Refused("no pseudoterminal can be opened")).is_none());
    environment.check_many_ends(Complete);
}

#[test]
fn under_the_default_filter_of_docker() {
    let filter = under(DOCKER);
    check_all(&Environment::new(words(&[AS_PID_1, CAPABILITIES_OF_DOCKER]).into_iter().chain(filter)));
}

#[test]
fn under_the_default_filter_of_docker_before_2020() {
    check_all(&Environment::new(
        words(&[NO_CAPABILITIES]).into_iter().chain(under(&[DOCKER, &[OLD_DOCKER]].concat())),
    ));
}

#[test]
fn under_the_default_filter_of_podman() {
    check_all(&Environment::new(words(&[AS_PID_1]).into_iter().chain(under(PODMAN))));
}

#[test]
fn with_the_limits_of_a_kernel_in_user_space() {
    let environment = Environment::new(under(USER_SPACE_KERNEL));
    let less = Less("sock_diag is unavailable: clients that vanish with data in flight");
    environment.check_handler(less);
    environment.check_program(less);
    environment.check_services(less);
}

#[test]
fn a_stop_signal_of_a_container_engine_drains() {
    let environment = Environment::new(AS_PID_1);
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = environment.serve(&[], &["cat"], Complete).expect("it starts");
        let mut client = server.connect();
        client.echo("before");
        let first = server.processes().into_iter().find(|process| process.name == "tine").expect("it runs");
        kill(first.pid, signal);
        server.log.wait_for("drain", 1);
        client.echo("after").finish();
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn the_document_has_a_row_for_each_environment() {
    let mut tests = tests_in(include_str!("containers.rs"));
    tests.remove("the_document_has_a_row_for_each_environment");
    assert_eq!(tests_named_in(include_str!("../../../docs/containers.md"), "Environments"), tests);
}
