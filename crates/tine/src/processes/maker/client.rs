//! The maker, as its forker sees it: templates come from it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use tine_sys::process::{Side, exit_now, fork, wait_for};

use super::message::{MAKE, Said, read};
use super::run::{MakerStart, run};
use crate::error::{Error, ErrorKind, next_move};
use crate::ipc::text_channel::TextChannel;
use crate::processes::start::cannot;
use crate::program::launch::Launcher;
use crate::program::warm::NewTemplate;

/// The maker, as its forker knows it.
#[derive(Debug)]
pub(crate) struct Maker {
    channel: TextChannel,
}

/// What comes from a maker.
#[derive(Debug)]
pub(crate) enum FromMaker {
    /// A template.
    Made(Box<NewTemplate>),
    /// It could not make one.
    NotMade(Error),
    /// This file, which the last template is made of, has changed.
    Changed(String),
    /// It has ended.
    Ended,
}

impl Maker {
    /// Forks a maker, which becomes a sibling of its forker, as the templates that it makes are,
    /// and their copies.
    ///
    /// # Errors
    /// EAGAIN at a limit on processes, ENOMEM, EMFILE.
    pub(crate) fn start(start: &MakerStart, launcher: &mut Launcher) -> Result<Maker, Error> {
        let (ours, theirs) =
            TextChannel::pair().map_err(cannot("make a channel for the maker", next_move::of_call))?;
        let keep = |end: TextChannel| {
            let kept = start.first_server_fd.duplicate(OwnedFd::from(end)).map(TextChannel::from);
            kept.map_err(cannot("keep a channel for the maker", next_move::of_call))
        };
        let (ours, theirs) = (keep(ours)?, keep(theirs)?);
        let forks = |alone| fork(alone, Signal::CHILD.as_raw());
        let forked = forks(start.alone).map_err(cannot("fork the maker", next_move::of_call))?;
        let between = match forked {
            // The process between forker and maker ends at once: the kernel then makes the maker a
            // child of the supervisor, with an ordinary exit signal, which its templates inherit.
            Side::Child(_between) => {
                drop(ours);
                let Ok(Side::Child(fresh)) = forks(start.alone) else { exit_now(0) };
                run(&fresh, start, launcher, &theirs)
            }
            Side::Parent(between) => between,
        };
        drop(theirs);
        // Only then has the maker the parent that it dies with.
        wait_for(between).map_err(cannot("wait for the fork of the maker", next_move::of_call))?;
        Ok(Maker { channel: ours })
    }

    /// Asks for a template. False if the maker has ended.
    pub(crate) fn ask(&self) -> bool {
        self.channel.send(MAKE, &[]).is_ok()
    }

    /// What has come from the maker; `None` if nothing has.
    pub(crate) fn receive(&self) -> Option<FromMaker> {
        match self.channel.receive() {
            Ok(Some(received)) => Some(match read(received) {
                Some(Said::Made(template)) => FromMaker::Made(template),
                Some(Said::NotMade(why)) => FromMaker::NotMade(why),
                Some(Said::Changed(file)) => FromMaker::Changed(file),
                None => FromMaker::NotMade(lost_descriptors()),
            }),
            Err(Errno::AGAIN) => None,
            Ok(None) | Err(_) => Some(FromMaker::Ended),
        }
    }

    /// What comes from the maker, as soon as it does. `None` after a time that no program should
    /// take.
    pub(crate) fn wait(&self, time: Duration) -> Option<FromMaker> {
        let until = std::time::Instant::now().checked_add(time);
        let mut poll = [PollFd::new(&self.channel, PollFlags::IN)];
        let _ = tine_sys::wait::until(&mut poll, until);
        self.receive()
    }
}

/// The kernel leaves out descriptors for which a process has no room (unix(7)).
fn lost_descriptors() -> Error {
    let next = "raise the limit on open files (LimitNOFILE=, ulimit -n)";
    Error::new(ErrorKind::System, "a template was lost: too many open files", next)
}

impl AsFd for Maker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
