//! A hundred thousand connections leave nothing behind. (`bench/million` does it with a million.)

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tine_e2e::names::CONNECTION;
use tine_e2e::{Server, TEST_TIMEOUT, procfs, wait_until};

/// Short connections from several threads, each ended by a reset, so that no port stays in TIME_WAIT.
fn serve(port: u16, connections: usize) {
    const THREADS: usize = 8;
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            std::thread::spawn(move || {
                for turn in 0..connections / THREADS {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
                    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
                    let text = format!("{number} {turn}");
                    stream.write_all(text.as_bytes()).expect("sends");
                    let mut answer = vec![0; text.len()];
                    stream.read_exact(&mut answer).expect("an answer");
                    assert_eq!(answer, text.as_bytes());
                    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("served"));
}

#[derive(Debug)]
struct Held {
    descriptors: usize,
    processes: usize,
    /// Of supervisor and forkers.
    memory_kib: u64,
}

fn held(server: &Server) -> Held {
    let own = wait_until("every connection is reaped", || {
        let own = server.processes();
        let zombies = procfs::zombies(server.pid());
        (zombies == 0 && own.iter().all(|process| !process.name.starts_with(CONNECTION))).then_some(own)
    });
    Held {
        descriptors: own.iter().map(|process| procfs::descriptors(process.pid).len()).sum(),
        processes: own.len(),
        memory_kib: own.iter().map(|process| procfs::proportional_memory(process.pid)).sum(),
    }
}

#[test]
fn a_hundred_thousand_connections_leak_no_descriptor_process_or_memory() {
    // A small limit: the tables have room for it from the start, however late ends are taken.
    let server = Server::serve(&["-q", "--max-connections", "64"]);
    serve(server.port(), 1_000);
    let before = held(&server);
    serve(server.port(), 100_000);
    let after = held(&server);
    assert!(before.memory_kib > 0, "it was measured");
    assert_eq!((after.descriptors, after.processes), (before.descriptors, before.processes));
    assert!(after.memory_kib <= before.memory_kib + 64, "{before:?}, then {after:?}");
}
