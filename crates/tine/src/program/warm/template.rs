//! A template, as the process that has it copied knows it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use rustix::rand::{GetRandomFlags, getrandom};
use tine_sys::exec::CStrings;
use tine_sys::plant::{Answer, TemplateChannel};

use super::plan::{CopyOf, CopyPlan, NotCopied};
use crate::net::peer::Peer;

/// A template that has not answered by then is stuck. It answers within microseconds of a fork.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(1);

/// A template that can be copied. Its end of the channel is the end of the template.
#[derive(Debug)]
pub(crate) struct LiveTemplate {
    pub(crate) channel: TemplateChannel,
    pub(crate) process: OwnedFd,
    pub(crate) plan: CopyPlan,
}

/// The connection that a copy is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyFor<'a> {
    pub(crate) socket: &'a OwnedFd,
    /// The variables that describe it.
    pub(crate) variables: &'a CStrings,
    pub(crate) peer: Peer,
    /// Its standard error, if it has one of its own.
    pub(crate) stderr: Option<&'a OwnedFd>,
    /// The lists of members of its cgroups.
    pub(crate) cgroups: &'a [OwnedFd],
    /// Whether the copy stops before it goes on as the program.
    pub(crate) stops: bool,
}

impl LiveTemplate {
    /// Asks for a copy.
    ///
    /// # Errors
    /// The template has ended, or does not take its messages; inside, that it cannot serve this
    /// connection.
    pub(crate) fn ask(&self, copy: &CopyFor) -> io::Result<Result<(), NotCopied>> {
        let mut canary = [0; 8];
        getrandom(&mut canary[..], GetRandomFlags::empty())?;
        // As of a C library: a zero byte ends what a string function copies.
        canary[0] = 0;
        let message = self.plan.message(&CopyOf {
            variables: copy.variables,
            peer: Some(copy.peer),
            has_stderr: copy.stderr.is_some(),
            cgroups: copy.cgroups.len(),
            canary: u64::from_le_bytes(canary),
            stops: copy.stops,
        });
        let message = match message {
            Ok(message) => message,
            Err(why) => return Ok(Err(why)),
        };
        let mut descriptors: Vec<BorrowedFd> = vec![copy.socket.as_fd()];
        descriptors.extend(copy.stderr.map(OwnedFd::as_fd));
        descriptors.extend(copy.cgroups.iter().map(OwnedFd::as_fd));
        self.channel.ask(&message, &descriptors).map(Ok)
    }

    /// The answer to the last message. `failed` gets the step and the result of a copy that could
    /// not take it: that of an earlier message, or of this one, if it was faster.
    ///
    /// # Errors
    /// The template has ended, or has not answered in time.
    pub(crate) fn wait_for_copy(&self, mut failed: impl FnMut(u64, i64)) -> io::Result<Answer> {
        let until = Instant::now() + ANSWER_TIME;
        loop {
            match wait_for_answer(&self.channel, until)? {
                Answer::Failed(step, result) => failed(step, result),
                answer => return Ok(answer),
            }
        }
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// The next answer of a template.
///
/// # Errors
/// As [`TemplateChannel::answer`]; ETIMEDOUT.
pub(crate) fn wait_for_answer(channel: &TemplateChannel, until: Instant) -> io::Result<Answer> {
    loop {
        let mut poll = [PollFd::new(channel, PollFlags::IN)];
        match tine_sys::wait::until(&mut poll, Some(until)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
        if let Some(answer) = channel.answer()? {
            return Ok(answer);
        }
    }
}
