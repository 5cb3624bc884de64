//! The proxies whose header is not complete yet. No system call here.

use std::collections::BTreeMap;

use crate::net::peer::Peer;

/// A proxy whose header is not complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PendingProxy<S> {
    pub(super) socket: S,
    pub(super) proxy: Peer,
    /// Until when the header has to be complete: monotonic clock, nanoseconds.
    deadline: u64,
}

/// All of them, by a number that is never given out again.
#[derive(Debug)]
pub(super) struct Pending<S> {
    proxies: BTreeMap<u64, PendingProxy<S>>,
    next_number: u64,
    /// The time for a header, in nanoseconds. It is the same for all, so the order of the numbers
    /// is that of the deadlines.
    timeout: u64,
}

impl<S> Pending<S> {
    /// No proxy yet; numbers from `first_number` on.
    pub(super) fn new(first_number: u64, timeout: u64) -> Pending<S> {
        Pending { proxies: BTreeMap::new(), next_number: first_number, timeout }
    }

    /// Adds a proxy that has come now, and returns its number.
    pub(super) fn add(&mut self, socket: S, proxy: Peer, now: u64) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let deadline = now.saturating_add(self.timeout);
        self.proxies.insert(number, PendingProxy { socket, proxy, deadline });
        number
    }

    pub(super) fn get(&self, number: u64) -> Option<&PendingProxy<S>> {
        self.proxies.get(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<PendingProxy<S>> {
        self.proxies.remove(&number)
    }

    /// The proxies whose time is over.
    pub(super) fn take_expired(&mut self, now: u64) -> Vec<PendingProxy<S>> {
        let mut expired = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            expired.extend(self.proxies.pop_first().map(|(_, proxy)| proxy));
        }
        expired
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.proxies.first_key_value().map(|(_, proxy)| proxy.deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.proxies.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_expire_in_the_order_in_which_they_came() {
        let mut pending = Pending::new(100, 3);
        let numbers = [0, 0, 2, 5].map(|now| pending.add(now, Peer::Unix(None), now));
        assert_eq!((numbers, pending.next_deadline(), pending.len()), ([100, 101, 102, 103], Some(3), 4));
        assert_eq!(pending.remove(101).map(|proxy| proxy.socket), Some(0));
        assert!(pending.remove(101).is_none() && pending.get(101).is_none());
        let mut expired =
            |now| pending.take_expired(now).iter().map(|proxy| proxy.socket).collect::<Vec<_>>();
        assert_eq!((expired(2), expired(3), expired(4), expired(8)), (vec![], vec![0], vec![], vec![2, 5]));
        assert_eq!((pending.next_deadline(), pending.len()), (None, 0));
        assert_eq!(pending.add(9, Peer::Unix(None), u64::MAX), 104, "numbers are not given out again");
        assert_eq!(pending.next_deadline(), Some(u64::MAX));
    }
}
