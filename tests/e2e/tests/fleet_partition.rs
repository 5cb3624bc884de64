//! The links of a fleet on machines that are cut off from each other, without a word: their bus is
//! one server, or a cluster of three with the configuration of `docs/fleet.md`.

use std::time::{Duration, Instant};

use tine::cli::BanState::Forever;
use tine_e2e::bus::NatsServer;
use tine_e2e::fleet::{Node, PlainClient, block};
use tine_e2e::machines::Machine;
use tine_e2e::{Folder, wait_until};

const FLEET: &str = include_str!("../../../docs/fleet.md");

/// The time in which nodes agree again, from the moment that the network is whole.
const AGREE_WITHIN: Duration = Duration::from_secs(5);
/// The port of clients in the namespace of a server.
const PORT: u16 = 4222;

/// A machine with a server of the cluster, and a node that talks to this server alone.
struct Site {
    node: Node,
    _server: NatsServer,
    machine: Machine,
}

/// Starts a server of a cluster of three, with the configuration of the document.
fn server(machine: &Machine, number: usize, folder: &Folder) -> NatsServer {
    let store = folder.path(&format!("store-{number}"));
    let block = FLEET.split("```nats\n").nth(1).and_then(|rest| rest.split("```").next());
    let text = block
        .expect("a configuration")
        .replace("server_name: s1", &format!("server_name: s{number}"))
        .replace("listen: \"10.0.0.1:6222\"", &format!("listen: \"{}:6222\"", machine.ip()))
        .replace("10.0.0.", "10.6.0.")
        .replace("/var/lib/nats", &store);
    assert!(text.contains(&store) && text.contains(&machine.ip()), "{text}");
    let file = folder.path(&format!("server-{number}.conf"));
    std::fs::write(&file, text).expect("a folder of the test");
    machine.run(|| NatsServer::start_on(&PORT.to_string(), &["-a", "0.0.0.0", "-c", &file]))
}

/// Has TCP send again after a second at most, as the document says.
fn resend_soon(machine: &Machine) {
    let (_, text) = FLEET.split_once("sysctl net.ipv4.tcp_rto_max_ms=").expect("a setting");
    let value: String = text.chars().take_while(char::is_ascii_digit).collect();
    machine.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_rto_max_ms", &value).expect("Linux 6.15"));
}

fn local() -> String {
    format!("nats://127.0.0.1:{PORT}")
}

fn start(machine: &Machine, url: &str, name: &str) -> Node {
    machine.run(|| Node::start(url, name))
}

/// Three sites whose nodes hear each other, and keep bans in three places.
fn three(folder: &Folder) -> Vec<Site> {
    let machines = Machine::several(3);
    machines.iter().for_each(resend_soon);
    let servers: Vec<NatsServer> =
        machines.iter().enumerate().map(|(at, machine)| server(machine, at + 1, folder)).collect();
    let nodes: Vec<Node> = machines
        .iter()
        .enumerate()
        .map(|(at, machine)| start(machine, &local(), &format!("n{}", at + 1)))
        .collect();
    nodes.iter().for_each(|node| node.wait_for_nodes(3));
    let all = nodes.into_iter().zip(servers).zip(machines);
    all.map(|((node, _server), machine)| Site { node, _server, machine }).collect()
}

/// What the bus says of the bucket. While nobody leads its servers, nobody answers.
fn bucket(site: &Site) -> Option<serde_json::Value> {
    let text = site.machine.run(|| {
        let (time, subject) = (Duration::from_secs(1), "$JS.API.STREAM.INFO.KV_tine-bans-default");
        PlainClient::connect(PORT).request_within(time, subject, "")
    });
    serde_json::from_str(&text?).ok()
}

