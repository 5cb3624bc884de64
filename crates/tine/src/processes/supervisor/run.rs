//! The supervisor's loop: waits, names what happened, applies what the state decides.

use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tine_sys::process::Alone;

use super::setup::Setup;
use super::spawn::NewRole;
use super::state::{ServerEvent, ServerPhase, ServerState};
use super::{RuleFiles, Supervisor};
use crate::connection::handler::Handler;
use crate::error::Error;
use crate::ipc::handover::takeover::Takeover;
use crate::lifecycle::signals::{self, Command};
use crate::lifecycle::startup::Start;
use crate::lifecycle::timing::DESCENDANTS_POLL;
use crate::net::control_socket::HANDED_PREFIX;
use crate::net::handed;
use crate::processes::bus_link::BusLink;
use crate::processes::handover::Binary;
use crate::processes::log_writer::{self, LogWriter, NewWriter, WriterStart};
use crate::processes::observer::Observer;

/// How a server has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// By a signal.
    Requested,
    /// By itself, after the last of its connections.
    Completed,
}

/// Serves until stopped. Runs as each process that the supervisor forks, too.
///
/// # Errors
/// The server cannot start; or it has stopped, and processes are left that it could not end.
pub(crate) fn run<H>(mut setup: Setup, alone: &Alone, handler: &mut H) -> Result<Stopped, Error>
where
    H: Handler,
{
    handed::close_all_but(HANDED_PREFIX);
    let mut ready = std::mem::take(&mut setup.ready);
    let mut writer = None;
    if setup.lines.is_none() {
        match LogWriter::start(&setup.log, alone)? {
            WriterStart::None => {}
            WriterStart::Started(started, lines) => {
                (writer, setup.lines) = (Some(started), Some(lines));
            }
            WriterStart::New(new) => {
                let _ = setup.members.leave();
                drop((setup, ready));
                handed::close_rest();
                new.run()
            }
        }
    }
    let mut takeover = setup.takeover.take();
    let (mut observer, link) = start_companions(&mut setup, alone).inspect_err(|error| {
        takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
        setup.lines = None;
        writer.take().into_iter().for_each(LogWriter::finish);
    })?;
    setup.is_observed |= observer.is_some() || link.is_some();
    setup.predecessor =
        takeover.as_mut().and_then(|takeover| takeover.take_predecessor(None)).or(setup.predecessor.take());
    let made = Supervisor::set_up(setup, &mut ready, &mut writer, alone, handler);
    let made = made.and_then(|made| takeover.iter().try_for_each(Takeover::check_sockets).map(|()| made));
    handed::close_rest();
    let mut supervisor = match made {
        Ok(supervisor) => supervisor,
        Err(error) => {
            ready.failed(&error);
            takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
            writer.into_iter().for_each(LogWriter::finish);
            observer.iter_mut().for_each(Observer::end);
            link.into_iter().for_each(BusLink::end);
            return Err(error);
        }
    };
    (supervisor.handovers.takeover, supervisor.observer) = (takeover, observer);
    supervisor.fleet.link = link;
    match supervisor.serve()? {
        Served::Forked(role) => supervisor.run_as(role),
        Served::Writer(new) => {
            let _ = supervisor.memory.members.leave();
            drop(supervisor);
            new.run()
        }
        Served::Over => supervisor.finish(),
        Served::Never => {
            supervisor.fds.restore_mask();
            Ok(Stopped::Requested)
        }
    }
}

/// Starts the observer and the link, where there are to be ones.
fn start_companions(setup: &mut Setup, alone: &Alone) -> Result<(Option<Observer>, Option<BusLink>), Error> {
    let mut observer = Observer::start(setup.observation.take(), alone)?;
    let link = BusLink::start(setup.link.take(), alone);
    let link = link.inspect_err(|_| observer.iter_mut().for_each(Observer::end))?;
    Ok((observer, link))
}

