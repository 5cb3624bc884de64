//! Decides how processes in a full jail are kept to the endpoints that they can connect to.

use super::Plan;
use crate::jail::facts::Facts;
use crate::jail::layer::{LayerState, Refused};
use crate::jail::network_allow::PassedSocketGuard;
use crate::jail::{Jail, PrivateNetwork};

/// The first version of Landlock with rules about TCP.
const WITH_TCP: u32 = 4;

impl Plan {
    /// Takes the endpoints of the jail into the plan.
    pub(super) fn take_endpoints(&mut self, jail: &Jail, facts: &Facts) -> LayerState {
        let endpoints = jail.network_allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let has_rules = facts.landlock.is_ok_and(|version| version >= WITH_TCP);
        let is_empty = self.full.as_ref().is_some_and(|full| full.network == PrivateNetwork::Empty);
        // With loopback addresses, the programs connect and listen there.
        self.refuses_tcp = has_rules && is_empty;
        match facts.peer_filter {
            Ok(()) => {
                self.guard = Some(PassedSocketGuard::Filter);
                LayerState::On(endpoints)
            }
            Err(_) if self.refuses_tcp => {
                self.guard = Some(PassedSocketGuard::NoListeners);
                LayerState::On(format!(
                    "{endpoints}; without CAP_NET_ADMIN, no socket in the jail can listen"
                ))
            }
            Err(errno) => LayerState::Refused(Refused {
                errno,
                cause: "without CAP_NET_ADMIN, this kernel keeps no socket to its peer, and the jail has no \
                        Landlock for TCP (Linux 6.7), or loopback addresses"
                    .to_owned(),
                next: "start the server as root, or with `--private-network yes` and Landlock",
            }),
        }
    }
}
