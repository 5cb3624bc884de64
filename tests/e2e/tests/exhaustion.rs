//! No descriptor, no process: nobody is lost who could wait, one line in the log, no busy loop, recovery
//! without help.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{Client, FaultInjection, Server, ServerCommand, inject_fault, kill, procfs, wait_until};

/// A copy of `tine` that any user can run.
struct Public(PathBuf);

impl Public {
    fn new() -> Public {
        let path = std::env::temp_dir().join(format!("tine-e2e-{}", std::process::id()));
        std::fs::copy(tine_e2e::tine(), &path).expect("copied");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        Public(path)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Starts a server as an ordinary user who may have so many processes.
fn server_with_processes(public: &Public, processes: u32, options: &[&str], program: &[&str]) -> Server {
    // One that nobody else is: the limit counts all processes of a user.
    let user = 1_000_000 + std::process::id();
    let mut words = vec!["--reuid".to_owned(), user.to_string(), "--regid".to_owned(), user.to_string()];
    words.extend(["--clear-groups", "--", "prlimit"].map(str::to_owned));
    words.extend([format!("--nproc={processes}:{processes}"), "--".into(), public.0.display().to_string()]);
    words.extend(["serve", "--log", "json", "-1"].map(str::to_owned));
    words.extend(options.iter().map(|option| (*option).to_owned()));
    words.push("127.0.0.1:0".into());
    words.extend(program.iter().map(|word| (*word).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ServerCommand::program("setpriv", &words).start()
}

fn ticks(server: &Server) -> u64 {
    server.processes().iter().map(|process| process.ticks).sum()
}

fn no_process_to_be_had(program: &[&str]) {
    let public = Public::new();
    // A supervisor, two forkers and five connections.
    let server = server_with_processes(&public, 8, &[], program);
    let mut served: Vec<Client> = Vec::new();
    for number in 0..5 {
        let mut client = server.connect();
        client.echo(format!("client {number}"));
        served.push(client);
    }
    let mut waiting: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("patience");
    });
    let error = server.log.wait_for("error", 1).remove(0);
    assert!(error["text"].as_str().expect("text").contains("process"), "{error}");
    // Blocked for a while: the served go on, and it costs less than 5 % of a processor.
    let (before, start) = (ticks(&server), Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        served.iter_mut().for_each(|client| {
            client.echo("x");
        });
        std::thread::park_timeout(Duration::from_millis(200));
    }
    let spent = ticks(&server).saturating_sub(before);
    assert!(spent <= 10, "{spent} of 200 ticks");
    // Whoever leaves makes room: everybody is served in the end.
    for mut client in served {
        client.finish();
    }
    // Each leaves as wait_until as it has its answer: two forkers hold one client each, and which of them gets a
    // place first is not said.
    let patient: Vec<_> = waiting
        .into_iter()
        .map(|mut client| std::thread::spawn(move || client.expect("patience").finish()))
        .collect();
    patient.into_iter().for_each(|client| assert!(client.join().expect("served").is_empty()));
    server.log.wait_for("end", 15);
    assert_eq!(server.log.of("error").len(), 1, "{:?}", server.log.of("error"));
    let mut later = server.connect();
    later.echo("as if nothing had been");
    assert!(server.log.of("end").iter().all(|end| outcome(end) == "exit 0"));
}

#[test]
fn without_processes_for_connections_clients_wait_and_are_served_later() {
    no_process_to_be_had(&[]);
}

#[test]
fn without_processes_for_programs_clients_wait_and_are_served_later() {
    no_process_to_be_had(&["--", "cat"]);
}

#[test]
fn without_processes_for_spares_every_client_is_served() {
    let public = Public::new();
    let server = server_with_processes(&public, 6, &["--spares", "10"], &[]);
    server.log.wait_for("error", 1);
    // Three spares at a time is what there is; everybody is served all the same.
    for round in 0..20 {
        server.connect().echo(format!("round {round}")).finish();
    }
    server.log.wait_for("end", 20);
    assert_eq!(server.log.of("error").len(), 1);
}

/// The kernel says that there is no memory for a new process, three times to each forker: nobody who could
/// wait is lost, and it is one line.
fn no_memory(program: &[&str]) {
    let server = if program.is_empty() { Server::serve(&[]) } else { Server::program(&[], program) };
    let _tracers: Vec<FaultInjection> = server
        .forkers()
        .into_iter()
        .map(|forker| inject_fault(forker, "clone:error=ENOMEM:when=1..3"))
        .collect();
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.echo(format!("client {number}")).half_close();
        assert!(client.read_to_end().is_empty());
    }
    let ends = server.log.wait_for("end", 20);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
    let errors = server.log.of("error");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0]["text"].as_str().expect("text").contains("cannot allocate memory"), "{errors:?}");
}

