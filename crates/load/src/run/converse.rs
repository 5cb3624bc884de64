//! Runs a load to converse: workers report each event to an observer, and measure nothing.

use std::io;
use std::time::Duration;

use super::clock::now;
use super::coordinator;
use super::live::{Live, Numbers};
use super::load::Load;
use super::purpose::{Observer, Purpose};
use crate::findings::measurement::LostWorker;

/// The result of a conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The numbers of all workers, including those that were killed.
    pub numbers: Numbers,
    /// Workers that failed.
    pub lost: Vec<LostWorker>,
    /// Whether a signal ended it.
    pub interrupted: bool,
}

/// Runs a load, in this process and workers forked from it. Calls `observer` in the workers, and
/// `watch` here, every `period` if there is one.
///
/// # Errors
/// EAGAIN or ENOMEM if the workers cannot be started; also if this process has several threads.
pub fn converse(
    load: &Load,
    observer: &dyn Observer,
    period: Option<Duration>,
    watch: &mut dyn FnMut(&Live),
) -> io::Result<Conversation> {
    let live = Live::new(load.workers())?;
    let purpose = Purpose::Converse(observer);
    let start = now();
    let collected = coordinator::run(load, purpose, live, start, period, &mut || watch(&live))?;
    Ok(Conversation { numbers: live.sum(), lost: collected.lost, interrupted: collected.interrupted })
}