/// How serving has ended, in this process.
enum Served {
    /// This is a process that was forked.
    Forked(NewRole),
    /// This is a log writer that was restarted.
    Writer(NewWriter),
    /// The server has stopped.
    Over,
    /// The server was stopped before it was ready: nothing was logged.
    Never,
}

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Starts the server and serves until it is over.
    fn serve(&mut self) -> Result<Served, Error> {
        let roles = self.roles();
        match self.start_all(&roles) {
            Ok(Start::Ready) => {}
            Ok(Start::New(role)) => return Ok(Served::Forked(role)),
            Ok(Start::Stopped) => {
                self.end_start();
                return Ok(Served::Never);
            }
            Err(error) => {
                self.end_start();
                self.ready.failed(&error);
                self.handovers.takeover_failed(&error);
                self.fds.restore_mask();
                return Err(error);
            }
        }
        let mut state = ServerState::new(&roles, self.settings.drain_timeout, Instant::now())
            .announcing(self.settings.drain_delay)
            .leaving(self.settings.leaves_connections);
        while state.phase() != ServerPhase::Over {
            self.wait(&state);
            let mut events = self.events(&state);
            if let Some(control) = self.serve_controllers(&state, &mut events) {
                return Ok(Served::Forked(control));
            }
            if let Some(writer) = log_writer::restart(&mut self.log_writer, self.alone, &mut self.log) {
                return Ok(Served::Writer(writer));
            }
            for event in events {
                let actions = state.on(event, Instant::now());
                self.log_role_end(event, &state);
                for action in actions {
                    if let Some(role) = self.apply(action, &mut state) {
                        return Ok(Served::Forked(role));
                    }
                }
            }
        }
        Ok(Served::Over)
    }

    /// Waits for a signal, an exit, a notice, or the next deadline.
    fn wait(&mut self, state: &ServerState) {
        let notice = self.request_notice();
        let has_connections = !self.children.table.are_slots_empty();
        let batching = self.timers.reap_at.filter(|_| self.may_batch(state));
        let sweep = has_connections.then_some(self.timers.sweep_at);
        let lingering = (!self.children.lingering.is_empty()).then(|| Instant::now() + DESCENDANTS_POLL);
        let look = self.watcher.deadline(has_connections);
        let rules = self.rule_files.as_ref().and_then(RuleFiles::deadline);
        let orphans = self.timers.orphans_at;
        let alive = self.ready.keep_alive_at();
        let kills = self.killings.deadline();
        let bans = self.bans.deadline();
        let controls = self.controllers.deadline();
        let writer = self.log_writer.as_ref().and_then(|writer| writer.companion.restart_at());
        let observer = self.observer.as_ref().and_then(Observer::deadline);
        let held = self.held_ends.deadline();
        let handover = self.handovers.deadline();
        let maximum = self.capacity.deadline();
        let deadlines = [
            maximum,
            state.deadline(),
            batching,
            sweep,
            look,
            lingering,
            orphans,
            rules,
            notice,
            alive,
            kills,
            bans,
            controls,
            writer,
            observer,
            self.fleet_deadline(),
            held,
            handover,
        ];
        let notices = PollFd::new(&self.channels.supervisor, PollFlags::IN);
        let files = match self.rule_files.as_ref().and_then(RuleFiles::events) {
            Some(events) => PollFd::new(events, PollFlags::IN),
            None => notices.clone(),
        };
        let controllers = match self.controllers.descriptor() {
            Some(queue) => PollFd::from_borrowed_fd(queue, PollFlags::IN),
            None => notices.clone(),
        };
        let ends = match self.held_ends.descriptor() {
            Some(messages) => PollFd::from_borrowed_fd(messages, PollFlags::IN),
            None => notices.clone(),
        };
        let deadline = deadlines.into_iter().flatten().min();
        // Commands arrive with the exits of programs, and can wait for the batch, too.
        let others = [notices, files, controllers, ends];
        let observer = self.observer.as_ref().and_then(Observer::descriptor);
        let observer = observer.map(|link| PollFd::from_borrowed_fd(link, PollFlags::IN));
        let links = self.handovers.poll().into_iter().chain(self.poll_older()).chain(observer);
        let links = links.chain(self.fleet.link.as_ref().and_then(BusLink::poll)).collect();
        self.fds.wait(others, links, batching.is_some(), deadline);
    }

    /// Requests a notice of the next connection, in a server without one whose connections are
    /// watched. Returns when it is to be requested, if that is later.
    fn request_notice(&mut self) -> Option<Instant> {
        let at = self.watcher.notice_at().filter(|_| self.children.table.are_slots_empty())?;
        if self.memory.board.is_notice_requested() {
            return None;
        }
        let now = Instant::now();
        if at > now {
            return Some(at);
        }
        self.watcher.notice_requested(now);
        self.memory.board.request_notice();
        // A connection that began before the request is found here.
        self.drain_notices();
        None
    }

    /// What has happened since the last call.
    fn events(&mut self, state: &ServerState) -> Vec<ServerEvent> {
        let mut events = vec![ServerEvent::Tick];
        self.drain_notices();
        self.offer_free_slots();
        self.check_proxy_reader();
        self.take_commands(&mut events);
        let is_batching = self.timers.reap_at.is_some_and(|at| at > Instant::now());
        if !is_batching || !self.may_batch(state) {
            self.reap_children(&mut events);
        }
        if self.timers.orphans_at.is_some_and(|at| at <= Instant::now()) {
            self.reap_orphans();
        }
        self.ready.keep_alive();
        self.check_rules();
        self.check_connections();
        self.check_lingering(&mut events);
        self.check_held_ends(false);
        self.check_killings();
        self.check_bans();
        self.answer_operators();
        if let Some(observer) = &mut self.observer {
            observer.look_after(self.alone, &mut self.controllers, &mut self.log);
        }
        self.look_after_link(&mut events);
        self.check_handovers(state, &mut events);
        if self.timers.sweep_at <= Instant::now() {
            self.sweep(&mut events);
        }
        if !state.accepts() {
            self.check_drain(&mut events);
        } else if self.memory.board.are_places_settled() {
            events.push(ServerEvent::PlacesUsed);
        }
        events
    }

    fn take_commands(&mut self, events: &mut Vec<ServerEvent>) {
        while let Some(signal) = self.fds.commands.take() {
            let generations = self.handovers.generations.as_ref();
            let passed_on = signals::command(signal.number) != Some(Command::Reap)
                && generations.is_some_and(|generations| generations.signal_newer(signal.number));
            if !passed_on {
                self.on_command(signal.number, signal.pid, events);
            }
        }
    }

    /// Handles a signal, which may have been sent to the first process of another generation.
    pub(super) fn on_command(&mut self, number: i32, pid: Option<i32>, events: &mut Vec<ServerEvent>) {
        if let Some(generations) = &self.handovers.generations
            && signals::concerns_all(number)
        {
            generations.signal_older(number);
        }
        match signals::command(number) {
            Some(Command::End) => self.stop(ServerEvent::EndRequested, events),
            Some(Command::Stop) if self.has_lost_master() => events.push(ServerEvent::Abandoned),
            Some(Command::Stop) => self.stop(ServerEvent::StopRequested, events),
            // The log has the error.
            Some(Command::Reload) => _ = self.reload(),
            Some(Command::Upgrade) if self.is_replaceable() => self.begin_handover(&Binary::Started, None),
            Some(Command::Unsupported | Command::Upgrade) => self.log.warning(&signals::warning(number)),
            Some(Command::Reap) => {
                self.log_writer.iter_mut().for_each(|writer| _ = writer.companion.check(&mut self.log));
                self.observer.iter_mut().for_each(|observer| observer.check(&mut self.log));
                self.fleet.link.iter_mut().for_each(|link| link.check(&mut self.log));
                self.on_sigchld(pid, events);
            }
            None => {}
        }
    }

    /// Stops the server. No newer generation takes over from now on, not even one whose message is
    /// handled with this event.
    fn stop(&mut self, event: ServerEvent, events: &mut Vec<ServerEvent>) {
        self.stop_handovers();
        events.push(event);
    }

    /// Closes in a drain what is not needed any more: the listeners once the backlog is served, the
    /// channels of the helpers once no process can send them anything.
    fn check_drain(&mut self, events: &mut Vec<ServerEvent>) {
        if self.memory.board.drain_quota() == 0 {
            self.close_listeners();
        }
        if self.children.table.are_slots_empty() && !self.children.table.has_forkers() {
            self.reject_clients_in_channels();
            self.channels.close_helpers();
            self.memory.members.close_jobs();
            self.controllers.close();
            // A generation that is replaced itself leaves the older ones to the newest.
            let waits_for_older = self.older.connections() > 0 && !self.handovers.is_replaced();
            if self.children.table.is_empty() && !self.handovers.has_older() && !waits_for_older {
                events.push(ServerEvent::AllExited);
            }
        }
    }

    /// Whether the master has died, which the kernel reports by TERM.
    fn has_lost_master(&self) -> bool {
        self.settings.master.is_some() && rustix::process::getppid() != self.settings.master
    }

    /// Whether exits may be reaped a little later, because no client waits for a slot.
    fn may_batch(&self, state: &ServerState) -> bool {
        let forkers = 0..self.settings.forkers;
        !state.is_stopping() && !forkers.into_iter().any(|forker| self.memory.board.wants_slot(forker))
    }

    /// Ends what is left, and the supervisor.
    ///
    /// # Errors
    /// Processes are left that could not be ended.
    fn finish(&mut self) -> Result<Stopped, Error> {
        let ended = match self.settings.leaves_connections {
            true => Ok(()),
            false => self.end_what_is_left(),
        };
        self.observer.take().iter_mut().for_each(Observer::end);
        self.fleet.link.take().into_iter().for_each(BusLink::end);
        if self.bans.is_unsaved() {
            self.save_bans();
        }
        self.check_held_ends(true);
        self.handovers.finish();
        match self.handovers.is_replaced() {
            true => self.log.finished(),
            false => self.log.stop(self.memory.board.connections()),
        }
        self.end_log();
        if !self.children.table.is_empty() {
            // At its default, the signal that the exit of one of them sends would end the program.
            tine_sys::signal::ignore(tine_sys::signal::first_real_time());
        }
        self.end_generation(ended.as_ref().map_or_else(Error::exit_code, |()| 0));
        self.fds.restore_mask();
        ended.map(|()| match self.memory.board.are_places_used() {
            true => Stopped::Completed,
            false => Stopped::Requested,
        })
    }

    /// Waits until the last line is written. Where connections outlive the server, they may have
    /// lines, and the log writer outlives it, too.
    pub(super) fn end_log(&mut self) {
        let Some(writer) = self.log_writer.take() else { return };
        self.log.close_channel();
        if !self.settings.leaves_connections {
            writer.finish();
        }
    }
}
