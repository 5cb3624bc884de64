//! Explains admission for a client: the limits that apply, and the verdict, by the same code that
//! decides about clients.

use std::net::IpAddr;
use std::time::Duration;

use super::access::local::ClientGroups;
use super::access::{Access, Decision, Moment};
use super::block::Block;
use super::limits::{LimitsMode, WhenLimited};
use super::proxy::Screening;
use super::rate::Rate;
use super::reason::Reason;
use super::{Admission, Candidate, SlotCounts, Verdict};
use crate::net::peer::{Credentials, Peer};

/// A client to explain admission for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainedClient {
    /// A client of this address.
    Address(IpAddr),
    /// A client of a Unix socket: its user, its primary group and its supplementary groups.
    Local {
        /// The user id.
        uid: u32,
        /// The primary group.
        gid: u32,
        /// The supplementary groups.
        groups: Vec<u32>,
    },
}

impl ExplainedClient {
    fn peer(&self) -> Peer {
        match *self {
            ExplainedClient::Address(address) => Peer::Tcp((address.to_canonical(), 0).into()),
            ExplainedClient::Local { uid, gid, .. } => Peer::Unix(Some(Credentials { uid, gid, pid: None })),
        }
    }

    fn groups(&self) -> ClientGroups<'_> {
        match self {
            ExplainedClient::Address(_) => ClientGroups::Known(&[]),
            ExplainedClient::Local { groups, .. } => ClientGroups::Known(groups),
        }
    }
}

impl Access {
    /// Decides about a client at a moment, and by its host name if that is known.
    pub(crate) fn explain(
        &self,
        client: &ExplainedClient,
        name: Option<&str>,
        moment: Moment,
    ) -> Decision<'_> {
        match *client {
            ExplainedClient::Address(address) => self.decide(address, name, moment),
            ExplainedClient::Local { uid, gid, .. } => {
                self.decide_local(Credentials { uid, gid, pid: None }, client.groups(), moment)
            }
        }
    }
}

/// What admission does with a client, apart from access rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The limits that apply to the client, its source first, and the limits of a fleet last.
    pub limits: Vec<ExplainedLimit>,
    /// Whether the client's source can get penalties; `None` without penalties.
    pub penalized: Option<bool>,
    /// What happens to a connection of the client itself; `None` where no client is a proxy.
    pub proxy: Option<ExplainedProxy>,
    /// What happens to the client now.
    pub verdict: ExplainedVerdict,
    /// What happens to a client that exceeds a limit of its source or prefix at this node.
    pub over_limit: ExplainedVerdict,
    /// What happens to a client that exceeds a limit of a fleet; `None` if none applies to it.
    pub over_fleet: Option<ExplainedVerdict>,
}

/// The limits of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedLimit {
    /// `source`, `prefix`, or `source over all nodes`.
    pub of: &'static str,
    /// The addresses that count as one, as in `192.0.2.0/24`, or the user, as in `uid:1000`.
    pub block: String,
    /// Connections at a time.
    pub max_connections: Option<usize>,
    /// New connections per time.
    pub rate: Option<Rate>,
}

/// What happens to a connection of a client itself, where proxies speak for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainedProxy {
    /// It is a proxy, which must send a PROXY header within this time.
    MustSendHeader(Duration),
    /// It is served by its own address or user.
    Served,
    /// It is rejected for this reason, as the log names it.
    Rejected(&'static str),
}

