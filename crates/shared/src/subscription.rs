//! What a process receives of a [`Broadcast`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bell::Bell;
use crate::broadcast::{Broadcast, Message, Next, words_of};
use crate::lock::deadline_in;
use crate::owner;
use crate::plain::Plain;

/// The messages of a [`Broadcast`] that this process has not received yet.
///
/// The position is that of this process alone: a subscription that is made before a process is
/// forked goes on in both. A clone goes on by itself from the same position.
pub struct Subscription<T: Plain, Topic: Plain = ()> {
    /// A `Select` looks at it, too.
    reader: Arc<Mutex<Reader<T, Topic>>>,
}

/// A position in a broadcast.
#[derive(Clone)]
pub(crate) struct Reader<T: Plain, Topic: Plain> {
    broadcast: Broadcast<T, Topic>,
    /// The words of the topic; `None` for all topics.
    topic: Option<Vec<u64>>,
    /// The number of the next message.
    position: u64,
    /// How many were lost since the last message.
    lost: u64,
}

impl<T: Plain, Topic: Plain> Reader<T, Topic> {
    pub(crate) fn new(broadcast: Broadcast<T, Topic>, topic: Option<Topic>) -> Reader<T, Topic> {
        let topic = topic.map(|topic| words_of(&topic));
        Reader { broadcast, topic, position: broadcast.ring.sent(), lost: 0 }
    }

    /// Moves on to the next message of the topic; false if there is none.
    pub(crate) fn find(&mut self) -> bool {
        loop {
            let (sent, capacity) = (self.broadcast.ring.sent(), self.broadcast.ring.capacity());
            match sent.wrapping_sub(self.position) {
                0 => return false,
                behind if behind > u64::MAX / 2 => {
                    // The number was written beside the library.
                    self.position = sent;
                    return false;
                }
                behind if behind > capacity => self.lose(behind - capacity),
                _ => {}
            }
            let Some(topic) = &self.topic else { return true };
            match self.broadcast.look(self.position, topic) {
                Next::Wanted => return true,
                Next::Other => self.position = self.position.wrapping_add(1),
                Next::Gone => self.lose(1),
            }
        }
    }

    /// The next message, if there is one.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Message<T, Topic>> {
        while self.find() {
            if let Some((topic, value)) = self.broadcast.read(self.position) {
                self.position = self.position.wrapping_add(1);
                return Some(Message { value, topic, lost: std::mem::take(&mut self.lost) });
            }
            self.lose(1);
        }
        None
    }

    fn lose(&mut self, messages: u64) {
        self.position = self.position.wrapping_add(messages);
        self.lost = self.lost.saturating_add(messages);
        self.broadcast.ring.count_lost(messages);
    }

    /// The bell of new messages.
    pub(crate) fn bell(&self) -> Bell {
        self.broadcast.ring.bell(self.topic.as_deref())
    }
}

impl<T: Plain, Topic: Plain> Subscription<T, Topic> {
    pub(crate) fn new(reader: Reader<T, Topic>) -> Self {
        Subscription { reader: Arc::new(Mutex::new(reader)) }
    }

    fn reader(&self) -> MutexGuard<'_, Reader<T, Topic>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next message.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator that never ends is a trap: `last`, `count`"
    )]
    pub fn next(&mut self) -> Message<T, Topic> {
        match self.wait(None) {
            Some(message) => message,
            None => unreachable!("it waits for as long as it takes"),
        }
    }

    /// The next message, if it is there: to receive all that there are after one wait.
    pub fn try_next(&mut self) -> Option<Message<T, Topic>> {
        self.reader().next()
    }

    /// Waits for the next message, for this time at most.
    ///
    /// # Panics
    /// As [`Subscription::next`].
    pub fn next_for(&mut self, time: Duration) -> Option<Message<T, Topic>> {
        self.wait(deadline_in(time))
    }

    fn wait(&self, deadline: Option<Instant>) -> Option<Message<T, Topic>> {
        owner::waiter();
        let next = || self.reader().next();
        next().or_else(|| {
            let event = self.reader().bell().event;
            event.wait(deadline, next)
        })
    }

    /// Tells whether there is a message, and the bell of new ones.
    #[cfg(not(loom))]
    pub(crate) fn watch(&self) -> (impl FnMut() -> bool + Send + use<T, Topic>, Bell) {
        let reader = Arc::clone(&self.reader);
        let is_there = move || reader.lock().unwrap_or_else(PoisonError::into_inner).find();
        (is_there, self.reader().bell())
    }
}

