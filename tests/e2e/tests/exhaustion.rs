//! Without processes, memory or descriptors no client is lost, the log has one line, the server
//! does not spin, and it recovers by itself.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{
    Client, FaultInjection, Folder, Server, ServerCommand, inject_fault, kill, procfs, wait_until,
};

/// A copy of `tine` that every user can execute, removed when it is dropped.
struct PublicCopy(PathBuf);

impl PublicCopy {
    fn new() -> PublicCopy {
        let path = std::env::temp_dir().join(format!("tine-e2e-{}", std::process::id()));
        std::fs::copy(tine_e2e::tine(), &path).expect("a copy");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
        PublicCopy(path)
    }
}

impl Drop for PublicCopy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Starts a server as an ordinary user whose limit on processes is `processes`.
fn server_with_processes(tine: &PublicCopy, processes: u32, options: &[&str], program: &[&str]) -> Server {
    // The limit counts all processes of a user, so the user must have no others.
    let user = 1_000_000 + std::process::id();
    let mut words = vec!["--reuid".to_owned(), user.to_string(), "--regid".to_owned(), user.to_string()];
    words.extend(["--clear-groups", "--", "prlimit"].map(str::to_owned));
    words.extend([format!("--nproc={processes}:{processes}"), "--".into(), tine.0.display().to_string()]);
    words.extend(["serve", "--log", "json", "-1"].map(str::to_owned));
    words.extend(options.iter().map(|option| (*option).to_owned()));
    words.push("127.0.0.1:0".into());
    words.extend(program.iter().map(|word| (*word).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ServerCommand::program("setpriv", &words).start()
}

/// Processor time of the whole server, in ticks of 10 ms.
fn ticks(server: &Server) -> u64 {
    server.processes().iter().map(|process| process.ticks).sum()
}

fn clients_wait_for_processes(program: &[&str]) {
    let tine = PublicCopy::new();
    // A supervisor, two forkers and five connections.
    let server = server_with_processes(&tine, 8, &[], program);
    let mut served: Vec<Client> = Vec::new();
    for number in 0..5 {
        let mut client = server.connect();
        client.echo(format!("client {number}"));
        served.push(client);
    }
    let mut waiting: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("waiting");
    });
    let error = server.log.wait_for("error", 1).remove(0);
    assert!(error["text"].as_str().expect("text").contains("process"), "{error}");
    // For two seconds, served clients are served and the server takes less than 5 % of a processor.
    let (before, start) = (ticks(&server), Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        served.iter_mut().for_each(|client| {
            client.echo("x");
        });
        std::thread::park_timeout(Duration::from_millis(200));
    }
    let spent = ticks(&server).saturating_sub(before);
    assert!(spent <= 10, "{spent} of 200 ticks");
    // Each connection that ends frees a process: every client is served in the end.
    for mut client in served {
        client.finish();
    }
    // The clients read in parallel: two forkers hold one client each, and either may fork first.
    std::thread::scope(|scope| {
        for client in &mut waiting {
            scope.spawn(move || assert!(client.expect("waiting").finish().is_empty()));
        }
    });
    server.log.wait_for("end", 15);
    assert_eq!(server.log.of("error").len(), 1, "{:?}", server.log.of("error"));
    server.connect().echo("recovered");
    assert!(server.log.of("end").iter().all(|end| outcome(end) == "exit 0"));
}

#[test]
fn without_processes_for_connections_clients_wait_and_are_served_later() {
    clients_wait_for_processes(&[]);
}

#[test]
fn without_processes_for_programs_clients_wait_and_are_served_later() {
    clients_wait_for_processes(&["--", "cat"]);
}

#[test]
fn without_processes_for_spares_every_client_is_served() {
    let tine = PublicCopy::new();
    let server = server_with_processes(&tine, 6, &["--spares", "10"], &[]);
    server.log.wait_for("error", 1);
    // The limit allows three spares at a time.
    for round in 0..20 {
        server.connect().echo(format!("round {round}")).finish();
    }
    server.log.wait_for("end", 20);
    assert_eq!(server.log.of("error").len(), 1);
}

