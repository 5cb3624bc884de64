//! The harness of the end-to-end tests: starts a real server on a port of its own, waits for its ready
//! line and for lines of its log, never for a time, and leaves no process behind.

#![forbid(unsafe_code)]

pub mod load;
pub mod network;
pub mod procfs;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test fails. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The `tine` that was built beside these tests.
#[must_use]
pub fn tine() -> PathBuf {
    let path = program("tine");
    assert!(path.exists(), "{} is not built; run scripts/test, or cargo build", path.display());
    path
}

/// A program of this workspace's target folder.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    own.ancestors().nth(2).expect("target/…/deps/test").join(name)
}

/// An environment variable that marks every process of one server, whatever becomes of its parents.
const MARK: &str = "TINE_TEST_MARK";

fn new_mark() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A folder of a test's own, removed at its end.
pub struct Folder(
    /// Where it is.
    pub PathBuf,
);

impl Folder {
    /// An empty one; the name tells the tests of one process apart.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tine-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    /// The path of something in it.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file in it, and the folder that the name says it is in.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("it is in this folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a server wrote to standard error so far.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    over: bool,
}

impl Log {
    /// The lines that come from a pipe.
    #[must_use]
    pub fn follow_pipe(from: impl Read + Send + 'static) -> Log {
        let log = Log::default();
        log.follow(from);
        log
    }

    fn follow(&self, from: impl Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                log.0.0.lock().expect("no panic under the lock").lines.push(line);
                log.0.1.notify_all();
            }
            log.0.0.lock().expect("no panic under the lock").over = true;
            log.0.1.notify_all();
        });
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.0.lock().expect("no panic under the lock").lines.clone()
    }

    /// Every event so far, of a log in JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The events of this kind so far.
    #[must_use]
    pub fn of(&self, event: &str) -> Vec<Value> {
        self.events().into_iter().filter(|value| value["event"] == event).collect()
    }

    /// Waits until the lines say enough.
    ///
    /// # Panics
    /// If they do not within [`PATIENCE`], or the server ends before.
    pub fn wait<T>(&self, what: &str, mut found: impl FnMut(&Log) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let lines = self.0.0.lock().expect("no panic under the lock");
            let left = deadline.saturating_duration_since(Instant::now());
            let over = lines.over;
            if left.is_zero() || over {
                drop(lines);
                if let Some(found) = found(self) {
                    return found;
                }
                panic!("waited for {what}; the log so far:\n{}", self.lines().join("\n"));
            }
            // Woken by each line; the short time covers one that came before the lock.
            let _ = self.0.1.wait_timeout(lines, left.min(Duration::from_millis(50)));
        }
    }

    /// Waits until nobody can write another line: what it says then is all there is.
    ///
    /// # Panics
    /// If somebody still holds the other end after [`PATIENCE`].
    pub fn wait_until_over(&self) {
        soon("nobody can write to the log", || {
            self.0.0.lock().expect("no panic under the lock").over.then_some(())
        });
    }

    /// Waits for so many events of a kind, and returns them.
    pub fn wait_for(&self, event: &str, number: usize) -> Vec<Value> {
        self.wait(&format!("{number} × {event}"), |log| {
            let events = log.of(event);
            (events.len() >= number).then_some(events)
        })
    }
}

/// How a server is to be started.
pub struct Start {
    command: Command,
    mark: String,
    json: bool,
}

impl Start {
    /// `tine serve` with these options, one address on a port that the kernel chooses, and a log in JSON.
    #[must_use]
    pub fn serve<S: AsRef<OsStr>>(options: impl IntoIterator<Item = S>) -> Start {
        Start::wrapped::<&str, S>([], options)
    }

    /// The same behind a program such as `prlimit … --`.
    #[must_use]
    pub fn wrapped<W: AsRef<OsStr>, S: AsRef<OsStr>>(
        wrapper: impl IntoIterator<Item = W>,
        options: impl IntoIterator<Item = S>,
    ) -> Start {
        let mut words: Vec<std::ffi::OsString> =
            wrapper.into_iter().map(|word| word.as_ref().to_owned()).collect();
        words.push(tine().into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["serve", "--log", "json", "-1"]).args(options).arg("127.0.0.1:0");
        Start::of(command, true)
    }

    /// Any program that prints its port when it is ready.
    #[must_use]
    pub fn program(path: impl AsRef<Path>, options: &[&str]) -> Start {
        let mut command = Command::new(path.as_ref());
        command.args(options);
        Start::of(command, true)
    }

    fn of(command: Command, json: bool) -> Start {
        Start { command, mark: new_mark(), json }
    }

