//! Listening sockets.

use std::time::Duration;

use clap::Args as ClapArgs;
use tine::{BindIpv6Only, Identity, Server, defaults};

use super::program::size;
use super::{choice, number, positive, shown};
use crate::error::Error;

/// The options of listening sockets, under the names of systemd.socket(5).
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Sockets")]
pub struct SocketOptions {
    /// Size of the kernel's queue of clients that are not accepted yet (listen(2)); an inherited
    /// socket keeps its own
    #[arg(short = 'b', long, value_name = "N", default_value_t = defaults::BACKLOG, value_parser = number::<u32>(1, 2_147_483_647))]
    pub backlog: u32,

    /// Clients of [::]: IPv6 and IPv4 (both), or IPv6 alone (ipv6-only); default is both, unless
    /// 0.0.0.0 is an address with the same port, too
    #[arg(long, value_name = "CLIENTS", default_value_t, value_parser = choice::<BindIpv6Only>(BindIpv6Only::NAMES))]
    pub bind_ipv6_only: BindIpv6Only,

    /// Bind addresses that the machine does not have yet
    #[arg(long)]
    pub free_bind: bool,

    /// Bind addresses of other machines, for a transparent proxy; takes CAP_NET_ADMIN
    #[arg(long)]
    pub transparent: bool,

    /// Let other servers of the same user listen on the same addresses; the kernel divides the
    /// clients
    #[arg(long)]
    pub reuse_port: bool,

    /// Accept only clients whose packets arrive at this network interface
    #[arg(long, value_name = "INTERFACE", value_parser = interface)]
    pub bind_to_device: Option<String>,

    /// Mode of the files of Unix sockets, in octal
    #[arg(long, value_name = "MODE", default_value = format!("{:04o}", defaults::SOCKET_MODE), value_parser = mode)]
    pub socket_mode: u32,

    /// Owner of the files of Unix sockets, by name or number [default: the server's user]
    #[arg(long, value_name = "USER")]
    pub socket_user: Option<String>,

    /// Group of the files of Unix sockets, by name or number [default: the server's group]
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// Accept a client when its first byte has arrived, or after this time, in whole seconds
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub defer_accept: Option<Duration>,

    /// Time of silence after which the kernel probes whether a TCP client is still there, in whole
    /// seconds
    #[arg(long, value_name = "DURATION", default_value = shown(defaults::KEEP_ALIVE_TIME), value_parser = positive)]
    pub keep_alive_time: Duration,

    /// Time between unanswered probes, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = shown(defaults::KEEP_ALIVE_INTERVAL), value_parser = positive)]
    pub keep_alive_interval: Duration,

    /// Number of unanswered probes after which the connection ends
    #[arg(long, value_name = "N", default_value_t = defaults::KEEP_ALIVE_PROBES, value_parser = number::<u32>(1, 127))]
    pub keep_alive_probes: u32,

    /// Mark of sent packets, for routing and packet filters; takes CAP_NET_ADMIN
    #[arg(long, value_name = "N", value_parser = integer::<u32>)]
    pub mark: Option<u32>,

    /// Type of service of sent packets: 0 to 255, low-delay, throughput, reliability or low-cost
    #[arg(long, value_name = "TOS", value_parser = type_of_service)]
    pub ip_tos: Option<u8>,

    /// Time to live (hop limit) of sent packets
    #[arg(long, value_name = "N", value_parser = number::<u8>(1, 255))]
    pub ip_ttl: Option<u8>,

    /// Size of the kernel's send buffer of each connection
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    pub send_buffer: Option<usize>,

    /// Size of the kernel's receive buffer of each connection
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    pub receive_buffer: Option<usize>,

    /// Algorithm of congestion control
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm)]
    pub tcp_congestion: Option<String>,
}

