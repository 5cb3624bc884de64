//! The reasons for which a client is delayed or rejected: one table for the log, the messages
//! between processes and `tine explain`.

/// Why a client is not admitted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// All slots are taken.
    Full,
    /// The client's source has as many connections as it may have.
    Source,
    /// An access rule denies the client.
    Denied,
    /// The client's prefix has as many connections as it may have.
    Prefix,
    /// The client's source or prefix is over its rate.
    Rate,
    /// The client's source has a penalty.
    Penalty,
    /// Other clients of the source or prefix are in the delay queue.
    Delayed,
    /// It is outside the access times.
    Time,
    /// The client is not one of the proxies that may connect, or its PROXY header is wrong.
    Proxy,
    /// An operator has banned the client's address.
    Banned,
    /// The client's source has as many connections as it may have over all nodes.
    Fleet,
    /// The client's source is over its rate over all nodes.
    FleetRate,
}

impl Reason {
    /// Every reason, at the index by which messages name it.
    pub(crate) const ALL: [Reason; 12] = [
        Reason::Full,
        Reason::Source,
        Reason::Denied,
        Reason::Prefix,
        Reason::Rate,
        Reason::Penalty,
        Reason::Delayed,
        Reason::Time,
        Reason::Proxy,
        Reason::Banned,
        Reason::Fleet,
        Reason::FleetRate,
    ];

    /// The value of `reason=` in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::Full => "full",
            Reason::Source => "source",
            Reason::Denied => "denied",
            Reason::Prefix => "prefix",
            Reason::Rate => "rate",
            Reason::Penalty => "penalty",
            Reason::Delayed => "delayed",
            Reason::Time => "time",
            Reason::Proxy => "proxy",
            Reason::Banned => "banned",
            Reason::Fleet => "fleet",
            Reason::FleetRate => "fleet-rate",
        }
    }

    /// Whether a client can be admitted later without any change of the rules, so that waiting in
    /// the delay queue helps. What other nodes have is not known there.
    pub(crate) fn passes_with_time(self) -> bool {
        matches!(self, Reason::Source | Reason::Prefix | Reason::Rate | Reason::Penalty | Reason::Delayed)
    }

    /// Whether it is one of limits and rules, which can be reported instead of enforced. A client
    /// without a slot cannot be served; bans and the PROXY protocol hold in any case.
    pub(crate) fn can_be_reported(self) -> bool {
        !matches!(self, Reason::Full | Reason::Proxy | Reason::Banned)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The reason of this index, which came in a message; the first one for an index out of range.
    pub(crate) fn from_index(index: u64) -> Reason {
        usize::try_from(index).ok().and_then(|at| Reason::ALL.get(at)).copied().unwrap_or(Reason::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_its_reason() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!((reason.index(), Reason::from_index(index as u64)), (index, reason));
        }
        assert_eq!(Reason::from_index(u64::MAX), Reason::Full);
    }
}
