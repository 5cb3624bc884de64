//! System calls that old kernels lack and that the filters of containers and sandboxes deny: the
//! server works without them, or it says in one line what it does less, or it does not start and
//! says why. Each row is a test.

use std::ffi::OsString;
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::control::Controlled;
use tine_e2e::documents::{tests_in, tests_named_in};
use tine_e2e::environment::Without::{Complete, Less, Refused};
use tine_e2e::environment::{Environment, warnings};
use tine_e2e::filters::under;
use tine_e2e::names::outcome;
use tine_e2e::{Client, Folder, Server, ServerCommand, run, tine};

fn filtered(filter: &str) -> Environment {
    Environment::new(under(&[filter]))
}

/// A test for each row: the calls, the errors that they are answered with, what a server with a
/// handler is without them, and what one with a program.
macro_rules! rows {
    ($($name:ident: $calls:literal, $errors:expr, $handler:expr, $program:expr;)+) => {
        $(
            #[test]
            fn $name() {
                for error in $errors {
                    let environment = filtered(&format!("{error}:{}", $calls));
                    environment.check_handler($handler);
                    environment.check_program($program);
                    environment.check_services($program);
                }
            }
        )+

        /// The names of these tests.
        const ROWS: &[&str] = &[$(stringify!($name)),+];
    };
}

const DENIED: [&str; 2] = ["EPERM", "ENOSYS"];

rows! {
    // Younger than Linux 4.4.
    clone3: "clone3", DENIED, Complete, Complete;
    close_range: "close_range", DENIED, Complete, Complete;
    copy_file_range: "copy_file_range", DENIED, Complete, Complete;
    epoll_pwait2: "epoll_pwait2", DENIED, Complete, Complete;
    faccessat2: "faccessat2", DENIED, Complete, Complete;
    openat2: "openat2", DENIED, Complete, Complete;
    pidfd_open: "pidfd_open", DENIED, Complete, Complete;
    pidfd_send_signal: "pidfd_send_signal", DENIED, Complete, Complete;
    pidfds: "pidfd_open,pidfd_send_signal", DENIED, Complete, Complete;
    preadv2_and_pwritev2: "preadv2,pwritev2", DENIED, Complete, Complete;
    rseq: "rseq", DENIED, Complete, Complete;
    statx: "statx", DENIED, Complete, Complete;
    // Older, and denied in places.
    accept4: "accept4", DENIED, Refused("clients cannot be accepted"), Refused("clients cannot be accepted");
    epoll: "epoll_create1", DENIED, Refused("permit the system call"), Refused("permit the system call");
    eventfd: "eventfd2", DENIED, Refused("permit the system call"), Refused("permit the system call");
    execveat: "execveat", DENIED, Complete, Complete;
    getrandom: "getrandom", DENIED, Complete, Complete;
    memfd_create: "memfd_create", DENIED, Less("memory cannot be sealed"), Complete;
    parent_death_signal: "parent-death-signal", ["EPERM", "ENOSYS", "EINVAL"],
        Refused("end with the server"), Refused("end with the server");
    process_name: "process-name", ["EPERM", "ENOSYS", "EINVAL"], Complete, Complete;
    robust_list: "get_robust_list", DENIED, Complete, Complete;
    seals: "seals", ["EPERM", "EINVAL"], Complete, Complete;
    siblings: "siblings", ["EPERM", "ENOSYS", "EINVAL"], Refused("siblings"), Refused("siblings");
    signalfd: "signalfd4", DENIED, Refused("permit the system call"), Refused("permit the system call");
    sock_diag: "netlink", ["EPERM", "EACCES", "ENOSYS", "EAFNOSUPPORT"],
        Less("clients that vanish"), Less("clients that vanish");
    unshare: "unshare", DENIED, Complete, Complete;
}

#[test]
fn without_orphans_descendants_are_left_or_must_not_be_ended() {
    for error in ["EPERM", "ENOSYS", "EINVAL"] {
        let environment = filtered(&format!("{error}:subreaper"));
        let less = Less("orphans cannot be adopted");
        environment.check_handler(less);
        environment.check_many_ends(less);
        environment.check_terminal(less);
        environment.check_services(less);
        let refused = Refused("the descendants of programs cannot be adopted");
        for mode in ["group", "all"] {
            assert!(environment.serve(&["--kill-mode", mode], &["cat"], refused).is_none());
        }
    }
}

#[test]
fn titles_that_cannot_be_set_are_left_out() {
    for error in ["EPERM", "ENOSYS", "EINVAL"] {
        let filter = format!("{error}:memory-map");
        let options = ["--titles"];
        let environment = filtered(&filter);
        let server = environment.serve(&options, &[], Less("titles cannot be set")).expect("it starts");
        server.connect().echo("x").finish();
        environment.stop(server);
    }
}

#[test]
fn rule_files_are_read_at_sighup_without_inotify() {
    let folder = Folder::new("denied-inotify");
    for error in DENIED {
        let rules = folder.write("rules", ":allow\n");
        let filter = format!("{error}:inotify_init1");
        let options = ["--rules", rules.to_str().expect("a path in UTF-8")];
        let server =
            filtered(&filter).serve(&options, &[], Less("read again at SIGHUP only")).expect("it starts");
        assert!(server.connect().is_served());
        folder.write("rules", ":deny\n");
        server.signal(Signal::HUP);
        server.log.wait_for("reload", 1);
        assert!(!server.connect().is_served());
    }
}