/// A verdict, with the reason as the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainedVerdict {
    /// The client is served.
    Admitted,
    /// The client is queued for this long at most.
    Delayed(&'static str, Duration),
    /// The client gets a text, if there is one, and the end of the stream.
    Rejected(&'static str),
    /// The client gets the end of the stream.
    Closed(&'static str),
}

/// Blocks that have this many connections each.
struct AssumedConnections(usize);

impl SlotCounts for AssumedConnections {
    fn reserve(&self, _: Peer) {}

    fn has_others(&self, _: Block, max: usize) -> bool {
        self.0 >= max
    }
}

impl Admission {
    /// Explains what happens to a client whose source and prefix have `connections` connections,
    /// whose buckets are full, and whose source has no penalty.
    pub(crate) fn explain(&self, client: &ExplainedClient, connections: usize) -> Explanation {
        let (peer, groups) = (client.peer(), client.groups());
        // The verdict is that of limits in force: what a report says.
        let mode = LimitsMode::Enforce;
        let candidate = Candidate {
            peer,
            is_banned: false,
            groups,
            was_delayed: false,
            mode,
            changed: None,
            nodes: 1,
            draining: false,
        };
        let verdict = self.decide(candidate, Some(&AssumedConnections(connections)));
        Explanation {
            limits: self.explain_limits(peer),
            penalized: self.has_penalties().then(|| !self.is_exempt(peer)),
            proxy: self.limits().proxy.as_ref().map(|proxies| match proxies.screen(peer) {
                Screening::Proxy => ExplainedProxy::MustSendHeader(proxies.timeout),
                Screening::Direct => ExplainedProxy::Served,
                Screening::Reject => ExplainedProxy::Rejected(Reason::Proxy.name()),
            }),
            verdict: self.describe(verdict),
            over_limit: self.describe(self.verdict(Reason::Source)),
            over_fleet: self.explain_fleet(peer).map(|_| self.describe(self.verdict(Reason::Fleet))),
        }
    }

    fn explain_limits(&self, peer: Peer) -> Vec<ExplainedLimit> {
        let limits = self.limits();
        let aggregations = [limits.aggregations.source, limits.aggregations.prefix];
        let blocks = aggregations.into_iter().filter_map(|aggregation| peer.block(aggregation));
        let explain = |(of, block): (&'static str, Block)| {
            let max = limits
                .of_sources()
                .connections_of(peer, limits.aggregations)
                .find(|(_, counted)| *counted == block);
            let rate = limits.rates.of(peer, limits.aggregations).find(|(_, bucket)| *bucket == block);
            ExplainedLimit {
                of,
                block: block.to_string(),
                max_connections: max.map(|(limit, _)| limit.max),
                rate: rate.map(|(rate, _)| rate),
            }
        };
        let explained = ["source", "prefix"].into_iter().zip(blocks).map(explain);
        let own = explained.filter(|limit| limit.max_connections.is_some() || limit.rate.is_some());
        own.chain(self.explain_fleet(peer)).collect()
    }

    fn explain_fleet(&self, peer: Peer) -> Option<ExplainedLimit> {
        let (limits, source) = (self.limits().fleet, self.source_in_fleet(peer)?);
        limits.are_any().then(|| ExplainedLimit {
            of: "source over all nodes",
            block: source.to_string(),
            max_connections: limits.max_per_source,
            rate: limits.rate_per_source,
        })
    }

    fn describe(&self, verdict: Verdict) -> ExplainedVerdict {
        let when_limited = &self.limits().when_limited;
        match (verdict, when_limited) {
            (Verdict::Admit | Verdict::Report(_), _) => ExplainedVerdict::Admitted,
            (Verdict::Delay(reason), WhenLimited::Delay { timeout, .. }) => {
                ExplainedVerdict::Delayed(reason.name(), *timeout)
            }
            (Verdict::Reject(reason), WhenLimited::Close) => ExplainedVerdict::Closed(reason.name()),
            (Verdict::Delay(reason) | Verdict::Reject(reason), _) => {
                ExplainedVerdict::Rejected(reason.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fleet::FleetLimits;
    use crate::admission::limits::Limits;
    use crate::admission::proxy::{ProxyOthers, ProxyProtocol};
    use crate::admission::rate::Rates;

    #[test]
    fn connections_of_proxies_and_of_others() {
        let proxies = ProxyProtocol::new().proxies("192.0.2.0/24").expect("a block");
        let serving = proxies.clone().others(ProxyOthers::Serve);
        for (proxy, address, explained) in [
            (None, [192, 0, 2, 7], None),
            (Some(&proxies), [192, 0, 2, 7], Some(ExplainedProxy::MustSendHeader(Duration::from_secs(3)))),
            (Some(&proxies), [192, 0, 3, 7], Some(ExplainedProxy::Rejected("proxy"))),
            (Some(&serving), [192, 0, 3, 7], Some(ExplainedProxy::Served)),
        ] {
            let limits = Limits { proxy: proxy.cloned(), ..Limits::default() };
            let admission = Admission::new(limits).expect("memory");
            assert_eq!(admission.explain(&ExplainedClient::Address(address.into()), 0).proxy, explained);
        }
    }

    #[test]
    fn limits_of_a_fleet_are_named_last_and_never_delay() {
        let fleet = FleetLimits { max_per_source: Some(9), rate_per_source: None };
        let limits = Limits { max_per_source: Some(2), fleet, ..Limits::default() };
        let delay = WhenLimited::Delay { max_clients: 5, timeout: Duration::from_secs(9) };
        let admission = Admission::new(Limits { when_limited: delay, ..limits }).expect("memory");
        let explanation = admission.explain(&ExplainedClient::Address([192, 0, 2, 7].into()), 0);
        let [own, of_fleet] = &explanation.limits[..] else { panic!("{explanation:?}") };
        assert_eq!((own.of, own.max_connections), ("source", Some(2)));
        assert_eq!((of_fleet.of, of_fleet.max_connections), ("source over all nodes", Some(9)));
        assert_eq!(of_fleet.block, "192.0.2.7");
        assert_eq!(explanation.over_fleet, Some(ExplainedVerdict::Rejected("fleet")));
        // A client of a Unix socket is of one node.
        let local = ExplainedClient::Local { uid: 1000, gid: 7, groups: vec![] };
        let explanation = admission.explain(&local, 0);
        assert_eq!((explanation.limits.len(), explanation.over_fleet), (1, None));
    }

    #[test]
    fn the_verdict_follows_from_limits_and_connections() {
        let rates = Rates { source: Some(Rate::new(10, Duration::from_secs(1))), prefix: None };
        let limits = Limits { max_per_source: Some(2), max_per_prefix: Some(3), rates, ..Limits::default() };
        let delay = WhenLimited::Delay { max_clients: 5, timeout: Duration::from_secs(9) };
        for (when_limited, connections, verdict) in [
            (WhenLimited::default(), 1, ExplainedVerdict::Admitted),
            (WhenLimited::default(), 2, ExplainedVerdict::Rejected("source")),
            (WhenLimited::Close, 3, ExplainedVerdict::Closed("source")),
            (delay, 2, ExplainedVerdict::Delayed("source", Duration::from_secs(9))),
        ] {
            let admission = Admission::new(Limits { when_limited, ..limits.clone() }).expect("memory");
            let local = ExplainedClient::Local { uid: 1000, gid: 7, groups: vec![8] };
            for (client, blocks) in [
                (ExplainedClient::Address([192, 0, 2, 7].into()), ["192.0.2.7", "192.0.2.0/24"]),
                (local, ["uid:1000", "uid:1000"]),
            ] {
                let explanation = admission.explain(&client, connections);
                assert_eq!(explanation.verdict, verdict);
                let [source, prefix] = &explanation.limits[..] else { panic!("{explanation:?}") };
                assert_eq!((source.block.as_str(), source.max_connections), (blocks[0], Some(2)));
                assert_eq!((prefix.block.as_str(), prefix.max_connections), (blocks[1], Some(3)));
                assert_eq!((source.rate, prefix.rate), (rates.source, None));
                assert_eq!(explanation.penalized, None);
            }
        }
    }
}
