//! What a connection's process has: exactly what ARCHITECTURE.md says, and nothing of anybody else.

use rustix::process::Signal;
use tine_e2e::names::{REJECTOR, SPARE, pid};
use tine_e2e::{Server, ServerCommand, kill, procfs, wait_until};

fn connection_of(server: &Server) -> i32 {
    let line = server.log.wait_for("accept", 1).pop().expect("accepted");
    pid(&line)
}

fn descriptors_signals_limits(options: &[&str]) {
    // An inherited descriptor that is nobody's business.
    let script = "exec 7</dev/zero; exec \"$@\"";
    let server = ServerCommand::wrapped(["sh", "-c", script, "sh"], options).start();
    let mut first = server.connect();
    first.echo("x");
    let mut second = server.connect();
    second.echo("y");
    server.log.wait_for("accept", 2);
    let pid = connection_of(&server);
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
    for key in ["SigBlk", "SigIgn", "SigCgt"] {
        let set = u64::from_str_radix(&procfs::status(pid, key), 16).expect("a set");
        // The C library keeps 32 and 33 to itself.
        assert_eq!(set & !(3 << 31), 0, "{key}");
    }
    assert_eq!(procfs::limit(pid, "Max core file size"), ("0".into(), "0".into()));
    let score = |pid: i32| -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
        text.trim().parse().expect("a number")
    };
    assert_eq!((score(pid), score(server.forkers()[0])), (500, 500));
    // Lowering it needs a privilege that root has not everywhere.
    let lower = "echo -800 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    let (_, allowed, _) = tine_e2e::run(std::process::Command::new("sh").args(["-c", lower]));
    assert_eq!(score(server.pid()).to_string(), allowed.trim());
    let process = procfs::process(pid).expect("it lives");
    assert_eq!((process.parent, process.group), (server.pid(), pid));
    assert!(process.name.starts_with("tine: conn "), "{}", process.name);
}

#[test]
fn a_forked_connection_has_only_its_own_descriptors_and_default_signals() {
    descriptors_signals_limits(&["--max-connections", "9"]);
}

#[test]
fn a_spares_connection_has_only_its_own_descriptors_and_default_signals() {
    descriptors_signals_limits(&["--spares", "4"]);
}

#[test]
fn forkers_hold_no_descriptor_of_a_connection() {
    let server = Server::serve(&[]);
    let before: Vec<usize> = server.forkers().iter().map(|pid| procfs::descriptors(*pid).len()).collect();
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    let after: Vec<usize> = server.forkers().iter().map(|pid| procfs::descriptors(*pid).len()).collect();
    assert_eq!(before, after);
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
    let command_line = std::fs::read(format!("/proc/{}/cmdline", connection_of(&server))).expect("readable");
    let command_line = String::from_utf8_lossy(&command_line).trim_end_matches('\0').to_owned();
    assert_eq!(command_line, format!("tine: conn 1 {}", client.stream.local_addr().expect("bound")));
}

#[test]
fn forkers_and_connections_run_as_the_configured_user_and_group() {
    let server = Server::serve(&["--user", "nobody", "--group", "daemon"]);
    let mut client = server.connect();
    client.echo("x");
    for pid in server.forkers().into_iter().chain([connection_of(&server)]) {
        let ids =
            |key: &str| procfs::status(pid, key).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ids("Uid"), ["65534"; 4]);
        assert_eq!(ids("Gid"), ["1"; 4]);
        assert_eq!(ids("Groups"), ["1"]);
    }
    // The kernel forgets the parent-death signal at a change of user; it was asked for afterwards.
    let server_pid = server.pid();
    kill(server_pid, Signal::KILL);
    server.wait_until_gone();
}
