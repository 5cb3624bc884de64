//! A place for one connection at a time, and what that can be doing.

use std::os::fd::OwnedFd;

use crate::run::exchange::Exchange;

/// What a place is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no connection.
    Free,
    /// It is being connected.
    Connecting,
    /// Connected; the next exchange comes with the next arrival.
    Idle,
    /// Connected; the next exchange comes after a rest.
    Thinking,
    /// Connected; the next exchange may begin.
    Ready,
    /// In an exchange.
    Talking,
    /// Wrong bytes came: more are collected, to say what happened to them.
    Evidence,
    /// All is exchanged; the server or the stop ends it.
    Staying,
    /// All is exchanged; the end of the stream is to come.
    Closing,
}

impl Stage {
    /// Whether a load without an end in time waits for it.
    pub(super) fn is_engaged(self) -> bool {
        !matches!(self, Stage::Free | Stage::Idle | Stage::Thinking)
    }
}

/// A place for one connection at a time.
#[derive(Debug)]
pub(super) struct Slot {
    /// Which script its connections follow.
    pub(super) population: usize,
    pub(super) stage: Stage,
    pub(super) socket: Option<OwnedFd>,
    /// The number of its connection, over all processes.
    pub(super) number: u64,
    /// Exchanges done on it.
    pub(super) done: u64,
    pub(super) exchange: Exchange,
    /// When its connection or exchange was planned to begin, and when it did.
    pub(super) planned: u64,
    pub(super) begun: u64,
    /// When it got free.
    pub(super) freed: u64,
    /// When it has taken too long; `u64::MAX` for never.
    pub(super) deadline: u64,
    /// Whether a byte of the reply has come.
    pub(super) is_heard: bool,
    /// Whether the kernel is asked about it, and whether also about room to send.
    pub(super) asked: Interest,
    /// Whether its first answer is still to come.
    pub(super) is_opening: bool,
    /// Bytes from the first wrong one on, and where that is in what came.
    pub(super) evidence: Vec<u8>,
    pub(super) wrong_at: u64,
    /// Tells alarms that are off from the one that is set.
    pub(super) generation: u32,
}

/// What the kernel is asked about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interest {
    None,
    Read,
    ReadWrite,
}

impl Slot {
    pub(super) fn new(population: usize) -> Slot {
        Slot {
            population,
            stage: Stage::Free,
            socket: None,
            number: 0,
            done: 0,
            exchange: Exchange::default(),
            planned: 0,
            begun: 0,
            freed: 0,
            deadline: u64::MAX,
            is_heard: false,
            asked: Interest::None,
            is_opening: false,
            evidence: Vec::new(),
            wrong_at: 0,
            generation: 0,
        }
    }
}
