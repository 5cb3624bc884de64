//! Tests of connections over loopback TCP.

use std::io::{BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::*;
use crate::lifecycle::outcome::PassedDeadline;
use crate::system::clock::now;

/// A connection and its client.
fn pair() -> (Connection, TcpStream, ConnStats) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (server, address) = listener.accept().expect("a client");
    let stats = ConnStats::new(1).expect("memory");
    let (_, [drain]) = tine_sys::memory::flags().expect("memory");
    (
        Connection::new(server.into(), (7, Peer::Tcp(address), None), now(), 0, stats, drain, None),
        client,
        stats,
    )
}

#[test]
fn addresses_have_the_names_of_the_standard_library() {
    let (connection, client, _) = pair();
    assert_eq!(connection.peer_addr().expect("TCP"), client.local_addr().expect("TCP"));
    assert_eq!(connection.local_addr().expect("TCP"), client.peer_addr().expect("TCP"));
    assert!(!connection.is_draining());
    assert_eq!(connection.as_raw_fd(), connection.as_fd().as_raw_fd());
}

#[test]
fn a_proxied_connection_has_the_addresses_of_its_header() {
    let (mut connection, client, _) = pair();
    assert_eq!(connection.proxy(), None);
    let proxy = Peer::Tcp(client.local_addr().expect("TCP"));
    let own = connection.local_addr().expect("TCP");
    connection.proxied = Some(Box::new(Proxied { proxy, local: None, header: 16 }));
    assert_eq!((connection.proxy(), connection.local_addr().expect("TCP")), (Some(proxy), own));
    let local = "192.0.2.1:25".parse().expect("an address");
    connection.proxied = Some(Box::new(Proxied { proxy, local: Some(local), header: 28 }));
    assert_eq!(connection.local_addr().expect("TCP"), local);
    // A client over TCP whose proxy is connected over a Unix socket.
    connection.proxied = Some(Box::new(Proxied { proxy: Peer::Unix(None), local: Some(local), header: 28 }));
    TcpStream::try_from(connection).expect_err("a Unix socket");
}

#[test]
fn every_way_of_reading_and_writing_is_counted() {
    let (connection, mut client, stats) = pair();
    client.write_all(b"abcdefgh").expect("sent");
    let mut buffer = [0; 3];
    assert_eq!(connection.peek(&mut buffer).expect("bytes"), 3);
    assert_eq!(stats.bytes(0), Some((0, 0)), "peeked bytes are still to be read");
    (&connection).read_exact(&mut buffer).expect("bytes");
    assert_eq!(&buffer, b"abc");
    let (mut one, mut two) = ([0; 1], [0; 2]);
    let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!((&connection).read_vectored(&mut parts).expect("bytes"), 3);
    assert_eq!((&one, &two), (b"d", b"ef"));
    assert_eq!(connection.discard(10).expect("bytes"), 2);
    assert_eq!(stats.bytes(0), Some((8, 0)));
    (&connection).write_all(b"12").expect("sent");
    let parts = [IoSlice::new(b"3"), IoSlice::new(b"45")];
    assert_eq!((&connection).write_vectored(&parts).expect("sent"), 3);
    assert_eq!(stats.bytes(0), Some((8, 5)));
    let mut received = [0; 5];
    client.read_exact(&mut received).expect("bytes");
    assert_eq!(&received, b"12345");
}

#[test]
fn one_thread_reads_while_another_writes() {
    let (connection, mut client, _) = pair();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut text = String::new();
            (&connection).read_to_string(&mut text).map(|_| text)
        });
        (&connection).write_all(b"question").expect("sent");
        let mut question = [0; 8];
        client.read_exact(&mut question).expect("bytes");
        client.write_all(b"answer").expect("sent");
        client.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(reader.join().expect("no panic").expect("text"), "answer");
    });
}

#[test]
fn a_socket_that_is_taken_out_is_not_counted() {
    let (connection, mut client, stats) = pair();
    let mut stream = TcpStream::try_from(connection).expect("TCP");
    stream.write_all(b"x").expect("sent");
    assert_eq!(stats.bytes(0), None);
    drop(stream);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("the end of the stream");
    assert_eq!(rest, b"x");
    let (connection, _client, _) = pair();
    let number = connection.as_raw_fd();
    assert_eq!(OwnedFd::from(connection).as_raw_fd(), number);
}

