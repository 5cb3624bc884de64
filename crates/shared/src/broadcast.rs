//! Messages to all processes that subscribe.

use std::fmt;
use std::marker::PhantomData;

use crate::bell::Bell;
use crate::copies;
use crate::error::Error;
use crate::event::ALL;
use crate::lock::Lock;
use crate::memory;
use crate::plain::Plain;
use crate::show::{Figure, LetGo, Shown};
use crate::subscription::{Reader, Subscription};
use crate::sync::{Acquire, AtomicU64, Relaxed, Release, fence};
use crate::turn::{Caller, Turn};

/// The most messages that are kept.
const MAX_CAPACITY: usize = 1 << 24;

/// Topics are hashed to this many bells, so that a message wakes few that do not want it.
const BELLS_OF_TOPICS: usize = 16;

/// Messages that any process sends to all that subscribe, or to those that subscribe to a topic.
///
/// The last messages are kept, up to the capacity. Sending never waits for who receives: a process
/// that receives too slowly loses messages, and is told how many ([`Message::lost`]).
///
/// ```
/// use tine::shared::{Broadcast, Text};
///
/// let chat = Broadcast::<Text<80>>::new("chat", 1000)?;
/// let mut messages = chat.subscribe();
/// chat.send(Text::cut("Hello, world!"));
/// let message = messages.next();
/// assert_eq!((&*message.value, message.lost), ("Hello, world!", 0));
/// assert!(messages.try_next().is_none());
/// # Ok::<(), tine::shared::Error>(())
/// ```
///
/// With a topic, such as the number of a room:
///
/// ```
/// use tine::shared::Broadcast;
///
/// let prices = Broadcast::<f64, u32>::new("prices", 1000)?;
/// let mut of_seven = prices.subscribe_to(7);
/// prices.send_to(8, 1.5);
/// prices.send_to(7, 2.5);
/// assert_eq!(of_seven.next().value, 2.5);
/// # Ok::<(), tine::shared::Error>(())
/// ```
pub struct Broadcast<T, Topic = ()> {
    pub(crate) ring: Ring,
    pub(crate) message: PhantomData<fn() -> (T, Topic)>,
}

/// A message of a [`Broadcast`], as a process receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message<T, Topic = ()> {
    /// What was sent.
    pub value: T,
    /// The topic that it was sent to.
    pub topic: Topic,
    /// How many messages this subscription has lost since its last one, of whatever topic: they
    /// were overwritten before they were received.
    pub lost: u64,
}

/// A broadcast without the type of its messages.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    /// Held by the process that sends.
    lock: Lock,
    /// How many messages were sent.
    sent: &'static AtomicU64,
    /// How many times others were told of a message.
    told: &'static AtomicU64,
    /// How many messages subscriptions have lost.
    lost: &'static AtomicU64,
    /// Of each slot first how many messages were sent with the one in it, 0 while it is written;
    /// then the topic, then the message.
    slots: &'static [AtomicU64],
    capacity: usize,
    /// The first is for those that receive messages of all topics.
    bells: &'static [Bell],
}

/// What lies where a subscription has its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A message of its topic.
    Wanted,
    /// A message of another topic.
    Other,
    /// The message was overwritten, or is being.
    Gone,
}

impl Ring {
    fn make(name: &str, capacity: usize, words: usize, bells: usize) -> Result<Ring, Error> {
        let bells: Vec<Bell> = (0..bells).map(|_| Bell::make(name)).collect::<Result<_, Error>>()?;
        Ok(Ring {
            lock: Lock::make(name)?,
            sent: &memory::words(name, 1)?[0],
            told: &memory::words(name, 1)?[0],
            lost: &memory::words(name, 1)?[0],
            slots: memory::words(name, capacity.saturating_mul(words))?,
            capacity,
            bells: bells.leak(),
        })
    }

    /// How many messages were sent.
    #[inline]
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Acquire)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn set_sent(&self, sent: u64) {
        self.sent.store(sent, Relaxed);
    }

    /// How many messages are kept.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// Counts messages that a subscription has lost.
    pub(crate) fn count_lost(&self, lost: u64) {
        if lost > 0 {
            self.lost.fetch_add(lost, Relaxed);
        }
    }

    /// The bell of messages of a topic with these words, or of all.
    pub(crate) fn bell(&self, topic: Option<&[u64]>) -> Bell {
        topic.and_then(|topic| self.bells.get(bell_of(topic))).copied().unwrap_or(self.bells[0])
    }

    /// Rings for a message of this topic.
    fn tell(&self, topic: &[u64]) {
        self.bells[0].ring(ALL);
        if let Some(bell) = self.bells.get(bell_of(topic)) {
            bell.ring(ALL);
        }
        self.told.fetch_add(1, Relaxed);
    }
}

/// Which bell those of a topic with these words wait for.
fn bell_of(topic: &[u64]) -> usize {
    // The constant of Fibonacci hashing, 2^64 divided by the golden ratio.
    let mix = |hash: u64, word: &u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    1 + (topic.iter().fold(0, mix) >> 32) as usize % BELLS_OF_TOPICS
}

