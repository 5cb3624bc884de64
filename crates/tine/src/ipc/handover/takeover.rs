//! The new generation in a hand-over: receives the sockets of the old one, and reports how far it
//! is. Runs in the first process of the new generation.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags};
use tine_sys::process::Alone;

use super::lineage::Lineage;
use super::link::{Item, Link, LinkEvent, LinkMessage, Offer, VERSION};
use crate::error::Error;
use crate::net::control_socket::HANDED_PREFIX;
use crate::net::handed::{self, HandedSocket};

/// The variable that tells a process which descriptor is its link to an older generation.
pub(crate) const VARIABLE: &str = "TINE_HANDOVER";

/// A generation before this one, of which connections are left.
#[derive(Debug)]
pub(crate) struct OlderGeneration {
    pub(crate) link: Link,
    /// It is the process that was started first, and stays until this one ends.
    pub(crate) is_anchor: bool,
    /// It has no connection any more.
    pub(crate) is_finished: bool,
    /// Its first process has ended.
    pub(crate) has_ended: bool,
}

/// The most connections that an older supervisor is believed to have: more slots cost memory.
const MAX_CONNECTIONS: u64 = 1 << 20;

/// The link to the generation that this process is to replace. The command that has executed it
/// finds it before anything else; what goes wrong from then on is reported over it.
#[derive(Debug)]
pub struct Takeover {
    link: Link,
    offer: Offer,
    lineages: Vec<(String, Predecessor)>,
    older: Vec<OlderGeneration>,
}

/// The older supervisor of a service.
#[derive(Debug)]
pub(crate) struct Predecessor {
    pub(crate) lineage: Lineage,
    /// What makes the keys of sources.
    pub(crate) secret: Option<[u64; 2]>,
    /// The most connections that it may have.
    pub(crate) connections: usize,
}

/// What the old generation has told to a process that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// To go on.
    Go,
    /// It has ended, or ends this process: there is nothing to take over.
    Nothing,
    /// The server is to be stopped.
    StopRequested,
}

