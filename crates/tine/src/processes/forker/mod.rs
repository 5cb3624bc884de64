//! The forker: accepts connections and gives each one a process.
//!
//! Client bytes never reach this process: only the child reads them. Neither its memory nor its
//! descriptors grow with the connections: it keeps the accepted socket for as long as `clone` takes.
//! Its children are the supervisor's (`CLONE_PARENT`), so its death ends none of them, and it reaps
//! nothing.

mod accept;
pub(crate) mod enter;
mod fork;
pub(crate) mod run;
mod state;

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use tine_sys::cmdline::Title;
use tine_sys::fd::Floor;
use tine_sys::process::Alone;

use crate::admission::Admission;
use crate::admission::block::Aggregation;
use crate::admission::penalty::Fault;
use crate::log::Log;
use crate::net::listener::Listener;
use crate::net::peer::Peer;
use crate::processes::delayer;
use crate::processes::rejector::{self, Reason};
use crate::program::launch::{LaunchContext, Launcher};
use crate::settings::Settings;
use crate::shared::board::{Board, Entry, Orders, now};
use crate::system::cgroup::Cgroups;
use crate::system::procfs::Stat;

/// A forker: what it was given at its fork, all of it made by the supervisor.
pub(crate) struct Forker<'a, H> {
    /// Its number, from 0.
    pub(crate) index: usize,
    pub(crate) supervisor: Pid,
    pub(crate) alone: &'a Alone,
    pub(crate) settings: &'a Settings,
    pub(crate) listeners: &'a [Listener],
    pub(crate) board: Board,
    /// Readable when the supervisor has something to say.
    pub(crate) control: OwnedFd,
    /// Readable, for ever, once spares are to leave.
    pub(crate) retire: &'a OwnedFd,
    /// Wakes the supervisor.
    pub(crate) wake: &'a OwnedFd,
    /// To the refuser, where clients are refused.
    pub(crate) rejector: Option<&'a OwnedFd>,
    /// To and from the delayer, where clients wait.
    pub(crate) delayer: Option<&'a delayer::Ends>,
    /// To the scribe, until the launcher takes it.
    pub(crate) stderr_logger: Option<OwnedFd>,
    pub(crate) log: &'a mut Log,
    pub(crate) title: Option<Title>,
    /// Descriptors from here on are the server's; children keep none of them.
    pub(crate) first_server_fd: Floor,
    pub(crate) handler: &'a mut H,
    pub(crate) door: &'a Admission,
    /// The file of the program that is executed for each connection.
    pub(crate) program_path: Option<&'a CStr>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    /// What is executed instead of calling the handler.
    pub(crate) launcher: Option<Launcher<'a>>,
}

