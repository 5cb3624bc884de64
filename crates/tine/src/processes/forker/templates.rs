//! A forker's templates of a program that is started warm: it has them made, and copied for
//! connections.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use tine_sys::plant::{Answer, TemplateChannel};

use super::template_state::{Renewal, TemplateState, WarmOff};
use crate::error::{Error, ErrorKind, reason};
use crate::ipc::board::Board;
use crate::ipc::board::warm::TemplateStatus;
use crate::log::Log;
use crate::processes::maker::client::{FromMaker, Maker};
use crate::processes::maker::run::MakerStart;
use crate::program::launch::Launcher;
use crate::program::served::ProgramConnection;
use crate::program::warm::{ANSWER_TIME, CopyFor, LiveTemplate, NewTemplate, NotCopied, wait_for_answer};

/// The templates of a forker, at most one of which is copied.
pub(crate) struct Templates<'a> {
    start: MakerStart<'a>,
    maker: Option<Maker>,
    /// The maker is new: its channel is not waited for yet.
    is_maker_new: bool,
    state: TemplateState,
    present: Option<LiveTemplate>,
    /// What the board had when it was last looked at.
    crashes: u64,
    resets: u64,
    /// The last reason why a connection was not served by a copy, to be logged once.
    told: Option<NotCopied>,
}

/// What a forker lends to its templates.
pub(super) struct Lent<'a, 'b> {
    pub(super) board: &'a Board,
    pub(super) launcher: &'a mut Launcher<'b>,
    pub(super) log: &'a mut Log,
}

impl<'a> Templates<'a> {
    /// No template yet; the maker is started when the first one is asked for.
    pub(super) fn new(start: MakerStart<'a>, board: &Board) -> Templates<'a> {
        let renewal = Renewal {
            connections: start.warm.renew_after,
            time: start.warm.renew_every,
            is_only_way: start.warm.is_only_way(),
        };
        // The forker before this one may have had one.
        board.set_template(start.index, TemplateStatus::Making);
        Templates {
            start,
            maker: None,
            is_maker_new: false,
            state: TemplateState::new(renewal, Instant::now()),
            present: None,
            crashes: board.copy_crashes(),
            resets: board.template_resets(),
            told: None,
        }
    }

    /// Whether the server does not start without a template.
    pub(super) fn are_required(&self) -> bool {
        !self.start.warm.or_cold
    }

    /// Whether a client is served by a copy, or waits for one: there is no other way.
    pub(super) fn are_only_way(&self) -> bool {
        self.start.warm.is_only_way()
    }

    /// Whether the next connection is served by a copy.
    #[inline]
    pub(super) fn copies(&self) -> bool {
        self.state.copies() && self.present.is_some()
    }

    /// The channel of a maker that was started since the last call, to be waited for.
    pub(super) fn new_maker(&mut self) -> Option<BorrowedFd<'_>> {
        let is_new = std::mem::take(&mut self.is_maker_new);
        self.maker.as_ref().filter(|_| is_new).map(AsFd::as_fd)
    }

