//! Waiting for sockets and shared state at the same time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::bell::Bell;
use crate::lock::{deadline_in, time_to_look};
use crate::owner;
use crate::plain::Plain;
use crate::queue::Queue;
use crate::semaphore::Semaphore;
use crate::subscription::Subscription;

/// Waits for sockets and shared state at the same time, such as for the next request of a client
/// and for messages of others.
///
/// Each source has a key, which [`Select::wait`] returns once the source is ready. That takes
/// nothing: the queue may be empty again when the process pops, so use [`Queue::try_pop`] and the
/// like. Sources that are ready all the time are returned in turn.
///
/// Make it in the process that waits, since forked processes would share it.
///
/// ```
/// use std::io::Read;
/// use tine::shared::{Broadcast, Select, Text};
///
/// #[derive(Clone, Copy)]
/// enum From {
///     Client,
///     Others,
/// }
///
/// fn serve(mut client: std::net::TcpStream, chat: Broadcast<Text<80>>) -> std::io::Result<()> {
///     let mut messages = chat.subscribe();
///     let mut select =
///         Select::new()?.readable(&client, From::Client)?.subscription(&messages, From::Others)?;
///     let mut bytes = [0; 80];
///     loop {
///         match select.wait()? {
///             From::Client => match client.read(&mut bytes)? {
///                 0 => return Ok(()),
///                 length => chat.send(Text::cut(&String::from_utf8_lossy(&bytes[..length]))),
///             },
///             From::Others => {
///                 while let Some(message) = messages.try_next() {
///                     println!("{}", &*message.value);
///                 }
///             }
///         }
///     }
/// }
/// ```
pub struct Select<K> {
    epoll: OwnedFd,
    sources: Vec<Source<K>>,
    /// The source after the one that was returned last: it is looked at first.
    first: usize,
    /// A source that is ready, as the process knows.
    known: Option<K>,
    events: Vec<Event>,
}

struct Source<K> {
    key: K,
    state: State,
}

enum State {
    /// A socket: whether the last look at the kernel found it ready.
    Socket(bool),
    /// Shared state: looks at it.
    Shared(Box<dyn FnMut() -> bool + Send>),
}

impl State {
    fn is_ready(&mut self) -> bool {
        match self {
            State::Socket(is_ready) => *is_ready,
            State::Shared(look) => look(),
        }
    }
}

/// Stands for the events of shared state, which say only that something may have changed.
const SHARED: u64 = u64::MAX;

