//! The network of a full jail, and what keeps the socket of a client, which belongs to that of the
//! machine, from other uses.

use super::*;

impl Jail {
    /// Who wants what goes with the network of a full jail, if that is one of these.
    pub(super) fn wish_for_network(&self, is_one: impl Fn(PrivateNetwork) -> bool) -> Wish {
        let fits = self.wants_full() && is_one(self.network());
        self.wish((fits && self.private_network.is_some()).then_some(true), fits)
    }

    /// The network of a full jail.
    pub(super) fn network(&self) -> PrivateNetwork {
        self.private_network.unwrap_or(PrivateNetwork::Empty)
    }
}

impl Plan {
    /// A filter of its packets; or, where only a privileged process may have one, no listener and,
    /// by Landlock, no connection at all.
    pub(super) fn hold_clients(&mut self, facts: &Facts) -> LayerState {
        let connects = !self.is_on(Layer::Connections);
        self.holds_clients = facts.holding.is_ok();
        match (&mut self.filter, facts.holding) {
            (Some(filter), Ok(())) => {
                filter.refuses_fast_open = true;
                LayerState::On("it receives what its port is sent".into())
            }
            (Some(filter), Err(_)) if !connects => {
                filter.refuses_fast_open = true;
                filter.calls.remove("listen");
                LayerState::On("listen is refused, as CAP_NET_ADMIN is needed for less".into())
            }
            (_, Err(errno)) => LayerState::Refused(cause::of(Layer::ClientSocket, errno)),
            (None, Ok(())) => LayerState::Partly(
                "without seccomp, a process can send the first packet of a connection elsewhere",
                "use a system with seccomp, or `--jail=auto`",
            ),
        }
    }
}
