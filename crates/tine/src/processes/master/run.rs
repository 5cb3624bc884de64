//! The master's loop: waits for signals, applies what the state decides.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use tine_sys::process::Alone;
use tine_sys::signal::Set;
use tine_sys::wait;

use super::start::NewSupervisor;
use super::state::{MasterAction, MasterEvent, MasterState};
use super::steer::{NewControl, set_up_control};
use super::{Master, MasterSetup, cannot_start};
use crate::error::{Error, reason};
use crate::ipc::handover::takeover::Takeover;
use crate::lifecycle::signals::{self, Command};
use crate::lifecycle::startup::Start;
use crate::lifecycle::stop_handle::ArmedHandles;
use crate::lifecycle::timing::{KILL_WAIT, STOP_WITHIN};
use crate::log::Log;
use crate::log::channel::LineSender;
use crate::log::ring::LogRing;
use crate::net::control_socket::HANDED_PREFIX;
use crate::net::handed;
use crate::processes::handover::generations::Generations;
use crate::processes::handover::{Binary, prepare_for};
use crate::processes::log_writer::{self, LogWriter, NewWriter, WriterStart};
use crate::processes::observer::Observer;
use crate::processes::own_confinement::warn_of_refused_layers;
use crate::system::descendants;
use crate::system::orphans::PreexistingChildren;
use crate::system::signal::{NotSignalled, processes_are_left, signal_one};

/// The warning where SIGHUP has no effect.
const NOTHING: &str =
    "SIGHUP: the master has nothing to reload; send it to a supervisor to reload access rules";

/// What a process is that the master has just forked.
enum MasterChild {
    Supervisor(NewSupervisor),
    Control(NewControl),
    Writer(NewWriter),
}

/// Serves until stopped. Runs as each supervisor that it forks, too.
///
/// # Errors
/// A service cannot start.
pub(crate) fn run(mut setup: MasterSetup, alone: &Alone) -> Result<(), Error> {
    handed::close_all_but(HANDED_PREFIX);
    let count = setup.services.len();
    let stops = setup.services.iter().map(|service| service.server.settings.time_to_drain());
    let slowest = stops.max();
    let stop_within = slowest.unwrap_or_default().saturating_add(STOP_WITHIN);
    let (mut writer, lines) = match LogWriter::start(&setup.log, alone)? {
        WriterStart::None => (None, None),
        WriterStart::Started(writer, lines) => (Some(writer), Some(lines)),
        WriterStart::New(new) => {
            drop(setup);
            handed::close_rest();
            new.run()
        }
    };
    let takeover = setup.takeover.take();
    let mut lines = lines;
    let mut observer = Observer::start(setup.observation.take(), alone).inspect_err(|error| {
        takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
        lines = None;
        writer.take().into_iter().for_each(LogWriter::finish);
    })?;
    for (name, predecessor) in takeover.iter().flat_map(Takeover::predecessors) {
        let service = setup.services.iter_mut().find(|service| service.name == name);
        service.into_iter().for_each(|service| prepare_for(predecessor, &mut service.server.settings));
    }
    let made = Master::set_up(setup, observer.is_some(), lines, alone);
    let made = made.and_then(|made| takeover.iter().try_for_each(Takeover::check_sockets).map(|()| made));
    handed::close_rest();
    let mut master = match made {
        Ok(master) => master,
        Err(error) => {
            takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
            writer.into_iter().for_each(LogWriter::finish);
            observer.iter_mut().for_each(Observer::end);
            return Err(error);
        }
    };
    (master.log_writer, master.observer, master.takeover) = (writer, observer, takeover);
    match master.serve(stop_within)? {
        Some(MasterChild::Supervisor(supervisor)) => master.run_as(supervisor),
        Some(MasterChild::Control(control)) => master.run_control(control),
        Some(MasterChild::Writer(writer)) => {
            drop(master);
            writer.run()
        }
        None => master.finish(count),
    }
}

