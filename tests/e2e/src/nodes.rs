//! Nodes of a fleet on one machine, with a bus that keeps bans.

use serde_json::Value;

use crate::bus::NatsServer;
use crate::control::Controlled;
use crate::{Folder, procfs, wait_until};

/// A bus with JetStream, whose store outlives it.
pub struct Bus {
    server: Option<NatsServer>,
    host: String,
    /// Its port.
    pub port: u16,
    store: Folder,
}

impl Bus {
    /// Starts a bus.
    #[must_use]
    pub fn start(name: &str) -> Bus {
        Bus::start_at("127.0.0.1", name)
    }

    /// Starts a bus that listens on an address.
    #[must_use]
    pub fn start_at(host: &str, name: &str) -> Bus {
        let store = Folder::new(&format!("{name}-store"));
        let server = NatsServer::start(&options(host, &store));
        Bus { host: host.to_owned(), port: server.port, server: Some(server), store }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it again on its port, with its store, or an empty one.
    pub fn start_again(&mut self, is_empty: bool) {
        if is_empty {
            self.store = Folder::new(&format!("empty-store-{}", self.port));
        }
        let options = options(&self.host, &self.store);
        self.server = Some(NatsServer::start_on(&self.port.to_string(), &options));
    }
}

fn options<'a>(host: &'a str, store: &'a Folder) -> [&'a str; 5] {
    ["-a", host, "-js", "-sd", store.0.to_str().expect("a path of this test")]
}

/// A node with this name, of the fleet on a bus.
#[must_use]
pub fn node(url: &str, name: &str, options: &[&str], program: &[&str]) -> Controlled {
    let words = [&["--bus", url, "--name", name], options].concat();
    Controlled::serve(&format!("fleet-{name}-{}", url.rsplit(':').next().unwrap_or("")), &words, program)
}

/// Three nodes that hear each other.
#[must_use]
pub fn three(url: &str, options: &[&str], program: &[&str]) -> Vec<Controlled> {
    let nodes: Vec<Controlled> = ["a", "b", "c"].map(|name| node(url, name, options, program)).into();
    nodes.iter().for_each(|node| wait_for_nodes(node, true, 3, 0));
    nodes
}

/// What a node knows of its fleet.
#[must_use]
pub fn fleet(node: &Controlled) -> Value {
    node.status()["fleet"].clone()
}

/// Waits until a node hears so many nodes, itself included, and misses so many.
pub fn wait_for_nodes(node: &Controlled, is_connected: bool, present: u64, lost: u64) {
    wait_until(&format!("a node hears {present} and misses {lost}, connected: {is_connected}"), || {
        let fleet = fleet(node);
        let is_so = fleet["connected"] == is_connected && fleet["nodes"] == present && fleet["lost"] == lost;
        is_so.then_some(())
    });
}

/// The process id of the link of a node. It has none of the variables of the server.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn link(node: &Controlled) -> i32 {
    let children = procfs::children(node.server.pid());
    children.iter().find(|child| child.name == "tine: link").expect("a link").pid
}

/// The blocks that are banned at a node.
#[must_use]
pub fn bans(node: &Controlled) -> Vec<String> {
    let bans = node.json(&["bans"]);
    bans.iter().map(|ban| ban["block"].as_str().expect("a block").to_owned()).collect()
}

/// Waits until exactly these blocks are banned at a node.
pub fn wait_for_bans(node: &Controlled, blocks: &[&str]) {
    wait_until(&format!("the bans are {blocks:?}"), || (bans(node) == blocks).then_some(()));
}
