//! The calls of connect(2) of all that a forker creates, which the connector answers.

use tine_sys::connect_filter;

use crate::error::{Error, next_move};
use crate::ipc::connecting::CallListener;
use crate::ipc::text_channel::TextChannel;
use crate::processes::start::cannot;
use crate::system::clock::now;

/// Where a forker sends the listener for its calls.
pub(crate) struct CallsLink {
    pub(crate) connector: TextChannel,
    /// For the next connector.
    pub(crate) supervisor: TextChannel,
}

impl CallsLink {
    /// Has the calls of this process, and of all that it creates, wait for the connector.
    ///
    /// # Errors
    /// The kernel refuses the filter; a channel is full.
    pub(super) fn hand_out(self) -> Result<(), Error> {
        let listener = connect_filter::install()
            .map_err(cannot("have another process connect for the jail (seccomp)", next_move::of_call))?;
        // No other forker has had the same id at that time.
        let pid = u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
        let number = pid << 32 | now() & u64::from(u32::MAX);
        let listener = CallListener { number, listener };
        let sent = listener.send(&self.connector).and_then(|()| listener.send(&self.supervisor));
        sent.map_err(cannot("send a listener to the connector", next_move::of_call))
    }
}