#[test]
fn writing_to_a_client_that_is_gone_is_an_error() {
    let (connection, client, _) = pair();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("a socket");
    drop(client);
    let failed = loop {
        if let Err(error) = (&connection).write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]) {
            break error.kind();
        }
    };
    assert!(matches!(failed, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{failed}");
}

#[test]
fn every_way_of_reading_returns_buffered_bytes_first() {
    let (mut connection, mut client, stats) = pair();
    client.write_all(b"line\r\nabcdefghij").expect("sent");
    assert_eq!(connection.buffered(), 0);
    // All of it has arrived before it is read in one piece.
    assert_eq!(connection.peek(&mut [0; 16]).expect("bytes"), 16);
    assert_eq!(connection.next_line(10).expect("a line").as_deref(), Some("line"));
    assert_eq!((connection.buffered(), stats.bytes(0)), (10, Some((16, 0))));
    let mut two = [0; 2];
    assert_eq!((connection.peek(&mut two).expect("bytes"), &two), (2, b"ab"));
    assert_eq!((connection.read(&mut two).expect("bytes"), &two), (2, b"ab"));
    assert_eq!(connection.discard(2).expect("bytes"), 2);
    let (mut one, mut other) = ([0; 1], [0; 2]);
    let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
    assert_eq!(connection.read_vectored(&mut parts).expect("bytes"), 3);
    assert_eq!((&one, &other), (b"e", b"fg"));
    assert_eq!(connection.fill_buf().expect("bytes"), b"hij");
    connection.consume(1);
    client.write_all(b"k").expect("sent");
    assert_eq!(connection.discard(9).expect("bytes"), 2, "what is buffered, without a wait");
    assert_eq!(connection.fill_buf().expect("bytes"), b"k");
    assert_eq!(stats.bytes(0), Some((17, 0)));
}

#[test]
fn lines_are_bounded_and_the_last_one_needs_no_newline() {
    let (mut connection, mut client, _) = pair();
    let long = "x".repeat(20_000);
    let sent = format!("a\n{long}\r\n\nrest");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(sent.as_bytes()).expect("sent");
            client.shutdown(Shutdown::Write).expect("connected");
        });
        let mut line = |most| connection.next_line(most).map_err(|error| (error.kind(), error.to_string()));
        assert_eq!(line(1), Ok(Some("a".to_owned())));
        let too_long = (io::ErrorKind::InvalidData, "a line is longer than 19999 bytes".to_owned());
        assert_eq!(line(19_999), Err(too_long.clone()));
        assert_eq!(line(19_999), Err(too_long), "it is still there");
        assert_eq!(line(20_000), Ok(Some(long.clone())));
        assert_eq!(line(0), Ok(Some(String::new())));
        assert_eq!(line(4), Ok(Some("rest".to_owned())));
        assert_eq!(line(4), Ok(None));
    });
}

#[test]
fn a_line_that_is_not_utf_8_is_removed() {
    let (mut connection, mut client, _) = pair();
    client.write_all(b"\xff\n\xfe\n").expect("sent");
    assert_eq!(connection.next_line(9).expect_err("no text").kind(), io::ErrorKind::InvalidData);
    assert_eq!(connection.next_line_bytes(9).expect("a line").as_deref(), Some(&b"\xfe"[..]));
}

#[test]
fn a_timeout_within_a_line_loses_nothing() {
    let (mut connection, mut client, _) = pair();
    connection.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
    client.write_all(b"be").expect("sent");
    assert_eq!(connection.peek(&mut [0; 2]).expect("bytes"), 2);
    assert_eq!(connection.next_line(9).expect_err("a timeout").kind(), io::ErrorKind::WouldBlock);
    client.write_all(b"gin\n").expect("sent");
    connection.set_read_timeout(None).expect("set");
    assert_eq!(connection.next_line(9).expect("a line").as_deref(), Some("begin"));
}

/// Which deadline has passed, by the error of a read or write.
fn passed(error: &io::Error) -> Option<PassedDeadline> {
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    error.get_ref().and_then(|cause| cause.downcast_ref()).copied()
}

