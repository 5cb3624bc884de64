//! The newer side of a hand-over, in a supervisor: it waits until it may take over, takes the
//! state, and reports that it accepts clients.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::Supervisor;
use crate::connection::handler::Handler;
use crate::error::{Error, reason};
use crate::ipc::handover::lineage::{Lineage, LineageEvent, LineageMessage, read_state};
use crate::ipc::handover::takeover::{Predecessor, Told};
use crate::net::listener::Listener;
use crate::processes::observer::Observer;

/// The time that the older supervisor has to send its state: that to stop accepting, and more.
const STATE_WITHIN: Duration = Duration::from_secs(10);

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Reports that this generation can serve, and waits until it may. False if it may not.
    pub(super) fn wait_for_predecessor(&mut self, stop: BorrowedFd) -> Result<bool, Error> {
        let Some(takeover) = &mut self.handovers.takeover else { return Ok(true) };
        let told = takeover.built(stop);
        Ok(told == Told::Go)
    }

    /// Takes the state of the older supervisor, if there is one.
    ///
    /// # Errors
    /// It has ended, or does not send it.
    pub(super) fn take_state(&mut self) -> Result<(), Error> {
        let Some(Predecessor { lineage, .. }) = self.handovers.predecessor.take() else { return Ok(()) };
        let failed = |why: &str| {
            Error::usage(
                format_args!("cannot take over the state: {why}"),
                "try again, or restart the server",
            )
        };
        lineage.send(&LineageMessage::Take).map_err(|_| failed("the older server has ended"))?;
        let deadline = Instant::now() + STATE_WITHIN;
        let mut older: Vec<Lineage> = Vec::new();
        let file = loop {
            match lineage.receive() {
                None if Instant::now() >= deadline => return Err(failed("it does not come")),
                None => {
                    let mut poll = [PollFd::new(&lineage, PollFlags::IN)];
                    let _ = tine_sys::wait::until(&mut poll, Some(deadline));
                }
                Some(LineageEvent::Message(LineageMessage::Older, descriptors)) => {
                    older.extend(descriptors.into_iter().map(Lineage::from));
                }
                Some(LineageEvent::Message(LineageMessage::State, mut descriptors)) => {
                    break descriptors.pop().ok_or_else(|| failed("it is missing"))?;
                }
                Some(LineageEvent::Message(LineageMessage::Refused(why), _)) => return Err(failed(&why)),
                Some(LineageEvent::Message(..)) => {}
                Some(LineageEvent::Ended) => return Err(failed("the older server has ended")),
            }
        };
        let state = read_state(file).map_err(|why| failed(&reason(&why)))?;
        self.restore_state(&state, lineage, older)
    }

    /// Once clients are accepted here: the sockets are this process's, and the older generations
    /// finish.
    pub(super) fn finish_takeover(&mut self) {
        let Some(takeover) = self.handovers.takeover.take() else { return };
        self.listeners.iter_mut().for_each(Listener::take_over);
        self.controllers.take_over();
        self.observer.iter_mut().for_each(Observer::take_over);
        let older = takeover.accepting();
        if let Some(generations) = &mut self.handovers.generations {
            generations.take_over(older);
        }
    }
}
