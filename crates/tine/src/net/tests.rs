//! Tests of listeners with their options, on sockets of the kernel.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;
use tine_sys::socket::{IntOption, int};

use crate::net::bind::bind;
use crate::net::listener::Listener;
use crate::net::options::SocketOptions;

/// A listener with these options, and the socket of a client that it has accepted.
fn accepted(address: &str, options: &SocketOptions) -> (Listener, OwnedFd) {
    options.check().expect("values that the kernel takes");
    let mut listeners = Vec::new();
    bind(&mut listeners, &address.parse().expect(address), options).expect("bound");
    let listener = listeners.swap_remove(0);
    let local = SocketAddr::try_from(rustix::net::getsockname(&listener).expect("bound")).expect("TCP");
    let _client = std::net::TcpStream::connect(local).expect("it listens");
    let poll = &mut [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)];
    tine_sys::wait::until(poll, None).expect("a client");
    let socket = rustix::net::accept(&listener).expect("a client");
    (listener, socket)
}

#[test]
fn clients_inherit_the_options() {
    let mut options = SocketOptions {
        no_delay: false,
        keep_alive_time: Duration::from_secs(420),
        keep_alive_interval: Duration::from_secs(7),
        keep_alive_probes: 3,
        ip_tos: Some(0x10),
        ip_ttl: Some(9),
        send_buffer: Some(20_000),
        receive_buffer: Some(30_000),
        tcp_congestion: Some("reno".into()),
        ..SocketOptions::default()
    };
    options.at_bind.reuse_port = true;
    options.at_bind.device = Some("lo".into());
    for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
        let (listener, socket) = accepted(address, &options);
        assert_eq!(sockopt::socket_keepalive(&socket), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&socket), Ok(options.keep_alive_time));
        assert_eq!(sockopt::tcp_keepintvl(&socket), Ok(options.keep_alive_interval));
        assert_eq!(sockopt::tcp_keepcnt(&socket), Ok(3));
        assert_eq!(sockopt::tcp_nodelay(&socket), Ok(false));
        assert_eq!(sockopt::ip_tos(&socket), Ok(0x10));
        assert_eq!(sockopt::ip_ttl(&socket), Ok(9));
        if address != "127.0.0.1:0" {
            assert_eq!(sockopt::ipv6_tclass(&socket), Ok(0x10));
            assert_eq!(sockopt::ipv6_unicast_hops(&socket), Ok(9));
        }
        assert_eq!(sockopt::socket_send_buffer_size(&socket), Ok(40_000));
        assert_eq!(sockopt::socket_recv_buffer_size(&socket), Ok(60_000));
        assert_eq!(sockopt::tcp_congestion(&socket).as_deref(), Ok("reno"));
        assert_eq!(sockopt::socket_reuseport(&listener), Ok(true));
    }
}

#[test]
fn a_client_is_accepted_when_it_sends() {
    let options = SocketOptions { defer_accept: Some(Duration::from_secs(60)), ..SocketOptions::default() };
    let mut listeners = Vec::new();
    bind(&mut listeners, &"127.0.0.1:0".parse().expect("an address"), &options).expect("bound");
    // The kernel counts in retransmissions, so the time is rounded up.
    let time = int(listeners[0].as_fd(), IntOption::DeferAccept).expect("a number");
    assert!((60..=127).contains(&time), "{time}");
}

#[test]
fn a_refused_option_is_named_with_the_next_move() {
    let refused = |options: &SocketOptions| {
        let mut listeners = Vec::new();
        let address = "127.0.0.1:0".parse().expect("an address");
        bind(&mut listeners, &address, options).expect_err("refused").to_string()
    };
    let unknown = SocketOptions { tcp_congestion: Some("no-such-one".into()), ..SocketOptions::default() };
    let said = refused(&unknown);
    assert!(said.contains("TCPCongestion") && said.contains("available_congestion_control"), "{said}");
    let mut absent = SocketOptions::default();
    absent.at_bind.device = Some("no-such-one".into());
    let said = refused(&absent);
    assert!(said.contains("BindToDevice") && said.contains("ip link"), "{said}");
}
