//! Ten thousand connections leave no process, descriptor or memory behind, and in full jails no
//! mount and no namespace either. (`bench/run million` and `bench/run jail-million` show it for a
//! million.)

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tine_e2e::jails::{mounts, namespaces_of, wait_until_idle};
use tine_e2e::names::{CONNECTION, INIT};
use tine_e2e::{EchoClients, Server, TEST_TIMEOUT, procfs, wait_until};

/// Makes this number of short connections from several threads. Each ends in a reset, so that no
/// port stays in TIME_WAIT.
fn connect_often(port: u16, connections: usize) {
    const THREADS: usize = 8;
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            std::thread::spawn(move || {
                for turn in 0..connections / THREADS {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listening port");
                    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
                    let text = format!("{number} {turn}");
                    stream.write_all(text.as_bytes()).expect("the server receives");
                    let mut reply = vec![0; text.len()];
                    stream.read_exact(&mut reply).expect("a reply");
                    assert_eq!(reply, text.as_bytes());
                    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("served"));
}

/// Resources of the supervisor and the forkers.
#[derive(Debug)]
struct ServerResources {
    descriptors: usize,
    processes: usize,
    memory_kib: u64,
}

/// Measures a server once it has reaped every connection.
fn resources(server: &Server) -> ServerResources {
    let own = wait_until("every connection is reaped", || {
        let own = server.processes();
        let zombies = procfs::zombies(server.pid());
        (zombies == 0 && own.iter().all(|process| !process.name.starts_with(CONNECTION))).then_some(own)
    });
    ServerResources {
        descriptors: own.iter().map(|process| procfs::descriptors(process.pid).len()).sum(),
        processes: own.len(),
        memory_kib: own.iter().map(|process| procfs::proportional_memory(process.pid)).sum(),
    }
}

#[test]
fn ten_thousand_connections_leak_no_descriptor_process_or_memory() {
    // With a small limit, the pages of the tables are touched at the start.
    let server = Server::serve(&["-q", "--max-connections", "64"]);
    connect_often(server.port(), 1_000);
    let before = resources(&server);
    connect_often(server.port(), 10_000);
    let after = resources(&server);
    assert!(before.memory_kib > 0, "memory can be measured");
    assert_eq!((after.descriptors, after.processes), (before.descriptors, before.processes));
    assert!(after.memory_kib <= before.memory_kib + 32, "{before:?}, then {after:?}");
}

/// What the supervisor, forkers and jailers of a server have.
#[derive(Debug, PartialEq, Eq)]
struct JailResources {
    /// Of each process: its name and descriptors.
    descriptors: Vec<(String, usize)>,
    memory_kib: u64,
    namespaces: usize,
    /// Of the machine.
    mounts: usize,
}

fn jail_resources(server: &Server) -> JailResources {
    wait_until_idle(server);
    let mut own = server.processes();
    own.retain(|process| !process.name.starts_with(INIT));
    let mut descriptors: Vec<_> =
        own.iter().map(|process| (process.name.clone(), procfs::descriptors(process.pid).len())).collect();
    descriptors.sort();
    JailResources {
        descriptors,
        // They share pages with rooms, whose number changes.
        memory_kib: own.iter().map(|process| procfs::anonymous_memory(process.pid)).sum(),
        namespaces: namespaces_of(&own).len(),
        mounts: mounts(),
    }
}

/// Nothing is remembered of connections that have ended.
const IN_JAILS: [&str; 6] = ["-q", "--jail", "--control", "none", "--max-connections", "64"];

fn leave_nothing_in_jails(server: &Server, connections: usize) {
    connect_often(server.port(), 400);
    let before = jail_resources(server);
    connect_often(server.port(), connections);
    let after = jail_resources(server);
    assert!(before.memory_kib > 0, "memory can be measured");
    assert!(after.memory_kib <= before.memory_kib + 32, "{before:?}, then {after:?}");
    assert_eq!(after, JailResources { memory_kib: after.memory_kib, ..before });
}

#[test]
fn thousands_of_handlers_in_full_jails_leave_nothing() {
    leave_nothing_in_jails(&Server::serve(&IN_JAILS), 6_000);
}

#[test]
fn thousands_of_programs_in_full_jails_leave_nothing() {
    leave_nothing_in_jails(&Server::program(&IN_JAILS, &["cat"]), 4_000);
}

/// All of them are served, each in a room of its own, and all are gone afterwards.
#[test]
fn a_hundred_full_jails_at_a_time_leave_nothing() {
    const JAILS: usize = 100;
    let server = Server::program(&["--jail", "--max-connections", "120"], &["cat"]);
    let clients = EchoClients::start(server.port(), JAILS);
    clients.wait_for_exchanges(JAILS as u32 * 5);
    let programs: Vec<_> = server.processes().into_iter().filter(|one| one.name == "cat").collect();
    assert_eq!(programs.len(), JAILS);
    for kind in ["pid", "mnt", "ipc"] {
        let link = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        let own: std::collections::BTreeSet<_> = programs.iter().map(|one| link(one.pid)).collect();
        assert_eq!(own.len(), JAILS, "{kind}");
    }
    let users: std::collections::BTreeSet<_> =
        programs.iter().map(|one| procfs::status(one.pid, "Uid")).collect();
    assert_eq!(users.len(), JAILS);
    clients.finish();
    let ends = server.log.wait_for("end", JAILS);
    assert!(ends.iter().all(|end| end["outcome"] == "exit 0"), "{ends:?}");
    wait_until_idle(&server);
}