impl<'a> Master<'a> {
    fn set_up(
        setup: MasterSetup,
        is_observed: bool,
        lines: Option<LineSender>,
        alone: &'a Alone,
    ) -> Result<Master<'a>, Error> {
        let MasterSetup { mut services, log, mut ready, control, replacement, stop_handles, .. } = setup;
        ready.prepare(3)?;
        tine_sys::available::parent_death_signal().map_err(|why| {
            cannot_start("supervisors cannot be made to end with the server (prctl, PR_SET_PDEATHSIG)", &why)
        })?;
        let signals = Set::of(&signals::numbers());
        let failed = |why: std::io::Error| cannot_start("signals", &why);
        tine_sys::signal::default(Signal::CHILD.as_raw());
        tine_sys::signal::ignore(Signal::PIPE.as_raw());
        tine_sys::signal::ignore(Signal::XFSZ.as_raw());
        let original_mask = signals.block().map_err(failed)?;
        let mut log = Log::new(log.format, log.level, None, lines);
        let log_ring = (control.is_any() || is_observed).then(LogRing::alone).transpose();
        let log_ring = log_ring.map_err(|why| cannot_start("shared memory", &why))?;
        log.keep_lines_in(log_ring);
        warn_of_refused_layers(&mut log);
        let controllers = set_up_control(&control, is_observed, &mut services, &mut log)?;
        Ok(Master {
            services,
            alone,
            pids: HashMap::new(),
            log,
            log_writer: None,
            observer: None,
            log_ring,
            ready,
            signal_fd: signals.descriptor().map_err(failed)?,
            signals,
            original_mask,
            stop_handles: ArmedHandles::arm(stop_handles).map_err(failed)?,
            preexisting: PreexistingChildren::record_and_become_subreaper(),
            ended: Vec::new(),
            controllers,
            drains: Vec::new(),
            generations: Generations::new(replacement),
            takeover: None,
        })
    }

    /// Starts the services and keeps them running until all have stopped. In a process that was
    /// forked, returns what it is.
    fn serve(&mut self, stop_within: Duration) -> Result<Option<MasterChild>, Error> {
        match self.start_all() {
            Ok(Start::Ready) => {}
            Ok(Start::New(supervisor)) => return Ok(Some(MasterChild::Supervisor(supervisor))),
            Ok(Start::Stopped) => {
                self.end_start();
                return Ok(None);
            }
            Err(error) => {
                self.end_start();
                let takeover = self.takeover.take();
                takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
                self.restore_mask();
                return Err(error);
            }
        }
        let mut state = MasterState::new(self.services.len(), stop_within, Instant::now());
        while !state.is_over() || self.generations.has_older() {
            let writer = self.log_writer.as_ref().and_then(|writer| writer.companion.restart_at());
            let observer = self.observer.as_ref().and_then(Observer::deadline);
            let own = [self.ready.keep_alive_at(), self.controllers.deadline(), writer, observer];
            let others = [state.deadline(), self.generations.deadline()];
            self.wait(own.into_iter().chain(others).flatten().min());
            self.ready.keep_alive();
            let mut events = self.events();
            if let Some(observer) = &mut self.observer {
                observer.look_after(self.alone, &mut self.controllers, &mut self.log);
            }
            self.check_handovers(&mut events);
            self.hear_services(&mut events);
            if let Some(control) = self.serve_controllers(&state, &mut events) {
                return Ok(Some(MasterChild::Control(control)));
            }
            let may_end_services = events.iter().any(|event| *event != MasterEvent::Tick);
            if let Some(writer) = log_writer::restart(&mut self.log_writer, self.alone, &mut self.log) {
                return Ok(Some(MasterChild::Writer(writer)));
            }
            for event in events {
                let actions = state.on(event, Instant::now());
                self.handle_end(event, &state);
                for action in actions {
                    if let Some(supervisor) = self.apply(action, &mut state) {
                        return Ok(Some(MasterChild::Supervisor(supervisor)));
                    }
                }
            }
            if may_end_services {
                self.answer_drains(&state);
            }
            if state.is_over() {
                // Every service is stopped: there is nothing to hand over.
                self.generations.stop();
            }
        }
        self.leave_services();
        Ok(None)
    }

    /// Waits for a signal, or the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        let signals = PollFd::new(&self.signal_fd, PollFlags::IN);
        let controllers = match self.controllers.descriptor() {
            Some(queue) => PollFd::from_borrowed_fd(queue, PollFlags::IN),
            None => signals.clone(),
        };
        let observer = self.observer.as_ref().and_then(Observer::descriptor);
        let observer = observer.map(|link| PollFd::from_borrowed_fd(link, PollFlags::IN));
        let own = [signals, controllers].into_iter().chain(observer);
        let mut poll: Vec<PollFd> = own.chain(self.links()).collect();
        // Interrupted: everything is checked in any case.
        let _ = wait::until(&mut poll, deadline);
    }

    /// What has happened since the last call.
    pub(super) fn events(&mut self) -> Vec<MasterEvent> {
        let mut events = vec![MasterEvent::Tick];
        while let Some(signal) = self.signals.take() {
            let is_own = signals::command(signal.number) == Some(Command::Reap);
            if is_own || !self.generations.signal_newer(signal.number) {
                self.on_command(signal.number, &mut events);
            }
        }
        events
    }

    /// Takes the signals since the last call, once the server has stopped: children are reaped.
    pub(super) fn reap_only(&mut self) {
        while let Some(signal) = self.signals.take() {
            if signals::command(signal.number) == Some(Command::Reap) {
                self.reap_children(&mut Vec::new());
            }
        }
    }

    /// Handles a signal, which may have been sent to the first process of another generation.
    pub(super) fn on_command(&mut self, number: i32, events: &mut Vec<MasterEvent>) {
        if signals::concerns_all(number) {
            self.generations.signal_older(number);
        }
        match signals::command(number) {
            Some(Command::Stop) => {
                self.generations.stop();
                events.push(MasterEvent::StopRequested);
            }
            Some(Command::End) => {
                self.generations.stop();
                events.push(MasterEvent::EndRequested);
            }
            Some(Command::Reload) => self.reload(None),
            Some(Command::Upgrade) if self.generations.are_possible() => {
                self.begin_handover(&Binary::Started, None);
            }
            Some(Command::Unsupported | Command::Upgrade) => self.log.warning(&signals::warning(number)),
            Some(Command::Reap) => self.reap_children(events),
            None => {}
        }
    }

    /// Opens the log file again; and reads the configuration again, where there is one.
    pub(super) fn reload(&mut self, asked_by: Option<i32>) {
        let reopens = self.log_writer.as_ref().is_some_and(LogWriter::reopen);
        if self.generations.are_possible() {
            self.begin_handover(&Binary::Own, asked_by);
            return;
        }
        let (code, text) = match (self.generations.is_replaced(), reopens) {
            (true, _) => (111, "a newer process serves: repeat the command"),
            (false, true) => (0, "the log file is opened again"),
            (false, false) => {
                self.log.warning(NOTHING);
                (0, "there is nothing to reload")
            }
        };
        self.controllers.answer_handover(asked_by, code, text);
    }

    /// Applies an action. In a process that it forked, returns what that is.
    fn apply(&mut self, action: MasterAction, state: &mut MasterState) -> Option<NewSupervisor> {
        match action {
            MasterAction::Start(service) => return self.restart(service, state),
            MasterAction::CloseListeners => {
                self.services.iter_mut().for_each(|service| service.server.listeners.clear());
                self.ready.stopping();
            }
            MasterAction::CloseListenersOf(service) => self.services[service].server.listeners.clear(),
            MasterAction::StopService(service) => {
                let pids = self.pids.iter().filter(|(_, of)| **of == service).map(|(pid, _)| *pid);
                let pids: Vec<i32> = pids.collect();
                self.signal(&pids, Signal::TERM);
            }
            MasterAction::Stop => self.signal_all(Signal::TERM),
            MasterAction::End => self.signal_all(Signal::QUIT),
            MasterAction::Kill => self.signal_all(Signal::KILL),
        }
        None
    }

    /// Gives the program that has called the server its signal mask back.
    fn restore_mask(&self) {
        self.stop_handles.disarm();
        signals::restore_mask(&self.original_mask);
    }

    fn restart(&mut self, service: usize, state: &mut MasterState) -> Option<NewSupervisor> {
        self.start(service, None).unwrap_or_else(|why| {
            self.log.fatal(&cannot_start(&self.services[service].name, &why));
            // This counts as an end right after the start, so that the next attempt waits.
            state.on(MasterEvent::Ended(service), Instant::now());
            None
        })
    }

    fn signal_all(&mut self, signal: Signal) {
        let pids: Vec<i32> = self.pids.keys().copied().collect();
        self.signal(&pids, signal);
    }

    fn signal(&mut self, pids: &[i32], signal: Signal) {
        let failed: Vec<_> = pids.iter().filter_map(|pid| signal_one(*pid, signal)).collect();
        for NotSignalled { pid, why } in failed {
            let next = "end it as root";
            self.log.error(&format!("cannot end pid {pid}"), &reason(&why.into()), next);
        }
    }

    /// Ends a start that has failed or was stopped: no process of it is left afterwards.
    fn end_start(&mut self) {
        self.signal_all(Signal::KILL);
        let deadline = Instant::now() + KILL_WAIT;
        while !self.pids.is_empty() && Instant::now() < deadline {
            self.wait(Some(deadline));
            self.reap_only();
        }
        let _ = descendants::kill(|| self.orphans());
        self.observer.take().iter_mut().for_each(Observer::end);
        self.end_log();
    }

    /// Waits until the last line is written.
    fn end_log(&mut self) {
        if let Some(writer) = self.log_writer.take() {
            self.log.close_channel();
            writer.finish();
        }
    }

    /// Ends what the supervisors left behind, and the master.
    ///
    /// # Errors
    /// Processes are left that could not be ended.
    fn finish(&mut self, services: usize) -> Result<(), Error> {
        self.end_controls();
        self.generations.learn_newer();
        let failed = descendants::kill(|| self.orphans());
        self.observer.take().iter_mut().for_each(Observer::end);
        match self.generations.is_replaced() {
            true => self.log.finished(),
            false => self.log.stop_all(services),
        }
        self.end_log();
        self.end_generation(if failed.is_empty() { 0 } else { 111 });
        self.restore_mask();
        match failed.first() {
            Some(first) => {
                let left = failed.iter().map(|failed| failed.pid).collect();
                Err(processes_are_left(&left, Some(first.why)))
            }
            None => Ok(()),
        }
    }
}
