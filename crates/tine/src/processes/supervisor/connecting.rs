//! The channels by which forkers hand out the listeners for their calls of connect(2), and the
//! copies that the supervisor keeps for the next connector.

use std::io;
use std::os::fd::OwnedFd;

use tine_sys::fd::Floor;

use crate::ipc::connecting::{CallListener, UnansweredCalls};
use crate::ipc::text_channel::TextChannel;
use crate::processes::connector::UNANSWERED_PLACES;
use crate::processes::forker::calls::CallsLink;

/// The channels, and what was received.
pub(super) struct ConnectingChannels {
    /// The ends of forkers.
    senders: CallsLink,
    /// The end of the connector.
    arrivals: TextChannel,
    /// The end of the supervisor. It looks there only before it starts a process that needs it.
    copies: TextChannel,
    kept: Vec<CallListener>,
    unanswered: UnansweredCalls,
}

/// What a connector gets.
pub(super) struct ConnectorEnds {
    pub(super) arrivals: TextChannel,
    pub(super) listeners: Vec<CallListener>,
    pub(super) unanswered: UnansweredCalls,
}

impl ConnectingChannels {
    pub(super) fn new(place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>) -> io::Result<ConnectingChannels> {
        let ends = || {
            let (one, other) = TextChannel::pair()?;
            let moved = |end: TextChannel| place(end.into()).map(TextChannel::from);
            Ok::<_, io::Error>((moved(one)?, moved(other)?))
        };
        let (connector, arrivals) = ends()?;
        let (supervisor, copies) = ends()?;
        let unanswered = UnansweredCalls::new(UNANSWERED_PLACES)?;
        let senders = CallsLink { connector, supervisor };
        Ok(ConnectingChannels { senders, arrivals, copies, kept: Vec::new(), unanswered })
    }

    /// Takes the copies that have come, and closes those of forkers of which no process is left.
    pub(super) fn collect(&mut self, place: Floor) {
        self.kept.retain(CallListener::is_in_use);
        // A copy that is lost is missed only by the connector after the one that has it.
        while let Ok(Some(CallListener { number, listener })) = CallListener::receive(&self.copies) {
            if let Ok(listener) = place.duplicate(listener) {
                self.kept.push(CallListener { number, listener });
            }
        }
    }

    /// The ends of a forker.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(super) fn for_forker(self) -> io::Result<CallsLink> {
        self.unanswered.unmap()?;
        Ok(self.senders)
    }

    /// What a connector gets.
    pub(super) fn for_connector(self) -> ConnectorEnds {
        ConnectorEnds { arrivals: self.arrivals, listeners: self.kept, unanswered: self.unanswered }
    }

    /// Takes what only the connector uses away from this process.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(super) fn take_away(self) -> io::Result<()> {
        self.unanswered.unmap()
    }
}
