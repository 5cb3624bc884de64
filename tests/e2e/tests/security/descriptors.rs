//! Descriptors: connections and helpers hold no listener, and no socket of another connection.

use tine_e2e::cgroup::DelegatedCgroup;
use tine_e2e::names::{CGROUP_CLEANER, DELAYER, FORKER, REJECTOR, SPARE, STDERR_LOGGER, pid};
use tine_e2e::{Client, Server, procfs, wait_until};

use crate::intruder;

/// Options that start the rejector and the delayer. No limit is reached.
const HELPERS: [&str; 6] =
    ["--when-full", "reject=full\n", "--when-limited", "delay", "--max-connections-per-source", "100"];

/// Connects three clients. Asserts that each connection process has one TCP socket, that of its
/// client, and nothing else that is a socket, a memory file or an event descriptor.
fn check_connections(server: &Server, what: &str) {
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.send("pid\n");
    });
    for accept in server.log.wait_for("accept", 3) {
        let pid = pid(&accept);
        let port = |client: &Client| client.stream.local_addr().expect("a bound socket").port();
        let client = clients.iter().find(|client| accept["peer"] == client.address().as_str());
        let own = procfs::TcpSocket { is_listener: false, peer_port: port(client.expect("a client")) };
        wait_until(&format!("process {pid} of {what} has its own socket only"), || {
            (procfs::tcp_sockets(pid) == [own.clone()]).then_some(())
        });
        let descriptors = procfs::descriptors(pid);
        let mut sockets: Vec<&String> = descriptors
            .iter()
            .map(|(_, target)| target)
            .filter(|target| target.starts_with("socket:"))
            .collect();
        sockets.dedup();
        assert_eq!(sockets.len(), 1, "{what}: {descriptors:?}");
        let internal = |target: &str| target.starts_with("anon_inode:") || target.contains("memfd:");
        assert!(!descriptors.iter().any(|(_, target)| internal(target)), "{what}: {descriptors:?}");
    }
}

#[test]
fn a_connection_process_holds_its_own_socket_and_no_listener() {
    for options in [&[][..], &["--spares", "4"], &["--user", "nobody"]] {
        let server = intruder::serve(&[&["--all-limits"], options]);
        check_connections(&server, &format!("a handler with {options:?}"));
    }
}

#[test]
fn a_program_holds_its_own_socket_and_no_listener() {
    for options in [&[][..], &["--spares", "4"], &["--user", "nobody"], &["--stderr", "log"]] {
        let server = Server::program(&[&HELPERS[..], options].concat(), &["cat"]);
        check_connections(&server, &format!("a program with {options:?}"));
    }
}

/// Asserts that no process of this name has a TCP socket, or any other descriptor of a connection.
fn check_helper(server: &Server, name: &str) {
    let helper = wait_until(&format!("{name} runs"), || server.named(name).into_iter().next());
    // A helper has the descriptors of the supervisor until it has dropped them.
    wait_until(&format!("{name} holds no TCP socket"), || {
        procfs::tcp_sockets(helper.pid).is_empty().then_some(())
    });
}

#[test]
fn rejector_delayer_and_stderr_logger_hold_no_listener_and_no_served_connection() {
    for user in [&[][..], &["--user", "nobody"]] {
        let server = Server::program(&[&HELPERS[..], &["--stderr", "log"], user].concat(), &["cat"]);
        let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| {
            client.echo("served");
        });
        for name in [REJECTOR, DELAYER, STDERR_LOGGER] {
            check_helper(&server, name);
        }
        // The check is able to find a listener.
        assert!(procfs::tcp_sockets(server.forkers()[0]).iter().any(|socket| socket.is_listener));
    }
}

#[test]
fn the_cgroup_cleaner_holds_no_listener_and_no_served_connection() {
    let cgroups = DelegatedCgroup::new("cleaner-descriptors");
    let server = cgroups.program(&[], &["cat"]);
    server.connect().echo("served");
    check_helper(&server, CGROUP_CLEANER);
}

#[test]
fn with_user_every_process_but_supervisor_and_cgroup_cleaner_runs_as_that_user() {
    let options = [&HELPERS[..], &["--stderr", "log", "--spares", "2", "--user", "nobody"]].concat();
    let server = Server::program(&options, &["cat"]);
    let mut client = server.connect();
    client.echo("served");
    let connection = pid(&server.log.wait_for("accept", 1)[0]);
    let helpers = [FORKER, SPARE, REJECTOR, DELAYER, STDERR_LOGGER]
        .map(|name| wait_until(&format!("{name} runs"), || server.named(name).into_iter().next()).pid);
    for pid in helpers.into_iter().chain([connection]) {
        for key in ["Uid", "Gid"] {
            assert_eq!(procfs::ids(pid, key), ["65534"; 4], "{key} of {:?}", procfs::process(pid));
        }
    }
    assert_eq!(procfs::ids(server.pid(), "Uid"), ["0"; 4]);
}
