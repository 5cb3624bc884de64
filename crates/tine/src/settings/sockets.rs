//! The builder methods of [`Server`] about its listening sockets.

use std::time::Duration;

use super::Server;
use crate::net::options::{BindIpv6Only, FreeBind};

/// Listening sockets: options that an address is bound with. They apply to addresses that are bound
/// afterwards, so set them first.
impl Server {
    /// Sets whether an IPv6 wildcard address (`[::]`) accepts IPv4 clients, too. Default: it does,
    /// unless the server listens on `0.0.0.0` and the same port as well.
    #[must_use]
    pub fn bind_ipv6_only(mut self, bind: BindIpv6Only) -> Server {
        self.settings.socket.bind_ipv6_only = bind;
        self
    }

    /// Sets whether an address may be bound that the machine does not have yet (`IP_FREEBIND`,
    /// ip(7)). Default: false.
    #[must_use]
    pub fn free_bind(mut self, free: bool) -> Server {
        self.settings.socket.at_bind.free_bind = if free { FreeBind::Always } else { FreeBind::Never };
        self
    }

    /// Sets whether an address of another machine may be bound, for a transparent proxy
    /// (`IP_TRANSPARENT`, ip(7)). Takes CAP_NET_ADMIN. Default: false.
    #[must_use]
    pub fn transparent(mut self, transparent: bool) -> Server {
        self.settings.socket.at_bind.transparent = transparent;
        self
    }

    /// Sets whether other servers of the same user may listen on the same address; the kernel
    /// divides the clients (`SO_REUSEPORT`, socket(7)). Default: false.
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Server {
        self.settings.socket.at_bind.reuse_port = reuse;
        self
    }

    /// Accepts only clients whose packets arrive at this network interface (`SO_BINDTODEVICE`,
    /// socket(7)). Default: at any.
    #[must_use]
    pub fn bind_to_device(mut self, interface: &str) -> Server {
        self.settings.socket.at_bind.device = Some(interface.to_owned());
        self
    }
}

/// Listening sockets: other options. They apply to all addresses.
impl Server {
    /// Sets the size of the kernel's queue of clients that are not accepted yet (listen(2));
    /// `net.core.somaxconn` caps it, and the log then has a warning. An
    /// inherited socket keeps its own. Default: 4096.
    #[must_use]
    pub fn backlog(mut self, clients: u32) -> Server {
        self.settings.socket.backlog = clients;
        self
    }

    /// Sets the mode of the files of Unix sockets, whatever the umask is. A client connects if it
    /// may write. Default: 0o666, every local user.
    #[must_use]
    pub fn socket_mode(mut self, mode: u32) -> Server {
        self.settings.socket.file.mode = mode;
        self
    }

    /// Sets the owner of the files of Unix sockets. Default: the server's user.
    #[must_use]
    pub fn socket_user(mut self, uid: u32) -> Server {
        self.settings.socket.file.uid = Some(uid);
        self
    }

    /// Sets the group of the files of Unix sockets. Default: the server's group.
    #[must_use]
    pub fn socket_group(mut self, gid: u32) -> Server {
        self.settings.socket.file.gid = Some(gid);
        self
    }

    /// Sets whether written data is sent immediately, instead of being collected for a moment
    /// (`TCP_NODELAY`, tcp(7)). Default: true.
    #[must_use]
    pub fn no_delay(mut self, no_delay: bool) -> Server {
        self.settings.socket.no_delay = no_delay;
        self
    }

    /// Sets the time of silence after which the kernel probes whether a client is still there
    /// (`TCP_KEEPIDLE`, tcp(7)), in whole seconds. Default: 60 s.
    #[must_use]
    pub fn keep_alive_time(mut self, time: Duration) -> Server {
        self.settings.socket.keep_alive_time = time;
        self
    }

    /// Sets the time between unanswered probes (`TCP_KEEPINTVL`, tcp(7)), in whole seconds.
    /// Default: 10 s.
    #[must_use]
    pub fn keep_alive_interval(mut self, time: Duration) -> Server {
        self.settings.socket.keep_alive_interval = time;
        self
    }

    /// Sets the number of unanswered probes after which the connection fails (`TCP_KEEPCNT`,
    /// tcp(7)), 1 to 127. Default: 6.
    #[must_use]
    pub fn keep_alive_probes(mut self, probes: u32) -> Server {
        self.settings.socket.keep_alive_probes = probes;
        self
    }

    /// Accepts a client when its first byte has arrived, or after this time in whole seconds
    /// (`TCP_DEFER_ACCEPT`, tcp(7)). It delays protocols in which the server speaks first. Default:
    /// at once.
    #[must_use]
    pub fn defer_accept(mut self, time: Duration) -> Server {
        self.settings.socket.defer_accept = Some(time);
        self
    }

    /// Marks sent packets, for routing and packet filters (`SO_MARK`, socket(7)). Takes
    /// CAP_NET_ADMIN. Default: no mark.
    #[must_use]
    pub fn mark(mut self, mark: u32) -> Server {
        self.settings.socket.mark = Some(mark);
        self
    }

    /// Sets the type of service of sent packets (`IP_TOS`, ip(7)), and the traffic class of IPv6.
    /// Default: the system's.
    #[must_use]
    pub fn ip_tos(mut self, tos: u8) -> Server {
        self.settings.socket.ip_tos = Some(tos);
        self
    }

    /// Sets the time to live of sent packets (`IP_TTL`, ip(7)), and the hop limit of IPv6, 1 to
    /// 255. Default: the system's.
    #[must_use]
    pub fn ip_ttl(mut self, ttl: u8) -> Server {
        self.settings.socket.ip_ttl = Some(ttl);
        self
    }

    /// Sets the size of the kernel's send buffer of each connection (`SO_SNDBUF`, socket(7)), in
    /// bytes; `net.core.wmem_max` caps it without CAP_NET_ADMIN, and the log then has a warning.
    /// Default: the system's, which grows as needed.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Server {
        self.settings.socket.send_buffer = Some(bytes);
        self
    }

    /// As [`Server::send_buffer`], for the receive buffer (`SO_RCVBUF`, `net.core.rmem_max`).
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Server {
        self.settings.socket.receive_buffer = Some(bytes);
        self
    }

    /// Sets the algorithm of congestion control by its name (`TCP_CONGESTION`, tcp(7)). Default:
    /// the system's.
    #[must_use]
    pub fn tcp_congestion(mut self, algorithm: &str) -> Server {
        self.settings.socket.tcp_congestion = Some(algorithm.to_owned());
        self
    }
}
