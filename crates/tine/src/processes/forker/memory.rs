//! What a forker remembers between two steps.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tine_sys::process::Fresh;

use super::door::Door;
use crate::net::accept::Accepted;
use crate::processes::conn::Job;

/// The number of the event of a wakeup by the supervisor; smaller numbers are listeners.
pub(super) const CONTROL_EVENT: u64 = u64::MAX;

/// The number of the event of a client that the delayer releases.
pub(super) const RELEASED_EVENT: u64 = u64::MAX - 1;

/// The number of the event of a client that the proxy reader has identified.
pub(super) const IDENTIFIED_EVENT: u64 = u64::MAX - 2;

/// The number of the event of a maker of templates.
pub(super) const MAKER_EVENT: u64 = u64::MAX - 3;

/// What a forker remembers. Not on the heap: a page written between two forks is copied by the
/// next.
pub(super) struct Memory {
    /// The listeners, the channels of delayer and proxy reader, and the control wakeup (epoll(7)).
    pub(super) events: OwnedFd,
    /// Sources that may have a client.
    pub(super) ready: ReadySources,
    /// A client whose process could not be created, with its slot.
    pub(super) in_hand: Option<(Accepted, usize)>,
    /// It waits for a template.
    pub(super) awaits_template: bool,
    /// There was no free slot at the last look.
    pub(super) full: bool,
    /// The delayer may still release clients.
    pub(super) expects_released: bool,
    /// The proxy reader may still identify clients.
    pub(super) expects_identified: bool,
    /// This forker accepts no more client in this drain, and has noted it on the board.
    pub(super) noted_backlog_done: bool,
    /// No client is left to be accepted in this drain.
    pub(super) backlog_done: bool,
    pub(super) draining: bool,
    /// The maker of templates has sent something, or the supervisor has noted something of copies.
    pub(super) are_templates_due: bool,
    pub(super) failures: u32,
    pub(super) last_failure: Option<Instant>,
    pub(super) paused_until: Option<Instant>,
}

/// Sources that may have a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadySources {
    /// A bit for each listener.
    pub(super) listeners: u64,
    /// The delayer.
    pub(super) released: bool,
    /// The proxy reader.
    pub(super) identified: bool,
}

impl ReadySources {
    pub(super) const ALL: ReadySources =
        ReadySources { listeners: u64::MAX, released: true, identified: true };

    /// Notes the event of a source.
    pub(super) fn note(&mut self, event: u64) {
        match event {
            RELEASED_EVENT => self.released = true,
            IDENTIFIED_EVENT => self.identified = true,
            listener => self.listeners |= 1 << listener,
        }
    }
}

/// A source of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientSource {
    Listener(usize),
    Delayer,
    ProxyReader,
}

/// Why a source has no client to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoClient {
    /// The client was delayed, rejected or passed to the proxy reader, or had disconnected: there
    /// may be another one.
    Handled,
    /// The source is empty.
    Empty,
    /// The next step decides.
    Stop,
}

/// The result of creating the process for a client.
pub(super) enum Started {
    /// The client has its process.
    Served,
    /// The client stays in hand.
    Failed,
    /// This is the new process.
    Forked(NewProcess),
}

/// The role of a process that was just forked.
pub(super) enum NewProcess {
    /// A connection whose process has inherited what is trusted.
    Connection(Fresh, Job),
    /// A spare, with its slot.
    Spare(Fresh, usize),
}

/// The time after which a template is asked for again.
const TEMPLATE_WAIT: Duration = Duration::from_secs(1);

impl Memory {
    pub(super) fn new(events: OwnedFd, door: &Door) -> Memory {
        Memory {
            events,
            ready: ReadySources::ALL,
            in_hand: None,
            awaits_template: false,
            full: false,
            expects_released: door.delayer.is_some(),
            expects_identified: door.proxy_reader.is_some(),
            noted_backlog_done: false,
            backlog_done: false,
            draining: false,
            are_templates_due: true,
            failures: 0,
            last_failure: None,
            paused_until: None,
        }
    }

    /// Keeps a client until there is a template. The maker may have to be started again for it.
    pub(super) fn await_template(&mut self, client: (Accepted, usize)) {
        self.in_hand = Some(client);
        self.awaits_template = true;
        self.paused_until = Some(Instant::now() + TEMPLATE_WAIT);
    }

    pub(super) fn is_ready(&self, source: ClientSource) -> bool {
        match source {
            ClientSource::Listener(number) => self.ready.listeners & 1 << number != 0,
            ClientSource::Delayer => self.ready.released && self.expects_released,
            ClientSource::ProxyReader => self.ready.identified && self.expects_identified,
        }
    }

    /// Whether the delayer or the proxy reader may still pass clients back.
    pub(super) fn expects_returned(&self) -> bool {
        self.expects_released || self.expects_identified
    }

    pub(super) fn set_empty(&mut self, source: ClientSource) {
        match source {
            ClientSource::Listener(number) => self.ready.listeners &= !(1 << number),
            ClientSource::Delayer => self.ready.released = false,
            ClientSource::ProxyReader => self.ready.identified = false,
        }
    }
}
