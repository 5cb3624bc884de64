//! A connection slot, which has one connection at a time, and its stages.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::recorder::Start;
use crate::run::exchange::Exchange;

/// The stage of a connection slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection.
    Free,
    /// Connecting.
    Connecting,
    /// Connected; the next exchange starts with the next arrival.
    Idle,
    /// Connected; the next exchange starts after a pause.
    Thinking,
    /// Connected; the next exchange may start now.
    Ready,
    /// In an exchange.
    Exchanging,
    /// Wrong bytes arrived; more are collected to diagnose them.
    Diagnosing,
    /// All exchanges are done; the server or the stop ends the connection.
    Staying,
    /// All exchanges are done; the end of the stream is expected.
    Closing,
}

impl Stage {
    /// Whether a load without a duration waits for the slot.
    pub(super) fn is_engaged(self) -> bool {
        !matches!(self, Stage::Free | Stage::Idle | Stage::Thinking)
    }
}

/// A connection slot. Times are in nanoseconds on the monotonic clock.
#[derive(Debug)]
pub(super) struct Slot {
    /// The number of the script that its connections follow.
    pub(super) population: usize,
    pub(super) stage: Stage,
    pub(super) socket: Option<OwnedFd>,
    /// The number of the connection, over all processes.
    pub(super) number: u64,
    /// The endpoint of its target that the connection goes to, and how many it went to before.
    pub(super) endpoint: usize,
    pub(super) failed_endpoints: usize,
    /// Exchanges done on the connection.
    pub(super) done: u64,
    pub(super) exchange: Exchange,
    /// Start of the connection or exchange.
    pub(super) start: Start,
    /// Time of the next message of a series.
    pub(super) next_message: u64,
    /// Time since which the slot is free.
    pub(super) free_since: u64,
    /// Time at which the stage times out; `u64::MAX` for never.
    pub(super) deadline: u64,
    /// Whether a byte of the reply has been received.
    pub(super) has_first_byte: bool,
    /// The events that epoll reports for the socket.
    pub(super) interest: Interest,
    /// Whether the connection counts as being opened: the server has not replied yet.
    pub(super) is_opening: bool,
    /// Received bytes from the first wrong one on, and its offset in the received stream.
    pub(super) evidence: Vec<u8>,
    pub(super) wrong_at: u64,
    /// The system error that ends the connection.
    pub(super) error: Option<Errno>,
    /// Distinguishes the timer that is set from older ones.
    pub(super) generation: u32,
}

/// The events that epoll reports for a socket.
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
            endpoint: 0,
            failed_endpoints: 0,
            done: 0,
            exchange: Exchange::default(),
            start: Start::default(),
            next_message: 0,
            free_since: 0,
            deadline: u64::MAX,
            has_first_byte: false,
            interest: Interest::None,
            is_opening: false,
            evidence: Vec::new(),
            wrong_at: 0,
            error: None,
            generation: 0,
        }
    }
}
