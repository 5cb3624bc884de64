//! The supervisor's loop: waits, names what happened, applies what the state decides.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tine_sys::process::{Alone, Ended, How, Side, fork, reap};
use tine_sys::signal::{Set, first_real_time};
use tine_sys::wait;

use super::people::{People, Role};
use super::prepare::{above_the_program, channel, check_combinations, sweep_every, take_signals};
use super::state::{Action, Event, Helper, Phase, State};
use crate::board::{Board, Entry, Phase as SlotPhase, now};
use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::forker::{self, Forker};
use crate::listener::Listener;
use crate::log::{Log, Spent};
use crate::orphans::Strangers;
use crate::outcome::Outcome;
use crate::refuser;
use crate::server::Server;
use crate::settings::{Settings, WhenFull};
use crate::signals::{self, Command};

/// Ends of processes are taken together for so long, while nobody waits for room: fewer changes
/// between processes, about a twentieth of the rate.
const GATHER: Duration = Duration::from_millis(2);

/// The descriptors that only the supervisor has.
struct Own {
    /// Readable while a command is pending.
    commands: OwnedFd,
    /// Readable while a child's end is pending.
    ends: OwnedFd,
}

struct Supervisor<'a, H> {
    settings: Settings,
    listeners: Vec<Listener>,
    ready: crate::ready::Ready,
    board: Board,
    log: Log,
    alone: &'a Alone,
    handler: &'a mut H,
    exit_signal: i32,
    command_set: Set,
    end_set: Set,
    mask_before: Set,
    own: Option<Own>,
    wake: OwnedFd,
    retire: OwnedFd,
    controls: Vec<OwnedFd>,
    /// The two ends of the channel to the refuser: forkers send, it receives.
    refusals: Option<(OwnedFd, OwnedFd)>,
    first_own_descriptor: i32,
    people: People,
    strangers: Strangers,
    /// Helpers that ended and have not been told of.
    helper_ends: Vec<(Helper, Ended)>,
    changed: Vec<usize>,
    gather_until: Option<Instant>,
    /// How often children are looked at one by one: a queued signal is lost where the queue is full.
    sweep_every: Duration,
    sweep_at: Instant,
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
        return Err(error);
    }
    let mut state = State::new(&helpers, supervisor.settings.drain_timeout, Instant::now());
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

fn cannot_start(what: &str, why: &std::io::Error) -> Error {
    Error::system(
        format_args!("cannot start the server: {what}"),
        why,
        "raise the limits on processes, open files or memory (`ulimit -a`)",
    )
}

