//! A host name that does not resolve: the reason is that of the name servers, with its next move.

use std::net::UdpSocket;
use std::process::Command;

use tine_e2e::{Folder, TEST_TIMEOUT, network, run, tine};

/// Answers each query with this response code, without an address (RFC 1035, 4.1.1), until it
/// receives an empty datagram.
fn answer(server: &UdpSocket, code: u8) {
    let mut query = [0; 512];
    loop {
        let (length, from) = server.recv_from(&mut query).expect("a socket");
        if length == 0 {
            return;
        }
        let mut reply = query[..length].to_vec();
        // A response, recursion available, one question and nothing else.
        (reply[2], reply[3]) = (0x81, 0x80 | code);
        reply[6..12].fill(0);
        // The additional record of EDNS is cut off.
        let name = reply[12..].iter().position(|byte| *byte == 0).expect("the root");
        reply.truncate(12 + name + 5);
        server.send_to(&reply, from).expect("loopback");
    }
}

/// The error of a server on a name, with 127.0.0.1 as the name server.
fn error(folder: &Folder) -> String {
    let configuration = folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let switch = folder.write("nsswitch.conf", "hosts: files dns\n");
    let script = r#"mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && exec "$3" serve -1 host.example:0"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([configuration, switch]).arg(tine());
    let (code, out, error) = run(&mut command);
    assert_eq!((code, out.as_str()), (111, ""), "{error}");
    error
}

#[test]
fn the_reason_why_a_name_does_not_resolve() {
    const NO_ADDRESS: u8 = 0;
    const SERVER_FAILURE: u8 = 2;
    const NO_NAME: u8 = 3;
    const REFUSED: u8 = 5;
    network::own();
    let folder = Folder::new("name-servers");
    let unknown = "cannot resolve 'host.example': unknown host; check the spelling and /etc/hosts";
    let temporary = "cannot resolve 'host.example': the name servers fail temporarily; check the network";
    for (code, expected) in
        [(NO_ADDRESS, unknown), (SERVER_FAILURE, temporary), (NO_NAME, unknown), (REFUSED, temporary)]
    {
        let server = UdpSocket::bind("127.0.0.1:53").expect("a namespace of its own");
        // A failure ends the thread, too.
        server.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| answer(&server, code));
            let error = error(&folder);
            server.send_to(&[], "127.0.0.1:53").expect("loopback");
            answers.join().expect("no panic");
            assert!(error.contains(expected), "{code}: {error}");
        });
    }
    // Nothing listens there.
    let error = error(&folder);
    assert!(error.contains(temporary), "{error}");
}