    /// The command, to change it.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    #[must_use]
    pub fn start(mut self) -> Server {
        assert!(self.json);
        self.command.env(MARK, &self.mark).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.process_group(0);
        let mut process = self.command.spawn().expect("the program starts");
        let log = Log::default();
        log.follow(process.stderr.take().expect("piped"));
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let mut server = Server { process, port: 0, log, mark: self.mark, ended: false };
        server.port = line.trim().parse().unwrap_or_else(|_| {
            let _ = server.process.wait();
            server.log.wait_until_over();
            panic!("no ready line but {line:?}; the log:\n{}", server.log.lines().join("\n"))
        });
        server
    }
}

/// A running server. Dropping it kills it and whatever it left behind.
pub struct Server {
    process: Child,
    port: u16,
    /// What it wrote to standard error.
    pub log: Log,
    mark: String,
    ended: bool,
}

impl Server {
    /// `tine serve` with these options.
    #[must_use]
    pub fn serve(options: &[&str]) -> Server {
        Start::serve(options).start()
    }

    /// `tine serve` with these options and a program.
    #[must_use]
    pub fn program(options: &[&str], program: &[&str]) -> Server {
        let mut start = Start::serve(options);
        start.command().arg("--").args(program);
        start.start()
    }

    /// The TCP port of its first address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The supervisor's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).expect("a process id")
    }

    /// Every process of the server, by its mark.
    #[must_use]
    pub fn processes(&self) -> Vec<procfs::Process> {
        procfs::all_with(&format!("{MARK}={}", self.mark))
    }

    /// The processes whose short name begins so.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<procfs::Process> {
        self.processes().into_iter().filter(|process| process.name.starts_with(name)).collect()
    }

    /// The forkers' process ids, once those that have just been forked have begun to wait for clients.
    #[must_use]
    pub fn forkers(&self) -> Vec<i32> {
        let own = procfs::process(self.pid()).map(|process| process.name);
        soon("the forkers wait", || {
            let children = procfs::children(self.pid());
            let named = !children.iter().any(|child| Some(&child.name) == own.as_ref());
            let forkers = self.named("tine: forker");
            // A process that was just born still has the name of its forker.
            let names: std::collections::HashSet<&str> =
                forkers.iter().map(|process| process.name.as_str()).collect();
            let nobody_is_being_born = names.len() == forkers.len();
            let forkers: Vec<i32> = forkers.iter().map(|process| process.pid).collect();
            // One that runs may still be making its descriptors.
            let waits = |pid: &i32| {
                procfs::descriptors(*pid).iter().any(|(_, what)| what.contains("eventpoll"))
                    && procfs::process(*pid).is_some_and(|forker| forker.state != 'R')
            };
            (named && nobody_is_being_born && forkers.iter().all(waits)).then_some(forkers)
        })
    }

    /// A client of the server, connected.
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for the supervisor's end, and for the end of its log: no line is on its way any more.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = until("the server ends", deadline, || self.process.try_wait().expect("our child"));
        self.ended = true;
        self.log.wait_until_over();
        status
    }

    /// Waits for the supervisor's end only: others may still write to its log.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let status = soon("the server ends", || self.process.try_wait().expect("our child"));
        self.ended = true;
        status
    }

    /// Waits until no process of the server is left.
    ///
    /// # Panics
    /// If one is left after [`PATIENCE`].
    pub fn wait_until_gone(&self) {
        let deadline = Instant::now() + PATIENCE;
        until("every process of the server has gone", deadline, || {
            self.processes().iter().all(|process| process.state == 'Z').then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        for process in self.processes() {
            if let Some(pid) = Pid::from_raw(process.pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Sends a signal to a process of a server under test.
///
/// # Panics
/// If there is no such process.
pub fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("it lives");
}

/// Tampers with the system calls of a process until dropped: `inject=` of strace(1).
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn tamper(pid: i32, how: &str) -> Tracer {
    let call = how.split(':').next().unwrap_or(how);
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={how}")]);
    let tracer = Tracer(strace.args(["-p", &pid.to_string()]).spawn().expect("strace is installed"));
    let own = format!("TracerPid:\t{}\n", tracer.0.id());
    soon("it is traced", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        status.contains(&own).then_some(())
    });
    tracer
}

/// What [`tamper`] started.
pub struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again until the answer is there. For what nobody announces, such as `/proc`.
///
/// # Panics
/// At the deadline.
pub fn until<T>(what: &str, deadline: Instant, mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// [`until`], with [`PATIENCE`].
pub fn soon<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until(what, Instant::now() + PATIENCE, ask)
}

/// A TCP client. Every wait of its own ends with a panic after [`PATIENCE`].
pub struct Client {
    /// The connection itself.
    pub stream: TcpStream,
}

impl Client {
    /// A client of another address of this machine, connected.
    ///
    /// # Panics
    /// If nobody listens on the port of 127.0.0.1.
    #[must_use]
    pub fn from_source(address: &str, port: u16) -> Client {
        let family = rustix::net::AddressFamily::INET;
        let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).expect("a socket");
        let source = SocketAddr::new(address.parse().expect("an address"), 0);
        rustix::net::bind(&socket, &source).expect("loopback has every address");
        rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).expect("somebody listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Client { stream }
    }

    /// Whether a byte comes back, where a refused client sees the end of the stream.
    ///
    /// # Panics
    /// If something else comes back.
    pub fn is_served(mut self) -> bool {
        // It may be closed by now.
        let _ = self.stream.write_all(b"x");
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let read = self.stream.read_to_end(&mut answer);
        assert!(read.is_err() || answer.is_empty() || answer == b"x", "{answer:?}");
        answer == b"x"
    }

    /// A client of this port.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect(port: u16) -> Client {
        Client::of(TcpStream::connect(("127.0.0.1", port)).expect("connects"))
    }

    fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Client { stream }
    }

    /// Sends all of it.
    ///
    /// # Panics
    /// If the server does not take it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.stream.write_all(bytes.as_ref()).expect("sends");
        self
    }

    /// Reads exactly this.
    ///
    /// # Panics
    /// If anything else comes, or nothing.
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let mut came = vec![0; bytes.as_ref().len()];
        self.stream.read_exact(&mut came).expect("an answer");
        assert_eq!(came, bytes.as_ref());
        self
    }

    /// One exchange with an echo server.
    ///
    /// # Panics
    /// If it does not come back as it was.
    pub fn echo(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.send(bytes.as_ref()).expect(bytes)
    }

    /// Ends the sending side.
    pub fn half_close(&mut self) -> &mut Client {
        self.stream.shutdown(Shutdown::Write).expect("half-closes");
        self
    }

    /// Reads to the end of the stream.
    ///
    /// # Panics
    /// If it ends in a reset, or not at all.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("the end of the stream");
        bytes
    }

    /// Waits until the connection is over, in whichever way.
    ///
    /// # Panics
    /// If it goes on.
    pub fn expect_over(&mut self) {
        let mut bytes = Vec::new();
        if let Err(why) = self.stream.read_to_end(&mut bytes) {
            assert_eq!(why.kind(), std::io::ErrorKind::ConnectionReset, "{why}");
        }
    }

    /// Takes out the one of these clients to which something comes first: an answer, or the end. Which of several that came
    /// at once is served first is the forkers' affair.
    ///
    /// # Panics
    /// If nothing comes to any.
    #[must_use]
    pub fn first_of(clients: &mut Vec<Client>) -> Client {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut ask: Vec<_> =
            clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)).collect();
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        poll(&mut ask, Some(&patience)).expect("descriptors");
        let first = ask.iter().position(|asked| !asked.revents().is_empty());
        clients.remove(first.expect("one of them gets something"))
    }

    /// Closes with a reset.
    ///
    /// # Panics
    /// If the socket has no such option.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("set");
    }
}

