//! What a connection process has: exactly what ARCHITECTURE.md ("What a connection has") lists, and
//! nothing of another process.

use rustix::process::Signal;
use tine_e2e::names::{REJECTOR, SPARE, pid};
use tine_e2e::{Server, ServerCommand, procfs, wait_until};

/// The process id in the last accept line.
fn last_connection(server: &Server) -> i32 {
    pid(server.log.wait_for("accept", 1).last().expect("an accept line"))
}

fn check_connection_process(options: &[&str]) {
    // The server inherits a descriptor that no connection may have.
    let script = "exec 7</dev/zero; exec \"$@\"";
    let server = ServerCommand::wrapped(["sh", "-c", script, "sh"], options).start();
    let mut first = server.connect();
    first.echo("x");
    let mut second = server.connect();
    second.echo("y");
    server.log.wait_for("accept", 2);
    let pid = last_connection(&server);
    let descriptors = procfs::descriptors(pid);
    assert_eq!(
        descriptors.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [0, 1, 2, 3],
        "{descriptors:?}"
    );
    assert_eq!((descriptors[0].1.as_str(), descriptors[1].1.as_str()), ("/dev/null", "/dev/null"));
    assert!(
        descriptors[2].1.starts_with("pipe:") && descriptors[3].1.starts_with("socket:"),
        "{descriptors:?}"
    );
    procfs::assert_default_signals(pid);
    assert_eq!(procfs::limit(pid, "Max core file size"), ("0".into(), "0".into()));
    let score = procfs::oom_score_adjustment;
    assert_eq!((score(pid), score(server.forkers()[0])), (500, 500));
    // Lowering it takes a capability that root lacks in some containers.
    let lower = "echo -800 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    let (_, allowed, _) = tine_e2e::run(std::process::Command::new("sh").args(["-c", lower]));
    assert_eq!(score(server.pid()).to_string(), allowed.trim());
    let process = procfs::process(pid).expect("the connection process runs");
    assert_eq!((process.parent, process.group), (server.pid(), pid));
    assert!(process.name.starts_with("tine: conn "), "{}", process.name);
}

#[test]
fn a_forked_connection_has_only_its_own_descriptors_and_default_signals() {
    check_connection_process(&["--max-connections", "9"]);
}

#[test]
fn a_spares_connection_has_only_its_own_descriptors_and_default_signals() {
    check_connection_process(&["--spares", "4"]);
}

#[test]
fn forkers_hold_no_descriptor_of_a_connection() {
    let server = Server::serve(&[]);
    let descriptors =
        || -> Vec<usize> { server.forkers().iter().map(|pid| procfs::descriptors(*pid).len()).collect() };
    let before = descriptors();
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    assert_eq!(descriptors(), before);
}

#[test]
fn ps_shows_the_role_of_every_process_and_titles_show_the_peer() {
    let full = ["--when-full", "reject", "--max-connections", "4"];
    let server = Server::serve(&[&["--titles", "--forkers", "2", "--spares", "2"][..], &full].concat());
    for name in ["tine: forker 1", "tine: forker 2", REJECTOR, SPARE] {
        wait_until(name, || server.named(name).first().map(|_| ()));
    }
    let mut client = server.connect();
    client.echo("x");
    let command_line = std::fs::read(format!("/proc/{}/cmdline", last_connection(&server)))
        .expect("the connection process runs");
    let command_line = String::from_utf8_lossy(&command_line).trim_end_matches('\0').to_owned();
    assert_eq!(command_line, format!("tine: conn 1 {}", client.address()));
}

#[test]
fn forkers_and_connections_run_as_the_configured_user_and_group() {
    let server = Server::serve(&["--user", "nobody", "--group", "daemon"]);
    let mut client = server.connect();
    client.echo("x");
    for pid in server.forkers().into_iter().chain([last_connection(&server)]) {
        assert_eq!(procfs::ids(pid, "Uid"), ["65534"; 4]);
        assert_eq!(procfs::ids(pid, "Gid"), ["1"; 4]);
        assert_eq!(procfs::ids(pid, "Groups"), ["1"]);
    }
    // A change of user clears the parent-death signal (prctl(2)), so the server sets it afterwards.
    server.signal(Signal::KILL);
    server.wait_until_gone();
}
