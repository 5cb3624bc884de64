//! What a forker has: the part that only trusted processes may touch, and the part that connection
//! processes get.

use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use tine_sys::exec::CgroupEntry;
use tine_sys::fd::Floor;
use tine_sys::memory::FlagReader;
use tine_sys::process::{Alone, exit_now};

use super::calls::CallsLink;
use super::door::Door;
use super::templates::Templates;
use crate::admission::limits::LimitsMode;
use crate::ipc::board::places::PlaceHolder;
use crate::ipc::board::{Entry, SlotPhase};
use crate::ipc::members::Members;
use crate::ipc::messages::{Sender, StderrPipe};
use crate::ipc::stats::ConnStats;
use crate::log::Log;
use crate::net::accept::Accepted;
use crate::net::listener::Listener;
use crate::processes::conn::ConnContext;
use crate::processes::jailer::client::Jailer;
use crate::program::served::LaunchContext;
use crate::settings::Settings;
use crate::system::cgroups::Cgroups;
use crate::system::wakeup::Wakeup;

/// What the supervisor hands to a forker: everything that the forker keeps.
pub(crate) struct ForkerStart<'a, H> {
    /// The number of the forker, from 0.
    pub(crate) index: usize,
    pub(crate) supervisor: Pid,
    pub(crate) alone: &'a Alone,
    pub(crate) handler: &'a mut H,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) door: Door,
    pub(crate) link: SupervisorLink,
    /// Of a full jail whose processes may connect.
    pub(crate) calls: Option<CallsLink>,
    pub(crate) stderr: Option<Sender<StderrPipe>>,
    pub(crate) stats: ConnStats,
    pub(crate) members: Members,
    pub(crate) drain: FlagReader,
    pub(crate) log: Log,
    pub(crate) program_path: Option<CString>,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) first_server_fd: Floor,
}

/// A forker, and a spare until its client connects: what is trusted, and what a connection may
/// touch.
pub(crate) struct Forker<'a, H> {
    pub(crate) trusted: Trusted<'a>,
    pub(crate) context: ConnContext<'a, H>,
}

/// What forkers and spares may touch and connection processes may not.
pub(crate) struct Trusted<'a> {
    pub(crate) index: usize,
    pub(super) alone: &'a Alone,
    pub(crate) settings: &'a Settings,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) door: Door,
    pub(crate) link: SupervisorLink,
    pub(super) cgroups: Option<Cgroups>,
    /// Of a full jail.
    pub(crate) jailer: Option<Jailer>,
    /// Of a program that is started warm.
    pub(super) templates: Option<Templates<'a>>,
    pub(super) first_server_fd: Floor,
}

/// The descriptors between a forker, with its spares, and the supervisor.
pub(crate) struct SupervisorLink {
    /// Wakes this forker.
    pub(crate) control: Wakeup,
    /// Readable, for ever, once spares have to leave.
    pub(crate) retire: OwnedFd,
    /// Wakes the supervisor.
    pub(crate) supervisor: Wakeup,
}

impl Trusted<'_> {
    /// Whether forked processes inherit the board and the tables of sources: spares need them.
    pub(crate) fn is_inherited(&self) -> bool {
        self.settings.has_spares()
    }

    /// Whether clients beyond the limit on connections are rejected, and no spare waits for them.
    #[inline]
    pub(super) fn rejects_without_spares(&self) -> bool {
        self.door.admission.limits().rejects_when_full() && !self.settings.has_spares()
    }

    /// Takes what decides about other connections away from this process; exits if that fails.
    ///
    /// The memory of its values is not freed: the process would copy each page that it writes to.
    /// Their descriptors are closed together ([`tine_sys::fd::close_from`]) or when a program is
    /// executed.
    #[inline(always)]
    pub(crate) fn give_up(self) {
        let Trusted { door, listeners, link, cgroups, jailer, templates, .. } = self;
        let _open = ManuallyDrop::new((listeners, link, cgroups, jailer, templates));
        if door.unmap().is_err() {
            exit_now(111);
        }
    }

    /// Enters an admitted client into its slot as a connection.
    #[inline]
    pub(crate) fn begin(&self, stats: ConnStats, slot: usize, client: &Accepted) -> Entry {
        let board = &self.door.board;
        if self.settings.notes_sockets {
            // It cannot fail for a descriptor that was just made.
            let inode = rustix::fs::fstat(&client.socket).map_or(0, |stat| stat.st_ino);
            board.set_socket(slot, inode);
        }
        board.enter_proxied(slot, client.proxied.as_deref());
        board.enter_delay(slot, client.delay.as_ref());
        stats.clear(slot);
        board.begin(slot, client.peer)
    }

    /// What a connection process needs and cannot look up. `executes`: it executes a program.
    #[inline]
    pub(crate) fn launch_context(&self, slot: usize, entry: &Entry, executes: bool) -> LaunchContext {
        let cgroup = self.cgroup_entry(slot);
        if !executes {
            return LaunchContext { cgroup, ..LaunchContext::default() };
        }
        let Door { board, admission, .. } = &self.door;
        let pending_name_rules = admission.pending_name_rules(entry.peer);
        let reports_names = pending_name_rules.is_some() && board.limits_mode() == LimitsMode::Report;
        LaunchContext {
            cgroup,
            variables: admission.variables(entry.peer),
            pending_name_rules,
            reports_names,
            counts: if self.counts_connections() { self.counts(entry) } else { (0, 0) },
        }
    }

    /// The entry into the cgroup of a slot, if it has one.
    #[inline]
    pub(crate) fn cgroup_entry(&self, slot: usize) -> Option<CgroupEntry> {
        let cgroups = self.cgroups.as_ref()?;
        Some(cgroups.of(slot, self.door.board.cgroup(slot)).entry())
    }

    /// Has the supervisor wake the forkers that wait for a slot, after one was released without a
    /// connection.
    pub(super) fn offer_slot(&self) {
        let board = &self.door.board;
        if (0..self.settings.forkers).any(|forker| board.wants_slot(forker)) {
            board.offer_slot();
            self.wake_supervisor();
        }
    }

    /// Whether a prepare function can ask for the numbers of connections.
    fn counts_connections(&self) -> bool {
        self.settings.program.as_ref().is_some_and(|program| program.prepare.is_some())
    }

    /// The connections of the server, and those of the same source.
    fn counts(&self, entry: &Entry) -> (usize, usize) {
        let Door { board, admission, .. } = &self.door;
        let source = entry.peer.block(admission.limits().aggregations.source);
        let of_source = source.map_or(0, |source| board.slots_in(source).count());
        (board.count(SlotPhase::Serving, None), of_source)
    }

    /// The connection of a used place is on the board. After the last one the supervisor begins to
    /// drain.
    #[inline(always)]
    pub(crate) fn settle_place(&self, holder: PlaceHolder) {
        if self.door.board.settle_place(holder) {
            self.wake_supervisor();
        }
    }

    /// Wakes the supervisor, unless a wakeup is pending.
    #[inline]
    pub(crate) fn wake_supervisor(&self) {
        if self.door.board.claim_wakeup() {
            self.link.supervisor.wake();
        }
    }

    /// Leaves a notice about a slot. The supervisor is woken at once only to log it, or to begin to
    /// monitor connections.
    #[inline]
    pub(crate) fn notify_change(&self, slot: usize, log: &Log) {
        self.door.board.mark_changed(slot);
        if log.logs_connections() || self.door.board.take_notice_request() {
            self.wake_supervisor();
        }
    }
}
