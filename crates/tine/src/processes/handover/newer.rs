//! The generation that has replaced this one, and those after it.

use std::os::fd::{AsFd, BorrowedFd};

use tine_sys::process::reap;

use crate::ipc::handover::link::{Link, LinkEvent, LinkMessage};

/// The generation that has replaced this one.
#[derive(Debug)]
pub(super) struct Newer {
    /// `None` once it has ended.
    link: Option<Link>,
    /// Its first process, and those of the generations after it.
    pids: Vec<i32>,
    /// How it has ended.
    exit_code: Option<u8>,
}

/// What it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewerEvent {
    /// It has passed this signal on.
    Signal(i32),
    /// It has died.
    Died,
}

impl Newer {
    pub(super) fn new(pid: i32, link: Link) -> Newer {
        Newer { link: Some(link), pids: vec![pid], exit_code: None }
    }

    /// Whether this is a first process of a newer generation.
    pub(super) fn has_process(&self, pid: i32) -> bool {
        self.pids.contains(&pid)
    }

    /// Its exit code, once it has ended: 111 if it has died.
    pub(super) fn exit_code(&self) -> Option<u8> {
        self.exit_code
    }

    /// The descriptor to wait for.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    /// What has happened since the last call.
    pub(super) fn events(&mut self) -> Vec<NewerEvent> {
        let mut events = Vec::new();
        // Those that are no children of this process may become some: it adopts them.
        self.pids.retain(|pid| !matches!(reap(*pid), Ok(Some(_))));
        while let Some(event) = self.link.as_ref().and_then(Link::receive) {
            match event {
                LinkEvent::Message(LinkMessage::Signal(number), _) => events.push(NewerEvent::Signal(number)),
                LinkEvent::Message(LinkMessage::Exit(code), _) => {
                    (self.link, self.exit_code) = (None, Some(code));
                }
                LinkEvent::Message(LinkMessage::Main(pid), _) => self.pids.push(pid),
                LinkEvent::Message(..) | LinkEvent::Unknown => {}
                LinkEvent::Ended => {
                    (self.link, self.exit_code) = (None, Some(111));
                    events.push(NewerEvent::Died);
                }
            }
        }
        events
    }

    /// Passes a signal on to it. False if it has ended.
    pub(super) fn signal(&self, number: i32) -> bool {
        self.tell(&LinkMessage::Signal(number))
    }

    /// Tells it that there is no connection left here.
    pub(super) fn tell_finished(&self) {
        self.tell(&LinkMessage::Finished);
    }

    fn tell(&self, message: &LinkMessage) -> bool {
        self.link.as_ref().is_some_and(|link| link.send(message).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_generation_passes_signals_on_and_tells_how_it_ends() {
        let (own, theirs) = Link::pair().expect("a link");
        // No process has this id: pid_max(5) is lower.
        let mut newer = Newer::new(i32::MAX, own);
        theirs.send(&LinkMessage::Signal(15)).expect("sent");
        theirs.send(&LinkMessage::Main(i32::MAX - 1)).expect("sent");
        theirs.send(&LinkMessage::Finished).expect("sent");
        assert_eq!((newer.events(), newer.exit_code()), (vec![NewerEvent::Signal(15)], None));
        assert!(newer.has_process(i32::MAX - 1) && newer.signal(1));
        newer.tell_finished();
        let told: Vec<_> = (0..2).filter_map(|_| theirs.receive()).collect();
        assert!(
            matches!(
                told[..],
                [LinkEvent::Message(LinkMessage::Signal(1), _), LinkEvent::Message(LinkMessage::Finished, _)]
            ),
            "{told:?}"
        );
        theirs.send(&LinkMessage::Exit(7)).expect("sent");
        drop(theirs);
        assert_eq!((newer.events(), newer.exit_code()), (vec![], Some(7)));
        assert!(!newer.signal(1) && newer.descriptor().is_none());
    }

    #[test]
    fn a_newer_generation_that_dies_is_noticed_once() {
        let (own, theirs) = Link::pair().expect("a link");
        let mut newer = Newer::new(i32::MAX, own);
        drop(theirs);
        assert_eq!(newer.events(), [NewerEvent::Died]);
        assert_eq!((newer.events(), newer.exit_code()), (vec![], Some(111)));
    }
}