#[test]
fn without_memory_for_a_fork_no_client_is_lost() {
    no_memory(&[]);
}

#[test]
fn without_memory_for_a_program_no_client_is_lost() {
    no_memory(&["cat"]);
}

#[test]
fn a_hundred_connections_need_no_descriptor_of_the_server() {
    // Neither supervisor nor forkers need one for each connection.
    let server =
        ServerCommand::wrapped(["prlimit", "--nofile=20:20", "--"], ["--max-connections", "200"]).start();
    let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.echo("x");
    });
    assert!(server.log.of("error").is_empty());
    for pid in server.forkers().into_iter().chain([server.pid()]) {
        assert!(procfs::descriptors(pid).len() < 20);
    }
}

#[test]
fn without_descriptors_clients_wait_and_are_served_later() {
    let server = Server::serve(&[]);
    let mut served = server.connect();
    served.echo("x");
    // A limit below what is open: accept fails from now on.
    let forkers = server.forkers();
    let set = |limit: &str| {
        for pid in &forkers {
            let pid = pid.to_string();
            let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status();
            assert!(done.expect("prlimit runs").success());
        }
    };
    set("3:4096");
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("patience");
    });
    server.log.wait_for("error", 1);
    let (before, start) = (ticks(&server), Instant::now());
    wait_until("two seconds have gone", || (start.elapsed() > Duration::from_secs(2)).then_some(()));
    let spent = ticks(&server).saturating_sub(before);
    assert!(spent <= 10, "{spent} of 200 ticks");
    served.echo("served meanwhile");
    set("1024:4096");
    for mut client in waiting {
        client.expect("patience");
    }
    assert_eq!(server.log.of("error").len(), 1, "{:?}", server.log.of("error"));
}

#[test]
fn a_full_signal_queue_loses_no_end_of_a_process() {
    // The ends of processes come as queued signals: with room for none, none is missed all the same.
    let server =
        ServerCommand::wrapped(["prlimit", "--sigpending=0:0", "--"], ["--max-connections", "8"]).start();
    for round in 0..3 {
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| {
            client.echo(format!("round {round}"));
        });
        drop(clients);
    }
    let ends = server.log.wait_for("end", 24);
    assert_eq!(ends.len(), 24);
}

#[test]
fn a_stalled_log_reader_delays_no_connection() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = Command::new(tine_e2e::tine());
    command.args(["serve", "-1", "127.0.0.1:0"]).stderr(writer).stdout(std::process::Stdio::piped());
    let mut server = command.spawn().expect("starts");
    drop(command);
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a port");
    let port = line.trim().parse().expect("a port");
    // Two lines each, some 150 bytes long: far more than a pipe holds.
    for number in 0..1500 {
        Client::connect(port).echo(format!("{number}")).finish();
    }
    let log = tine_e2e::Log::from_pipe(reader);
    Client::connect(port).echo("one more line").finish();
    log.wait("the number of dropped lines", |log| {
        log.lines().iter().any(|line| line.contains(" dropped lines=")).then_some(())
    });
    kill(i32::try_from(server.id()).expect("an id"), Signal::TERM);
    assert!(server.wait().expect("ends").success());
}
