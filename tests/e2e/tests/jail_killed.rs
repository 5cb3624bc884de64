//! SIGKILL to each kind of process of full jails while clients come and go: the server recovers,
//! other connections go on, and nobody is served without the jail.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tine_e2e::jails::{mounts, namespaces_of, room_of, wait_until_namespaces_end, waiting_inits};
use tine_e2e::names::{FIRST_JAILER, INIT, JAILER, outcome, pid};
use tine_e2e::{Client, Server, TEST_TIMEOUT, inject_fault, kill, procfs, wait_until};

/// Says its number, which is 2 in a room of its own, and echoes.
const PROGRAM: [&str; 3] = ["sh", "-c", "echo $$; exec cat"];

const IN_A_ROOM: &str = "2";

/// Connections that stay.
const HELD: usize = 10;

/// A server with two forkers, its connections that stay, and clients that come and go.
struct Scene {
    server: Server,
    held: Vec<Client>,
    churn: Churn,
    /// All that were seen.
    namespaces: BTreeSet<String>,
    mounts: usize,
}

impl Scene {
    fn new() -> Scene {
        let mounts = mounts();
        let server = Server::program(&["--jail", "--forkers", "2"], &PROGRAM);
        let mut held: Vec<Client> = (0..HELD).map(|_| server.connect()).collect();
        held.iter_mut().for_each(|client| assert_eq!(client.read_line(), IN_A_ROOM));
        let churn = Churn::start(server.port());
        let namespaces = namespaces_of(&server.processes());
        Scene { server, held, churn, namespaces, mounts }
    }

    /// The processes with this name.
    fn named(&self, name: &str) -> Vec<i32> {
        self.server.named(name).iter().map(|process| process.pid).collect()
    }

    /// Kills processes that may have ended by now. Waits until the server has two forkers and
    /// jailers that are others, and clients are served again; no other connection has ended.
    fn kill(&mut self, victims: &[i32]) {
        for victim in victims.iter().filter_map(|victim| Pid::from_raw(*victim)) {
            let _ = kill_process(victim, Signal::KILL);
        }
        self.churn.wait_for_more(20);
        wait_until("the victims have been replaced", || {
            let now = [self.server.forkers(), self.named(JAILER)];
            let is_whole = now.iter().all(|pids| pids.len() == 2);
            (is_whole && !now.concat().iter().any(|pid| victims.contains(pid))).then_some(())
        });
        self.churn.wait_for_more(20);
        self.held.iter_mut().for_each(|client| _ = client.echo("held\n"));
        self.namespaces.append(&mut namespaces_of(&self.server.processes()));
    }

    /// Ends the connections and the server: nothing is left of it.
    fn finish(self) {
        let Scene { mut server, mut held, churn, namespaces, mounts: before } = self;
        churn.finish();
        held.iter_mut().for_each(|client| assert!(client.finish().is_empty()));
        // The first connections are those that were held.
        let is_of_held = |end: &serde_json::Value| end["id"].as_u64().is_some_and(|id| id <= HELD as u64);
        let ends = server.log.wait("the ends of those that were held", |log| {
            let ends: Vec<_> = log.of("end").into_iter().filter(is_of_held).collect();
            (ends.len() == HELD).then_some(ends)
        });
        assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        server.wait_until_gone();
        wait_until_namespaces_end(&namespaces);
        assert_eq!(mounts(), before);
    }
}

/// Clients that connect one after another until they are stopped. Each is served in a jail, or its
/// connection ends without a byte.
struct Churn {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Churn {
    fn start(port: u16) -> Churn {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let threads = (0..3).map(|_| {
            let (stop, served) = (stop.clone(), served.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    served.fetch_add(u32::from(is_served(port)), Ordering::Relaxed);
                }
            })
        });
        Churn { threads: threads.collect(), stop, served }
    }

    fn wait_for_more(&self, more: u32) {
        let before = self.served.load(Ordering::Relaxed);
        wait_until("more clients are served", || {
            (self.served.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("clients are in jails"));
    }
}

/// Whether a client is served. One whose room or forker was killed gets nothing, or a part.
fn is_served(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    let _ = stream.write_all(b"x\n");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut reply = Vec::new();
    let ended = stream.read_to_end(&mut reply);
    assert!(
        !ended.as_ref().is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock),
        "a client waits for ever"
    );
    assert!(b"2\nx\n".starts_with(&reply), "{}", String::from_utf8_lossy(&reply));
    ended.is_ok() && reply == b"2\nx\n"
}

