//! How many slots of a server are withdrawn, and how many are to be. No system call here.

use std::time::Instant;

use crate::ipc::setting::SettingValue;

/// The slots of a server.
#[derive(Debug)]
pub(super) struct Capacity {
    /// All that the board has.
    total: usize,
    /// Those that are withdrawn.
    pub(super) withdrawn: usize,
    /// A change of the maximum that waits until no process accepts.
    pub(super) pending: Option<PendingMaximum>,
    /// Whether an operator has paused the server, too.
    pub(super) is_paused: bool,
    /// The number of pauses so far.
    pub(super) pauses: u64,
}

/// A lower maximum of connections that is not in force yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingMaximum {
    /// The control process that waits for it.
    pub(super) pid: i32,
    pub(super) maximum: SettingValue,
    /// Until when each forker must have stopped accepting.
    pub(super) until: Instant,
}

impl Capacity {
    pub(super) fn new(total: usize) -> Capacity {
        Capacity { total, withdrawn: 0, pending: None, is_paused: false, pauses: 0 }
    }

    /// All slots of the board.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Whether a change waits until no process accepts.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Until when it waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.until)
    }

    /// How many slots are still to be withdrawn for this maximum.
    pub(super) fn missing(&self, maximum: usize) -> usize {
        self.total.saturating_sub(maximum).saturating_sub(self.withdrawn)
    }

    /// How many slots are to be put back for this maximum.
    pub(super) fn surplus(&self, maximum: usize) -> usize {
        self.withdrawn.saturating_sub(self.total.saturating_sub(maximum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_withdrawn_or_put_back_up_to_the_maximum() {
        for (withdrawn, maximum, missing, surplus) in [
            (0, 10, 0, 0),
            (0, 4, 6, 0),
            (4, 4, 2, 0),
            (6, 4, 0, 0),
            (6, 10, 0, 6),
            (6, 9, 0, 5),
            (0, 11, 0, 0),
        ] {
            let capacity = Capacity { withdrawn, ..Capacity::new(10) };
            let found = (capacity.missing(maximum), capacity.surplus(maximum));
            assert_eq!(found, (missing, surplus), "{withdrawn} {maximum}");
        }
    }
}