#[test]
fn a_client_that_resets_is_noticed_without_sock_diag() {
    for error in ["EPERM", "EACCES", "ENOSYS", "EAFNOSUPPORT"] {
        let filter = format!("{error}:netlink");
        let server =
            filtered(&filter).serve(&[], &["sleep", "1000"], Less("clients that vanish")).expect("it starts");
        let mut other = server.connect();
        server.connect().reset();
        let end = server.log.wait_for("end", 1).remove(0);
        assert_eq!(outcome(&end), "client gone", "{filter}: {end}");
        other.expect_silence(std::time::Duration::from_millis(50));
    }
}

#[test]
fn without_byte_counts_the_timeouts_that_need_them_are_named_and_the_lifetime_is_kept() {
    let filter = "EPERM:netlink";
    let options = ["--idle-timeout", "1s", "--max-lifetime", "3s"];
    let server = filtered(filter).serve(&options, &["cat"], Less("idle clients")).expect("it starts");
    let mut client = server.connect();
    client.echo("x");
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "timeout lifetime", "{:?}", server.log.lines());
}

/// Checks a server with every helper under a filter: it serves, and has one warning for all of its
/// processes, if any.
fn check_own_processes(filter: &str, warning: Option<&str>) {
    let folder = Folder::new(&format!("denied-{filter}"));
    let socket = folder.path("c.sock");
    let limits = ["--max-connections-per-source", "2", "--when-limited", "delay", "--forkers", "1"];
    let proxies = ["--proxy-from", "192.0.2.0/24", "--proxy-others", "serve"];
    let others =
        ["--stderr", "log", "--deny", "127.0.0.3", "--control", &socket, "--state-directory", "none"];
    let mut command = ServerCommand::wrapped(under(&[filter]), [&limits[..], &proxies, &others].concat());
    command.command().args(["--", "sh", "-c", "echo line >&2; exec cat"]);
    let controlled = Controlled { folder, server: command.start() };
    let server = &controlled.server;
    let (mut first, mut second) = (server.connect(), server.connect());
    first.echo("one");
    second.echo("two");
    let mut queued = server.connect();
    queued.send("three");
    first.finish();
    queued.expect("three");
    Client::from_source("127.0.0.3", server.port()).expect_closed();
    assert!(controlled.done(&["status"]).contains("serving"), "{filter}");
    for event in ["stderr", "reject"] {
        server.log.wait_for(event, 1);
    }
    let found = warnings(server);
    assert_eq!(found.len(), usize::from(warning.is_some()), "{filter}: {found:?}");
    assert!(warning.is_none_or(|part| found[0].contains(part)), "{filter}: {found:?}");
    check_services_without(filter, warning);
}

/// Checks that a server with several services has the warning once, and not for each service.
fn check_services_without(filter: &str, warning: Option<&str>) {
    let folder = Folder::new(&format!("denied-services-{filter}"));
    let service = |name: &str| {
        format!(
            "[services.{name}]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nmax-connections-per-source = 9\n"
        )
    };
    let file = folder.write("tine.toml", &(service("one") + &service("two")));
    let words = under(&[filter]);
    let mut command = ServerCommand::program(&words[0], &[]);
    command.command().args(&words[1..]).arg(tine());
    command.command().args(["serve", "--log", "json", "-1", "--control", "none", "--config"]).arg(file);
    let server = command.start();
    server.connect().echo("x").finish();
    assert_eq!(warnings(&server).len(), usize::from(warning.is_some()), "{filter}: {:?}", warnings(&server));
}

#[test]
fn without_seccomp_the_servers_own_processes_have_no_filter() {
    for error in ["EPERM", "EINVAL", "ENOSYS"] {
        check_own_processes(&format!("{error}:seccomp"), Some("not confined by seccomp"));
    }
}

#[test]
fn without_landlock_the_servers_own_processes_have_a_filter_alone() {
    check_own_processes("EPERM:landlock_create_ruleset", Some("not confined by Landlock"));
    // As a kernel without it.
    check_own_processes("ENOSYS:landlock_create_ruleset", None);
}

#[test]
fn the_load_client_and_the_client_work_without_the_calls() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let calls = "clone3,close_range,copy_file_range,epoll_pwait2,execveat,faccessat2,getrandom,openat2,pidfd_open,pidfd_send_signal,preadv2,pwritev2,rseq,statx,memfd_create,netlink,unshare";
    for error in DENIED {
        let filter = format!("{error}:{calls}");
        for words in [
            &["load", "crr", &address, "-c", "2", "-n", "20"][..],
            &["client", &address, "--message", "hello", "--count", "1"],
        ] {
            let mut words: Vec<OsString> = words.iter().map(Into::into).collect();
            words.insert(0, tine().into_os_string());
            let wrapper = under(&[&filter]);
            let (code, out, err) = run(Command::new(&wrapper[0]).args(&wrapper[1..]).args(&words));
            assert_eq!(code, 0, "{filter}: {words:?}: {out}{err}");
        }
    }
}

#[test]
fn a_load_without_timers_says_what_is_denied() {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    for error in DENIED {
        let wrapper = under(&[&format!("{error}:timerfd_create")]);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(tine()).args(["load", "crr", &address, "-c", "2", "-n", "20"]);
        let (code, _, err) = run(&mut command);
        assert_ne!(code, 0, "{err}");
        let reason = if error == "EPERM" { "operation not permitted" } else { "function not implemented" };
        assert!(err.contains(reason), "{err}");
    }
}

#[test]
fn the_document_has_a_row_for_each_call() {
    let mut tests = tests_in(include_str!("denied_calls.rs"));
    // That of the macro, and this one.
    tests.retain(|name| !name.is_empty() && *name != "the_document_has_a_row_for_each_call");
    tests.extend(ROWS);
    assert_eq!(tests_named_in(include_str!("../../../docs/containers.md"), "System calls"), tests);
}
