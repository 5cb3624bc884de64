//! Handles that stop a server from its handlers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use tine::testing::TestServer;
use tine::{Connection, ErrorKind, HandlerError, Identity, Jail, JailMode, Server, Services, StopHandle};

fn bind() -> Result<Server, tine::Error> {
    Ok(Server::bind("127.0.0.1:0")?.forkers(1))
}

/// Replies to each line; the line `stop` stops the server.
fn serve(mut connection: Connection, handle: &StopHandle) -> Result<(), HandlerError> {
    while let Some(line) = connection.next_line(100)? {
        if line == "stop" {
            handle.stop();
        }
        writeln!(connection, "{line}")?;
    }
    Ok(())
}

type Built<H> = Result<(Server, H), tine::Error>;

/// A server that its handler can stop.
fn stoppable(mut server: Server) -> Built<impl FnMut(Connection) -> Result<(), HandlerError>> {
    let handle = server.stop_handle()?;
    Ok((server, move |connection: Connection| serve(connection, &handle)))
}

fn ask(client: &TcpStream, line: &str) {
    let mut stream = client;
    stream.write_all(format!("{line}\n").as_bytes()).expect("sent");
    let mut reply = String::new();
    BufReader::new(client).read_line(&mut reply).expect("a reply");
    assert_eq!(reply.trim_end(), line);
}

#[test]
fn a_handler_stops_its_server_which_drains() {
    let server = TestServer::start_handler(|| stoppable(bind()?)).expect("it starts");
    let (one, other) = (server.connect(), server.connect());
    ask(&one, "hello");
    ask(&other, "stop");
    server.wait_for_line(|line| line.contains(" drain "));
    // Neither another call nor one from another process ends connections.
    for client in [&one, &other, &one] {
        ask(client, "stop");
    }
    drop((one, other));
    server.stop().expect("an orderly stop");
}

#[test]
fn a_stop_before_the_start_is_one_after_it() {
    let built = || -> Built<_> {
        let mut server = bind()?;
        let handle = server.stop_handle()?;
        handle.stop();
        handle.clone().stop();
        Ok((server, |_: Connection| Ok(())))
    };
    let server = TestServer::start_handler(built).expect("it stops in an orderly way");
    server.stop().expect("it has stopped by itself");
}

#[test]
fn a_stopped_server_neither_ends_its_program_later_nor_runs_again() {
    let built = || -> Built<_> {
        let mut first = bind()?;
        let handle = first.stop_handle()?;
        handle.stop();
        first.run(|_| Ok(()))?;
        handle.stop();
        stoppable(bind()?)
    };
    let error = TestServer::start_handler(built).expect_err("a second run");
    assert_eq!(error.kind(), ErrorKind::SecondRun, "{error}");
}

#[test]
fn a_handler_runs_no_server() {
    let server = TestServer::start(bind, |mut connection| {
        let error = Server::bind("127.0.0.1:0")?.run(|_| Ok(())).expect_err("within a server");
        Ok(write!(connection, "{:?}: {error}", error.kind())?)
    });
    let mut text = String::new();
    server.expect("it starts").connect().read_to_string(&mut text).expect("text");
    assert_eq!(
        text,
        "SecondRun: a server runs or has run in this process already; run another one in a process of its own, or both as Services"
    );
}

#[test]
fn handlers_that_wait_or_are_confined_stop_their_server() {
    let build = || {
        let server = bind()?.spares(1).reuse(5).jail(Jail::new(JailMode::Light));
        // Root may not be confined so. Others cannot become another user.
        let is_root = rustix::process::geteuid().is_root();
        stoppable(if is_root { server.identity(Identity::of_user("nobody")?) } else { server })
    };
    let server = TestServer::start_handler(build).expect("it starts");
    ask(&server.connect(), "stop");
    server.stop().expect("an orderly stop");
}

/// Two services, which the handler of either one can stop.
fn stoppable_services(of_service: bool) -> Result<Services, tine::Error> {
    let mut first = bind()?;
    let mut services = Services::new();
    let handle = if of_service { first.stop_handle()? } else { services.stop_handle()? };
    let other = handle.clone();
    Ok(services.service("a", first, move |connection| serve(connection, &handle)).service(
        "b",
        bind()?,
        move |connection| serve(connection, &other),
    ))
}

#[test]
fn services_are_stopped_by_a_handle_of_all() {
    let server = TestServer::start_services(|| stoppable_services(false)).expect("they start");
    ask(&server.connect(), "stop");
    server.stop().expect("an orderly stop");
}

#[test]
fn services_are_stopped_by_a_handle_of_one() {
    let server = TestServer::start_services(|| stoppable_services(true)).expect("they start");
    ask(&TcpStream::connect(server.addresses()[1]).expect("it listens"), "stop");
    server.stop().expect("an orderly stop");
}
