//! The agent of HAProxy (`--haproxy-agent`): what it says, and what Debian's HAProxy does then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use tine_e2e::control::Controlled;
use tine_e2e::haproxy::{Haproxy, Node, agent_of};
use tine_e2e::{Client, Folder, Server, ServerCommand, TEST_TIMEOUT, network, tine, wait_until};

const AGENT: [&str; 2] = ["--haproxy-agent", "127.0.0.1:0"];

/// With a weight of 100, the percentages of the agent are the weights.
const WORDS: &str = "weight 100 send-proxy-v2";

/// What an agent says.
fn said(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the agent listens");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("ours");
    let mut line = String::new();
    stream.read_to_string(&mut line).expect("a line");
    line
}

/// Waits until an agent says this: what it says can be 100 ms old.
fn wait_for(address: &str, line: &str) {
    wait_until(&format!("the agent says {line:?}"), || (said(address) == line).then_some(()));
}

/// Whether nobody listens at the address of a server.
fn is_closed(server: &Server) -> bool {
    TcpStream::connect(("127.0.0.1", server.port())).is_err()
}

#[test]
fn the_line_follows_the_service() {
    let options = [&AGENT[..], &["-c", "4", "--drain-delay", "2s"]].concat();
    let mut controlled = Controlled::serve("agent-line", &options, &[]);
    let agent = agent_of(&controlled.server);
    assert_eq!(said(&agent), "up ready 100%\n");
    let mut held: Vec<Client> = Vec::new();
    for line in ["up ready 75%\n", "up ready 50%\n", "up ready 25%\n", "up ready 1%\n"] {
        held.push(controlled.server.connect());
        held.last_mut().expect("it was added").echo("x");
        wait_for(&agent, line);
    }
    held.pop().expect("a client").finish();
    wait_for(&agent, "up ready 25%\n");
    controlled.done(&["set", "max-connections=3"]);
    wait_for(&agent, "up ready 1%\n");
    controlled.done(&["set", "max-connections=4"]);
    wait_for(&agent, "up ready 25%\n");
    controlled.done(&["pause"]);
    wait_for(&agent, "maint\n");
    controlled.done(&["resume"]);
    wait_for(&agent, "up ready 25%\n");
    // First it is told, then the listener closes, and then connections may finish.
    controlled.server.signal(Signal::TERM);
    wait_for(&agent, "drain\n");
    assert!(controlled.server.log.of("drain").is_empty(), "clients are accepted still");
    controlled.server.connect().echo("a client of a load balancer that does not know yet").finish();
    controlled.server.log.wait_for("drain", 1);
    wait_until("the listener is closed", || is_closed(&controlled.server).then_some(()));
    assert_eq!(said(&agent), "drain\n");
    held.iter_mut().for_each(|client| _ = client.echo("it may finish").finish());
    assert_eq!(controlled.server.wait().code(), Some(0));
    let announced = controlled.server.log.of("announce");
    assert_eq!((announced.len(), &announced[0]["delay_seconds"]), (1, &2.0.into()), "{announced:?}");
    TcpStream::connect(agent).expect_err("the agent has ended with the server");
}

#[test]
fn each_service_has_an_agent_of_its_own() {
    let folder = Folder::new("agent-services");
    let agent = folder.path("agent.sock");
    let text = format!(
        "[services.a]\nlisten = '127.0.0.1:0'\nmax-connections = 2\nhaproxy-agent = '127.0.0.1:0'\n\
         [services.b]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\nhaproxy-agent = 'unix:{agent}'\n\
         [services.c]\nlisten = '127.0.0.1:0'\n"
    );
    let file = folder.write("tine.toml", &text).display().to_string();
    let socket = folder.path("c.sock");
    let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &socket];
    let mut server = ServerCommand::program(tine(), &serve).start();
    let lines = server.log.wait_for("agent", 2);
    assert_eq!((&lines[0]["of"], &lines[1]["of"]), (&"a".into(), &"b".into()));
    let of_a = lines[0]["address"].as_str().expect("an address").to_owned();
    let of_b = || {
        let mut line = String::new();
        UnixStream::connect(&agent).expect("it listens").read_to_string(&mut line).expect("a line");
        line
    };
    let mut held = server.connect();
    held.echo("x");
    wait_for(&of_a, "up ready 50%\n");
    assert_eq!(of_b(), "up ready 100%\n");
    // The next generation has the same addresses.
    server.signal(Signal::USR2);
    server.log.wait_for("replaced", 1);
    assert_eq!(said(&of_a), "up ready 50%\n", "connections of older generations count");
    let drain = ["drain", "b", "--control", &socket];
    let (code, _, err) = tine_e2e::run(std::process::Command::new(tine()).args(drain));
    assert_eq!(code, 0, "{err}");
    wait_until("b has ended", || (of_b() == "stopped\n").then_some(()));
    assert_eq!(said(&of_a), "up ready 50%\n");
    held.finish();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    server.wait_until_gone();
    assert!(!std::path::Path::new(&agent).exists());
}