impl<H> Forker<'_, H> {
    /// Whether this process's children get the trusted tables.
    pub(crate) fn board_is_inherited(&self) -> bool {
        self.settings.has_spares()
    }

    /// Writes a new connection into its slot.
    #[inline]
    pub(crate) fn begin(&self, slot: usize, peer: Peer, socket: &OwnedFd) -> Entry {
        if self.settings.rules().are_any() {
            // It cannot fail for a descriptor that was just made.
            let inode = rustix::fs::fstat(socket).map_or(0, |stat| stat.st_ino);
            self.board.note_socket(slot, inode);
        }
        self.board.begin(slot, peer)
    }

    /// With whom the processes of connections die.
    pub(crate) fn parent_death_pid(&self) -> Option<Pid> {
        (!self.settings.leaves_connections).then_some(self.supervisor)
    }

    /// What the process of a connection cannot find out.
    pub(crate) fn launch_context(&self, slot: usize, peer: Peer) -> LaunchContext {
        let cgroup = self.cgroups.map(|cgroups| cgroups.of(slot, self.board.cgroup(slot)).entrance());
        // Handlers have no environment of their own.
        let variables = self.launcher.as_ref().map(|_| self.door.variables(peer));
        LaunchContext {
            cgroup,
            variables: variables.unwrap_or_default(),
            pending_name_rules: self.door.pending_name_rules(peer),
        }
    }

    /// Whether a client may come in now. If not, it is dealt with.
    #[inline]
    pub(crate) fn admits(&mut self, socket: &OwnedFd, peer: Peer) -> bool {
        let Some(reason) = self.door.objection(peer) else { return true };
        if reason == Reason::Denied {
            self.charge(peer, Fault::RefuseConnection);
        }
        self.delay_or_reject(socket, peer, reason, None);
        false
    }

    /// Charges a client's source for what it did.
    pub(crate) fn charge(&mut self, peer: Peer, fault: Fault) {
        if let Some(time) = self.door.charge(peer, fault) {
            self.log.penalty(&peer, fault.word(), time);
        }
    }

    /// Why the client in this slot has more connections than it may, if its source or its prefix has. The
    /// connections that are just ending do not count. Of two that come at the same moment for the last place, both
    /// may be refused; never are both served.
    /// Who has waited until the server drains is served in any case.
    pub(crate) fn is_beyond(&self, slot: usize, has_waited: bool) -> Option<Reason> {
        if has_waited && self.board.orders() == Orders::Drain {
            return None;
        }
        let is_beyond = |most: usize, aggregation: Aggregation| {
            // Twice, instead of on the heap: what a forker writes between two forks is copied, a page at a time.
            let others = || self.board.other_pids_in_block(slot, aggregation);
            others().count() >= most && others().filter(|pid| !is_ending(*pid)).count() >= most
        };
        let mut limits = self.settings.connection_limits();
        limits.find_map(|(most, aggregation, reason)| is_beyond(most, aggregation).then_some(reason))
    }

    /// Sends a client that may not be served now where it belongs: to wait, where that helps, until the end of its time if it has
    /// waited before; else to be refused.
    pub(crate) fn delay_or_reject(&self, socket: &OwnedFd, peer: Peer, reason: Reason, until: Option<u64>) {
        let delayer = self.delayer.filter(|_| !matches!(reason, Reason::Denied | Reason::Time));
        if !delayer.is_some_and(|delayer| self.delay(delayer, socket, peer, reason, until)) {
            self.reject(socket, peer, reason);
        }
    }

    /// Sends a client to the delayer; false if that is far behind, or the server drains.
    fn delay(
        &self,
        delayer: &delayer::Ends,
        socket: &OwnedFd,
        peer: Peer,
        reason: Reason,
        until: Option<u64>,
    ) -> bool {
        let until = until.unwrap_or_else(|| self.settings.delayed_until(now()));
        // Not left to the delayer: until that has its turn, others could overtake. It takes the marks away.
        let marks = self.door.lines(peer).map(|block| self.door.hold(&block, true).then_some(block));
        let mut marked = [None; 2];
        marked.iter_mut().zip(marks).for_each(|(place, mark)| *place = mark);
        let send = || delayer::hand_over(&delayer.come, socket, peer, reason, until);
        let is_sent = self.board.pass_unless_draining(send);
        if !is_sent {
            // The delayer will not hear of it.
            marked.iter().flatten().for_each(|block| _ = self.door.hold(block, false));
        }
        is_sent
    }

    /// Sends a client to the refuser.
    pub(crate) fn reject(&self, socket: &OwnedFd, peer: Peer, reason: Reason) {
        if let Some(rejector) = self.rejector {
            rejector::hand_over(rejector, socket, peer, reason);
        }
    }

    /// Tells the delayer of the end of a connection, if it waits for one.
    pub(crate) fn tell_delayer(&self) {
        if let Some(delayer) = self.delayer.filter(|_| self.board.delayer_wants_slot()) {
            delayer::ring(&delayer.bell);
        }
    }

    /// Wakes the supervisor, unless it has been and has not answered yet.
    pub(crate) fn wake_supervisor(&self) {
        if self.board.claim_wakeup() {
            // Full means that it is awake.
            let _ = rustix::io::write(self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Tells the supervisor of a slot: at once only if it has a line to write about it, or begins to watch.
    pub(crate) fn notify_change(&self, slot: usize) {
        self.board.mark_changed(slot);
        if self.log.logs_connections() || self.board.take_notice_request() {
            self.wake_supervisor();
        }
    }
}

/// Whether a process has begun to end. Without an id it is just being made.
fn is_ending(pid: i32) -> bool {
    pid != 0 && Stat::of(pid).is_none_or(|stat| stat.is_ending())
}
