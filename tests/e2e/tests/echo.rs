//! Echo is byte-exact: any value, any size, either direction first.

use std::io::{Read, Write};
use std::time::Duration;

use tine_e2e::Server;

/// Bytes that repeat only after a long time, different for each seed.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

#[test]
fn echo_is_byte_exact_for_every_byte_and_chunk_size() {
    let server = Server::serve(&[]);
    let all_values: Vec<u8> = (0..=255).collect();
    server.connect().echo(&all_values).half_close();
    for chunk in [1, 2, 3, 1000, 4096, 65_536, 1 << 20, 8 << 20] {
        let sent = bytes(chunk as u64, chunk.max(10_000));
        let mut client = server.connect();
        let mut sender = client.stream.try_clone().expect("a second handle");
        let text = sent.clone();
        let writer = std::thread::spawn(move || {
            text.chunks(chunk).for_each(|chunk| sender.write_all(chunk).expect("sends"));
            sender.shutdown(std::net::Shutdown::Write).expect("half-closes");
        });
        assert!(client.read_to_end() == sent, "chunks of {chunk}");
        writer.join().expect("all sent");
    }
}

#[test]
fn echo_after_a_half_close_is_complete() {
    let server = Server::serve(&[]);
    for length in [0, 1, 1000, 200_000] {
        let mut client = server.connect();
        let sent = bytes(7, length);
        client.send(&sent).half_close();
        assert!(client.read_to_end() == sent, "{length} bytes");
    }
}

#[test]
fn sixty_four_parallel_streams_are_byte_exact() {
    let server = Server::serve(&[]);
    let port = server.port();
    let streams: Vec<_> = (0..64)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = tine_e2e::Client::connect(port);
                let sent = bytes(number + 1, 1 << 20);
                let mut sender = client.stream.try_clone().expect("a second handle");
                let text = sent.clone();
                let writer = std::thread::spawn(move || {
                    sender.write_all(&text).expect("sends");
                    sender.shutdown(std::net::Shutdown::Write).expect("half-closes");
                });
                assert!(client.read_to_end() == sent, "stream {number}");
                writer.join().expect("all sent");
            })
        })
        .collect();
    for stream in streams {
        stream.join().expect("byte-exact");
    }
}

#[test]
fn a_client_that_does_not_read_and_one_that_does_not_send_delay_no_other() {
    let server = Server::serve(&[]);
    let silent = server.connect();
    let mut greedy = server.connect();
    greedy.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    let chunk = bytes(1, 1 << 16);
    let mut sent: Vec<u8> = Vec::new();
    loop {
        match greedy.stream.write(&chunk) {
            Ok(taken) => sent.extend_from_slice(&chunk[..taken]),
            Err(why) => break assert_eq!(why.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    server.connect().echo("others are served\n");
    // What was held back comes, once it is read.
    greedy.half_close();
    assert!(greedy.read_to_end() == sent, "{} bytes", sent.len());
    let mut silent = silent;
    silent.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    silent.stream.read(&mut [0; 1]).expect_err("nothing was sent, so nothing comes");
    silent.half_close();
    silent.stream.set_read_timeout(Some(tine_e2e::TEST_TIMEOUT)).expect("set");
    assert!(silent.read_to_end().is_empty());
}
