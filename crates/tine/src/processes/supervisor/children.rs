//! The children of a supervisor, by process id.

use std::collections::HashMap;

use rustix::io::Errno;
use tine_sys::process::Ended;

use super::lingering::Lingering;
use super::role::Role;
use crate::system::cgroup::Cgroup;
use crate::system::orphans::PreexistingChildren;

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildKind {
    /// A process with this role.
    Role(Role),
    /// The process in this slot of the board: a connection, a spare or a worker.
    Slot(usize),
}

/// The children of a supervisor, and what is left of those that have exited.
pub(super) struct Children {
    pub(super) table: ChildTable,
    /// Children that the program had before it became a server: not to be reaped here.
    pub(super) preexisting: PreexistingChildren,
    /// Roles that have exited and are not logged yet.
    pub(super) ended_roles: Vec<(Role, Ended)>,
    /// How often each role was restarted.
    pub(super) restarts: HashMap<Role, u32>,
    /// Programs that have exited while descendants live.
    pub(super) lingering: HashMap<i32, Lingering>,
    /// Processes that could not be signalled, and why.
    pub(super) not_signalled: HashMap<i32, Errno>,
    /// Cgroups of connections that have ended while processes live in them.
    pub(super) populated_cgroups: Vec<Cgroup>,
    /// Slots with a notice; kept for its memory.
    pub(super) changed: Vec<usize>,
}

impl Children {
    /// No child yet; this process becomes the parent of orphans.
    pub(super) fn new() -> Children {
        Children {
            table: ChildTable::default(),
            preexisting: PreexistingChildren::record_and_become_subreaper(),
            ended_roles: Vec::new(),
            restarts: HashMap::new(),
            lingering: HashMap::new(),
            not_signalled: HashMap::new(),
            populated_cgroups: Vec::new(),
            changed: Vec::new(),
        }
    }
}

/// The living children. An id is in the table from its fork until it is reaped, so that no signal
/// can go to another process.
#[derive(Debug, Default)]
pub(super) struct ChildTable {
    kinds: HashMap<i32, ChildKind>,
    /// The id of the last connection in each slot whose accept line is logged.
    logged: Vec<u64>,
    roles: usize,
    /// Connections whose accept line is logged and whose end line is not.
    connections: usize,
}

impl ChildTable {
    /// Adds a child; false if it is in the table already.
    pub(super) fn add(&mut self, pid: i32, kind: ChildKind) -> bool {
        let is_new = self.kinds.insert(pid, kind).is_none();
        if is_new {
            self.roles += usize::from(matches!(kind, ChildKind::Role(_)));
        }
        is_new
    }

    pub(super) fn remove(&mut self, pid: i32) -> Option<ChildKind> {
        let kind = self.kinds.remove(&pid)?;
        self.roles -= usize::from(matches!(kind, ChildKind::Role(_)));
        Some(kind)
    }

    /// The slot of a connection process.
    pub(super) fn slot(&self, pid: i32) -> Option<usize> {
        match self.kind(pid)? {
            ChildKind::Slot(slot) => Some(slot),
            ChildKind::Role(_) => None,
        }
    }

    pub(super) fn kind(&self, pid: i32) -> Option<ChildKind> {
        self.kinds.get(&pid).copied()
    }

    /// The ids of all children.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> + '_ {
        self.kinds.keys().copied()
    }

    /// Connections, spares and workers, with their slots.
    pub(super) fn in_slots(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        self.kinds.iter().filter_map(|(pid, kind)| match kind {
            ChildKind::Slot(slot) => Some((*pid, *slot)),
            ChildKind::Role(_) => None,
        })
    }

    pub(super) fn roles(&self) -> impl Iterator<Item = (i32, Role)> + '_ {
        self.kinds.iter().filter_map(|(pid, kind)| match kind {
            ChildKind::Role(role) => Some((*pid, *role)),
            ChildKind::Slot(_) => None,
        })
    }

    pub(super) fn has_forkers(&self) -> bool {
        self.roles().any(|(_, role)| role.is_forker())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Whether no slot has a process.
    pub(super) fn are_slots_empty(&self) -> bool {
        self.kinds.len() == self.roles
    }

    /// Counts a connection whose accept line is to be logged. Returns the number of connections;
    /// `None` if the line was logged before.
    pub(super) fn count_accept(&mut self, slot: usize, id: u64) -> Option<usize> {
        // Grown on demand: what exists before the forkers are forked is copied by each fork.
        if slot >= self.logged.len() {
            self.logged.resize(slot + 1, 0);
        }
        if self.logged[slot] == id {
            return None;
        }
        self.logged[slot] = id;
        self.connections += 1;
        Some(self.connections)
    }

    /// Counts the end of a connection.
    pub(super) fn count_end(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    pub(super) fn connections(&self) -> usize {
        self.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_slots_are_kept_apart() {
        let mut table = ChildTable::default();
        table.add(10, ChildKind::Role(Role::Forker(0)));
        table.add(11, ChildKind::Slot(1));
        table.add(11, ChildKind::Slot(1));
        assert!(!table.are_slots_empty());
        assert_eq!(table.in_slots().collect::<Vec<_>>(), [(11, 1)]);
        assert_eq!(table.remove(11), Some(ChildKind::Slot(1)));
        assert_eq!(table.remove(11), None);
        assert!(table.are_slots_empty() && !table.is_empty());
        assert_eq!(table.roles().collect::<Vec<_>>(), [(10, Role::Forker(0))]);
    }

    #[test]
    fn an_accept_counts_once() {
        let mut table = ChildTable::default();
        assert_eq!(
            [table.count_accept(0, 5), table.count_accept(0, 5), table.count_accept(1, 6)],
            [Some(1), None, Some(2)]
        );
        table.count_end();
        assert_eq!(table.count_accept(0, 7), Some(2));
    }
}
