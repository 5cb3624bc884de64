//! Who is who: the processes that the supervisor is the parent of, by their ids.

use std::collections::HashMap;

use super::state::Helper;

/// What a process of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A forker or the refuser.
    Helper(Helper),
    /// The process in this slot of the board.
    Slot(usize),
}

/// The living children of the server. An id is in here from its fork until it is reaped, so that no
/// signal can go to a stranger.
#[derive(Debug, Default)]
pub(super) struct ChildTable {
    roles: HashMap<i32, Role>,
    /// Id of the last connection in a slot whose accept line is written.
    told: Vec<u64>,
    helpers: usize,
    /// Connections whose accept line is written and whose end line is not.
    connections: usize,
}

impl ChildTable {
    /// Says whether it was not known before.
    pub(super) fn add(&mut self, pid: i32, role: Role) -> bool {
        let is_new = self.roles.insert(pid, role).is_none();
        if is_new {
            self.helpers += usize::from(matches!(role, Role::Helper(_)));
        }
        is_new
    }

    pub(super) fn remove(&mut self, pid: i32) -> Option<Role> {
        let role = self.roles.remove(&pid)?;
        self.helpers -= usize::from(matches!(role, Role::Helper(_)));
        Some(role)
    }

    pub(super) fn role(&self, pid: i32) -> Option<Role> {
        self.roles.get(&pid).copied()
    }

    /// Everybody's process ids.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> + '_ {
        self.roles.keys().copied()
    }

    /// Processes in slots: connections and spares.
    pub(super) fn in_slots(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        self.roles.iter().filter_map(|(pid, role)| match role {
            Role::Slot(slot) => Some((*pid, *slot)),
            Role::Helper(_) => None,
        })
    }

    pub(super) fn helpers(&self) -> impl Iterator<Item = (i32, Helper)> + '_ {
        self.roles.iter().filter_map(|(pid, role)| match role {
            Role::Helper(helper) => Some((*pid, *helper)),
            Role::Slot(_) => None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    pub(super) fn no_connections(&self) -> bool {
        self.roles.len() == self.helpers
    }

    /// Notes that the accept line of a connection is being written; says how many are served now, or
    /// nothing if the line was written before.
    pub(super) fn log_accept_once(&mut self, slot: usize, id: u64) -> Option<usize> {
        // Grown when it is needed: what is there before the forkers are forked, each fork copies.
        if slot >= self.told.len() {
            self.told.resize(slot + 1, 0);
        }
        if self.told[slot] == id {
            return None;
        }
        self.told[slot] = id;
        self.connections += 1;
        Some(self.connections)
    }

    /// Notes that the end line of a connection is being written.
    pub(super) fn log_end(&mut self) {
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
    fn helpers_and_slots_are_told_apart() {
        let mut people = ChildTable::default();
        people.add(10, Role::Helper(Helper::Forker(0)));
        people.add(11, Role::Slot(1));
        people.add(11, Role::Slot(1));
        assert!(!people.no_connections());
        assert_eq!(people.in_slots().collect::<Vec<_>>(), [(11, 1)]);
        assert_eq!(people.remove(11), Some(Role::Slot(1)));
        assert_eq!(people.remove(11), None);
        assert!(people.no_connections() && !people.is_empty());
        assert_eq!(people.helpers().collect::<Vec<_>>(), [(10, Helper::Forker(0))]);
    }

    #[test]
    fn each_connection_is_told_once() {
        let mut people = ChildTable::default();
        assert_eq!(
            [people.log_accept_once(0, 5), people.log_accept_once(0, 5), people.log_accept_once(1, 6)],
            [Some(1), None, Some(2)]
        );
        people.log_end();
        assert_eq!(people.log_accept_once(0, 7), Some(2));
    }
}
