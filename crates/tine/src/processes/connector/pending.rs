//! The calls that wait for their connections. No system call here.

use std::time::Instant;

/// A call that waits; `S` is what it will be given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PendingCall<S> {
    /// The number of its listener.
    pub(super) listener: u64,
    pub(super) id: u64,
    pub(super) socket: S,
    /// When the caller does not want to wait longer.
    pub(super) deadline: Option<Instant>,
}

/// All of them, up to a number. Each has a place, and a token, which no later call of the same
/// place has.
#[derive(Debug)]
pub(super) struct PendingCalls<S> {
    places: Vec<(u64, Option<PendingCall<S>>)>,
    free: Vec<usize>,
    maximum: usize,
}

/// Bits of a token that are the place; the others count the calls of the place.
const PLACE_BITS: u32 = 16;

/// Tokens are below this number.
pub(super) const TOKENS: u64 = 1 << 62;

impl<S> PendingCalls<S> {
    pub(super) fn new(maximum: usize) -> PendingCalls<S> {
        PendingCalls { places: Vec::new(), free: Vec::new(), maximum: maximum.min(1 << PLACE_BITS) }
    }

    /// Whether no more call can be added.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.places.len() == self.maximum
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Adds a call, and returns its token; the call if there is no place.
    pub(super) fn add(&mut self, call: PendingCall<S>) -> Result<u64, PendingCall<S>> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < self.maximum => {
                self.places.push((0, None));
                self.places.len() - 1
            }
            None => return Err(call),
        };
        let (count, kept) = &mut self.places[place];
        *count = (*count + 1) % (TOKENS >> PLACE_BITS);
        *kept = Some(call);
        Ok(*count << PLACE_BITS | place as u64)
    }

    /// The place of a token.
    pub(super) fn place(token: u64) -> usize {
        (token & ((1 << PLACE_BITS) - 1)) as usize
    }

    pub(super) fn get(&self, token: u64) -> Option<&PendingCall<S>> {
        let (count, call) = self.places.get(Self::place(token))?;
        call.as_ref().filter(|_| *count == token >> PLACE_BITS)
    }

    /// Removes a call.
    pub(super) fn take(&mut self, token: u64) -> Option<PendingCall<S>> {
        self.get(token)?;
        let place = Self::place(token);
        self.free.push(place);
        self.places[place].1.take()
    }

    /// All calls with their tokens.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &PendingCall<S>)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, (count, call))| Some((count << PLACE_BITS | place as u64, call.as_ref()?)))
    }

    /// The next time at which a caller does not want to wait longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.all().filter_map(|(_, call)| call.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(id: u64) -> PendingCall<()> {
        PendingCall { listener: 1, id, socket: (), deadline: None }
    }

    #[test]
    fn a_token_stands_for_one_call() {
        let mut pending = PendingCalls::new(2);
        assert!(pending.is_empty());
        let first = pending.add(call(10)).expect("a place");
        let second = pending.add(call(11)).expect("a place");
        assert!(pending.is_full() && !pending.is_empty());
        assert_eq!(pending.add(call(12)), Err(call(12)));
        assert_eq!(pending.take(first), Some(call(10)));
        assert_eq!((pending.take(first), pending.is_full()), (None, false));
        // The same place, and another token.
        let third = pending.add(call(13)).expect("a place");
        assert_eq!(PendingCalls::<()>::place(third), PendingCalls::<()>::place(first));
        assert_eq!((pending.get(first), pending.get(third)), (None, Some(&call(13))));
        let ids: Vec<u64> = pending.all().map(|(_, call)| call.id).collect();
        assert_eq!(ids, [13, 11]);
        let tokens: Vec<u64> = pending.all().map(|(token, _)| token).collect();
        assert_eq!(tokens, [third, second]);
        tokens.into_iter().for_each(|token| _ = pending.take(token));
        assert!(pending.is_empty());
        assert!(PendingCalls::<()>::new(0).is_full());
    }

    #[test]
    fn the_deadline_is_the_first_of_all() {
        let now = Instant::now();
        let mut pending = PendingCalls::new(3);
        for seconds in [None, Some(5), Some(3)] {
            let deadline = seconds.map(|seconds| now + Duration::from_secs(seconds));
            pending.add(PendingCall { deadline, ..call(1) }).expect("a place");
        }
        assert_eq!(pending.deadline(), Some(now + Duration::from_secs(3)));
    }
}
