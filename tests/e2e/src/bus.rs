//! A bus (NATS), agents and coordinators on it, and a cable between them that can be cut.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::load::Loaded;
use crate::log::Log;
use crate::procfs::{self, Process};
use crate::{Folder, tine, wait_until};

/// An environment variable with a value of its own for each process and all that it starts.
const BUS_MARK: &str = "TINE_BUS_MARK";

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn next() -> String {
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A NATS server. Dropping it kills it.
pub struct NatsServer {
    process: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl NatsServer {
    /// Starts a server on a port that the kernel chooses.
    #[must_use]
    pub fn start(options: &[&str]) -> NatsServer {
        NatsServer::start_on("-1", options)
    }

    /// Starts a server on the port of one that has ended.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_on(port: &str, options: &[&str]) -> NatsServer {
        let folder = Folder::new(&format!("nats-{}", next()));
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"]).arg(&folder.0).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("scripts/test installs nats-server");
        // It is complete with its last bracket.
        let port = wait_until("the bus has a port", || {
            let file = std::fs::read_dir(&folder.0).ok()?.flatten().next()?.path();
            let ports: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
            ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
        });
        NatsServer { process, port }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        crate::kill(self.process.id() as i32, signal);
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.process.kill().expect("our child");
        self.process.wait().expect("our child");
    }
}

/// `tine load agent`, or a coordinator. Dropping it kills it and everything that it has started.
pub struct OnBus {
    process: Child,
    mark: String,
    /// Its standard error.
    pub log: Log,
}

impl OnBus {
    /// Starts an agent that ends after one run, with its results in a folder.
    #[must_use]
    pub fn agent(url: &str, folder: &Folder, options: &[&str]) -> OnBus {
        let mut command = Command::new(tine());
        command.args(["load", "agent", "--once", "--bus", url, "--results"]).arg(&folder.0).args(options);
        let agent = OnBus::start(command);
        agent.wait_for("waits for a run");
        agent
    }

    /// Starts several agents.
    #[must_use]
    pub fn agents(number: usize, url: &str, folder: &Folder) -> Vec<OnBus> {
        (0..number).map(|_| OnBus::agent(url, folder, &[])).collect()
    }

    /// Starts a coordinator, which prints its result as JSON.
    #[must_use]
    pub fn coordinator(url: &str, words: &[&str]) -> OnBus {
        let mut command = Command::new(tine());
        command.arg("load").args(words).args(["--bus", url, "--json", "-"]);
        OnBus::start(command)
    }

    /// Starts a command.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> OnBus {
        let mark = next();
        command.env(BUS_MARK, &mark).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        let log = Log::from_pipe(process.stderr.take().expect("piped"));
        OnBus { process, mark, log }
    }

    /// Waits for a line with a text on standard error.
    pub fn wait_for(&self, text: &str) {
        self.log.wait_for_line(text, |line| line.contains(text));
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Every process of it.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        procfs::all_with(&format!("{BUS_MARK}={}", self.mark))
    }

    /// Waits until it has a process of a name.
    #[must_use]
    pub fn wait_for_process(&self, name: &str) -> Process {
        wait_until(name, || self.processes().into_iter().find(|process| process.name.starts_with(name)))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        crate::kill(self.pid(), signal);
    }

    /// Waits until it has ended, and all that it has started.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let status = wait_until("it has ended", || self.process.try_wait().expect("our child"));
        wait_until("what it has started has ended", || self.processes().is_empty().then_some(()));
        status
    }

    /// Waits until a coordinator has ended. Returns its result.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn loaded(mut self) -> Loaded {
        let out = self.process.stdout.take().expect("piped");
        // A long result fills the pipe.
        let out = thread::spawn(move || std::io::read_to_string(out).expect("text"));
        let code = self.wait_for_end().code().unwrap_or(-1);
        let (out, err) = (out.join().expect("no panic"), self.log.lines().join("\n"));
        let report = serde_json::from_str(&out).unwrap_or_else(|why| panic!("no report ({why}): {out}{err}"));
        Loaded { code, report, err }
    }
}

impl Drop for OnBus {
    fn drop(&mut self) {
        for process in self.processes() {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_raw(process.pid).expect("a process id"), Signal::KILL);
        }
        // One that has overwritten its environment is not among them.
        self.process.kill().expect("our child");
        self.process.wait().expect("our child");
    }
}

/// A cable to a bus. It can be cut and mended.
pub struct Cable {
    /// The address of its near end.
    pub url: String,
    is_whole: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    /// Lays a cable to a port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port for its near end.
    #[must_use]
    pub fn to(port: u16) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("nats://{}", listener.local_addr().expect("bound"));
        let (is_whole, streams) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let cable = Cable { url, is_whole: is_whole.clone(), streams: streams.clone() };
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !is_whole.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let copies = [&near, &far].map(|stream| stream.try_clone().expect("a descriptor"));
                streams.lock().expect("no panic").extend(copies);
                let (mut near_in, mut far_in) =
                    (near.try_clone().expect("one"), far.try_clone().expect("one"));
                let (mut near, mut far) = (near, far);
                // They end when the cable is cut, or the ends are closed.
                thread::spawn(move || {
                    let _ = std::io::copy(&mut near_in, &mut far);
                    let _ = far.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    let _ = std::io::copy(&mut far_in, &mut near);
                    let _ = near.shutdown(Shutdown::Both);
                });
            }
        });
        cable
    }

    /// Cuts it: connections end, and new ones end at once.
    ///
    /// # Panics
    /// If a thread has panicked.
    pub fn cut(&self) {
        self.is_whole.store(false, Ordering::Relaxed);
        for stream in self.streams.lock().expect("no panic").drain(..) {
            // An end may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Mends it.
    pub fn mend(&self) {
        self.is_whole.store(true, Ordering::Relaxed);
    }
}