/// clone(2) fails with ENOMEM three times in each forker: no client is lost, and the log has one
/// line.
fn clients_wait_for_memory(program: &[&str]) {
    let server = if program.is_empty() { Server::serve(&[]) } else { Server::program(&[], program) };
    let _faults: Vec<FaultInjection> = server
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
    clients_wait_for_memory(&[]);
}

#[test]
fn without_memory_for_a_program_no_client_is_lost() {
    clients_wait_for_memory(&["cat"]);
}

#[test]
fn a_hundred_connections_need_no_descriptor_of_the_server() {
    // Neither the supervisor nor a forker needs a descriptor for each connection.
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
    // With a limit below the number of open descriptors, accept(2) fails.
    let forkers = server.forkers();
    let set = |limit: &str| {
        for pid in &forkers {
            let pid = pid.to_string();
            let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status();
            assert!(status.expect("prlimit is installed").success());
        }
    };
    set("3:4096");
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send("waiting");
    });
    server.log.wait_for("error", 1);
    let (before, start) = (ticks(&server), Instant::now());
    wait_until("two seconds have passed", || (start.elapsed() > Duration::from_secs(2)).then_some(()));
    let spent = ticks(&server).saturating_sub(before);
    assert!(spent <= 10, "{spent} of 200 ticks");
    served.echo("still served");
    set("1024:4096");
    for mut client in waiting {
        client.expect("waiting");
    }
    assert_eq!(server.log.of("error").len(), 1, "{:?}", server.log.of("error"));
}

#[test]
fn a_full_signal_queue_loses_no_end_of_a_process() {
    // Exits are announced by queued signals. With an empty queue limit, none is queued.
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

/// A server whose log goes to this file or pipe, and its port. The words stand before it, such as
/// `prlimit … --`.
fn server_with_log(words: &[&str], options: &[&str], log: impl Into<Stdio>) -> (Child, u16) {
    let tine = tine_e2e::tine();
    let words = [words, &[tine.to_str().expect("a path in UTF-8")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["serve", "-1"]).args(options).arg("127.0.0.1:0");
    let mut server = command.stderr(log).stdout(Stdio::piped()).spawn().expect("tine starts");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a port");
    (server, line.trim().parse().expect("a port"))
}

fn terminate(mut server: Child) {
    kill(i32::try_from(server.id()).expect("a process id"), Signal::TERM);
    assert!(server.wait().expect("our child").success());
}

#[test]
fn a_stalled_log_reader_delays_no_connection() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (server, port) = server_with_log(&[], &[], writer);
    // Two lines of 150 bytes each: far more than a pipe holds.
    for number in 0..1500 {
        Client::connect(port).echo(format!("{number}")).finish();
    }
    let log = tine_e2e::Log::from_pipe(reader);
    Client::connect(port).echo("one more line").finish();
    log.wait_for_line("number of dropped lines", |line| line.contains(" dropped lines="));
    terminate(server);
}

#[test]
fn a_log_that_cannot_be_written_ends_no_connection() {
    for options in [&[][..], &["--spares", "2"], &["--max-lifetime", "10min", "--forkers", "1"]] {
        // The reader is gone: each line would end its writer by SIGPIPE.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (server, port) = server_with_log(&[], options, writer);
        drop(reader);
        let mut held = Client::connect(port);
        held.echo("held");
        (0..20)
            .for_each(|number| assert!(Client::connect(port).echo(format!("{number}")).finish().is_empty()));
        assert!(held.echo("held").finish().is_empty());
        terminate(server);
        // The file may not grow further: each line would end its writer by SIGXFSZ.
        let folder = Folder::new("log");
        let file = std::fs::File::create(folder.path("log")).expect("a file");
        let (server, port) = server_with_log(&["prlimit", "--fsize=1000", "--"], options, file);
        (0..20)
            .for_each(|number| assert!(Client::connect(port).echo(format!("{number}")).finish().is_empty()));
        terminate(server);
        let log = std::fs::metadata(folder.path("log")).expect("the log");
        assert_eq!(log.len(), 1000, "the limit was reached");
    }
}
