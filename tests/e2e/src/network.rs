//! Network namespaces, so that a test has every port and its own counters, and clients that can
//! vanish.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::server::run;

/// The address of servers that a [`ClientNamespace`] reaches, with a port that the kernel chooses.
pub const SERVER: &str = "10.5.0.1:0";
/// The same without a port.
pub const SERVER_IP: &str = "10.5.0.1";
/// The address of the clients there.
const CLIENT_IP: &str = "10.5.0.2";

/// Moves the calling thread into a new network namespace with loopback up. Threads and processes
/// that it starts from now on are in it, too. The namespace ends with the last of them.
///
/// # Panics
/// If it cannot be created, which takes root.
pub fn own() {
    let mut holder = hold();
    enter(&holder);
    holder.kill().expect("our child");
    holder.wait().expect("our child");
}

/// Whether the calling thread is in another network namespace than the process that runs the tests.
///
/// # Panics
/// If /proc does not say.
#[must_use]
pub fn is_own() -> bool {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).expect("a process");
    namespace("thread-self") != namespace(&parent_id().to_string())
}

/// A new network namespace with loopback up. It ends when this is dropped and no process is in it.
pub(crate) struct Namespace(Child);

impl Namespace {
    pub(crate) fn new() -> Namespace {
        Namespace(hold())
    }

    /// The process that keeps it.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Runs a function in the namespace, in a thread of its own. Sockets that it opens, and
    /// processes that it starts, stay there.
    pub(crate) fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.0);
                function()
            });
            thread.join().expect("no panic")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process in a new network namespace with loopback up, which keeps the namespace.
fn hold() -> Child {
    let script = "ip link set lo up && echo up && exec cat";
    let mut holder = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "up\n", "creating a network namespace takes root");
    holder
}

/// Moves the calling thread into the namespace of a process.
fn enter(holder: &Child) {
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the holder runs");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are root");
}

/// A network namespace of clients, connected with that of the calling thread by a pair of virtual
/// Ethernet devices. It ends when it is dropped.
pub struct ClientNamespace(Namespace);

impl ClientNamespace {
    /// Creates it. The calling thread has to be in a namespace of its own ([`own`]).
    ///
    /// # Panics
    /// If it cannot be created, which takes root.
    #[must_use]
    pub fn connect() -> ClientNamespace {
        let clients = ClientNamespace(Namespace::new());
        // Without duplicate address detection, and with a fixed entry for the other end: packets to
        // an address that has vanished are sent, and not answered.
        let script = format!(
            "set -e
            ip link add v0 type veth peer name v1 netns {0}
            ip addr add {SERVER_IP}/24 dev v0
            ip link set v0 up
            nsenter -t {0} -n ip addr add {CLIENT_IP}/24 dev v1
            nsenter -t {0} -n ip link set v1 up
            ip neigh replace {CLIENT_IP} dev v0 nud permanent lladdr $(nsenter -t {0} -n ip -o link show v1 | sed 's/.*link.ether \\([^ ]*\\).*/\\1/')",
            clients.0.id()
        );
        shell(&script);
        clients
    }

    /// Runs a function in the namespace, in a thread of its own. Sockets that it opens stay there.
    ///
    /// # Panics
    /// If the function panics.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        self.0.run(function)
    }

    /// Takes the address away: packets to it are not answered any more.
    pub fn vanish(&self) {
        shell(&format!("nsenter -t {} -n ip addr del {CLIENT_IP}/24 dev v1", self.0.id()));
    }
}

pub(crate) fn shell(script: &str) {
    let (code, _, err) = run(Command::new("sh").args(["-c", script]));
    assert_eq!(code, 0, "{script}: {err}");
}