impl Takeover {
    /// The hand-over that this process was executed for; `None` if there is none. Removes the
    /// variable, so that no program inherits it.
    ///
    /// # Errors
    /// The variable does not name a link.
    pub fn from_environment() -> Result<Option<Takeover>, Error> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
        if let Ok(alone) = Alone::check() {
            tine_sys::environment::remove(VARIABLE, &alone);
        }
        let number = value.to_str().and_then(|text| text.parse::<RawFd>().ok());
        let socket = number.and_then(|number| tine_sys::fd::inherited(number).ok()).ok_or_else(|| {
            Error::usage(
                format_args!("{VARIABLE} does not name an open descriptor"),
                "unset it: the server sets it for a binary that replaces it",
            )
        })?;
        // In `ps`, the process is not to be called by the descriptor it was executed from.
        let _ = rustix::thread::set_name(c"tine");
        Ok(Some(Takeover {
            link: socket.into(),
            offer: Offer::default(),
            lineages: Vec::new(),
            older: Vec::new(),
        }))
    }

    /// The descriptor of the link, which must stay open.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.link.as_fd().as_raw_fd()
    }

    /// Receives the sockets. Addresses that are bound afterwards take them.
    ///
    /// # Errors
    /// The old generation has ended, or does not agree.
    pub fn receive(&mut self) -> Result<(), Error> {
        let build = env!("CARGO_PKG_VERSION").to_owned();
        let hello = LinkMessage::Hello { version: VERSION, build };
        self.link.send(&hello).map_err(|_| gone())?;
        loop {
            match self.next(None)? {
                LinkMessage::Offer(offer) => self.offer = offer,
                LinkMessage::Complete => return Ok(()),
                _ => return Err(unknown()),
            }
        }
    }

    /// Whether a reload of the configuration that this number identifies would change nothing. Then
    /// it is reported, and the process has to exit.
    #[must_use]
    pub(crate) fn is_unchanged(&self, own: Option<u64>) -> bool {
        let Offer { is_reload, configuration, .. } = self.offer;
        let is_same = is_reload && configuration.is_some() && configuration == own;
        is_same && self.link.send(&LinkMessage::Unchanged).is_ok()
    }

    /// Reports why this process cannot take over.
    pub fn failed(&self, text: &str, code: u8) {
        // If the old generation has ended, this process ends anyway.
        let _ = self.link.send(&LinkMessage::Failed { code, text: text.to_owned() });
    }

    /// The next message that is not about items, which are kept.
    fn next(&mut self, stop: Option<BorrowedFd>) -> Result<LinkMessage, Error> {
        loop {
            match self.link.receive() {
                None => {
                    let link = PollFd::new(&self.link, PollFlags::IN);
                    let stop =
                        stop.map_or(link.clone(), |stop| PollFd::from_borrowed_fd(stop, PollFlags::IN));
                    let mut poll = [link, stop];
                    let _ = tine_sys::wait::until(&mut poll, None);
                }
                Some(LinkEvent::Message(LinkMessage::Items(items), descriptors)) => {
                    if items.len() != descriptors.len() {
                        return Err(Error::usage(
                            "not all sockets of the old server have arrived",
                            "raise the limit of open files (`ulimit -n`)",
                        ));
                    }
                    items.into_iter().zip(descriptors).for_each(|(item, socket)| self.keep(item, socket));
                }
                Some(LinkEvent::Message(message, _)) => return Ok(message),
                Some(LinkEvent::Unknown) => return Err(unknown()),
                Some(LinkEvent::Ended) => return Err(gone()),
            }
        }
    }

    fn keep(&mut self, item: Item, socket: OwnedFd) {
        let Item { kind, name, about } = item;
        let is = |key: &str| about.get(key).and_then(serde_json::Value::as_bool).unwrap_or(false);
        match &*kind {
            "socket" => handed::keep(name, HandedSocket { socket, about }),
            "lineage" => {
                let secret = |at: usize| about.get("secret")?.get(at)?.as_u64();
                let connections = about.get("connections").and_then(serde_json::Value::as_u64);
                let predecessor = Predecessor {
                    lineage: socket.into(),
                    secret: secret(0).zip(secret(1)).map(|(first, second)| [first, second]),
                    connections: connections.unwrap_or(0).min(MAX_CONNECTIONS) as usize,
                };
                self.lineages.push((name, predecessor));
            }
            "link" => self.older.push(OlderGeneration {
                link: socket.into(),
                is_anchor: is("anchor"),
                is_finished: is("finished"),
                has_ended: false,
            }),
            // A later version has added it.
            _ => {}
        }
    }

    /// The older supervisors of the services, by name.
    pub(crate) fn predecessors(&self) -> impl Iterator<Item = (&str, &Predecessor)> {
        self.lineages.iter().map(|(name, predecessor)| (name.as_str(), predecessor))
    }

    /// The older supervisor of a service; that of a single service has no name.
    pub(crate) fn take_predecessor(&mut self, service: Option<&str>) -> Option<Predecessor> {
        let name = service.unwrap_or_default();
        let at = self.lineages.iter().position(|(other, _)| other == name)?;
        Some(self.lineages.swap_remove(at).1)
    }

    /// Refuses what cannot change while the server runs. Runs once all sockets are bound.
    ///
    /// # Errors
    /// The control socket has another path.
    pub(crate) fn check_sockets(&self) -> Result<(), Error> {
        match handed::first(HANDED_PREFIX) {
            None => Ok(()),
            Some(path) => Err(Error::usage(
                format_args!(
                    "cannot change the control socket (`control`) from {path} while the server runs"
                ),
                "restart the server, or keep the socket",
            )),
        }
    }

    /// Reports that every process of this generation can serve, and waits until it is told to go
    /// on.
    pub(crate) fn built(&mut self, stop: BorrowedFd) -> Told {
        if self.link.send(&LinkMessage::Built).is_err() {
            return Told::Nothing;
        }
        loop {
            let mut poll =
                [PollFd::new(&self.link, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
            let _ = tine_sys::wait::until(&mut poll, None);
            if !poll[1].revents().is_empty() {
                return Told::StopRequested;
            }
            match self.link.receive() {
                None => {}
                Some(LinkEvent::Message(LinkMessage::Go, _)) => return Told::Go,
                Some(_) => return Told::Nothing,
            }
        }
    }

    /// Reports that this generation accepts clients. Returns the links to the older ones; from now
    /// on, this process does not end with the old one.
    pub(crate) fn accepting(self) -> Vec<OlderGeneration> {
        let Takeover { link, offer, mut older, .. } = self;
        // It was asked for when the process was executed.
        let _ = rustix::process::set_parent_process_death_signal(None);
        // Before the generation between them can end: then they adopt this process.
        let own = LinkMessage::Main(rustix::process::getpid().as_raw_pid());
        older.iter().for_each(|older| _ = older.link.send(&own));
        let _ = link.send(&LinkMessage::Accepting);
        let is_anchor = offer.is_anchor;
        older.push(OlderGeneration { link, is_anchor, is_finished: false, has_ended: false });
        older
    }
}

fn gone() -> Error {
    Error::usage("the server that is to be replaced has ended", "start a new one")
}

fn unknown() -> Error {
    Error::usage("the server that is to be replaced speaks another language", "restart it")
}
