//! Decides about the endpoints that processes in a full jail can connect to.

use rustix::io::Errno;

use super::Plan;
use crate::jail::Jail;
use crate::jail::layer::{Layer, LayerState, Refused};

impl Plan {
    /// Takes the endpoints of the jail into the plan. What keeps the socket of a client from other
    /// uses keeps those from them that the connector passes.
    pub(super) fn take_endpoints(&mut self, jail: &Jail) -> LayerState {
        if !self.is_on(Layer::ClientSocket) {
            return LayerState::Refused(Refused {
                errno: Errno::PERM,
                cause: "the sockets that are passed into the jail would not be kept to their peers (client-socket)"
                    .to_owned(),
                next: "start the server as root, or with `--private-network yes`",
            });
        }
        // The filter of connect(2) does it, with an error that has programs connect without.
        self.filter.iter_mut().for_each(|filter| filter.refuses_fast_open = false);
        LayerState::On(jail.network_allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }
}