impl<T: Plain, Topic: Plain> Clone for Subscription<T, Topic> {
    fn clone(&self) -> Self {
        Subscription::new(self.reader().clone())
    }
}

impl<T: Plain, Topic: Plain> fmt::Debug for Subscription<T, Topic> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.reader().position;
        f.debug_struct("Subscription").field("position", &position).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_receives_everything_in_order() {
        let broadcast = Broadcast::<u64>::make("broadcast", 10_000).expect("memory");
        std::thread::scope(|threads| {
            for _ in 0..3 {
                let mut subscription = broadcast.subscribe();
                threads.spawn(move || {
                    let messages: Vec<_> = (0..2000).map(|_| subscription.next()).collect();
                    assert!(messages.iter().all(|message| message.lost == 0));
                    for sender in 0..2 {
                        let of_one = messages.iter().filter(|message| message.value % 2 == sender);
                        assert!(of_one.is_sorted_by(|one, next| one.value + 2 == next.value));
                    }
                    assert_eq!(subscription.try_next(), None);
                });
            }
            for sender in 0..2 {
                threads.spawn(move || (0..1000).for_each(|number| broadcast.send(2 * number + sender)));
            }
        });
    }

    #[test]
    fn a_slow_subscription_learns_what_it_lost() {
        let broadcast = Broadcast::<u64>::make("broadcast", 4).expect("memory");
        let mut slow = broadcast.subscribe();
        (0..10).for_each(|number| broadcast.send(number));
        let mut clone = slow.clone();
        for subscription in [&mut slow, &mut clone] {
            let received: Vec<_> = std::iter::from_fn(|| subscription.try_next())
                .map(|message| (message.value, message.lost))
                .collect();
            assert_eq!(received, [(6, 6), (7, 0), (8, 0), (9, 0)]);
        }
        assert_eq!(slow.next_for(Duration::from_millis(1)), None);
    }

    #[test]
    fn messages_of_other_topics_are_skipped() {
        let broadcast = Broadcast::<u64, (u32, bool)>::make("broadcast", 100).expect("memory");
        let mut all = broadcast.subscribe();
        let mut some = broadcast.subscribe_to((7, true));
        for number in 0..10 {
            broadcast.send_to((7, number % 2 == 0), number);
        }
        let values = |subscription: &mut Subscription<u64, (u32, bool)>| {
            std::iter::from_fn(|| subscription.try_next()).map(|message| message.value).collect::<Vec<u64>>()
        };
        assert_eq!(values(&mut all), (0..10).collect::<Vec<u64>>());
        assert_eq!(values(&mut some), [0, 2, 4, 6, 8]);
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| some.next());
            broadcast.send_to((8, true), 1);
            broadcast.send_to((7, true), 2);
            let message = waiter.join().expect("no panic");
            assert_eq!((message.value, message.topic, message.lost), (2, (7, true), 0));
        });
    }

    #[test]
    fn a_number_written_beside_the_library_does_no_harm() {
        let broadcast = Broadcast::<u64, u8>::make("broadcast", 4).expect("memory");
        let (mut all, mut some) = (broadcast.subscribe(), broadcast.subscribe_to(1));
        broadcast.send_to(1, 7);
        for sent in [u64::MAX, 1 << 62, 100, 3] {
            broadcast.ring.set_sent(sent);
            assert_eq!((all.try_next(), some.try_next()), (None, None), "{sent}");
        }
        broadcast.send_to(1, 8);
        let values = [&mut all, &mut some].map(|one| one.try_next().map(|message| message.value));
        assert_eq!(values, [Some(8), Some(8)]);
    }
}
