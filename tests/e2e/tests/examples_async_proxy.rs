//! The example `async_proxy`.

use tine_e2e::examples::{build_example, example};
use tine_e2e::names::CONNECTION;
use tine_e2e::other_process::free_port;
use tine_e2e::{ServerCommand, network};

fn proxy(upstream: u16) -> tine_e2e::Server {
    let path = build_example("async_proxy", 120, &["--features", "async"]);
    ServerCommand::program(path, &["127.0.0.1:0", &format!("127.0.0.1:{upstream}")]).start()
}

#[test]
fn both_directions_are_copied_and_end_by_themselves() {
    let upstream = example("echo", &[]);
    let server = proxy(upstream.port());
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.echo("hello");
    }
    let [connections, of_upstream] = [&server, &upstream].map(|server| server.named(CONNECTION).len());
    assert_eq!((connections, of_upstream), (2, 2));
    // More than the buffers hold on the way: the reply is read while the rest is sent.
    let mut writer = clients[0].stream.try_clone().expect("a second descriptor");
    let bytes: Vec<u8> = (0..8 << 20).map(|number: u32| number.to_le_bytes()[1]).collect();
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &sent).expect("the proxy receives");
        writer.shutdown(std::net::Shutdown::Write).expect("an open stream");
    });
    // After the end of what the client sends, the rest of the reply still arrives.
    assert!(clients[0].read_to_end() == bytes);
    sending.join().expect("all is sent");
    clients[1].echo("still here").finish();
}

#[test]
fn without_an_upstream_only_the_connection_ends() {
    network::own();
    let server = proxy(free_port());
    for _ in 0..2 {
        server.connect().expect_closed();
    }
    server.log.wait_for_line("the reason", |line| line.contains("refused"));
}
