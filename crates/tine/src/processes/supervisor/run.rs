//! The supervisor's loop: waits, names what happened, applies what the state decides.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use tine_sys::process::{Alone, Ended};
use tine_sys::signal::{Set, first_real_time};
use tine_sys::wait;

use super::children::ChildTable;
use super::enforce::Watcher;
use super::pidfds::Exits;
use super::reap::LINGER;
use super::reload::Rules;
use super::setup::{adapt, channel, delays, move_descriptors_up, sweep_every, take_signals};
use super::state::{Event, Helper, Phase, State};
use crate::admission::Admission;
use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::lifecycle::signals::{self, Command};
use crate::log::Log;
use crate::net::listener::Listener;
use crate::processes::delayer::Channels;
use crate::server::Server;
use crate::settings::Settings;
use crate::shared::board::Board;
use crate::system::cgroup::{Cgroup, Cgroups};
use crate::system::descendants;
use crate::system::orphans::PreexistingChildren;
use crate::watch::diag::Diag;

/// Ends of processes are taken together for so long, while nobody waits for room: fewer changes
/// between processes, about a twentieth of the rate.
pub(super) const GATHER: Duration = Duration::from_millis(2);

/// The descriptors that only the supervisor has.
pub(super) struct Own {
    /// Readable while a command is pending.
    pub(super) commands: OwnedFd,
    /// Readable while a child's end is pending.
    pub(super) ends: OwnedFd,
    /// The ends of processes that have executed a program.
    pub(super) exits: Exits,
}

impl Own {
    fn new(
        commands: &Set,
        ends: &Set,
        high: &impl Fn(rustix::io::Result<OwnedFd>) -> Result<OwnedFd, Error>,
    ) -> Result<Own, Error> {
        let descriptor = |set: &Set| high(Ok(set.descriptor().map_err(|why| cannot_make(&why))?));
        let exits = Exits::new(high(Exits::queue())?);
        Ok(Own { commands: descriptor(commands)?, ends: descriptor(ends)?, exits })
    }
}

pub(super) struct Supervisor<'a, H> {
    pub(super) settings: Settings,
    pub(super) listeners: Vec<Listener>,
    pub(super) ready: crate::lifecycle::ready::Ready,
    pub(super) board: Board,
    pub(super) log: Log,
    pub(super) alone: &'a Alone,
    pub(super) handler: &'a mut H,
    pub(super) exit_signal: i32,
    pub(super) command_set: Set,
    pub(super) end_set: Set,
    pub(super) original_mask: Set,
    pub(super) own: Option<Own>,
    pub(super) wake: OwnedFd,
    pub(super) retire: OwnedFd,
    pub(super) controls: Vec<OwnedFd>,
    /// The two ends of the channel to the refuser: forkers send, it receives.
    pub(super) rejections: Option<(OwnedFd, OwnedFd)>,
    /// Where clients wait, the channels to the delayer and back.
    pub(super) delays: Option<Channels>,
    /// The same as to the refuser, to the scribe.
    pub(super) stderr_logger: Option<(OwnedFd, OwnedFd)>,
    /// The two ends of the channel to the warden, which hears on it only that this process has gone.
    pub(super) leash: Option<(OwnedFd, OwnedFd)>,
    pub(super) cgroups: Option<Cgroups>,
    /// Cgroups of connections that have ended in which something lives on.
    pub(super) outlived: Vec<Cgroup>,
    pub(super) first_server_fd: tine_sys::fd::Floor,
    pub(super) door: Admission,
    /// Files of rules, to be read again.
    pub(super) rules: Option<Rules>,
    /// The file of the program, found before anything is started.
    pub(super) program_path: Option<CString>,
    pub(super) people: ChildTable,
    pub(super) watcher: Watcher,
    pub(super) strangers: PreexistingChildren,
    /// Helpers that ended and have not been told of.
    pub(super) helper_ends: Vec<(Helper, Ended)>,
    pub(super) changed: Vec<usize>,
    pub(super) gather_until: Option<Instant>,
    /// How often children are looked at one by one: a queued signal is lost where the queue is full.
    pub(super) sweep_every: Duration,
    pub(super) sweep_at: Instant,
    /// Programs that have ended and whose descendants have not, and when those are killed.
    pub(super) lingering: HashMap<i32, Instant>,
    /// When orphans are to be reaped.
    pub(super) orphans_at: Option<Instant>,
}

