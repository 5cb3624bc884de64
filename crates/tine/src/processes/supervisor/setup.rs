//! What is looked at and made before the first process is: everything that can fail while nothing runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Signal;
use tine_sys::fd::Floor;
use tine_sys::signal::Set;

use super::run::cannot_make;
use crate::error::Error;
use crate::lifecycle::ready::Ready;
use crate::log::Log;
use crate::net::listener::Listener;
use crate::processes::delayer::Channels;
use crate::settings::{Settings, beyond_the_system};
use crate::system::open_files::make_room;

/// The most sockets that a service listens on.
const MAX_LISTENERS: usize = 64;

/// Descriptors of the supervisor beside one for each program: plenty.
const OTHER_DESCRIPTORS: u64 = 256;

/// Adapts to inherited listeners that block, and to what the system has.
pub(super) fn adapt(settings: &mut Settings, listeners: &[Listener], log: &mut Log) -> Result<(), Error> {
    if listeners.len() > MAX_LISTENERS {
        return Err(Error::usage(
            format_args!("{} sockets to listen on are more than {MAX_LISTENERS}", listeners.len()),
            "serve some of the addresses by another server",
        ));
    }
    if listeners.iter().any(|listener| listener.blocks) && (settings.forkers > 1 || settings.has_spares()) {
        if settings.has_spares() {
            log.warning("an inherited socket blocks, so one forker accepts and there are no spares; pass it non-blocking to have both");
        }
        // Between the question whether a client waits and the answer of accept, nobody else may take it.
        settings.forkers = 1;
        settings.spares = 0;
        settings.reuse = 1;
    }
    make_room_for_descriptors(settings, log);
    if let Some(text) = beyond_the_system(settings.max_connections) {
        log.warning(&text);
    }
    Ok(())
}

/// Makes room for a descriptor for each running program, where the hard limit allows it. Programs start
/// with the limit that this process was given.
fn make_room_for_descriptors(settings: &mut Settings, log: &mut Log) {
    let Some(program) = &mut settings.program else { return };
    let needed = settings.max_connections as u64 + OTHER_DESCRIPTORS;
    let (given, room) = make_room(needed);
    if room < needed {
        log.warning(&format!(
            "{} programs at a time need a descriptor each, and the limit is {room}: the ends of some are noticed up to a second later; raise it (`ulimit -Hn`)",
            settings.max_connections
        ));
    }
    if given.current.is_some_and(|given| given < room) {
        program.keep_open_files(given.current.unwrap_or(u64::MAX), given.maximum.unwrap_or(u64::MAX));
    }
}

/// Seldom, where the queue of signals has room for the end of every child; else often.
pub(super) fn sweep_every(connections: usize) -> Duration {
    let room = rustix::process::getrlimit(rustix::process::Resource::Sigpending).current;
    let needed = connections as u64 + MAX_LISTENERS as u64;
    Duration::from_secs(if room.is_none_or(|room| room >= needed) { 5 } else { 1 })
}

/// Blocks the signals that are waited for in one place, and undoes what would hide the end of a child.
/// Returns what was blocked before.
pub(super) fn take_signals(commands: &Set, ends: &Set, exit_signal: i32) -> std::io::Result<Set> {
    tine_sys::signal::default(exit_signal);
    tine_sys::signal::default(Signal::CHILD.as_raw());
    tine_sys::signal::ignore(Signal::PIPE.as_raw());
    let before = commands.block()?;
    ends.block()?;
    Ok(before)
}

/// Puts what was made before above all that the program has open itself. Returns the number from which on descriptors are the server's.
pub(super) fn move_descriptors_up(
    listeners: &mut [Listener],
    log: &mut Log,
    ready: &mut Ready,
) -> Result<Floor, Error> {
    let to_move: Vec<BorrowedFd> = listeners.iter().map(AsFd::as_fd).collect();
    let floor = Floor::above_open(&to_move);
    let first = floor.number();
    for listener in listeners {
        listener.move_above(first).map_err(|why| cannot_make(&why.into()))?;
    }
    log.move_above(first);
    ready.prepare(first)?;
    Ok(floor)
}

/// The channels to the delayer and back.
pub(super) fn delays(
    high: &impl Fn(rustix::io::Result<OwnedFd>) -> Result<OwnedFd, Error>,
) -> Result<Channels, Error> {
    let (come, back) = (channel(high)?, channel(high)?);
    let bell = high(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK))?;
    Ok(Channels { come, back: (Some(back.0), back.1), bell })
}

/// A channel from the forkers to the refuser, or to the scribe.
pub(super) fn channel(
    high: &impl Fn(rustix::io::Result<OwnedFd>) -> Result<OwnedFd, Error>,
) -> Result<(OwnedFd, OwnedFd), Error> {
    let pair =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (sender, receiver) = match pair {
        Ok((sender, receiver)) => (Ok(sender), Ok(receiver)),
        Err(why) => (Err(why), Err(why)),
    };
    Ok((high(sender)?, high(receiver)?))
}
