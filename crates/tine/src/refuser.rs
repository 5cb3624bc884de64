//! The refuser: gives clients for whom there is no room their text and a proper end of the stream.
//!
//! A client may have sent much that nobody will read; closing its socket at once would answer with a
//! reset and could destroy the text on its way. So each is kept for a while, its input discarded in
//! the kernel. Forkers hand their sockets over here: waiting for refused clients is nobody else's
//! business, and holds up no one who is served.

mod state;

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::Pid;
use tine_sys::process::exit_now;

use crate::child::die_with;
use crate::connection::{Discarded, discard_now};
use crate::log::Log;
use crate::peer::Peer;
use crate::settings::Settings;
use state::{Tally, Told};

/// How long a refused client may take to read its text and close.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many are kept at a time; beyond, the oldest is closed.
const MOST: usize = 500;

const REASON: &str = "full";

/// Sends a client to the refuser, from a forker. Never waits: where the refuser is far behind, the
/// client is closed at once instead.
pub(crate) fn hand_over(refuser: &OwnedFd, client: &OwnedFd, peer: Peer) {
    let mut words = [0; 24];
    for (chunk, word) in words.chunks_mut(8).zip(peer.to_words()) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let client = [client.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&client));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = rustix::net::sendmsg(refuser, &[IoSlice::new(&words)], &mut control, flags);
}

struct Refused {
    socket: OwnedFd,
    until: Instant,
}

/// Lives as the refuser until the last process that could send it clients has gone.
pub(crate) fn run(channel: &OwnedFd, text: &[u8], settings: &Settings, supervisor: Pid, log: &mut Log) -> ! {
    enter(settings, supervisor);
    let mut kept: VecDeque<Refused> = VecDeque::new();
    let mut tally = Tally::default();
    let mut open = true;
    while open || !kept.is_empty() {
        let (more, ready) = wait(channel, open, &kept, tally.deadline());
        if more {
            open = receive(channel, text, &mut kept, &mut tally, log);
        }
        let now = Instant::now();
        let mut number = 0;
        kept.retain(|refused| {
            let ended = ready.get(number) == Some(&true) && discard_now(&refused.socket) == Discarded::Ended;
            number += 1;
            !ended && refused.until > now
        });
        if let Some(more) = tally.due(now) {
            log.refusals(more, REASON);
        }
    }
    exit_now(0)
}

fn enter(settings: &Settings, supervisor: Pid) {
    tine_sys::signal::defaults();
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::thread::set_name(c"tine: refuser");
    if let (Some(identity), Ok(alone)) = (&settings.identity, tine_sys::process::Alone::check())
        && tine_sys::identity::become_user(&alone, identity.uid, identity.gid, &identity.groups).is_err()
    {
        exit_now(111);
    }
    die_with(supervisor);
}

/// Waits for a new client, for something from one that is kept, or for the next deadline. Says whether
/// the channel has something, and which of the kept have.
fn wait(
    channel: &OwnedFd,
    open: bool,
    kept: &VecDeque<Refused>,
    tally: Option<Instant>,
) -> (bool, Vec<bool>) {
    let deadline = kept.front().map(|oldest| oldest.until).into_iter().chain(tally).min();
    let mut ask: Vec<PollFd> =
        kept.iter().map(|refused| PollFd::new(&refused.socket, PollFlags::IN)).collect();
    if open {
        ask.push(PollFd::new(channel, PollFlags::IN));
    }
    if tine_sys::wait::until(&mut ask, deadline).is_err() {
        return (false, Vec::new());
    }
    let ready: Vec<bool> = ask.iter().map(|one| !one.revents().is_empty()).collect();
    (open && ready.last() == Some(&true), ready[..kept.len()].to_vec())
}

/// Takes the clients that have been handed over. False once nobody can send any.
fn receive(
    channel: &OwnedFd,
    text: &[u8],
    kept: &mut VecDeque<Refused>,
    tally: &mut Tally,
    log: &mut Log,
) -> bool {
    loop {
        match receive_one(channel) {
            Ok(Some((socket, peer))) => {
                if let Told::Line = tally.refused(Instant::now()) {
                    log.refuse(&peer, REASON);
                }
                say(&socket, text);
                if kept.len() >= MOST {
                    kept.pop_front();
                }
                kept.push_back(Refused { socket, until: Instant::now() + PATIENCE });
            }
            Ok(None) => return false,
            Err(rustix::io::Errno::AGAIN) => return true,
            // Out of descriptors for a moment, say: the message is gone, and its client closed.
            Err(_) => {}
        }
    }
}

/// One client from the channel; `None` at its end.
fn receive_one(channel: &OwnedFd) -> Result<Option<(OwnedFd, Peer)>, rustix::io::Errno> {
    let mut bytes = [0; 24];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut words = [0; 3];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    // Without room for a descriptor the kernel leaves it out.
    socket.map(|socket| Some((socket, Peer::from_words(words)))).ok_or(rustix::io::Errno::MFILE)
}

/// Writes the text and ends the stream. A fresh socket has room for it; should it not, or should the
/// client have gone, there is nothing more to say.
fn say(socket: &OwnedFd, text: &[u8]) {
    let _ = rustix::net::send(socket, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}
