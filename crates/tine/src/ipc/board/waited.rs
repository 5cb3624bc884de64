//! The time of a client in the delay queue and its reason, as one word of shared memory.

use std::time::Duration;

use crate::admission::reason::Reason;
use crate::log::Waited;

/// A time in nanoseconds, for more than two years, with the index of a reason; 0 stands for none.
pub(super) fn waited_to_word(nanoseconds: u64, reason: usize) -> u64 {
    nanoseconds.min(u64::MAX >> 8) << 8 | (reason as u64 + 1) & 0xff
}

/// The reverse of [`waited_to_word`].
pub(super) fn waited_from_word(word: u64) -> Option<Waited> {
    let reason = (word & 0xff).checked_sub(1)?;
    Some(Waited { time: Duration::from_nanos(word >> 8), limit: Reason::from_index(reason).name() })
}

/// The word of a time in the delay queue.
pub(super) fn waited_word(waited: Option<Waited>) -> u64 {
    let reason = |name| Reason::ALL.into_iter().find(|reason| reason.name() == name);
    waited.map_or(0, |Waited { time, limit }| {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        waited_to_word(nanoseconds, reason(limit).map_or(0, Reason::index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_the_time_and_the_reason() {
        assert_eq!((waited_word(None), waited_from_word(0)), (0, None));
        for (time, reason) in [(0, Reason::Full), (u64::MAX, Reason::Banned)] {
            let waited = waited_from_word(waited_to_word(time, reason.index())).expect("a delay");
            assert_eq!((waited.limit, waited.time.is_zero()), (reason.name(), time == 0));
            assert_eq!(waited_from_word(waited_word(Some(waited))), Some(waited));
        }
    }
}
