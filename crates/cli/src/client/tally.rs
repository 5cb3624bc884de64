//! The numbers of a client: each worker counts in shared memory, so that a worker's death loses none.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tine_sys::memory::Shared;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections that are open now.
    Open,
    /// Connections that were made.
    Made,
    /// Messages that were sent.
    Messages,
    /// Bytes that were sent.
    Sent,
    /// Bytes that came back.
    Received,
    /// Connections on which a reply differed from what was sent.
    Wrong,
    /// Nobody listens there.
    Refused,
    /// The network says that there is no way, or nobody answered in time.
    Unreachable,
    /// The server reset the connection.
    Reset,
    /// The server closed before the last message was sent, or its echo complete.
    ClosedEarly,
    /// Any other error.
    Other,
}

impl Count {
    /// The kinds of errors, in the words of the summary.
    pub const ERRORS: [(Count, &'static str); 5] = [
        (Count::Refused, "refused"),
        (Count::Unreachable, "unreachable"),
        (Count::Reset, "reset by the server"),
        (Count::ClosedEarly, "closed early by the server"),
        (Count::Other, "other"),
    ];
}

const COUNTS: usize = Count::Other as usize + 1;

/// The numbers of all workers.
#[derive(Clone, Copy, Debug)]
pub struct Tally(Shared<[AtomicU64; COUNTS]>);

impl Tally {
    /// Numbers for so many workers, all zero.
    pub fn new(workers: usize) -> std::io::Result<Tally> {
        Shared::new(workers).map(Tally)
    }

    /// Counts, in a worker.
    pub fn add(&self, worker: usize, what: Count, more: u64) {
        self.0[worker][what as usize].fetch_add(more, Relaxed);
    }

    /// Counts down, in a worker.
    pub fn take(&self, worker: usize, what: Count) {
        self.0[worker][what as usize].fetch_sub(1, Relaxed);
    }

    /// One worker's number.
    pub fn of(&self, worker: usize, what: Count) -> u64 {
        self.0[worker][what as usize].load(Relaxed)
    }

    /// The sum over all workers.
    pub fn sum(&self, what: Count) -> u64 {
        (0..self.0.len()).map(|worker| self.of(worker, what)).sum()
    }

    /// Errors of any kind.
    pub fn errors(&self) -> u64 {
        Count::ERRORS.iter().map(|(what, _)| self.sum(*what)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_workers() {
        let tally = Tally::new(3).expect("memory");
        tally.add(0, Count::Messages, 2);
        tally.add(2, Count::Messages, 5);
        tally.add(1, Count::Reset, 1);
        tally.add(1, Count::Open, 1);
        tally.take(1, Count::Open);
        assert_eq!((tally.sum(Count::Messages), tally.errors(), tally.sum(Count::Open)), (7, 1, 0));
        assert_eq!(tally.of(2, Count::Messages), 5);
    }
}