#[test]
fn slow_and_many_clients_of_the_agent_are_not_felt() {
    let server = Server::serve(&AGENT);
    let agent = agent_of(&server);
    let silent: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(&agent).expect("it listens")).collect();
    let mut loud = TcpStream::connect(&agent).expect("it listens");
    loud.set_write_timeout(Some(TEST_TIMEOUT)).expect("ours");
    // It is read for a while, and closed.
    while loud.write_all(&[b'x'; 4096]).is_ok() {}
    server.connect().echo("x").finish();
    // Each of the others gets its line in turn, though none of them closes.
    for mut stream in &silent {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("ours");
        let mut line = String::new();
        stream.read_to_string(&mut line).expect("a line");
        assert!(line.starts_with("up ready "), "{line:?}");
    }
    assert_eq!(said(&agent), "up ready 100%\n");
    assert!(server.log.of("restart").is_empty(), "the observer lives");
}

#[test]
fn wrong_addresses_start_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    for (address, code, words) in [
        ("vsock:7", 100, "TCP or Unix sockets only"),
        ("nonsense", 100, "nonsense"),
        (&taken, 111, taken.as_str()),
    ] {
        let mut command = std::process::Command::new(tine());
        command.args(["serve", "127.0.0.1:0", "--haproxy-agent", address]);
        let (found, _, err) = tine_e2e::run(&mut command);
        assert_eq!(found, code, "{address}: {err}");
        assert!(err.contains(words) && err.lines().count() == 1, "{address}: {err}");
    }
}

#[test]
fn haproxy_gives_each_server_clients_by_its_free_places() {
    network::own();
    let options = [&AGENT[..], &["-c", "4", "--proxy-from", "127.0.0.1"]].concat();
    let program = ["sh", "-c", "echo \"$REMOTE_ADDR\"; exec cat"];
    let server = Server::program(&options, &program);
    let proxy = Haproxy::start("agent-weight", &[Node::of("n1", &server)], WORDS);
    proxy.wait_for("n1", "free", |state| state.is_up() && state.weight == 100);
    let mut held: Vec<Client> = Vec::new();
    for weight in [75, 50, 25, 1] {
        let mut client = Client::from_source("127.0.0.7", proxy.port);
        // The PROXY header of version 2 has the client's address, and the program sees it.
        assert_eq!(client.read_line(), "127.0.0.7");
        held.push(client);
        proxy.wait_for("n1", "fuller", |state| state.is_up() && state.weight == weight);
    }
    drop(held);
    proxy.wait_for("n1", "free again", |state| state.is_up() && state.weight == 100);
}

#[test]
fn haproxy_drains_a_server_that_drains_and_leaves_one_that_is_paused() {
    network::own();
    let options = [&AGENT[..], &["--proxy-from", "127.0.0.1", "--drain-delay", "2s"]].concat();
    let mut first = Controlled::serve("agent-drain", &options, &[]);
    let second = Server::serve(&options);
    let nodes = [Node::of("n1", &first.server), Node::of("n2", &second)];
    let proxy = Haproxy::start("agent-drained", &nodes, WORDS);
    nodes.iter().for_each(|node| _ = proxy.wait_for(&node.name, "up", |state| state.is_up()));
    // Two in turn: one for each server.
    let mut held: Vec<Client> = (0..2).map(|_| Client::connect(proxy.port)).collect();
    held.iter_mut().for_each(|client| _ = client.echo("before"));
    first.server.log.wait_for("accept", 1);
    first.done(&["pause"]);
    proxy.wait_for("n1", "in maintenance", |state| state.status.starts_with("MAINT"));
    first.done(&["resume"]);
    proxy.wait_for("n1", "up again", |state| state.is_up());
    let before = proxy.state("n1").total;
    first.server.signal(Signal::TERM);
    proxy.wait_for("n1", "draining", |state| state.status.starts_with("DRAIN"));
    assert!(first.server.log.of("drain").is_empty(), "HAProxy knows before the listener closes");
    for _ in 0..10 {
        Client::connect(proxy.port).echo("another server").finish();
    }
    assert_eq!(proxy.state("n1").total, before, "it gets no more clients");
    first.server.log.wait_for("drain", 1);
    // The held connections finish.
    held.iter_mut().for_each(|client| _ = client.echo("after").finish());
    assert_eq!(first.server.wait().code(), Some(0));
}