#[test]
fn a_silent_client_meets_the_idle_timeout() {
    let (mut connection, mut client, _) = pair();
    connection.set_idle_timeout(Some(Duration::from_millis(20))).expect("set");
    client.write_all(b"x").expect("sent");
    let began = Instant::now();
    connection.read_exact(&mut [0; 1]).expect("a byte");
    let error = connection.read(&mut [0; 1]).expect_err("nothing comes");
    assert_eq!(passed(&error), Some(PassedDeadline::Idle));
    assert!(began.elapsed() >= Duration::from_millis(20));
    let error = connection.peek(&mut [0; 1]).expect_err("nothing comes");
    assert_eq!(passed(&error), Some(PassedDeadline::Idle));
    // What can be written at once is written. It moves the deadline.
    connection.write_all(b"y").expect("sent");
    client.write_all(b"z").expect("sent");
    connection.set_idle_timeout(None).expect("set");
    assert_eq!(connection.discard(1).expect("a byte"), 1);
}

#[test]
fn a_client_that_reads_nothing_meets_the_idle_timeout() {
    let (connection, _client, _) = pair();
    connection.set_idle_timeout(Some(Duration::from_millis(20))).expect("set");
    let block = vec![0; 1 << 20];
    let failed = loop {
        if let Err(error) = (&connection).write(&block) {
            break error;
        }
    };
    assert_eq!(passed(&failed), Some(PassedDeadline::Idle));
}

#[test]
fn the_lifetime_ends_a_connection_that_has_input() {
    let (mut connection, mut client, _) = pair();
    client.write_all(b"xyz").expect("sent");
    connection.set_max_lifetime(Some(Duration::from_secs(600))).expect("set");
    connection.read_exact(&mut [0; 1]).expect("in time");
    connection.set_max_lifetime(Some(Duration::from_nanos(1))).expect("set");
    let errors = [
        connection.read(&mut [0; 1]).expect_err("late"),
        connection.discard(1).expect_err("late"),
        connection.write(b"x").expect_err("late"),
        connection.write_vectored(&[IoSlice::new(b"x")]).expect_err("late"),
        connection.next_line(9).expect_err("late"),
    ];
    for error in errors {
        assert_eq!(passed(&error), Some(PassedDeadline::Lifetime));
    }
    connection.set_idle_timeout(Some(Duration::ZERO)).expect_err("zero");
    connection.set_max_lifetime(Some(Duration::ZERO)).expect_err("zero");
    connection.set_max_lifetime(None).expect("set");
    assert_eq!(connection.discard(9).expect("bytes"), 2);
}

#[test]
fn with_a_deadline_the_timeout_of_a_read_and_non_blocking_sockets_stay() {
    let (mut connection, _client, _) = pair();
    connection.set_idle_timeout(Some(Duration::from_secs(600))).expect("set");
    connection.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
    assert_eq!(connection.read(&mut [0; 1]).expect_err("a timeout").kind(), io::ErrorKind::WouldBlock);
    connection.set_read_timeout(None).expect("set");
    rustix::io::ioctl_fionbio(&connection, true).expect("a socket");
    assert_eq!(connection.read(&mut [0; 1]).expect_err("no input").kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_client_that_half_closes_is_not_gone() {
    let (connection, client, _) = pair();
    assert!(!connection.is_peer_gone() && !connection.is_half_closed());
    client.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(connection.peek(&mut [0; 1]).expect("the end"), 0);
    assert!(!connection.is_peer_gone() && connection.is_half_closed());
    // Now both directions have ended.
    connection.shutdown(Shutdown::Write).expect("connected");
    assert_eq!((&client).read(&mut [0; 1]).expect("the end"), 0);
    drop(client);
    wait_for_hangup(&connection);
    assert!(connection.is_peer_gone() && connection.is_half_closed());
}

#[test]
fn a_client_that_resets_is_gone_and_its_bytes_stay() {
    let (connection, client, _) = pair();
    (&client).write_all(b"unread").expect("sent");
    assert_eq!(connection.peek(&mut [0; 6]).expect("bytes"), 6);
    assert!(!connection.is_peer_gone());
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("a socket");
    drop(client);
    wait_for_hangup(&connection);
    assert!(connection.is_peer_gone() && connection.is_half_closed());
}

fn wait_for_hangup(connection: &Connection) {
    let mut ask = [PollFd::new(connection, PollFlags::empty())];
    let deadline = Instant::now() + Duration::from_secs(60);
    assert_eq!(tine_sys::wait::until(&mut ask, Some(deadline)), Ok(1), "no hangup");
}
