//! What forkers, the supervisor and the connector share about the calls of connect(2) in a full
//! jail: their listeners, and which calls the connector has received and not answered.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use tine_sys::memory::SharedTables;

use super::text_channel::TextChannel;

/// A listener for the calls of all that a forker has created (seccomp_unotify(2)).
#[derive(Debug)]
pub(crate) struct CallListener {
    /// No other listener of the server has it.
    pub(crate) number: u64,
    pub(crate) listener: OwnedFd,
}

impl CallListener {
    /// Sends a copy.
    ///
    /// # Errors
    /// EAGAIN if the receiver is behind; EPIPE if there is none.
    pub(crate) fn send(&self, channel: &TextChannel) -> Result<(), Errno> {
        channel.send(&self.number.to_string(), &[self.listener.as_fd()])
    }

    /// Receives one; `None` at the end of the channel.
    ///
    /// # Errors
    /// EAGAIN if there is none; EMFILE.
    pub(crate) fn receive(channel: &TextChannel) -> Result<Option<CallListener>, Errno> {
        let Some(received) = channel.receive()? else { return Ok(None) };
        let number = str::from_utf8(&received.text).ok().and_then(|text| text.parse().ok());
        match (number, received.descriptors.into_iter().next()) {
            (Some(number), Some(listener)) => Ok(Some(CallListener { number, listener })),
            // This process has no number left for it.
            _ => Err(Errno::MFILE),
        }
    }

    /// Whether a process lives whose calls it has.
    pub(crate) fn is_in_use(&self) -> bool {
        let mut poll = [PollFd::new(&self.listener, PollFlags::empty())];
        tine_sys::wait::now(&mut poll).is_err() || !poll[0].revents().contains(PollFlags::HUP)
    }
}

impl AsFd for CallListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The calls that the connector has received and not answered, in shared memory: if it is killed,
/// the next one answers them. The kernel does not tell them again.
#[derive(Debug)]
pub(crate) struct UnansweredCalls {
    /// For each place, the number of the listener, 0 where there is no call, and the id of the
    /// call.
    tables: SharedTables<AtomicU64>,
}

impl UnansweredCalls {
    /// A table of so many places.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(places: usize) -> io::Result<UnansweredCalls> {
        Ok(UnansweredCalls { tables: SharedTables::new(places, places)? })
    }

    /// Notes a call.
    pub(crate) fn note(&self, place: usize, listener: u64, id: u64) {
        if let (Some(number), Some(call)) = (self.tables.first().get(place), self.tables.second().get(place))
        {
            call.store(id, Ordering::Relaxed);
            number.store(listener, Ordering::Release);
        }
    }

    /// The call of this place is answered.
    pub(crate) fn clear(&self, place: usize) {
        self.tables.first().get(place).into_iter().for_each(|number| number.store(0, Ordering::Release));
    }

    /// The calls of a listener.
    pub(crate) fn of(&self, listener: u64) -> impl Iterator<Item = (usize, u64)> {
        let numbers = self.tables.first().iter().zip(self.tables.second()).enumerate();
        numbers
            .filter(move |(_, (number, _))| number.load(Ordering::Acquire) == listener)
            .map(|(place, (_, id))| (place, id.load(Ordering::Relaxed)))
    }

    /// Takes the table away from this process.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn unmap(self) -> io::Result<()> {
        self.tables.unmap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_unanswered_from_its_note_until_it_is_cleared() {
        let table = UnansweredCalls::new(3).expect("memory");
        let of = |listener| table.of(listener).collect::<Vec<_>>();
        table.note(1, 7, 100);
        table.note(2, 8, 0);
        // Beyond the table.
        table.note(3, 7, 101);
        assert_eq!((of(7), of(8), of(9)), (vec![(1, 100)], vec![(2, 0)], vec![]));
        table.clear(1);
        table.clear(9);
        assert_eq!((of(7), of(8)), (vec![], vec![(2, 0)]));
    }

    #[test]
    fn listeners_are_received_with_their_numbers() {
        let (one, other) = TextChannel::pair().expect("a channel");
        let (listener, _writer) = rustix::pipe::pipe().expect("a pipe");
        CallListener { number: u64::MAX, listener }.send(&one).expect("sent");
        one.send("no number", &[]).expect("sent");
        let received = CallListener::receive(&other).expect("one").expect("not the end");
        assert_eq!(received.number, u64::MAX);
        assert_eq!(CallListener::receive(&other).err(), Some(Errno::MFILE));
        assert_eq!(CallListener::receive(&other).err(), Some(Errno::AGAIN));
        drop(one);
        assert!(CallListener::receive(&other).expect("the end").is_none());
    }
}