impl<'a, H> Supervisor<'a, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Everything that can fail, before the first process is made.
    fn set_up(server: Server, alone: &'a Alone, handler: &'a mut H) -> Result<Self, Error> {
        let Server { mut listeners, mut settings, format, level, mut ready } = server;
        let mut log = Log::new(format, level);
        check_combinations(&mut settings, &listeners, &mut log)?;
        let io = |why: std::io::Error| cannot_start("shared memory and descriptors", &why);
        let board = Board::new(settings.max_connections).map_err(io)?;
        let first_own_descriptor = above_the_program(&listeners);
        for listener in &mut listeners {
            listener.move_above(first_own_descriptor).map_err(|why| io(why.into()))?;
        }
        log.move_above(first_own_descriptor);
        ready.prepare(first_own_descriptor)?;
        let high = |fd: rustix::io::Result<OwnedFd>| -> Result<OwnedFd, Error> {
            let fd = fd.map_err(|why| io(why.into()))?;
            rustix::io::fcntl_dupfd_cloexec(&fd, first_own_descriptor).map_err(|why| io(why.into()))
        };
        let bell = || high(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK));
        let exit_signal = first_real_time();
        let (command_set, end_set) = (Set::of(&signals::numbers()), Set::of(&[exit_signal]));
        let mask_before = take_signals(&command_set, &end_set, exit_signal).map_err(io)?;
        let own = Own {
            commands: high(Ok(command_set.descriptor().map_err(io)?))?,
            ends: high(Ok(end_set.descriptor().map_err(io)?))?,
        };
        Ok(Supervisor {
            own: Some(own),
            wake: bell()?,
            retire: bell()?,
            controls: (0..settings.forkers).map(|_| bell()).collect::<Result<_, _>>()?,
            refusals: match settings.when_full {
                WhenFull::Wait => None,
                WhenFull::Refuse(_) => Some(channel(&high)?),
            },
            people: People::default(),
            strangers: Strangers::note_and_adopt(),
            helper_ends: Vec::new(),
            changed: Vec::new(),
            gather_until: None,
            sweep_every: sweep_every(settings.max_connections),
            sweep_at: Instant::now(),
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
            mask_before,
            first_own_descriptor,
        })
    }

    fn helpers(&self) -> Vec<Helper> {
        let refuser = self.refusals.is_some().then_some(Helper::Refuser);
        (0..self.settings.forkers).map(Helper::Forker).chain(refuser).collect()
    }

    fn start_all(&mut self, helpers: &[Helper]) -> Result<(), Error> {
        tine_sys::memory::share_constants();
        for helper in helpers {
            self.start(*helper).map_err(|why| cannot_start("fork", &why))?;
        }
        (0..self.controls.len()).for_each(|forker| self.ring(forker));
        self.announce()
    }

    /// Says that clients can come.
    fn announce(&mut self) -> Result<(), Error> {
        // Last in line when memory runs out, where that may be had. The forkers have chosen theirs.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        for listener in &self.listeners {
            self.log.listen(&listener.name, self.settings.backlog);
        }
        self.ready.say(&self.listeners)
    }

    fn start(&mut self, helper: Helper) -> std::io::Result<()> {
        // Asked for before the fork: afterwards the parent may be somebody else already.
        let supervisor = rustix::process::getpid();
        match fork(self.alone, self.exit_signal)? {
            Side::Parent(pid) => {
                self.people.add(pid, Role::Helper(helper));
                Ok(())
            }
            Side::Child => self.become_helper(helper, supervisor),
        }
    }

    fn become_helper(&mut self, helper: Helper, supervisor: Pid) -> ! {
        self.own = None;
        self.ready = crate::ready::Ready::default();
        match helper {
            Helper::Forker(index) => self.become_forker(index, supervisor),
            Helper::Refuser => self.become_refuser(supervisor),
        }
    }

    fn become_forker(&mut self, index: usize, supervisor: Pid) -> ! {
        let control = self.controls.swap_remove(index);
        self.controls.clear();
        let refuser = self.refusals.take().map(|(sender, _)| sender);
        forker::run::run(Forker {
            index,
            supervisor,
            alone: self.alone,
            settings: &self.settings,
            listeners: &self.listeners,
            board: self.board,
            control,
            retire: &self.retire,
            wake: &self.wake,
            refuser: refuser.as_ref(),
            log: &mut self.log,
            title: None,
            first_own_descriptor: self.first_own_descriptor,
            handler: &mut *self.handler,
        })
    }

    fn become_refuser(&mut self, supervisor: Pid) -> ! {
        self.listeners.clear();
        self.controls.clear();
        match (self.refusals.take(), &self.settings.when_full) {
            (Some((_, receiver)), WhenFull::Refuse(text)) => {
                refuser::run(&receiver, text, &self.settings, supervisor, &mut self.log)
            }
            _ => tine_sys::process::exit_now(0),
        }
    }

    // Waiting.

    /// Waits for a signal, a word of a forker, or the next deadline.
    fn wait(&mut self, state: &State) {
        let gathering = self.gather_until.filter(|_| self.may_gather(state));
        let sweep = Some(self.sweep_at).filter(|_| !self.people.are_slots_empty());
        let deadline = [state.deadline(), gathering, sweep].into_iter().flatten().min();
        let Some(own) = &self.own else { return };
        let mut ask = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&own.commands, PollFlags::IN),
            PollFd::new(&own.ends, PollFlags::IN),
        ];
        let asked = if gathering.is_some() { 2 } else { 3 };
        // Interrupted: everything is looked at in any case.
        let _ = wait::until(&mut ask[..asked], deadline);
    }

    /// What has happened since the last time.
    fn events(&mut self, state: &State) -> Vec<Event> {
        let mut events = vec![Event::Tick];
        self.hear_forkers();
        while let Some(signal) = self.command_set.take() {
            match signals::command(signal.number) {
                Some(Command::Stop) => events.push(Event::StopAsked),
                Some(Command::Reload) => {
                    self.log.warning("SIGHUP: there is no configuration to reload yet; nothing is changed")
                }
                Some(Command::Upgrade) => {
                    self.log.warning("SIGUSR2: the binary cannot be replaced yet; nothing is changed")
                }
                Some(Command::Orphan) => self.strangers.reap(|pid| self.people.role(pid).is_some()),
                None => {}
            }
        }
        let gathering = self.gather_until.is_some_and(|until| until > Instant::now());
        if !gathering || !self.may_gather(state) {
            self.take_ends(&mut events);
        }
        if self.sweep_at <= Instant::now() {
            self.sweep(&mut events);
        }
        if state.is_stopping() && self.people.are_slots_empty() && self.forkers_are_gone() {
            // The refuser goes when nobody can send it clients.
            self.refusals = None;
            if self.people.is_empty() {
                events.push(Event::NobodyLeft);
            }
        }
        events
    }

    /// Whether nobody is kept waiting by taking ends of processes a little later.
    fn may_gather(&self, state: &State) -> bool {
        !state.is_stopping() && !(0..self.settings.forkers).any(|forker| self.board.wants_room(forker))
    }

    fn forkers_are_gone(&self) -> bool {
        !self.people.helpers().any(|(_, helper)| helper != Helper::Refuser)
    }

    /// Takes note of what forkers and spares wrote on the board.
    fn hear_forkers(&mut self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.board.poke_answered();
        let mut changed = std::mem::take(&mut self.changed);
        self.board.take_changed(&mut changed);
        // Each number is read once: others write them, also while this sorts.
        changed.sort_by_cached_key(|slot| self.board.entry(*slot).id);
        for slot in &changed {
            self.adopt(*slot);
        }
        self.changed = changed;
    }

    /// Gets to know the process in a slot, and writes its accept line if it serves a connection.
    fn adopt(&mut self, slot: usize) {
        match (self.board.pid(slot), self.board.owner(slot)) {
            // Given back already; or not forked yet, then it is looked at again.
            (_, None) => {}
            (0, Some(_)) => self.board.mark_changed(slot),
            (pid, Some(_)) => {
                self.people.add(pid, Role::Slot(slot));
                if self.board.phase(slot) == SlotPhase::Serving {
                    self.tell_accept(slot, pid);
                }
            }
        }
    }

    fn tell_accept(&mut self, slot: usize, pid: i32) {
        // Processes that serve many write their lines themselves.
        if self.settings.reuse > 1 {
            return;
        }
        let entry = self.board.entry(slot);
        if let Some(count) = self.people.tell_accept(slot, entry.id)
            && self.log.tells_connections()
        {
            self.log.accept(&entry, pid, count, self.settings.max_connections);
        }
    }

    // The ends of processes.

    fn take_ends(&mut self, events: &mut Vec<Event>) {
        let mut some = false;
        while let Some(signal) = self.end_set.take() {
            some = true;
            if let Some(pid) = signal.pid {
                self.take_end(pid, events);
            }
        }
        self.gather_until = some.then(|| Instant::now() + GATHER);
    }

    /// Looks at every child, for ends whose signal was lost (`RLIMIT_SIGPENDING`, signal(7)).
    fn sweep(&mut self, events: &mut Vec<Event>) {
        self.sweep_at = Instant::now() + self.sweep_every;
        let pids: Vec<i32> = self.people.pids().collect();
        for pid in pids {
            self.take_end(pid, events);
        }
    }

    fn take_end(&mut self, pid: i32, events: &mut Vec<Event>) {
        if self.people.role(pid).is_none() {
            self.hear_forkers();
        }
        // Not ours, or reaped already: nothing to be done.
        let Ok(Some(ended)) = reap(pid) else { return };
        match self.people.remove(pid) {
            Some(Role::Slot(slot)) => self.slot_ended(slot, &ended),
            Some(Role::Helper(helper)) => {
                events.push(self.helper_ended(helper, &ended));
            }
            None => {}
        }
    }

    fn slot_ended(&mut self, slot: usize, ended: &Ended) {
        let phase = self.board.phase(slot);
        let served = phase == SlotPhase::Serving;
        if served {
            self.tell_accept(slot, ended.pid);
        }
        // The line is put together from the slot, and written when it is free: whoever reads that a
        // connection has ended finds room.
        let line = (served && self.log.tells_connections()).then(|| self.end_line(slot, ended));
        let owner = self.board.owner(slot);
        self.board.release(slot);
        for forker in 0..self.controls.len() {
            let misses_a_spare = phase == SlotPhase::Waiting && owner == Some(forker);
            if misses_a_spare || self.board.wants_room(forker) {
                self.board.set_wants_room(forker, false);
                self.ring(forker);
            }
        }
        if served {
            self.people.tell_end();
        }
        if let Some((entry, outcome, spent)) = line {
            self.log.end(&entry, ended.pid, &outcome, &spent);
        }
    }

    fn end_line(&self, slot: usize, ended: &Ended) -> (Entry, Outcome, Spent) {
        let entry = self.board.entry(slot);
        let display = self.board.display();
        let spent = Spent {
            duration: Duration::from_nanos(now().saturating_sub(entry.start)),
            bytes: display.bytes(slot),
            cpu: ended.cpu,
            peak_kib: ended.peak_kib,
        };
        (entry, Outcome::new(ended.how, display.reported(slot)), spent)
    }

    fn helper_ended(&mut self, helper: Helper, ended: &Ended) -> Event {
        if let Helper::Forker(index) = helper {
            // What it had begun with the last word of its life is known before its slots are freed.
            self.hear_forkers();
            self.board.release_unborn(index);
            self.board.set_wants_room(index, false);
            // Another forker may have been waiting for what it held.
            (0..self.controls.len()).for_each(|forker| self.ring(forker));
        }
        self.helper_ends.push((helper, *ended));
        Event::HelperEnded { helper, done: ended.how == How::Exited(0) }
    }

    fn ring(&self, forker: usize) {
        if let Some(control) = self.controls.get(forker) {
            // Full means that it has been told.
            let _ = rustix::io::write(control, &1u64.to_ne_bytes());
        }
    }

    // Doing what the state decided.

    /// Writes what there is to say about an event, now that it is answered.
    fn note(&mut self, event: Event, state: &State) {
        let Event::HelperEnded { helper, .. } = event else { return };
        let Some(at) = self.helper_ends.iter().position(|(ended, _)| *ended == helper) else { return };
        let (_, ended) = self.helper_ends.swap_remove(at);
        if state.is_stopping() {
            return;
        }
        let role = match helper {
            Helper::Forker(index) => format!("forker {}", index + 1),
            Helper::Refuser => "refuser".to_owned(),
        };
        let again_in = state.restart_in(helper, Instant::now()).unwrap_or_default();
        self.log.helper_ended(&role, ended.pid, &Outcome::new(ended.how, None), again_in);
    }

    fn apply(&mut self, action: Action, state: &mut State) {
        match action {
            Action::Start(helper) => {
                if let Err(why) = self.start(helper) {
                    let why = crate::error::reason(&why);
                    self.log.trouble(
                        "cannot start a forker",
                        &why,
                        "it is tried again; raise the limit on processes",
                    );
                    // It counts as one that died at once, so that the next try waits.
                    let failed = Event::HelperEnded { helper, done: false };
                    state.on(failed, Instant::now());
                } else if let Helper::Forker(index) = helper {
                    self.ring(index);
                }
            }
            Action::Drain => self.drain(),
            Action::CloseListeners => self.listeners.clear(),
            Action::EndAll => self.end_all(),
            Action::KillAll => self.kill_all(),
        }
    }

    fn drain(&mut self) {
        self.ready.stopping();
        self.hear_forkers();
        self.log.drain(self.people.connections(), self.settings.drain_timeout);
        let waiting = self.listeners.iter().map(|listener| listener.queued().unwrap_or(u64::from(u32::MAX)));
        self.board.set_drain_quota(waiting.sum());
        self.board.order_drain();
        // Never read, so that every spare sees it, also one that is just being made.
        let _ = rustix::io::write(&self.retire, &1u64.to_ne_bytes());
        (0..self.controls.len()).for_each(|forker| self.ring(forker));
    }

    /// Nobody new from now on; who is served is asked to end. A stopped process cannot: it is woken.
    fn end_all(&mut self) {
        for (pid, helper) in self.people.helpers().collect::<Vec<_>>() {
            if helper != Helper::Refuser {
                signal_one(pid, Signal::KILL);
            }
        }
        self.hear_forkers();
        for (pid, _) in self.people.in_slots() {
            signal_group(pid, Signal::TERM);
            signal_group(pid, Signal::CONT);
        }
    }

    fn kill_all(&mut self) {
        self.hear_forkers();
        for (pid, _) in self.people.helpers() {
            signal_one(pid, Signal::KILL);
        }
        for (pid, _) in self.people.in_slots() {
            signal_group(pid, Signal::KILL);
        }
    }

    fn finish(&mut self) {
        self.strangers.kill(|pid| self.people.role(pid).is_some());
        self.strangers.reap(|pid| self.people.role(pid).is_some());
        self.log.stop(self.board.connections());
        // The program goes on as it was before. It was a valid mask, so this cannot fail.
        let _ = self.mask_before.make_mask();
    }
}

/// Signals a child that has not been reaped: `People` has no others.
fn signal_one(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended; then it is reaped soon.
        let _ = kill_process(pid, signal);
    }
}

/// Signals a connection and what it started in its group. It may not have made the group yet.
fn signal_group(pid: i32, signal: Signal) {
    let Some(id) = Pid::from_raw(pid) else { return };
    if kill_process_group(id, signal).is_err() {
        signal_one(pid, signal);
    }
}