    /// The channel of the maker, if there is one.
    pub(super) fn maker(&self) -> Option<BorrowedFd<'_>> {
        self.maker.as_ref().map(AsFd::as_fd)
    }

    /// Whether a maker was started that is not waited for yet.
    #[inline]
    pub(super) fn has_new_maker(&self) -> bool {
        self.is_maker_new
    }

    /// Waits for the first template.
    ///
    /// # Errors
    /// The program cannot be started warm.
    pub(super) fn wait_for_first(&mut self, lent: &mut Lent) -> Result<(), Error> {
        self.ask_if_needed(lent);
        // The maker itself ends in time: this is for one that is stopped.
        let time = self.start.warm.check.timeout + ANSWER_TIME;
        match self.maker.as_ref().and_then(|maker| maker.wait(time)) {
            Some(FromMaker::NotMade(why)) => {
                self.on_refusal(&why, lent);
                Err(why)
            }
            Some(made) => {
                self.on_maker(made, lent);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes what has come from the maker, and what [`Templates::notice`] does.
    pub(super) fn keep_up(&mut self, lent: &mut Lent) {
        while let Some(made) = self.maker.as_ref().and_then(Maker::receive) {
            self.on_maker(made, lent);
        }
        self.notice(lent);
    }

    /// Notices what the board says, and asks for a template where one is needed.
    #[inline]
    pub(super) fn notice(&mut self, lent: &mut Lent) {
        let (crashes, resets) = (lent.board.copy_crashes(), lent.board.template_resets());
        if (crashes, resets) != (self.crashes, self.resets) {
            self.notice_board(crashes, resets, lent);
        }
        self.ask_if_needed(lent);
    }

    #[cold]
    fn notice_board(&mut self, crashes: u64, resets: u64, lent: &mut Lent) {
        let now = Instant::now();
        if resets != self.resets {
            self.state.want();
            self.refresh_status(lent);
        }
        if crashes != self.crashes {
            (self.crashes..crashes).for_each(|_| self.state.crashed(now));
            self.present = None;
            self.refresh_status(lent);
            if self.state.off() == Some(WarmOff::Crashes) {
                lent.log.warm_off(self.start.index, TemplateStatus::Crashes.name());
            }
        }
        (self.crashes, self.resets, self.told) = (crashes, resets, None);
    }

    /// Tells the board what there is, where no new template does.
    fn refresh_status(&self, lent: &Lent) {
        let status = match (self.state.off(), &self.present) {
            (Some(WarmOff::Crashes), _) => TemplateStatus::Crashes,
            (Some(WarmOff::Refused), _) => TemplateStatus::Refused,
            (None, None) => TemplateStatus::Making,
            (None, Some(_)) => return,
        };
        lent.board.set_template(self.start.index, status);
    }

    /// Starts the maker.
    ///
    /// # Errors
    /// EAGAIN at a limit on processes, ENOMEM, EMFILE.
    pub(super) fn start_maker(&mut self, launcher: &mut Launcher) -> Result<(), Error> {
        self.maker = Some(Maker::start(&self.start, launcher)?);
        self.is_maker_new = true;
        Ok(())
    }

    /// Asks for a template if one is needed, of a new maker if that has ended.
    #[inline]
    fn ask_if_needed(&mut self, lent: &mut Lent) {
        if !self.state.take_need(Instant::now()) {
            return;
        }
        // A process in a jail can start no maker that traces others.
        if self.maker.is_none() && !self.start.settings.jail_plan.is_any() {
            let started = self.start_maker(lent.launcher);
            started.unwrap_or_else(|why| lent.log.warning(&why.to_string()));
        }
        if !self.maker.as_ref().is_some_and(Maker::ask) {
            self.lose_maker();
        }
    }

    fn lose_maker(&mut self) {
        self.maker = None;
        self.state.postponed(Instant::now());
    }

    /// None could be made: the program is executed, or another attempt is made later.
    fn on_refusal(&mut self, why: &Error, lent: &mut Lent) {
        if why.kind() == ErrorKind::System || (self.are_only_way() && self.present.is_some()) {
            return self.state.postponed(Instant::now());
        }
        self.state.refused(Instant::now());
        self.present = None;
        self.refresh_status(lent);
        lent.log.warm_off(self.start.index, TemplateStatus::Refused.name());
    }

    fn on_maker(&mut self, made: FromMaker, lent: &mut Lent) {
        match made {
            FromMaker::Made(made) => match self.install(*made, lent) {
                Ok(()) => self.state.made(Instant::now()),
                Err(why) => {
                    lent.log.warning(&format!("a template is lost: {}", reason(&why)));
                    self.state.postponed(Instant::now());
                }
            },
            FromMaker::NotMade(why) => {
                lent.log.warning(&why.to_string());
                self.on_refusal(&why, lent);
            }
            FromMaker::Changed(file) => {
                lent.log.warm_stale(self.start.index, &file);
                self.state.files_changed(Instant::now());
            }
            FromMaker::Ended => {
                lent.log.warning("the maker of templates has ended");
                self.lose_maker();
            }
        }
    }

    /// Puts a new template in the place of the one before, which ends.
    fn install(&mut self, made: NewTemplate, lent: &mut Lent) -> io::Result<()> {
        let NewTemplate { channel, process, plan, facts } = made;
        let place = self.start.first_server_fd;
        let channel = TemplateChannel::new(place.duplicate(channel)?)?;
        let process = place.duplicate(process)?;
        self.present = Some(LiveTemplate { channel, process, plan });
        self.told = None;
        lent.board.set_template(self.start.index, TemplateStatus::Ready(facts.pid));
        lent.log.warm_ready(self.start.index, facts.pid, &facts.fields());
        Ok(())
    }

    /// Has the present template copied for a connection, with the lists of members of its cgroups.
    /// Returns the id of the copy; `None` if there is none, for which the program is executed.
    pub(super) fn copy(
        &mut self,
        client: &ProgramConnection,
        cgroups: &[OwnedFd],
        lent: &mut Lent,
    ) -> Option<i32> {
        let Lent { launcher, log, .. } = lent;
        // One that cannot be held to its port gets a filter of its own, by execution, which also
        // meets what is in the way of a pipe.
        if !launcher.hold(client.socket).is_ok_and(|is_held| is_held) {
            return None;
        }
        let stderr = launcher.stderr(client.entry.id).ok()?;
        let present = self.present.as_ref()?;
        let (socket, peer) = (client.socket, client.entry.peer);
        let (variables, stderr) = (&launcher.variables(client), stderr.as_ref());
        match present.ask(&CopyFor { socket, variables, peer, stderr, cgroups, stops: false }) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                if self.told.replace(why) != Some(why) {
                    log.warning(&format!(
                        "the program is executed for connection {}: {why}",
                        client.entry.id
                    ));
                }
                return None;
            }
            // It has ended, or is behind: it has not taken this message.
            Err(why) => {
                self.lose(&why, lent);
                return None;
            }
        }
        let answer = present.wait_for_copy(|step, result| {
            log.warning(&format!(
                "a copy of a template has ended before it served its client: its step {step} had the result {result}"
            ));
        });
        let copied = match answer {
            Ok(answer) => copied(answer),
            Err(why) => self.lose_asked(&why, lent),
        };
        if copied.is_some() {
            self.state.copied();
        }
        copied
    }

    /// Kills a template that has ended or does not answer. Returns its channel.
    fn lose(&mut self, why: &io::Error, lent: &mut Lent) -> Option<TemplateChannel> {
        let present = self.present.take()?;
        present.kill();
        self.state.lost(Instant::now());
        self.refresh_status(lent);
        let text = match why.kind() {
            io::ErrorKind::TimedOut => "does not answer, and is killed",
            _ => "has ended",
        };
        lent.log.warning(&format!("a template {text}: the program is executed until there is a new one"));
        Some(present.channel)
    }

    /// The same of one that may have taken the last message: a copy that it has made answers for
    /// itself.
    fn lose_asked(&mut self, why: &io::Error, lent: &mut Lent) -> Option<i32> {
        let channel = self.lose(why, lent)?;
        match why.kind() {
            io::ErrorKind::TimedOut => copied(wait_for_answer(&channel, Instant::now() + ANSWER_TIME).ok()?),
            _ => None,
        }
    }
}

/// The id of a copy. At a limit on processes there is none: the execution meets the same, and its
/// error is handled.
fn copied(answer: Answer) -> Option<i32> {
    match answer {
        Answer::Copied(pid) => Some(pid),
        Answer::NotCopied(_) | Answer::Failed(..) | Answer::Tried => None,
    }
}
