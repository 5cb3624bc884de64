//! What listeners did not get of what was requested, as warnings with the next move.

use rustix::net::sockopt;

use crate::net::listener::Listener;
use crate::net::options::SocketOptions;

/// One line for each kind of shortfall.
pub(crate) fn warnings(listeners: &[Listener], options: &SocketOptions) -> Vec<String> {
    let absent = listeners.iter().filter(|listener| listener.is_waiting()).map(|listener| {
        format!(
            "this machine does not have the address of {}: clients can connect once it does; check it \
             (`ip address`), or bind it before it exists (FreeBind)",
            listener.name
        )
    });
    absent.chain(short_backlog(listeners, options)).chain(short_buffers(listeners, options)).collect()
}

fn short_backlog(listeners: &[Listener], options: &SocketOptions) -> Option<String> {
    // An inherited one has the backlog of the process that made it.
    let own = listeners.iter().filter(|listener| !listener.shared);
    let least = own.map(|listener| listener.backlog(options.backlog)).min()?;
    (least < options.backlog).then(|| {
        format!(
            "the kernel cut the backlog from {} to {least}: raise net.core.somaxconn (`sysctl`), or set the backlog \
             to {least}",
            options.backlog
        )
    })
}

fn short_buffers(listeners: &[Listener], options: &SocketOptions) -> Vec<String> {
    let Some(listener) = listeners.iter().find(|listener| listener.port.is_some()) else { return Vec::new() };
    let send = (options.send_buffer, sockopt::socket_send_buffer_size(listener), "send", "wmem_max");
    let receive = (options.receive_buffer, sockopt::socket_recv_buffer_size(listener), "receive", "rmem_max");
    let short = |(requested, size, name, limit): (Option<usize>, rustix::io::Result<usize>, &str, &str)| {
        // The kernel has doubled the size (socket(7)).
        let (requested, size) = (requested?, size.ok()? / 2);
        (size < requested).then(|| {
            format!(
                "the kernel cut the {name} buffer from {requested} to {size} bytes: raise net.core.{limit} \
                 (`sysctl`), or give the server CAP_NET_ADMIN"
            )
        })
    };
    [send, receive].into_iter().filter_map(short).collect()
}
