//! Debian's HAProxy in front of servers, with agent checks, and what it says about them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::other_process::{OtherProcess, free_port};
use crate::{Folder, Log, Server, TEST_TIMEOUT, wait_until};

/// The document with a configuration.
const FLEET: &str = include_str!("../../../docs/fleet.md");

/// HAProxy on a port, in front of some servers. Dropping it ends it.
pub struct Haproxy {
    _process: OtherProcess,
    /// Its port for clients.
    pub port: u16,
    folder: Folder,
}

/// A server behind HAProxy.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name there.
    pub name: String,
    /// Where it serves.
    pub address: String,
    /// Where its agent answers.
    pub agent: String,
}

/// What HAProxy knows of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// `UP`, or `no check` without a health check, `DOWN`, `MAINT`, `DRAIN`; some with more words.
    pub status: String,
    /// Its weight now.
    pub weight: u64,
    /// The sessions that it has had.
    pub total: u64,
}

impl NodeState {
    /// Whether it gets clients.
    #[must_use]
    pub fn is_up(&self) -> bool {
        (self.status.starts_with("UP") || self.status == "no check") && self.weight > 0
    }
}

/// The address of the agent of a server, from its log.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn agent_of(server: &Server) -> String {
    address_in(&server.log, "agent")
}

/// The address in the first line of an event.
fn address_in(log: &Log, event: &str) -> String {
    log.wait_for(event, 1)[0]["address"].as_str().expect("an address").to_owned()
}

impl Node {
    /// A server with an agent, by a name for HAProxy.
    #[must_use]
    pub fn of(name: &str, server: &Server) -> Node {
        let address = address_in(&server.log, "listen");
        Node { name: name.to_owned(), address, agent: agent_of(server) }
    }
}

impl Haproxy {
    /// Starts HAProxy in front of these servers, each with these words beside its agent check, ten
    /// checks a second.
    #[must_use]
    pub fn start(name: &str, nodes: &[Node], words: &str) -> Haproxy {
        Haproxy::start_at(&["127.0.0.1"], name, nodes, words)
    }

    /// As [`Haproxy::start`], on these addresses.
    #[must_use]
    pub fn start_at(hosts: &[&str], name: &str, nodes: &[Node], words: &str) -> Haproxy {
        let server = |Node { name, address, agent }: &Node| {
            let (host, port) = agent.rsplit_once(':').expect("a port");
            format!(
                "  server {name} {address} {words} agent-check agent-inter 100ms agent-addr {host} agent-port {port} agent-send tine\\n\n"
            )
        };
        let servers: String = nodes.iter().map(server).collect();
        Haproxy::configured(
            hosts,
            name,
            &format!(
                "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 30s\n  timeout client 60s\n  \
                 timeout server 60s\n  timeout check 10s\nlisten tine\n  bind :9999\n  balance roundrobin\n{servers}"
            ),
        )
    }

    /// Starts HAProxy with the configuration of `docs/fleet.md`, in front of these servers: their
    /// addresses stand in the place of those there.
    ///
    /// # Panics
    /// If there is not such a configuration.
    #[must_use]
    pub fn documented(name: &str, nodes: &[Node]) -> Haproxy {
        let block = FLEET.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next());
        let mut text = block.expect("a configuration").to_owned();
        for (number, Node { name, address, agent }) in nodes.iter().enumerate() {
            let (host, port) = agent.rsplit_once(':').expect("a port");
            let documented = format!("{name} 10.0.0.{0}:9999 agent-addr 10.0.0.{0}\n", number + 11);
            assert!(text.contains(&documented), "{documented} in {text}");
            let ours = format!("{name} {address} agent-addr {host} agent-port {port}\n");
            text = text.replace(&documented, &ours);
        }
        Haproxy::configured(&["127.0.0.1"], name, &text)
    }

    /// Starts HAProxy with a configuration, on a port of these addresses in the place of 9999, and
    /// with a socket that this can ask.
    fn configured(hosts: &[&str], name: &str, text: &str) -> Haproxy {
        let (port, folder) = (free_port(), Folder::new(name));
        let socket = folder.path("admin.sock");
        let addresses: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
        let bind = format!("bind {}\n", addresses.join(","));
        let text = text.replace("bind :9999\n", &bind);
        assert!(text.contains(&bind), "{text}");
        let text = text.replacen("global\n", &format!("global\n  stats socket {socket} level admin\n"), 1);
        let configuration = folder.write("haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        let process = OtherProcess::start(command.args(["-db", "-q", "-f"]).arg(configuration));
        let haproxy = Haproxy { _process: process, port, folder };
        wait_until("HAProxy listens", || UnixStream::connect(&socket).ok().map(drop));
        haproxy
    }

    /// What it answers to a command on its socket.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.path("admin.sock")).expect("it runs");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("ours");
        stream.write_all(format!("{command}\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// What it knows of a server.
    ///
    /// # Panics
    /// If it does not know it.
    #[must_use]
    pub fn state(&self, node: &str) -> NodeState {
        let table = self.ask("show stat tine 4 -1");
        let mut lines =
            table.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
        let names = lines.next().expect("a header");
        let row = lines.find(|row| row.get(1) == Some(&node)).unwrap_or_else(|| panic!("{node}: {table}"));
        let field = |name: &str| names.iter().position(|other| *other == name).map_or("", |at| row[at]);
        let number = |name: &str| field(name).parse().unwrap_or(0);
        NodeState { status: field("status").to_owned(), weight: number("weight"), total: number("stot") }
    }

    /// Waits until what it knows of a server is this.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn wait_for(&self, node: &str, what: &str, is_so: impl Fn(&NodeState) -> bool) -> NodeState {
        wait_until(&format!("{node} is {what}"), || Some(self.state(node)).filter(|state| is_so(state)))
    }
}
