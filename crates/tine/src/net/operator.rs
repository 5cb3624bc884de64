//! Who asks a server or steers it, and what it may do.

/// A process that has connected to the control socket, or the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) uid: u32,
    /// 0 for a process outside the PID namespace of the server.
    pub(crate) pid: i32,
    pub(crate) rank: Rank,
}

/// Who an operator is to the server. Where there are too few places, those of the ranks in front
/// are given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The observer.
    Observer,
    /// The observer of a server with `--observe-control`.
    Steward,
    /// A member of the group that may read.
    Reader,
    /// Root, or the user of the server.
    Owner,
}

/// The privilege that a request or an order needs. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Privilege {
    /// To ask.
    Read,
    /// To end connections, to pause and resume, to ban and lift bans.
    Tend,
    /// To change anything, and to stop or replace the server.
    Steer,
}

impl Rank {
    const ALL: [Rank; 4] = [Rank::Observer, Rank::Steward, Rank::Reader, Rank::Owner];

    /// Whether an operator of this rank may do what needs this.
    pub(crate) fn may(self, needed: Privilege) -> bool {
        needed
            <= match self {
                Rank::Observer | Rank::Reader => Privilege::Read,
                Rank::Steward => Privilege::Tend,
                Rank::Owner => Privilege::Steer,
            }
    }

    pub(crate) fn is_observer(self) -> bool {
        matches!(self, Rank::Observer | Rank::Steward)
    }

    /// The rank as a word of a message.
    pub(crate) fn to_word(self) -> u64 {
        self as u64
    }

    /// The rank of a word: the lowest one, if it is none.
    pub(crate) fn from_word(word: u64) -> Rank {
        Rank::ALL.into_iter().find(|rank| rank.to_word() == word).unwrap_or(Rank::Observer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_may_do_so_much_and_no_more() {
        for (rank, may) in [
            (Rank::Observer, [true, false, false]),
            (Rank::Steward, [true, true, false]),
            (Rank::Reader, [true, false, false]),
            (Rank::Owner, [true, true, true]),
        ] {
            let found = [Privilege::Read, Privilege::Tend, Privilege::Steer].map(|one| rank.may(one));
            assert_eq!(found, may, "{rank:?}");
            assert_eq!(Rank::from_word(rank.to_word()), rank);
        }
        assert_eq!(Rank::from_word(u64::MAX), Rank::Observer);
    }
}