/// Serves until stopped.
pub(crate) fn run<H>(server: Server, alone: &Alone, handler: &mut H) -> Result<(), Error>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let mut supervisor = Supervisor::set_up(server, alone, handler)?;
    let helpers = supervisor.helpers();
    if let Err(error) = supervisor.start_all(&helpers) {
        supervisor.kill_all();
        supervisor.cgroups.iter().for_each(Cgroups::end);
        return Err(error);
    }
    let mut state = State::new(&helpers, supervisor.settings.drain_timeout, Instant::now())
        .leaving(supervisor.settings.leaves_connections);
    while state.phase() != Phase::Over {
        supervisor.wait(&state);
        for event in supervisor.events(&state) {
            let actions = state.on(event, Instant::now());
            supervisor.note(event, &state);
            for action in actions {
                supervisor.apply(action, &mut state);
            }
        }
    }
    supervisor.finish();
    Ok(())
}

pub(super) fn cannot_start(what: &str, why: &std::io::Error) -> Error {
    Error::system(
        format_args!("cannot start the server: {what}"),
        why,
        "raise the limits on processes, open files or memory (`ulimit -a`)",
    )
}

/// What is needed before the first process is made.
pub(super) fn cannot_make(why: &std::io::Error) -> Error {
    cannot_start("shared memory and descriptors", why)
}