#[test]
fn forkers_and_jailers_that_are_killed_are_replaced() {
    let mut scene = Scene::new();
    let forkers = scene.server.forkers();
    scene.kill(&forkers[..1]);
    let jailers = scene.named(JAILER);
    scene.kill(&jailers[..1]);
    let all = [scene.server.forkers(), scene.named(JAILER)].concat();
    scene.kill(&all);
    scene.finish();
}

#[test]
fn rooms_that_are_killed_end_no_other_connection() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        let victims = waiting_inits(&scene.server);
        scene.kill(&victims);
    }
    // With that of a connection, the connection ends.
    let mut client = scene.server.connect();
    assert_eq!(client.read_line(), IN_A_ROOM);
    let address = client.address();
    let accept = scene.server.log.wait("its accept line", |log| {
        log.of("accept").into_iter().find(|line| line["peer"] == address.as_str())
    });
    let room = room_of(pid(&accept));
    let init = scene.named(INIT).into_iter().find(|init| room_of(*init) == room);
    kill(init.expect("its first process"), Signal::KILL);
    client.expect_closed();
    scene.finish();
}

/// The client that comes next does not wait for a pause, and there is no error.
#[test]
fn rooms_that_were_killed_while_they_waited_are_skipped() {
    let server = Server::program(&["--jail", "--forkers", "1"], &PROGRAM);
    let mut client = server.connect();
    client.read_line();
    let ready =
        wait_until("eight rooms are ready", || Some(waiting_inits(&server)).filter(|all| all.len() == 8));
    ready.iter().for_each(|init| kill(*init, Signal::KILL));
    wait_until("they have ended", || (!ready.iter().any(|init| procfs::is_running(*init))).then_some(()));
    for _ in 0..10 {
        assert_eq!(server.connect().half_close().read_text(), "2\n");
    }
    assert!(server.log.of("error").is_empty(), "{:?}", server.log.lines());
}

/// As with a lack of memory: their jailer learns of no room.
#[test]
fn rooms_that_are_killed_while_they_are_made_are_made_again() {
    let server = Server::program(&["--jail", "--forkers", "1"], &PROGRAM);
    let jailer = server.named(FIRST_JAILER)[0].pid;
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-f", "-o", "/dev/null", "-e", "trace=mount", "-e", "inject=mount:signal=KILL"]);
    let mut strace = strace.args(["-p", &jailer.to_string()]).spawn().expect("strace is installed");
    let tracer = strace.id().to_string();
    wait_until("strace is attached", || (procfs::status(jailer, "TracerPid") == tracer).then_some(()));
    // Those that were ready.
    let served = (0..).take_while(|_| {
        let mut client = server.connect();
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket option");
        client.half_close();
        let mut reply = Vec::new();
        client.stream.read_to_end(&mut reply).is_ok() && reply == b"2\n"
    });
    assert!((1..=9).contains(&served.count()), "no room can be made now");
    let mut waiting = server.connect();
    waiting.half_close();
    strace.kill().expect("our child");
    strace.wait().expect("our child");
    assert_eq!(waiting.read_text(), "2\n");
}

/// What the kernel refuses while a limit is reached delays nobody once it is not.
#[test]
fn rooms_that_were_refused_do_not_delay_those_behind_them() {
    let server = Server::program(&["--jail", "--forkers", "1"], &PROGRAM);
    let jailer = server.named(FIRST_JAILER)[0].pid;
    let injection = inject_fault(jailer, "clone:error=EAGAIN");
    let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| _ = client.half_close());
    let error = server.log.wait_for("error", 1).remove(0);
    let text = error["text"].as_str().expect("a text");
    assert!(text.starts_with("cannot prepare a jail for a connection: "), "{text}");
    drop(injection);
    let raised = Instant::now();
    clients.iter_mut().for_each(|client| assert_eq!(client.read_text(), "2\n"));
    // The longest pause is a second.
    assert!(raised.elapsed() < Duration::from_secs(3), "{:?}", raised.elapsed());
}

#[test]
fn nothing_is_left_of_a_supervisor_that_was_killed() {
    let mut scene = Scene::new();
    scene.churn.wait_for_more(20);
    scene.namespaces.append(&mut namespaces_of(&scene.server.processes()));
    let Scene { mut server, mut held, churn, namespaces, mounts: before } = scene;
    server.signal(Signal::KILL);
    server.wait_for_exit();
    server.wait_until_gone();
    held.iter_mut().for_each(Client::expect_closed);
    churn.finish();
    wait_until_namespaces_end(&namespaces);
    assert_eq!(mounts(), before);
    let port = server.port();
    wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).ok());
}
