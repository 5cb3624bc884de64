//! What happens to a coordinator or an agent: one queue of happenings, which tasks fill.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use tine_sys::signal::Set;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::channel::Said;

/// Happenings that wait, at most. Those that fill the queue wait, too.
pub(crate) const QUEUE: usize = 1024;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A message has come.
    Message { subject: String, text: Vec<u8> },
    /// The bus is there again, or away.
    Bus(bool),
    /// The bus refuses something.
    BusError(String),
    /// A signal asks to stop.
    Signal,
    /// A second has passed.
    Tick,
    /// The runner of this number has said something. `None`: it has ended.
    Runner(u64, Option<Said>),
}

/// Puts the messages of a subscription into the queue, until the task is aborted.
pub(crate) fn feed(mut subscriber: Subscriber, queue: Sender<Happening>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(message) = subscriber.next().await {
            let (subject, text) = (message.subject.to_string(), message.payload.to_vec());
            if queue.send(Happening::Message { subject, text }).await.is_err() {
                return;
            }
        }
    })
}

/// Puts a tick into the queue each second, the first at once.
pub(crate) fn tick(period: Duration, queue: Sender<Happening>) {
    tokio::spawn(async move {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if queue.send(Happening::Tick).await.is_err() {
                return;
            }
        }
    });
}

/// The signals that ask a process to stop, blocked in the calling thread and those that it starts.
pub(crate) struct Stops {
    set: Set,
    descriptor: OwnedFd,
}

impl Stops {
    /// Blocks the signals.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn block() -> io::Result<Stops> {
        let set = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
        set.block()?;
        Ok(Stops { set, descriptor: set.descriptor()? })
    }

    /// Puts a happening into the queue for each signal, by a thread that waits for them.
    pub(crate) fn feed(self, queue: Sender<Happening>) {
        std::thread::spawn(move || {
            loop {
                // It returns only when it can be read, or when there is no memory to wait.
                let _ = tine_sys::wait::until(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], None);
                while self.set.take().is_some() {
                    if queue.blocking_send(Happening::Signal).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Notes whether the bus is there. Returns a text for the user when that has changed.
pub(crate) fn note_bus(is_away: &mut bool, is_there: bool) -> Option<&'static str> {
    let was_away = std::mem::replace(is_away, !is_there);
    match (was_away, is_there) {
        (true, true) => Some("connected to the bus again"),
        (false, false) => Some("the connection to the bus is lost"),
        _ => None,
    }
}

/// Returns the time of day, in nanoseconds since 1970.
pub(crate) fn day() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec as u64 * tine_load::units::SECOND + time.tv_nsec as u64
}