impl<'a, H> Supervisor<'a, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Everything that can fail, before the first process is made.
    fn set_up(server: Server, alone: &'a Alone, handler: &'a mut H) -> Result<Self, Error> {
        let Server { mut listeners, mut settings, format, level, mut ready } = server;
        let program_path = settings.check()?;
        let mut log = Log::new(format, level, settings.service.clone());
        adapt(&mut settings, &listeners, &mut log)?;
        let io = |why: std::io::Error| cannot_make(&why);
        let board = Board::new(settings.max_connections).map_err(io)?;
        let door = Admission::new(&settings).map_err(io)?;
        let first_server_fd = move_descriptors_up(&mut listeners, &mut log, &mut ready)?;
        let high = |fd: rustix::io::Result<OwnedFd>| -> Result<OwnedFd, Error> {
            let fd = fd.map_err(|why| io(why.into()))?;
            first_server_fd.duplicate(fd).map_err(io)
        };
        let bell = || high(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK));
        let exit_signal = first_real_time();
        let (command_set, end_set) = (Set::of(&signals::numbers()), Set::of(&[exit_signal]));
        let original_mask = take_signals(&command_set, &end_set, exit_signal).map_err(io)?;
        let own = Own::new(&command_set, &end_set, &high)?;
        let source = settings.rules_source.clone();
        let rules = source.map(|source| Rules::watch(source, |fd| high(fd).ok(), &mut log));
        let diag = settings.rules().are_any().then(|| high(Diag::socket()).ok());
        let watcher = Watcher::new(settings.rules(), diag, &listeners, &mut log);
        Ok(Supervisor {
            own: Some(own),
            wake: bell()?,
            retire: bell()?,
            controls: (0..settings.forkers).map(|_| bell()).collect::<Result<_, _>>()?,
            rejections: settings.rejects().then(|| channel(&high)).transpose()?,
            delays: settings.delays().then(|| delays(&high)).transpose()?,
            stderr_logger: settings.stderr_is_logged().then(|| channel(&high)).transpose()?,
            leash: settings.has_cgroups().then(|| channel(&high)).transpose()?,
            cgroups: settings.cgroup().map(Cgroups::make).transpose()?,
            outlived: Vec::new(),
            people: ChildTable::default(),
            watcher,
            strangers: PreexistingChildren::record_and_become_subreaper(),
            helper_ends: Vec::new(),
            changed: Vec::new(),
            gather_until: None,
            sweep_every: sweep_every(settings.max_connections),
            sweep_at: Instant::now(),
            lingering: HashMap::new(),
            orphans_at: None,
            settings,
            listeners,
            ready,
            board,
            log,
            alone,
            handler,
            exit_signal,
            command_set,
            end_set,
            original_mask,
            first_server_fd,
            door,
            rules,
            program_path,
        })
    }

    fn helpers(&self) -> Vec<Helper> {
        let rejector = self.rejections.is_some().then_some(Helper::Rejector);
        let delayer = self.delays.is_some().then_some(Helper::Delayer);
        let stderr_logger = self.stderr_logger.is_some().then_some(Helper::StderrLogger);
        let cgroup_cleaner = self.cgroups.is_some().then_some(Helper::CgroupCleaner);
        let others = [rejector, delayer, stderr_logger, cgroup_cleaner].into_iter().flatten();
        (0..self.settings.forkers).map(Helper::Forker).chain(others).collect()
    }

    // Waiting.

    /// Waits for a signal, a word of a forker, or the next deadline.
    fn wait(&mut self, state: &State) {
        if self.settings.rules().are_any() && self.people.no_connections() {
            self.board.request_notice();
            // Who began before this could be seen is heard of here.
            self.drain_notices();
        }
        let gathering = self.gather_until.filter(|_| self.may_gather(state));
        let sweep = Some(self.sweep_at).filter(|_| !self.people.no_connections());
        let lingering = (!self.lingering.is_empty()).then(|| Instant::now() + LINGER);
        let look = self.watcher.deadline(!self.people.no_connections());
        let rules = self.rules.as_ref().and_then(Rules::deadline);
        let deadline = [state.deadline(), gathering, sweep, look, lingering, self.orphans_at, rules]
            .into_iter()
            .flatten()
            .min();
        let Some(own) = &self.own else { return };
        let events = self.rules.as_ref().and_then(Rules::events).unwrap_or(&self.wake);
        let mut ask = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&own.commands, PollFlags::IN),
            PollFd::new(&own.ends, PollFlags::IN),
            PollFd::new(own.exits.descriptor(), PollFlags::IN),
            PollFd::new(events, PollFlags::IN),
        ];
        // Commands come with the ends of programs, and can wait for two milliseconds, too.
        let asked = if gathering.is_some() { 1 } else { ask.len() };
        // Interrupted: everything is looked at in any case.
        let _ = wait::until(&mut ask[..asked], deadline);
    }

    /// What has happened since the last time.
    fn events(&mut self, state: &State) -> Vec<Event> {
        let mut events = vec![Event::Tick];
        self.drain_notices();
        while let Some(signal) = self.command_set.take() {
            match signals::command(signal.number) {
                Some(Command::Stop) if self.has_lost_master() => events.push(Event::Abandoned),
                Some(Command::Stop) => events.push(Event::StopRequested),
                Some(Command::Reload) => self.reload(),
                Some(Command::Upgrade) => {
                    self.log.warning("SIGUSR2: the binary cannot be replaced yet; nothing is changed")
                }
                Some(Command::Orphan) => self.on_sigchld(signal.pid),
                None => {}
            }
        }
        let gathering = self.gather_until.is_some_and(|until| until > Instant::now());
        if !gathering || !self.may_gather(state) {
            self.reap_children(&mut events);
        }
        if self.orphans_at.is_some_and(|at| at <= Instant::now()) {
            self.reap_orphans();
        }
        self.check_rules();
        self.check_connections();
        self.check_lingering(&mut events);
        if self.sweep_at <= Instant::now() {
            self.sweep(&mut events);
        }
        if state.is_stopping() && self.people.no_connections() && self.no_forkers() {
            // The others go when nobody can send them anything.
            self.rejections = None;
            self.delays = None;
            self.stderr_logger = None;
            self.leash = None;
            if self.people.is_empty() {
                events.push(Event::AllExited);
            }
        }
        events
    }

    /// Whether the process that kept this one running has died, which the kernel says by TERM.
    fn has_lost_master(&self) -> bool {
        self.settings.master.is_some() && rustix::process::getppid() != self.settings.master
    }

    /// Whether nobody is kept waiting by taking ends of processes a little later.
    pub(super) fn may_gather(&self, state: &State) -> bool {
        !state.is_stopping() && !(0..self.settings.forkers).any(|forker| self.board.wants_slot(forker))
    }

    fn no_forkers(&self) -> bool {
        !self.people.helpers().any(|(_, helper)| helper.is_forker())
    }

    fn finish(&mut self) {
        if !self.settings.leaves_connections {
            // All that connections have left behind.
            descendants::kill(|| self.orphans());
        }
        self.log.stop(self.board.connections());
        // The program goes on as it was before. It was a valid mask, so this cannot fail.
        let _ = self.original_mask.make_mask();
    }
}
