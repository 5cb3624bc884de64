//! Ten thousand connections leave no process, descriptor or memory behind. (`bench/run million`
//! shows it for a million.)

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tine_e2e::names::CONNECTION;
use tine_e2e::{Server, TEST_TIMEOUT, procfs, wait_until};

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
