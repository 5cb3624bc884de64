//! A rolling update of three nodes behind HAProxy, with the configuration of `docs/fleet.md`: each
//! drains, ends, and is started anew, while clients come at a rate. No client fails. `bench/run
//! rolling` does so at ten times the rate.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tine_e2e::haproxy::{Haproxy, Node};
use tine_e2e::load::load;
use tine_e2e::{Folder, Server, ServerCommand, network, run, tine};

/// Clients per second, and seconds of them. All three nodes are replaced meanwhile.
const RATE: &str = "200";
const SECONDS: u64 = 25;

/// Longer than HAProxy takes to learn of a drain, as in `docs/fleet.md`.
const DRAIN_DELAY: &str = "2s";

/// A node, which can be started again with the same addresses.
struct Replaceable {
    server: Server,
    node: Node,
    socket: String,
}

impl Replaceable {
    /// A node with an address of its own, so that no other socket takes its port between two
    /// starts: those of HAProxy and of the clients are of 127.0.0.1.
    fn start(folder: &Folder, number: usize) -> Replaceable {
        let (name, any) = (format!("n{number}"), format!("127.0.1.{number}:0"));
        let socket = folder.path(&format!("{name}.sock"));
        let server = serve(&socket, &any, &any);
        let node = Node::of(&name, &server);
        Replaceable { server, node, socket }
    }

    /// Drains the node, waits until it has ended, and starts it anew. Returns the connections that
    /// it had served.
    fn replace(&mut self) -> usize {
        let (code, _, err) = run(Command::new(tine()).args(["drain", "--control", &self.socket]));
        assert_eq!(code, 0, "{}: {err}", self.node.name);
        assert_eq!(self.server.wait().code(), Some(0), "{}", self.node.name);
        let served = self.served();
        self.server = serve(&self.socket, &self.node.address, &self.node.agent);
        served
    }

    /// Connections that have ended, each of them well. Checks of HAProxy have sent nothing.
    fn served(&self) -> usize {
        let (ends, checks): (Vec<Value>, Vec<Value>) =
            self.server.log.of("end").into_iter().partition(|end| end["in"].as_u64() > Some(0));
        assert!(ends.iter().all(|end| end["outcome"] == "exit 0"), "{ends:?}");
        assert!(!checks.is_empty(), "HAProxy checks the health of {}", self.node.name);
        ends.len()
    }
}

fn serve(socket: &str, address: &str, agent: &str) -> Server {
    let words = ["serve", "--log", "json", "-1", "--control", socket, "--state-directory", "none"];
    let words = [&words[..], &["--proxy-from", "127.0.0.1", "--drain-delay", DRAIN_DELAY]].concat();
    ServerCommand::program(tine(), &[&words[..], &["--haproxy-agent", agent, address]].concat()).start()
}

#[test]
fn no_client_fails_while_all_nodes_are_replaced_one_after_the_other() {
    network::own();
    let folder = Folder::new("rolling");
    let mut nodes: Vec<Replaceable> = (1..=3).map(|number| Replaceable::start(&folder, number)).collect();
    let named: Vec<Node> = nodes.iter().map(|one| one.node.clone()).collect();
    let proxy = Haproxy::documented("rolling-proxy", &named);
    named.iter().for_each(|node| _ = proxy.wait_for(&node.name, "up", |state| state.is_up()));
    let target = format!("127.0.0.1:{}", proxy.port);
    let seconds = format!("{SECONDS}s");
    std::thread::scope(|scope| {
        let loaded =
            scope.spawn(|| load(&["crr", &target, "-R", RATE, "-d", &seconds, "--max-lateness", "5s"]));
        // Each has clients before it is replaced, and the next one is replaced when it has them
        // again.
        let get_clients = |node: &Node| {
            let before = proxy.state(&node.name).total;
            proxy.wait_for(&node.name, "used", |state| state.is_up() && state.total > before + 10)
        };
        for one in &mut nodes {
            get_clients(&one.node);
            assert!(one.replace() > 10, "{} had clients", one.node.name);
            get_clients(&one.node);
            assert!(!loaded.is_finished(), "the load is over before all nodes are replaced");
        }
        let loaded = loaded.join().expect("no panic");
        loaded.expect_sound();
        let planned = RATE.parse::<u64>().expect("a number") * Duration::from_secs(SECONDS).as_secs();
        // On a busy machine, the last ones may not have ended, or begun, when the load stops.
        let [ok, in_flight, unstarted] = ["ok", "in-flight", "unstarted"].map(|state| loaded.state(state));
        assert!(ok + in_flight + unstarted + 1 >= planned, "{}", loaded.report["summary"]);
        let oldest = loaded.report["summary"]["oldest_in_flight_ns"].as_f64();
        assert!(oldest.unwrap_or(0.0) < 5e9, "{}", loaded.report["summary"]);
        assert!(in_flight + unstarted < planned / 10, "{}", loaded.report["summary"]);
    });
    nodes.iter().for_each(|one| assert!(one.served() > 10, "{} has clients again", one.node.name));
}
