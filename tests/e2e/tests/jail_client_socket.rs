//! The socket of a client in a full jail: it belongs to the network of the machine, and serves no
//! other connection there.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use tine_e2e::names::outcome;
use tine_e2e::{Client, Server, ServerCommand};

/// Dissolves the connection of the client, and uses its socket for another one. Exits with 0 if
/// that works.
fn script(attempt: &str, port: u16) -> String {
    format!(
        "import ctypes, os, socket, struct, sys\n\
         client = socket.socket(fileno=os.dup(0))\n\
         assert ctypes.CDLL(None).connect(client.fileno(), bytes(16), 16) == 0\n\
         for option in [socket.SO_SNDTIMEO, socket.SO_RCVTIMEO]:\n\
         \x20   client.setsockopt(socket.SOL_SOCKET, option, struct.pack('ll', 0, 500000))\n\
         elsewhere = ('127.0.0.1', {port})\n\
         def listen():\n\
         \x20   client.listen()\n\
         \x20   print('listens', client.getsockname()[1], file=sys.stderr, flush=True)\n\
         \x20   client.accept()\n\
         try: {attempt}\n\
         except OSError as why: sys.exit(str(why))\n"
    )
}

const CONNECT: &str = "client.connect(elsewhere)";
/// MSG_FASTOPEN: connects and sends.
const SEND: &str = "client.sendto(b'x', 0x20000000, elsewhere)";
const LISTEN: &str = "listen()";

/// A user without privileges, and without ids of his own.
const ORDINARY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

fn server(wrapper: &[&str], options: &[&str], script: &str) -> Server {
    let options = [&["--jail", "--stderr", "log"], options].concat();
    let mut command = ServerCommand::wrapped(wrapper, options);
    command.command().args(["--", "/usr/bin/python3", "-c", script]);
    command.start()
}

/// Connects to a socket that listens, once its program says so.
fn connect_to_it(server: &Server) {
    let port = server.log.wait("the port, or the end", |log| {
        let lines = log.of("stderr");
        let port =
            lines.iter().find_map(|line| line["text"].as_str()?.strip_prefix("listens ")?.parse().ok());
        port.map(Some).or_else(|| (!log.of("end").is_empty()).then_some(None))
    });
    if let Some(port) = port {
        let address = ([127, 0, 0, 1], port).into();
        let _ = TcpStream::connect_timeout(&address, Duration::from_millis(400));
    }
}

/// What came of an attempt on the first connection of a server.
fn end_of(attempt: &str, server: &Server) -> String {
    if attempt == LISTEN {
        connect_to_it(server);
    }
    outcome(&server.log.wait_for("end", 1)[0]).to_owned()
}

#[test]
fn it_neither_connects_elsewhere_nor_listens() {
    for (wrapper, options) in [
        (&[][..], &[][..]),
        (&[], &["--user", "nobody"]),
        (&[], &["--private-network", "loopback"]),
        (&[], &["--spares", "2"]),
        (&[], &["--lingering-close"]),
        (&ORDINARY, &[]),
    ] {
        for attempt in [CONNECT, SEND, LISTEN] {
            let machine = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = machine.local_addr().expect("an address").port();
            let server = server(wrapper, options, &script(attempt, port));
            let _client = server.connect();
            assert_eq!(end_of(attempt, &server), "exit 1", "{wrapper:?} {options:?} {attempt}");
            machine.set_nonblocking(true).expect("an option");
            machine.accept().expect_err("nobody has connected");
        }
    }
}

#[test]
fn with_the_network_of_the_machine_it_does() {
    for attempt in [CONNECT, SEND, LISTEN] {
        let machine = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = machine.local_addr().expect("an address").port();
        let server = server(&[], &["--private-network", "no"], &script(attempt, port));
        let _client = server.connect();
        assert_eq!(end_of(attempt, &server), "exit 0", "{attempt}");
    }
}

/// The kernel made such a socket before the server could filter what the listener makes.
#[test]
fn nor_does_that_of_a_client_from_before_the_start() {
    for attempt in [CONNECT, SEND, LISTEN] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("an option");
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).expect("an open descriptor");
        let early = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let pass = format!(
            "import os, sys; os.dup2({}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); \
             os.execv(sys.argv[1], sys.argv[1:])",
            listener.as_raw_fd()
        );
        let mut command = ServerCommand::program("python3", &["-c", &pass]);
        command.command().arg(tine_e2e::tine()).args(["serve", "--log", "json", "-1", "--jail"]);
        command.command().args(["--stderr", "log", "--", "/usr/bin/python3", "-c", &script(attempt, 9)]);
        command.command().env("LISTEN_FDS", "1");
        let server = command.start();
        assert_eq!(end_of(attempt, &server), "exit 1", "{attempt}");
        drop(early);
        // Those that connect later are served as well.
        let _later = Client::connect(server.port());
        assert_eq!(outcome(&server.log.wait_for("end", 2)[1]), "exit 1", "{attempt}");
    }
}

#[test]
fn programs_of_an_ordinary_user_have_listeners_with_the_network_of_the_machine_only() {
    let script = "import socket\n\
                  with socket.socket(socket.AF_UNIX) as own:\n\
                  \x20   own.bind('\\0name'); own.listen()\n";
    for (wrapper, options, expected) in [
        (&ORDINARY[..], &["--private-network", "no"][..], "exit 0"),
        (&[], &[], "exit 0"),
        (&ORDINARY, &[], "exit 1"),
    ] {
        let server = server(wrapper, options, script);
        server.connect().expect_closed();
        assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), expected, "{wrapper:?} {options:?}");
    }
}

/// Their socket is held before the filter that refuses what it takes.
#[test]
fn handlers_are_served_under_a_filter_without_socket_options() {
    for filter in ["~getsockopt ~setsockopt", "~@network-io recvfrom sendto shutdown"] {
        for network in ["yes", "loopback"] {
            let options = ["--jail", "--private-network", network, "--system-call-filter", filter];
            let server = Server::serve(&options);
            server.connect().echo(filter).finish();
            assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 0", "{network} {filter}");
        }
    }
}
