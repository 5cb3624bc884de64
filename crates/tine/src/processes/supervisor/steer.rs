//! Carries out what operators order, by way of their control processes.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use super::Supervisor;
use super::bans::end_of;
use super::role::Role;
use super::spawn::NewRole;
use super::state::{ServerEvent, ServerState};
use crate::admission::access::prefix::Prefix;
use crate::connection::handler::Handler;
use crate::error::{next_move, reason};
use crate::ipc::board::SlotPhase;
use crate::ipc::linking::BanState;
use crate::ipc::steering::{Order, OrderAnswer, channel};
use crate::net::operator::Operator;
use crate::processes::control::NewController;
use crate::processes::control::controllers::{ControllerEvent, WaitingController};
use crate::system::clock::now;
use crate::system::signal::signal_one;
use crate::watch::history::Totals;

/// In the place of the id of a control process: an operator of the next generation waits.
const NO_CONTROLLER: i32 = 0;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Handles what controllers have sent. In a control process that it forked, returns its role.
    pub(super) fn serve_controllers(
        &mut self,
        state: &ServerState,
        events: &mut Vec<ServerEvent>,
    ) -> Option<NewRole> {
        for event in self.controllers.take_events() {
            match event {
                ControllerEvent::Refused(operator) => self.log.control_denied(operator),
                ControllerEvent::Request(waiting) => {
                    if let Some(new) = self.serve_controller(waiting) {
                        return Some(new);
                    }
                }
                // It is a child that is not reaped yet.
                ControllerEvent::Overdue(pid) => _ = signal_one(pid, Signal::KILL),
                ControllerEvent::Order(pid, order @ (Order::Reload | Order::Upgrade), path) => {
                    self.replace_for(pid, order, path);
                }
                ControllerEvent::Order(pid, order, _) => self.carry_out(pid, order, state, events),
            }
        }
        if self.killings.has_new {
            // Before the next wait: nothing else may wake the supervisor.
            self.check_killings();
            self.answer_operators();
        }
        None
    }

    /// Forks the control process of a controller. Returns in both: `Some` in the new one.
    fn serve_controller(&mut self, waiting: WaitingController) -> Option<NewRole> {
        self.drain_notices();
        let WaitingController { stream, operator } = waiting;
        let started = channel().map_err(std::io::Error::from).and_then(|(orders, receiver)| {
            let new = NewController { stream, operator, orders };
            Ok((self.start_control(new)?, self.first_server_fd.duplicate(receiver)?))
        });
        match started {
            Ok((Err(new), _)) => return Some(new),
            Ok((Ok(pid), receiver)) => self.controllers.add(pid, operator, receiver.into()),
            Err(why) => {
                let next = format!("the command can be repeated; {}", next_move::of_call(&why));
                self.log.error("cannot serve a controller", &reason(&why), &next);
            }
        }
        None
    }

    /// Carries out an order of a control process, if its operator may give it.
    fn carry_out(&mut self, pid: i32, order: Order, state: &ServerState, events: &mut Vec<ServerEvent>) {
        if order == Order::Follow {
            let answer = self.controllers.follow(pid);
            return self.answer(pid, answer);
        }
        // A control process gives no other order than its operator may; one that is taken over
        // could.
        let Some(operator) = self.controllers.get_mut(pid).map(|served| served.operator) else { return };
        match order {
            _ if !operator.rank.may(order.needs()) => {}
            Order::Kill { slot, id } => self.kill_for(pid, slot, id),
            Order::AwaitKilled => {
                if let Some(served) = self.controllers.get_mut(pid) {
                    served.awaits_killed = true;
                    let count = served.killed + served.killing as u64;
                    self.log.control(operator, "kill", Some(&count.to_string()));
                }
                self.answer_killed(pid);
            }
            _ if state.is_stopping() => self.answer(pid, OrderAnswer::Stopping),
            order => self.change(pid, operator, order, events),
        }
    }

    /// Changes a server that does not stop.
    fn change(&mut self, pid: i32, operator: Operator, order: Order, events: &mut Vec<ServerEvent>) {
        match order {
            Order::Pause => {
                self.log.control(operator, "pause", None);
                self.pause(pid);
            }
            Order::Resume => {
                self.log.control(operator, "resume", None);
                self.resume();
                self.answer(pid, OrderAnswer::Done(1));
            }
            Order::Drain => {
                self.log.control(operator, "drain", None);
                self.await_stop(pid);
                // As by the signal: older generations drain, too, and no newer one takes over.
                self.on_command(Signal::TERM.as_raw(), None, events);
            }
            // Only a master has services.
            Order::DrainService(_) => self.answer(pid, OrderAnswer::Stopping),
            // They are carried out in every phase.
            Order::Follow | Order::Kill { .. } | Order::AwaitKilled => {}
            // `replace_for` carries them out.
            Order::Reload | Order::Upgrade => {}
            Order::Ban { block, seconds } => {
                let time = seconds.map_or_else(String::new, |seconds| format!(" for {seconds} s"));
                self.log.control(operator, "ban", Some(&format!("{block}{time}")));
                // It logs the clients.
                events.push(ServerEvent::RoleNeeded(Role::Rejector));
                let answer = self.ban(block, seconds);
                self.answer(pid, answer);
            }
            Order::Set { setting, value } => {
                let answer = self.set(pid, setting, value, events);
                if !matches!(answer, Some(OrderAnswer::Refused(_))) {
                    let detail = format!("{}={}", setting.name(), setting.show(value));
                    self.log.control(operator, "set", Some(&detail));
                }
                answer.into_iter().for_each(|answer| self.answer(pid, answer));
            }
            Order::Unban { block } => {
                self.log.control(operator, "unban", Some(&block.to_string()));
                let answer = self.unban(block);
                self.answer(pid, answer);
            }
        }
    }

    fn await_stop(&mut self, pid: i32) {
        if let Some(served) = self.controllers.get_mut(pid) {
            served.awaits_stop = true;
        }
    }

    fn answer(&mut self, pid: i32, answer: OrderAnswer) {
        if let Some(served) = self.controllers.get_mut(pid) {
            served.orders.answer(answer);
        }
    }

    // Ending connections.

    /// Begins to end a connection for an operator.
    fn kill_for(&mut self, by: i32, slot: usize, id: u64) {
        let is_served = slot < self.capacity.total()
            && self.memory.board.phase(slot) == SlotPhase::Serving
            && self.memory.board.entry(slot).id == id;
        if !is_served || !self.killings.add(slot, id, by) {
            return;
        }
        // That of an older generation is no process of this one: its supervisor ends it.
        self.older.kill(slot, id);
        if let Some(served) = self.controllers.get_mut(by) {
            served.killing += 1;
        }
    }

    /// Begins to end a connection that the next generation of the server wants to end.
    pub(super) fn kill_for_successor(&mut self, id: u64) {
        let board = &self.memory.board;
        let is_it = |slot: &usize| board.phase(*slot) == SlotPhase::Serving && board.entry(*slot).id == id;
        if let Some(slot) = (0..self.capacity.total()).find(is_it) {
            self.kill_for(NO_CONTROLLER, slot, id);
        }
    }

    /// Signals the connections that operators end, and kills those whose time after TERM is over.
    pub(super) fn check_killings(&mut self) {
        let now = Instant::now();
        if self.killings.by_slot.is_empty() {
            return;
        }
        self.forget_left_slots();
        if !self.killings.has_new && self.killings.deadline().is_none_or(|at| at > now) {
            return;
        }
        let [term, kill] = self.killings.take_due(now);
        self.signal_slots(term, &[Signal::TERM, Signal::CONT]);
        self.signal_slots(kill, &[Signal::KILL]);
    }

    /// Forgets the connections of workers that have gone on to another one before their signal.
    fn forget_left_slots(&mut self) {
        if self.settings.reuse <= 1 {
            return;
        }
        let board = &self.memory.board;
        let is_left =
            |slot: usize, id: u64| board.phase(slot) != SlotPhase::Serving || board.entry(slot).id != id;
        let all = self.killings.by_slot.iter().map(|(slot, killing)| (*slot, killing.id));
        let left: Vec<(usize, u64)> = all.filter(|(slot, id)| is_left(*slot, *id)).collect();
        for (slot, id) in left {
            self.killings.take(slot, id);
        }
    }

    /// Signals the processes of the connections in these slots. A slot can have another connection
    /// by now, which is not meant.
    fn signal_slots(&mut self, slots: Vec<usize>, signals: &[Signal]) {
        if slots.is_empty() {
            return;
        }
        let slots: HashSet<usize> = slots.into_iter().collect();
        self.drain_notices();
        let snapshots = self.snapshots(Instant::now());
        let others = self.others_of_programs();
        for snapshot in snapshots.iter().filter(|snapshot| slots.contains(&snapshot.slot)) {
            if self.killings.reason(snapshot.slot, snapshot.id).is_some() {
                self.signal_descendants(snapshot, signals, &others);
            }
        }
    }

    /// Answers the controllers whose connections have all ended, and those that wait for a pause.
    /// Runs after the slots are free.
    pub(super) fn answer_operators(&mut self) {
        for (pid, has_ended) in std::mem::take(&mut self.killings.ended_for) {
            if let Some(served) = self.controllers.get_mut(pid) {
                served.killing -= 1;
                served.killed += u64::from(has_ended);
                served.is_one_left |= !has_ended;
            }
            self.answer_killed(pid);
        }
        self.check_pause();
        self.check_maximum();
        self.note_rates();
    }

    fn answer_killed(&mut self, pid: i32) {
        if let Some(served) = self.controllers.get_mut(pid)
            && served.awaits_killed
            && served.killing == 0
        {
            served.awaits_killed = false;
            served.orders.answer(match served.is_one_left {
                true => OrderAnswer::NotEnded,
                false => OrderAnswer::Done(served.killed),
            });
        }
    }

    // Pausing.

    /// Has the forkers stop accepting, and spares leave.
    fn pause(&mut self, pid: i32) {
        self.capacity.is_paused = true;
        self.stop_accepting();
        if let Some(served) = self.controllers.get_mut(pid) {
            served.awaits_pause = true;
        }
        self.check_pause();
    }

    fn resume(&mut self) {
        self.capacity.is_paused = false;
        // A change that needs the pause ends it.
        if !self.capacity.is_pending() {
            self.accept_again();
        }
        self.check_pause();
    }

    /// Has the forkers stop accepting, and spares leave, unless they do already.
    pub(super) fn stop_accepting(&mut self) {
        if !self.memory.board.is_paused() {
            self.capacity.pauses += 1;
            self.memory.board.set_paused(Some(self.capacity.pauses));
            // Spares see it until the server accepts again.
            let _ = rustix::io::write(&self.channels.retire, &1u64.to_ne_bytes());
        }
        self.channels.wake_forkers();
    }

    /// Whether no process accepts any more, after [`Supervisor::stop_accepting`].
    pub(super) fn has_stopped_accepting(&self) -> bool {
        let board = &self.memory.board;
        board.is_pause_seen(self.settings.forkers) && !board.has_waiting_spares()
    }

    /// Has the forkers accept again.
    pub(super) fn accept_again(&mut self) {
        if self.memory.board.is_paused() {
            self.memory.board.set_paused(None);
            // It is not read in a drain, which spares are to see for ever.
            if !self.memory.board.is_draining() {
                let _ = rustix::io::read(&self.channels.retire, &mut [0; 8]);
            }
        }
        self.channels.wake_forkers();
    }

    /// Answers those that wait for a pause, once no process accepts any more.
    fn check_pause(&mut self) {
        if !self.controllers.served.iter().any(|served| served.awaits_pause) {
            return;
        }
        if !self.capacity.is_paused || self.has_stopped_accepting() {
            for served in self.controllers.served.iter_mut().filter(|served| served.awaits_pause) {
                served.awaits_pause = false;
                served.orders.answer(OrderAnswer::Done(1));
            }
        }
    }

    /// Notes totals for the rates of the last minutes.
    fn note_rates(&mut self) {
        if self.controllers.are_possible() {
            let board = &self.memory.board;
            let totals = Totals { accepted: board.connections(), rejected: board.rejected_total() };
            let at = Duration::from_nanos(now().saturating_sub(self.history.started));
            self.history.rates.note(at, totals);
        }
    }

    // Bans.

    /// Bans a block for some seconds, or for ever.
    pub(super) fn ban(&mut self, block: Prefix, seconds: Option<u64>) -> OrderAnswer {
        let now = SystemTime::now();
        let state = seconds.map_or(BanState::Forever, |seconds| end_of(now, seconds));
        let Some(ban) = self.bans.order(block, state, now) else { return OrderAnswer::Full };
        self.put_bans_in_force();
        self.tell_ban(ban);
        OrderAnswer::Done(1)
    }

    /// Lifts the ban of a block.
    pub(super) fn unban(&mut self, block: Prefix) -> OrderAnswer {
        let Some(lift) = self.bans.order(block, BanState::Lifted, SystemTime::now()) else {
            return OrderAnswer::Done(0);
        };
        self.put_bans_in_force();
        self.tell_ban(lift);
        OrderAnswer::Done(1)
    }

    /// Lifts the bans whose time is over, and puts those of other nodes in force.
    pub(super) fn check_bans(&mut self) {
        let now = SystemTime::now();
        if self.bans.has_ended(now) && self.bans.expire(now) {
            self.bans.note_change();
        }
        let now = Instant::now();
        if self.bans.publish.take(now) {
            self.bans.put_on(&self.memory.board);
        }
        if self.bans.save.take(now) {
            self.save_bans();
        }
    }

    /// At once: the operator is told that it was done.
    fn put_bans_in_force(&mut self) {
        self.bans.put_on(&self.memory.board);
        self.save_bans();
    }

    pub(super) fn save_bans(&mut self) {
        if let Err(why) = self.bans.save() {
            let next = format!("they hold until the server stops; {}", next_move::of_file(&why));
            self.log.error("cannot keep the bans for the next start", &reason(&why), &next);
        }
    }
}
