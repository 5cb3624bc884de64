//! Echo returns exactly the bytes that were sent, of any value and size.

use std::io::Write;
use std::time::Duration;

use tine_e2e::{Client, Random, Server};

/// Sends bytes from another thread, shuts the sending side down, and receives the echo meanwhile.
fn echo_of(client: &mut Client, sent: &[u8], chunk: usize) -> Vec<u8> {
    std::thread::scope(|scope| {
        let mut sender = client.stream.try_clone().expect("a second descriptor");
        scope.spawn(move || {
            sent.chunks(chunk).for_each(|chunk| sender.write_all(chunk).expect("the server receives"));
            sender.shutdown(std::net::Shutdown::Write).expect("a connected socket");
        });
        client.read_to_end()
    })
}

#[test]
fn echo_is_byte_exact_for_every_byte_and_chunk_size() {
    let server = Server::serve(&[]);
    let all_values: Vec<u8> = (0..=255).collect();
    server.connect().echo(&all_values).half_close();
    for chunk in [1, 2, 3, 1000, 4096, 65_536, 1 << 20, 8 << 20] {
        let sent = Random::new(chunk as u64).bytes(chunk.max(10_000));
        assert!(echo_of(&mut server.connect(), &sent, chunk) == sent, "chunks of {chunk}");
    }
}

#[test]
fn echo_after_a_half_close_is_complete() {
    let server = Server::serve(&[]);
    for length in [0, 1, 1000, 200_000] {
        let mut client = server.connect();
        let sent = Random::new(7).bytes(length);
        client.send(&sent).half_close();
        assert!(client.read_to_end() == sent, "{length} bytes");
    }
}

#[test]
fn sixty_four_parallel_streams_are_byte_exact() {
    let server = Server::serve(&[]);
    let port = server.port();
    std::thread::scope(|scope| {
        for number in 0..64 {
            scope.spawn(move || {
                let sent = Random::new(number).bytes(1 << 20);
                let received = echo_of(&mut Client::connect(port), &sent, sent.len());
                assert!(received == sent, "stream {number}");
            });
        }
    });
}

#[test]
fn a_client_that_does_not_read_and_one_that_does_not_send_delay_no_other() {
    let server = Server::serve(&[]);
    let mut silent = server.connect();
    let mut greedy = server.connect();
    greedy.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket option");
    let chunk = Random::new(1).bytes(1 << 16);
    let mut sent: Vec<u8> = Vec::new();
    loop {
        match greedy.stream.write(&chunk) {
            Ok(written) => sent.extend_from_slice(&chunk[..written]),
            Err(error) => break assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    server.connect().echo("others are served\n");
    // The rest of the echo arrives once the client reads.
    greedy.half_close();
    assert!(greedy.read_to_end() == sent, "{} bytes", sent.len());
    silent.expect_silence(Duration::from_millis(50));
    assert!(silent.finish().is_empty());
}
