//! The refuser: gives clients for whom there is no room their text and a proper end of the stream.
//!
//! A client may have sent much that nobody will read; closing its socket at once would answer with a
//! reset and could destroy the text on its way. So each is kept for a while, its input discarded in
//! the kernel. Forkers hand their sockets over here: waiting for refused clients is nobody else's
//! business, and holds up no one who is served.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;
use rustix::process::Pid;
use tine_sys::process::exit_now;

use crate::connection::{Discarded, discard_now};
use crate::lifecycle::timing::REJECT_LINGER;
use crate::log::Log;
use crate::log::limit::{Emit, LineLimit};
use crate::net::peer::Peer;
use crate::processes::start::enter;
use crate::settings::Settings;
use crate::shared::fd_passing::{self, Wait};

/// How many are kept at a time; beyond, the oldest is closed.
const MOST: usize = 500;

/// Refusals a second, of each reason, that have a line of their own.
const LINES: u64 = 10;

/// How many reasons there are.
const REASONS: usize = 8;

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// As many connections as may be are served.
    Full = 0,
    /// As many of this client's source address.
    Source = 1,
    /// This client's source address may not come.
    Denied = 2,
    /// As many of this client's prefix.
    Prefix = 3,
    /// Its source, or its prefix, comes too often.
    Rate = 4,
    /// Its source has a penalty to wait for.
    Penalty = 5,
    /// Others of its source, or of its prefix, wait already.
    Delayed = 6,
    /// Nobody may come at this time of the day.
    Time = 7,
}

impl Reason {
    const ALL: [Reason; REASONS] = [
        Reason::Full,
        Reason::Source,
        Reason::Denied,
        Reason::Prefix,
        Reason::Rate,
        Reason::Penalty,
        Reason::Delayed,
        Reason::Time,
    ];

    /// The one of this number; it went through a channel.
    pub(crate) fn of(number: u64) -> Reason {
        Reason::ALL.into_iter().find(|reason| *reason as u64 == number).unwrap_or(Reason::Full)
    }

    fn word(self) -> &'static str {
        match self {
            Reason::Full => "full",
            Reason::Source => "source",
            Reason::Denied => "denied",
            Reason::Prefix => "prefix",
            Reason::Rate => "rate",
            Reason::Penalty => "penalty",
            Reason::Delayed => "delayed",
            Reason::Time => "time",
        }
    }
}

/// Sends a client to the refuser, from a forker. Never waits: where the refuser is far behind, the
/// client is closed at once instead.
pub(crate) fn hand_over(rejector: &OwnedFd, client: &OwnedFd, peer: Peer, reason: Reason) {
    let [a, b, c] = peer.to_words();
    fd_passing::send(rejector, client.as_fd(), [a, b, c, reason as u64], Wait::No);
}

struct Rejected {
    socket: OwnedFd,
    until: Instant,
}

/// Lives as the refuser until the last process that could send it clients has gone.
pub(crate) fn run(channel: &OwnedFd, settings: &Settings, supervisor: Pid, log: &mut Log) -> ! {
    enter(settings, supervisor, c"tine: rejector");
    let mut kept: VecDeque<Rejected> = VecDeque::new();
    let mut tallies = Reason::ALL.map(|_| LineLimit::of(LINES));
    let mut open = true;
    while open || !kept.is_empty() {
        let (more, ready) = wait(channel, open, &kept, tallies.iter().filter_map(LineLimit::deadline).min());
        if more {
            open = receive(channel, settings, &mut kept, &mut tallies, log);
        }
        let now = Instant::now();
        let mut number = 0;
        kept.retain(|refused| {
            let ended = ready.get(number) == Some(&true) && discard_now(&refused.socket) == Discarded::Ended;
            number += 1;
            !ended && refused.until > now
        });
        for reason in Reason::ALL {
            if let Some(more) = tallies[reason as usize].due(now) {
                log.rejections(more, reason.word());
            }
        }
    }
    exit_now(0)
}

/// Waits for a new client, for something from one that is kept, or for the next deadline. Says whether
/// the channel has something, and which of the kept have.
fn wait(
    channel: &OwnedFd,
    open: bool,
    kept: &VecDeque<Rejected>,
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
    settings: &Settings,
    kept: &mut VecDeque<Rejected>,
    tallies: &mut [LineLimit; REASONS],
    log: &mut Log,
) -> bool {
    loop {
        match fd_passing::receive(channel) {
            Ok(Some((socket, [a, b, c, reason]))) => {
                let (peer, reason) = (Peer::from_words([a, b, c]), Reason::of(reason));
                if let Emit::Line = tallies[reason as usize].event(Instant::now()) {
                    log.reject(&peer, reason.word());
                }
                say(&socket, settings.rejection_text(reason));
                if kept.len() >= MOST {
                    kept.pop_front();
                }
                kept.push_back(Rejected { socket, until: Instant::now() + REJECT_LINGER });
            }
            Ok(None) => return false,
            Err(rustix::io::Errno::AGAIN) => return true,
            // Out of descriptors for a moment, say: the message is gone, and its client closed.
            Err(_) => {}
        }
    }
}

/// Writes the text and ends the stream. A fresh socket has room for it; should it not, or should the
/// client have gone, there is nothing more to say.
fn say(socket: &OwnedFd, text: &[u8]) {
    let _ = rustix::net::send(socket, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}