impl<K: Copy> Select<K> {
    /// Makes one without sources.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> io::Result<Select<K>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Select { epoll, sources: Vec::new(), first: 0, known: None, events: Vec::new() })
    }

    /// Adds a socket, or another descriptor: it is ready if it can be read, is at its end, or has
    /// an error. Once it is closed, it is never ready.
    ///
    /// Bytes that the process has read ahead are not seen: see [`Select::ready`].
    ///
    /// # Errors
    /// EEXIST: it was added already; EPERM: it is a file; ENOMEM, ENOSPC.
    pub fn readable(mut self, socket: &impl AsFd, key: K) -> io::Result<Select<K>> {
        let data = EventData::new_u64(self.sources.len() as u64);
        epoll::add(&self.epoll, socket, data, EventFlags::IN | EventFlags::RDHUP)?;
        self.sources.push(Source { key, state: State::Socket(false) });
        Ok(self)
    }

    /// Adds a queue: it is ready if there is something to pop.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn queue<T: Plain>(self, queue: &Queue<T>, key: K) -> io::Result<Select<K>> {
        let (queue, bell) = (*queue, queue.bell());
        self.shared(bell, move || !queue.is_empty(), key)
    }

    /// Adds a subscription: it is ready if there is a message.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn subscription<T: Plain, Topic: Plain>(
        self,
        subscription: &Subscription<T, Topic>,
        key: K,
    ) -> io::Result<Select<K>> {
        let (look, bell) = subscription.watch();
        self.shared(bell, look, key)
    }

    /// Adds a semaphore: it is ready if a permit is free. A permit that comes back since its
    /// process has died is noticed within a second.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn semaphore(self, semaphore: &Semaphore, key: K) -> io::Result<Select<K>> {
        let (semaphore, bell) = (*semaphore, semaphore.bell());
        self.shared(bell, move || semaphore.available() > 0, key)
    }

    fn shared(
        mut self,
        bell: Bell,
        look: impl FnMut() -> bool + Send + 'static,
        key: K,
    ) -> io::Result<Select<K>> {
        // Every write is an event, although nobody ever reads.
        match epoll::add(
            &self.epoll,
            bell.select(),
            EventData::new_u64(SHARED),
            EventFlags::IN | EventFlags::ET,
        ) {
            // Another source has the same bell.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(why) => return Err(why.into()),
        }
        self.sources.push(Source { key, state: State::Shared(Box::new(look)) });
        Ok(self)
    }

    /// Says that a source is ready: the next wait returns this key at once. For sockets of which
    /// the process has read more than it has used.
    pub fn ready(&mut self, key: K) {
        self.known = Some(key);
    }

    /// Waits until a source is ready, and returns its key.
    ///
    /// # Errors
    /// Those of epoll_wait(2), which none of the sources causes.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait.
    pub fn wait(&mut self) -> io::Result<K> {
        loop {
            if let Some(key) = self.wait_until(None)? {
                return Ok(key);
            }
        }
    }

    /// Waits until a source is ready, for this time at most, and returns its key.
    ///
    /// # Errors
    /// As [`Select::wait`].
    ///
    /// # Panics
    /// As [`Select::wait`].
    pub fn wait_for(&mut self, time: Duration) -> io::Result<Option<K>> {
        self.wait_until(deadline_in(time))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> io::Result<Option<K>> {
        owner::waiter();
        if let Some(key) = self.known.take() {
            return Ok(Some(key));
        }
        loop {
            // The kernel is asked each time: shared state that is always ready leaves sockets
            // their turn. A change after this look is an event.
            let is_ready = self.sources.iter_mut().any(|source| source.state.is_ready());
            let time = if is_ready { Duration::ZERO } else { time_to_look(deadline) };
            self.look_at_sockets(time)?;
            if let Some(key) = self.next_ready() {
                return Ok(Some(key));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    /// Waits for an event, for this time at most, and keeps which sockets are ready.
    fn look_at_sockets(&mut self, time: Duration) -> io::Result<()> {
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        self.events.clear();
        self.events.reserve(self.sources.len().max(1));
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
        for source in &mut self.sources {
            if let State::Socket(is_ready) = &mut source.state {
                *is_ready = false;
            }
        }
        for event in &self.events {
            let source = usize::try_from(event.data.u64()).ok().and_then(|at| self.sources.get_mut(at));
            if let Some(Source { state: State::Socket(is_ready), .. }) = source {
                *is_ready = true;
            }
        }
        Ok(())
    }

    /// The key of the next source that is ready.
    fn next_ready(&mut self) -> Option<K> {
        let count = self.sources.len();
        let mut in_turn = (self.first..count).chain(0..self.first);
        let at = in_turn.find(|&at| self.sources[at].state.is_ready())?;
        self.first = (at + 1) % count;
        Some(self.sources[at].key)
    }
}

impl<K> fmt::Debug for Select<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::broadcast::Broadcast;
    use crate::sync::LOOK_AGAIN;

    fn objects() -> (UnixStream, UnixStream, Queue<u32>, Broadcast<u32, u8>, Semaphore) {
        let (mine, client) = UnixStream::pair().expect("sockets");
        let queue = Queue::make("queue", 8).expect("memory");
        let broadcast = Broadcast::make("broadcast", 8).expect("memory");
        (mine, client, queue, broadcast, Semaphore::make("semaphore", 1).expect("memory"))
    }

    #[test]
    fn each_source_is_returned_while_it_is_ready() {
        let (mut mine, mut client, queue, broadcast, semaphore) = objects();
        let permit = semaphore.acquire();
        let mut messages = broadcast.subscribe_to(3);
        let mut select = Select::new().expect("descriptors");
        select = select.readable(&mine, 's').and_then(|select| select.queue(&queue, 'q')).expect("room");
        select = select.subscription(&messages, 'b').expect("room").semaphore(&semaphore, 'p').expect("room");
        let mut now = || select.wait_for(Duration::ZERO).expect("events");
        broadcast.send_to(4, 7);
        assert_eq!(now(), None);
        for _ in 0..2 {
            queue.push(1);
            assert_eq!((now(), now()), (Some('q'), Some('q')));
            assert_eq!((queue.try_pop(), now()), (Some(1), None));
            broadcast.send_to(3, 1);
            assert_eq!((now(), now()), (Some('b'), Some('b')));
            assert!(messages.try_next().is_some());
            client.write_all(b"x").expect("room");
            assert_eq!((now(), now()), (Some('s'), Some('s')));
            mine.read_exact(&mut [0]).expect("bytes");
            assert_eq!(now(), None);
        }
        drop(permit);
        assert_eq!(now(), Some('p'));
        drop(client);
        assert_eq!([now(), now(), now()].map(|key| key.expect("ready")), ['s', 'p', 's'], "in turn");
        select.ready('b');
        assert_eq!(select.wait().expect("events"), 'b');
    }

    #[test]
    fn no_change_is_missed() {
        let (mine, mut client, queue, broadcast, _) = objects();
        let mut messages = broadcast.subscribe();
        let mut select = Select::new().and_then(|select| select.readable(&mine, 's')).expect("room");
        select =
            select.queue(&queue, 'q').and_then(|select| select.subscription(&messages, 'b')).expect("room");
        let start = Instant::now();
        std::thread::scope(|threads| {
            // A step each: the next one is made once the last one was seen.
            let (seen, sees) = std::sync::mpsc::channel();
            threads.spawn(move || {
                for number in 0..3000 {
                    match number % 3 {
                        0 => queue.push(number),
                        1 => broadcast.send_to(0, number),
                        _ => client.write_all(b"x").expect("room"),
                    }
                    sees.recv().expect("the other thread");
                }
            });
            for number in 0..3000 {
                let key = select.wait().expect("events");
                let is_there = match key {
                    'q' => queue.try_pop() == Some(number),
                    'b' => messages.try_next().is_some_and(|message| message.value == number),
                    _ => (&mine).read(&mut [0; 8]).expect("bytes") == 1,
                };
                assert!(is_there && key == ['q', 'b', 's'][number as usize % 3], "{number} {key}");
                seen.send(()).expect("the other thread");
            }
        });
        // Each one that is missed takes a second.
        assert!(start.elapsed() < 30 * LOOK_AGAIN, "{:?}", start.elapsed());
    }
}