#[test]
fn a_cluster_in_two_parts_serves_both_and_they_agree_when_it_is_whole() {
    let folder = Folder::new("fleet-partition");
    let mut sites = three(&folder);
    let before = block("192.0.2.1");
    sites[0].node.order(before, Forever);
    sites[1..].iter().for_each(|site| site.node.wait_for_ban(before, Forever));
    // The site of the server that leads the others in keeping bans is the one that is cut off.
    let info = wait_until("the bucket has three places", || {
        let info = bucket(&sites[0])?;
        (info["cluster"]["replicas"].as_array().map(Vec::len) == Some(2)).then_some(info)
    });
    let leader = info["cluster"]["leader"].as_str().expect("a leader").trim_start_matches('s');
    let alone = sites.remove(leader.parse::<usize>().expect("a number") - 1);
    alone.machine.cut();

    let (source, here, there) = (block("192.0.2.9"), block("192.0.2.2"), block("192.0.2.3"));
    alone.node.wait("it hears nobody", |told| (told.nodes == (1, 2)).then_some(()));
    sites.iter().for_each(|site| {
        site.node.wait("it misses the one", |told| (told.nodes == (2, 1)).then_some(()));
    });
    alone.node.order(there, Forever);
    alone.node.uses(source, 3, 3);
    let ordered = Instant::now();
    sites[0].node.order(here, Forever);
    sites[1].node.wait_for_ban(here, Forever);
    assert!(ordered.elapsed() < Duration::from_secs(1), "{:?}", ordered.elapsed());
    // One that starts meanwhile.
    let late = start(&sites[1].machine, &local(), "late");
    late.wait_for_ban(here, Forever);
    assert!(!sites[1].node.told.borrow().bans.contains_key(&there));

    alone.machine.mend();
    let whole = Instant::now();
    alone.node.wait_for_nodes(4);
    alone.node.wait_for_ban(here, Forever);
    for node in sites.iter().map(|site| &site.node).chain([&late]) {
        node.wait_for_nodes(4);
        node.wait_for_ban(there, Forever);
        node.wait_for_held(source, 3);
    }
    assert!(whole.elapsed() < AGREE_WITHIN, "{:?}", whole.elapsed());
    let later = start(&alone.machine, &local(), "later");
    [before, here, there].iter().for_each(|ban| later.wait_for_ban(*ban, Forever));
}

#[test]
fn a_node_whose_server_is_cut_off_goes_to_another() {
    let folder = Folder::new("fleet-moves");
    let sites = three(&folder);
    // A machine of its own, and all servers by name.
    let urls: Vec<String> = sites.iter().map(|site| format!("nats://{}:{PORT}", site.machine.ip())).collect();
    let node = Node::start(&urls.join(","), "n4");
    node.wait_for_nodes(4);
    let server =
        wait_until("a server has its connection", || sites.iter().position(|site| has_client(&site.machine)));
    sites[server].machine.cut();
    let cut = Instant::now();
    node.wait("the bus is away", |told| (told.bus == Some(false)).then_some(()));
    node.wait("the bus is back", |told| (told.bus == Some(true)).then_some(()));
    assert!(cut.elapsed() < Duration::from_secs(10), "{:?}", cut.elapsed());
    node.wait("it hears the other two", |told| (told.nodes == (3, 1)).then_some(()));
    node.order(block("192.0.2.1"), Forever);
    for (_, site) in sites.iter().enumerate().filter(|(at, _)| *at != server) {
        site.node.wait_for_ban(block("192.0.2.1"), Forever);
    }
    sites[server].machine.mend();
    let whole = Instant::now();
    sites[server].node.wait_for_ban(block("192.0.2.1"), Forever);
    assert!(whole.elapsed() < AGREE_WITHIN, "{:?}", whole.elapsed());
}

/// Whether the server on a machine has a connection from 10.6.0.254.
fn has_client(machine: &Machine) -> bool {
    let script = "ss -Htn state established '( sport = :4222 )' dst 10.6.0.254";
    let output = machine
        .run(|| std::process::Command::new("sh").args(["-c", script]).output().expect("ss is installed"));
    assert!(output.status.success(), "{output:?}");
    !output.stdout.is_empty()
}

#[test]
fn a_machine_without_its_network_is_back_soon_after_it_has_it() {
    let folder = Folder::new("fleet-cable");
    let machines = Machine::several(3);
    let _server = machines[0].run(|| {
        let store = folder.path("store");
        NatsServer::start_on(&PORT.to_string(), &["-a", "0.0.0.0", "-js", "-sd", &store])
    });
    let url = format!("nats://{}:{PORT}", machines[0].ip());
    let nodes = [1, 2].map(|at| start(&machines[at], &url, &format!("n{at}")));
    nodes.iter().for_each(|node| node.wait_for_nodes(2));
    let source = block("192.0.2.9");
    nodes[1].uses(source, 5, 5);
    nodes[0].wait_for_held(source, 5);
    // The longer it lasts, the less often TCP sends again.
    for (number, seconds) in [(2, 2), (4, 8)] {
        let [here, there] = [number, number + 1].map(|last| block(&format!("192.0.2.{last}")));
        machines[2].cut();
        let cut = Instant::now();
        nodes[1].wait("the bus is away", |told| (told.bus == Some(false)).then_some(()));
        nodes[0].wait("it is lost", |told| (told.nodes == (1, 1)).then_some(()));
        nodes[1].order(there, Forever);
        nodes[0].order(here, Forever);
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(cut.elapsed()));
        machines[2].mend();
        let whole = Instant::now();
        nodes[1].wait_for_ban(here, Forever);
        nodes[0].wait_for_ban(there, Forever);
        nodes[0].wait_for_held(source, 5);
        nodes.iter().for_each(|node| node.wait_for_nodes(2));
        assert!(whole.elapsed() < AGREE_WITHIN, "{:?}", whole.elapsed());
    }
}
