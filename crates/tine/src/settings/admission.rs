//! The builder methods of [`Server`] about limits and admission.

use super::Server;
use crate::admission::access::Access;
use crate::admission::block::{Aggregations, NetBlockSize};
use crate::admission::limits::{LimitsMode, WhenFull, WhenLimited};
use crate::admission::penalty::Penalties;
use crate::admission::proxy::ProxyProtocol;
use crate::admission::rate::Rate;

/// Limits and admission.
impl Server {
    /// Sets the maximum number of concurrent connections, over all addresses. Default: 1024.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Server {
        self.settings.max_connections = connections;
        self
    }

    /// Serves this many connections in all, and stops: after the last one, the server accepts no
    /// more client, and ends when its connections have, without a timeout. Clients that are not
    /// admitted do not count. Default: no limit.
    #[must_use]
    pub fn exit_after(mut self, connections: u64) -> Server {
        self.settings.exit_after = Some(connections);
        self
    }

    /// Sets what happens to a client beyond [`Server::max_connections`]. Default: it waits in the
    /// backlog.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Server {
        self.settings.limits.when_full = when_full;
        self
    }

    /// Sets the maximum number of concurrent connections of one source (an IPv4 address, an IPv6
    /// /64). Default: no limit. Clients over Unix sockets have no source.
    #[must_use]
    pub fn max_connections_per_source(mut self, connections: usize) -> Server {
        self.settings.limits.max_per_source = Some(connections);
        self
    }

    /// Sets the maximum number of concurrent connections of one prefix (an IPv4 /24, an IPv6 /56).
    /// Default: no limit.
    #[must_use]
    pub fn max_connections_per_prefix(mut self, connections: usize) -> Server {
        self.settings.limits.max_per_prefix = Some(connections);
        self
    }

    /// Sets the maximum number of concurrent connections of one source over all nodes of a fleet.
    /// Default: no limit. A server without a link is a fleet of one node. A client over this limit
    /// is rejected, also with [`WhenLimited::Delay`].
    #[must_use]
    pub fn max_connections_per_source_fleet(mut self, connections: usize) -> Server {
        self.settings.limits.fleet.max_per_source = Some(connections);
        self
    }

    /// Limits the rate of new connections of one source over all nodes of a fleet, as
    /// [`Server::max_connections_per_source_fleet`]. Default: no limit.
    #[must_use]
    pub fn rate_per_source_fleet(mut self, rate: Rate) -> Server {
        self.settings.limits.fleet.rate_per_source = Some(rate);
        self
    }

    /// Sets what happens to a client that exceeds a limit of its source or prefix, or that has a
    /// penalty. Default: it is rejected.
    #[must_use]
    pub fn when_limited(mut self, when_limited: WhenLimited) -> Server {
        self.settings.limits.when_limited = when_limited;
        self
    }

    /// Sets whether limits per source and prefix, access rules and penalties are enforced, or only
    /// reported: then a client that they would delay or reject is counted, logged and served. The
    /// maximum of connections, bans and the PROXY protocol hold in any case. Default: enforced.
    #[must_use]
    pub fn limits(mut self, mode: LimitsMode) -> Server {
        self.settings.limits.mode = mode;
        self
    }

    /// Sets the block sizes of a source and of a prefix, for all limits and penalties. A prefix
    /// must not be smaller than a source. Defaults: [`NetBlockSize::SOURCE`],
    /// [`NetBlockSize::PREFIX`].
    #[must_use]
    pub fn net_block_sizes(mut self, source: NetBlockSize, prefix: NetBlockSize) -> Server {
        self.settings.limits.aggregations = Aggregations::new(source, prefix);
        self
    }

    /// Limits the rate of new connections of one source. Default: no limit. The server remembers
    /// 100,000 sources, in 1.6 MB.
    #[must_use]
    pub fn rate_per_source(mut self, rate: Rate) -> Server {
        self.settings.limits.rates.source = Some(rate);
        self
    }

    /// Limits the rate of new connections of one prefix. Default: no limit.
    #[must_use]
    pub fn rate_per_prefix(mut self, rate: Rate) -> Server {
        self.settings.limits.rates.prefix = Some(rate);
        self
    }

    /// Sets the access rules. A denied client is closed without a text, and logged. Rules from
    /// files are read again when a file changes, and at SIGHUP. Default: every client is allowed.
    /// Clients over Unix sockets have no address: rules about users and groups decide about them.
    #[must_use]
    pub fn access(mut self, access: Access) -> Server {
        self.settings.limits.rules = Some(access.compiled());
        self
    }

    /// Rejects a source for some time after its connections crash, time out or send nothing.
    /// Default: no penalties.
    #[must_use]
    pub fn penalties(mut self, penalties: Penalties) -> Server {
        self.settings.limits.penalties = Some(penalties);
        self
    }

    /// Takes the PROXY protocol of these proxies: the addresses in their headers are those of the
    /// connections, for limits, rules, penalties, the log, handlers and programs. Default: no
    /// client is a proxy.
    #[must_use]
    pub fn proxy_protocol(mut self, proxies: ProxyProtocol) -> Server {
        self.settings.limits.proxy = Some(proxies);
        self
    }

    /// Exempts the clients that one of these rules allows by address or by user from
    /// [`Server::penalties`]. Default: no client.
    #[must_use]
    pub fn penalty_exempt(mut self, clients: Access) -> Server {
        self.settings.limits.penalty_exempt = Some(clients.compiled());
        self
    }
}
