//! The link of a service: a process that shares bans, penalties and limits with other nodes.

use crate::system::users::Identity;

/// A process beside a service that talks to other nodes over a bus. It is executed from the file of
/// this process, with another user where that is possible, and has nothing of the server but a
/// channel ([`Linked`](crate::cli::Linked)).
#[derive(Clone, Debug)]
pub struct LinkSetup {
    pub(crate) settings: String,
    pub(crate) user: Option<Identity>,
    /// Whether operators of the fleet may have this node drain.
    pub(crate) may_drain: bool,
}

impl LinkSetup {
    /// A link with these settings, which it alone understands.
    #[must_use]
    pub fn new(settings: String) -> LinkSetup {
        LinkSetup { settings, user: None, may_drain: false }
    }

    /// Sets the user of the link. Default: that of the server.
    #[must_use]
    pub fn user(self, user: Option<Identity>) -> LinkSetup {
        LinkSetup { user, ..self }
    }

    /// Sets whether operators of the fleet may have this node drain. Default: false.
    #[must_use]
    pub fn control(self, may_drain: bool) -> LinkSetup {
        LinkSetup { may_drain, ..self }
    }
}