impl SocketOptions {
    /// The server with these options, before its addresses are bound.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        let server = server
            .backlog(self.backlog)
            .bind_ipv6_only(self.bind_ipv6_only)
            .free_bind(self.free_bind)
            .transparent(self.transparent)
            .reuse_port(self.reuse_port)
            .socket_mode(self.socket_mode)
            .keep_alive_time(self.keep_alive_time)
            .keep_alive_interval(self.keep_alive_interval)
            .keep_alive_probes(self.keep_alive_probes);
        let server = with(server, self.bind_to_device.as_deref(), Server::bind_to_device);
        let server = with(server, self.owner()?, Server::socket_user);
        let server = with(server, self.group()?, Server::socket_group);
        let server = with(server, self.defer_accept, Server::defer_accept);
        let server = with(server, self.mark, Server::mark);
        let server = with(server, self.ip_tos, Server::ip_tos);
        let server = with(server, self.ip_ttl, Server::ip_ttl);
        let server = with(server, self.send_buffer, Server::send_buffer);
        let server = with(server, self.receive_buffer, Server::receive_buffer);
        Ok(with(server, self.tcp_congestion.as_deref(), Server::tcp_congestion))
    }

    fn owner(&self) -> Result<Option<u32>, Error> {
        let user = self.socket_user.as_deref().map(Identity::of_user).transpose()?;
        Ok(user.and_then(|user| user.uid))
    }

    fn group(&self) -> Result<Option<u32>, Error> {
        let group = self.socket_group.as_deref().map(Identity::of_group).transpose()?;
        Ok(group.map(|group| group.gid))
    }
}

/// The server with a value, if there is one.
fn with<T>(server: Server, value: Option<T>, set: impl FnOnce(Server, T) -> Server) -> Server {
    match value {
        Some(value) => set(server, value),
        None => server,
    }
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "write it in octal, as 0660 or 0600".into())
}

/// A number in decimal or, after `0x`, in hexadecimal.
fn integer<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let bits = 8 * size_of::<T>();
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("write a number of {bits} bits, as 16 or 0x10"))
}

/// The names are those of systemd; the numbers those of RFC 1349.
fn type_of_service(text: &str) -> Result<u8, String> {
    match text {
        "low-delay" => Ok(0x10),
        "throughput" => Ok(0x08),
        "reliability" => Ok(0x04),
        "low-cost" => Ok(0x02),
        _ => integer(text).map_err(|why| format!("{why}, or low-delay, throughput, reliability or low-cost")),
    }
}

fn buffer(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    // The kernel doubles it, as an int (socket(7)).
    let fits = usize::try_from(bytes).ok().filter(|bytes| (1..=i32::MAX as usize / 2).contains(bytes));
    fits.ok_or_else(|| "choose a size of less than 1G".into())
}

/// The name of a network interface (`IFNAMSIZ`, netdevice(7)).
fn interface(text: &str) -> Result<String, String> {
    match text.len() {
        1..=15 => Ok(text.to_owned()),
        _ => Err("the name of a network interface has 1 to 15 bytes".into()),
    }
}

/// The name of an algorithm (`TCP_CA_NAME_MAX`, include/net/tcp.h).
fn algorithm(text: &str) -> Result<String, String> {
    match text.len() {
        1..=15 => Ok(text.to_owned()),
        _ => Err("the name of an algorithm has 1 to 15 bytes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_options() {
        assert_eq!((mode("0660"), mode("600")), (Ok(0o660), Ok(0o600)));
        assert_eq!(
            (integer("16"), integer("0x10"), integer::<u32>("0xffffffff")),
            (Ok(16), Ok(16), Ok(u32::MAX))
        );
        assert_eq!((type_of_service("low-delay"), type_of_service("184")), (Ok(16), Ok(184)));
        assert_eq!(buffer("64K"), Ok(65_536));
        for text in ["8", "1000", "-1", "", "rw"] {
            mode(text).expect_err(text);
        }
        for text in ["256", "0x", "fast"] {
            type_of_service(text).expect_err(text);
        }
        for text in ["0", "1G", "4096G"] {
            buffer(text).expect_err(text);
        }
        interface("a-name-of-16-byt").expect_err("too long");
    }
}
