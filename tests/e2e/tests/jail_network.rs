//! `--private-network`: none, loopback addresses of each connection, or the network of the machine.

use std::net::TcpListener;

use tine_e2e::Server;

/// Connects to its own listener on a loopback address, to a port of the machine, and elsewhere;
/// prints what works, and the interfaces.
fn script(port: u16) -> String {
    format!(
        "import socket, threading\n\
         def tries(name, job):\n\
         \x20   try: job(); print(name, 'works')\n\
         \x20   except OSError as why: print(name, why.strerror)\n\
         def own(family, address):\n\
         \x20   with socket.socket(family) as listener:\n\
         \x20       listener.bind((address, 0)); listener.listen()\n\
         \x20       socket.create_connection(listener.getsockname()[:2], 2).close()\n\
         tries('own4', lambda: own(socket.AF_INET, '127.0.0.1'))\n\
         tries('own6', lambda: own(socket.AF_INET6, '::1'))\n\
         tries('machine', lambda: socket.create_connection(('127.0.0.1', {port}), 2))\n\
         tries('elsewhere', lambda: socket.create_connection(('192.0.2.1', 9), 0.2))\n\
         kept = socket.socket(); kept.bind(('127.0.0.1', 17777)); kept.listen()\n\
         print('fixed works', flush=True)\n\
         input()\n"
    )
}

/// What the script prints with this network.
fn server(network: &str, port: u16) -> Server {
    let options = ["--jail", "--private-network", network, "--stderr", "client"];
    Server::program(&options, &["/usr/bin/python3", "-c", &script(port)])
}

#[test]
fn each_connection_has_loopback_addresses_of_its_own() {
    let machine = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = machine.local_addr().expect("an address").port();
    let server = server("loopback", port);
    // Both have the same port at a time: neither network is that of the other.
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        assert_eq!(client.read_line(), "own4 works");
        assert_eq!(client.read_line(), "own6 works");
        assert_eq!(client.read_line(), "machine Connection refused");
        assert_eq!(client.read_line(), "elsewhere Network is unreachable");
        assert_eq!(client.read_line(), "fixed works");
    }
}

#[test]
fn an_empty_network_reaches_nothing_and_that_of_the_machine_all() {
    let machine = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = machine.local_addr().expect("an address").port();
    let empty = server("yes", port);
    let mut client = empty.connect();
    assert_eq!(client.read_line(), "own4 Permission denied");
    client.read_line();
    assert_eq!(client.read_line(), "machine Permission denied");
    let server = server("no", port);
    let mut client = server.connect();
    assert_eq!(client.read_line(), "own4 works");
    client.read_line();
    assert_eq!(client.read_line(), "machine works");
}