/// Clients that exchange messages all the time, each in a thread, until stopped. Any wrong byte or end
/// of a connection is a failure.
pub struct Talkers {
    stop: Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u64>>,
    exchanges: Arc<AtomicU32>,
}

impl Talkers {
    /// So many clients, each of which has had an answer when this returns.
    ///
    /// # Panics
    /// If one gets none.
    #[must_use]
    pub fn start(port: u16, number: usize) -> Talkers {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let exchanges = Arc::new(AtomicU32::new(0));
        let clients: Vec<Client> = (0..number).map(|_| Client::connect(port)).collect();
        let threads = clients.into_iter().enumerate().map(|(number, mut client)| {
            let (stop, exchanges) = (stop.clone(), exchanges.clone());
            client.echo(format!("first of {number}\n"));
            std::thread::spawn(move || {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.echo(format!("{number}: {turn}\n"));
                    turn += 1;
                    exchanges.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                client.half_close();
                assert!(client.rest().is_empty());
                turn
            })
        });
        Talkers { threads: threads.collect(), stop, exchanges }
    }

    /// Waits until all have gone on: so many exchanges more on the whole.
    pub fn go_on(&self, more: u32) {
        let before = self.exchanges.load(Ordering::Relaxed);
        soon("the others go on", || (self.exchanges.load(Ordering::Relaxed) >= before + more).then_some(()));
    }

    /// Stops them.
    ///
    /// # Panics
    /// If one had a failure.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("an undisturbed connection");
        }
    }
}

/// Runs a command to its end, with no input.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