/// The words of a topic.
pub(crate) fn words_of<Topic: Plain>(topic: &Topic) -> Vec<u64> {
    let mut words = Vec::with_capacity(Topic::WORDS);
    topic.put(&mut |word| words.push(word));
    words
}

impl<T: Plain, Topic: Plain> Broadcast<T, Topic> {
    const WORDS: usize = 1 + Topic::WORDS + T::WORDS;

    /// Makes a broadcast that keeps this many messages.
    ///
    /// # Errors
    /// The capacity is 0 or more than 16,777,216, the name is invalid or taken, the server runs
    /// already, or the system has no memory or descriptors.
    pub fn new(name: &str, capacity: usize) -> Result<Broadcast<T, Topic>, Error> {
        memory::check(name)?;
        memory::check_capacity(name, capacity, MAX_CAPACITY)?;
        let broadcast = Broadcast::<T, Topic>::make(name, capacity)?;
        memory::add(name, broadcast.ring);
        Ok(broadcast)
    }

    pub(crate) fn make(name: &str, capacity: usize) -> Result<Broadcast<T, Topic>, Error> {
        let bells = if Topic::WORDS == 0 { 1 } else { 1 + BELLS_OF_TOPICS };
        Ok(Broadcast { ring: Ring::make(name, capacity, Self::WORDS, bells)?, message: PhantomData })
    }

    /// Sends a message to all that subscribe to this topic, and to those that subscribe to all. It
    /// waits only while another process is about to send.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; or if this
    /// process holds as many locks as it can (12).
    pub fn send_to(&self, topic: Topic, message: T) {
        self.send_as(Caller::here(), topic, message);
    }

    /// Subscribes to the messages of all topics that are sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<T, Topic> {
        Subscription::new(Reader::new(*self, None))
    }

    /// Subscribes to the messages of this topic that are sent from now on. Topics are the same if
    /// they are put as the same words ([`Plain::put`]).
    #[must_use]
    pub fn subscribe_to(&self, topic: Topic) -> Subscription<T, Topic> {
        Subscription::new(Reader::new(*self, Some(topic)))
    }

    pub(crate) fn send_as(&self, caller: Caller, topic: Topic, message: T) {
        let turn = Turn::take(self.ring.lock, caller);
        let sent = self.ring.sent.load(Relaxed);
        let slot = self.slot(sent);
        slot[0].store(0, Relaxed);
        // A process that reads a word of the message below also sees that it is being written.
        fence(Release);
        copies::store(&slot[1..], &(topic, message));
        let sent = sent.wrapping_add(1);
        slot[0].store(sent, Release);
        self.ring.sent.store(sent, Release);
        drop(turn);
        self.ring.tell(&words_of(&topic));
    }

    fn slot(&self, number: u64) -> &'static [AtomicU64] {
        let place = (number % self.ring.capacity as u64) as usize;
        &self.ring.slots[place * Self::WORDS..(place + 1) * Self::WORDS]
    }

    /// What the message with this number is for those that want this topic.
    pub(crate) fn look(&self, number: u64, wanted: &[u64]) -> Next {
        let slot = self.slot(number);
        let is_there = slot[0].load(Acquire) == number.wrapping_add(1);
        let is_wanted = slot[1..].iter().zip(wanted).all(|(word, wanted)| word.load(Relaxed) == *wanted);
        fence(Acquire);
        match is_there && slot[0].load(Relaxed) == number.wrapping_add(1) {
            true if is_wanted => Next::Wanted,
            true => Next::Other,
            false => Next::Gone,
        }
    }

    /// The message with this number, if it was not overwritten.
    #[inline]
    pub(crate) fn read(&self, number: u64) -> Option<(Topic, T)> {
        let slot = self.slot(number);
        if slot[0].load(Acquire) != number.wrapping_add(1) {
            return None;
        }
        let message = copies::load(&slot[1..]);
        fence(Acquire);
        (slot[0].load(Relaxed) == number.wrapping_add(1)).then_some(message)
    }
}

impl<T: Plain> Broadcast<T> {
    /// Sends a message to all that subscribe. It waits only while another process is about to send.
    ///
    /// # Panics
    /// As [`Broadcast::send_to`].
    #[inline]
    pub fn send(&self, message: T) {
        self.send_to((), message);
    }
}

impl Shown for Ring {
    fn kind(&self) -> &'static str {
        "broadcast"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::gauge("capacity", self.capacity as f64),
            Figure::counter("sent", self.sent.load(Relaxed)),
            Figure::counter("lost", self.lost.load(Relaxed)),
        ]
    }

    fn let_go(&self, dead: LetGo) {
        self.lock.let_go(dead.owner);
        let sent = self.sent.load(Relaxed);
        // Unless it died before it had told of its message, nobody waits for one that is there.
        if self.told.swap(sent, Relaxed) != sent {
            self.bells.iter().for_each(|bell| bell.ring_again(ALL));
        }
    }

    fn number(&self) -> Option<u32> {
        Some(self.lock.object())
    }
}

impl<T, Topic> Clone for Broadcast<T, Topic> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, Topic> Copy for Broadcast<T, Topic> {}

impl<T, Topic> fmt::Debug for Broadcast<T, Topic> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("sent", &self.ring.sent())
            .field("capacity", &self.ring.capacity)
            .finish()
    }
}
