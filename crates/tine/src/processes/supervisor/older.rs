//! The connections that supervisors of older generations serve: they count in this one.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};

use crate::ipc::handover::lineage::{Lineage, LineageEvent, LineageMessage};
use crate::ipc::handover::state::{OlderConnection, OlderEnd};

/// A supervisor of an older generation.
#[derive(Debug)]
struct OlderSupervisor {
    lineage: Lineage,
    /// The slot of each of its connections, by id.
    slots: HashMap<u64, usize>,
    /// Connections that have begun when no slot was free.
    without_slot: Vec<OlderConnection>,
}

/// All supervisors of older generations that still serve.
#[derive(Debug, Default)]
pub(super) struct Older {
    supervisors: Vec<OlderSupervisor>,
}

/// What an older supervisor has said.
#[derive(Debug)]
pub(super) enum OlderEvent {
    Ended(OlderEnd),
    Began(OlderConnection),
    Gone,
}

impl Older {
    /// Adds the lineages of a state: that of its sender first, as its connections count them.
    pub(super) fn add(&mut self, lineages: impl IntoIterator<Item = Lineage>) {
        let supervisor =
            |lineage| OlderSupervisor { lineage, slots: HashMap::new(), without_slot: Vec::new() };
        self.supervisors.extend(lineages.into_iter().map(supervisor));
    }

    /// Enters a connection into the slot that `hold` finds for it. Without one, it gets the next
    /// that a connection leaves.
    pub(super) fn enter(
        &mut self,
        generation: usize,
        connection: OlderConnection,
        hold: impl FnOnce(&OlderConnection) -> Option<usize>,
    ) {
        let Some(supervisor) = self.supervisors.get_mut(generation) else { return };
        match hold(&connection) {
            Some(slot) => _ = supervisor.slots.insert(connection.id, slot),
            None => supervisor.without_slot.push(connection),
        }
    }

    /// Gives a slot that a connection has left to one that has none; `None` if all have one.
    pub(super) fn give(&mut self, slot: usize) -> Option<OlderConnection> {
        let supervisor =
            self.supervisors.iter_mut().find(|supervisor| !supervisor.without_slot.is_empty())?;
        let connection = supervisor.without_slot.remove(0);
        supervisor.slots.insert(connection.id, slot);
        Some(connection)
    }

    /// Forgets a supervisor that has ended.
    pub(super) fn forget(&mut self, generation: usize) {
        self.supervisors.remove(generation);
    }

    /// The number of connections.
    pub(super) fn connections(&self) -> usize {
        let count = |one: &OlderSupervisor| one.slots.len() + one.without_slot.len();
        self.supervisors.iter().map(count).sum()
    }

    /// The lineages, by generation.
    pub(super) fn lineages(&self) -> Vec<&Lineage> {
        self.supervisors.iter().map(|supervisor| &supervisor.lineage).collect()
    }

    /// The generation that serves the connection in each slot.
    pub(super) fn generations(&self) -> HashMap<usize, usize> {
        let supervisors = self.supervisors.iter().enumerate();
        supervisors
            .flat_map(|(generation, supervisor)| {
                supervisor.slots.values().map(move |slot| (*slot, generation))
            })
            .collect()
    }

    /// The connections without a slot, each with the generation that serves it.
    pub(super) fn without_slot(&self) -> impl Iterator<Item = OlderConnection> + '_ {
        let supervisors = self.supervisors.iter().enumerate();
        supervisors.flat_map(|(generation, supervisor)| {
            supervisor
                .without_slot
                .iter()
                .map(move |connection| OlderConnection { generation, ..*connection })
        })
    }

    /// Asks the supervisor of a connection to end it. False if this one serves it itself.
    pub(super) fn kill(&self, slot: usize, id: u64) -> bool {
        let is_its = |supervisor: &&OlderSupervisor| supervisor.slots.get(&id) == Some(&slot);
        let Some(supervisor) = self.supervisors.iter().find(is_its) else { return false };
        // If it has ended, so has the connection.
        let _ = supervisor.lineage.send(&LineageMessage::Kill(id));
        true
    }

    /// Tells all supervisors that the service stops.
    pub(super) fn drain(&self) {
        for supervisor in &self.supervisors {
            // One that has ended serves none.
            let _ = supervisor.lineage.send(&LineageMessage::Drain);
        }
    }

    pub(super) fn poll(&self) -> impl Iterator<Item = PollFd<'_>> {
        let lineages = self.supervisors.iter().map(|supervisor| supervisor.lineage.as_fd());
        lineages.map(|lineage| PollFd::from_borrowed_fd(lineage, PollFlags::IN))
    }

    pub(super) fn events(&mut self) -> Vec<(usize, OlderEvent)> {
        let mut events = Vec::new();
        for (generation, supervisor) in self.supervisors.iter().enumerate() {
            while let Some(event) = supervisor.lineage.receive() {
                match event {
                    LineageEvent::Message(LineageMessage::Ended(ends), _) => {
                        let ends = ends.iter().filter_map(OlderEnd::from_json);
                        events.extend(ends.map(|end| (generation, OlderEvent::Ended(end))));
                    }
                    LineageEvent::Message(LineageMessage::Began(connection), _) => {
                        let connection = OlderConnection::from_json(&connection);
                        events
                            .extend(connection.map(|connection| (generation, OlderEvent::Began(connection))));
                    }
                    LineageEvent::Message(..) => {}
                    LineageEvent::Ended => {
                        events.push((generation, OlderEvent::Gone));
                        break;
                    }
                }
            }
        }
        events
    }

    pub(super) fn take(&mut self, generation: usize, id: u64) -> Option<usize> {
        let supervisor = self.supervisors.get_mut(generation)?;
        supervisor.without_slot.retain(|connection| connection.id != id);
        supervisor.slots.remove(&id)
    }

    pub(super) fn take_all(&mut self, generation: usize) -> Vec<(u64, usize)> {
        let Some(supervisor) = self.supervisors.get_mut(generation) else { return Vec::new() };
        supervisor.without_slot.clear();
        supervisor.slots.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::net::peer::Peer;

    fn connection(id: u64) -> OlderConnection {
        OlderConnection {
            id,
            pid: 1,
            peer: Peer::Unix(None),
            proxied: None,
            start: 1,
            waited: None,
            generation: 0,
        }
    }

    #[test]
    fn older_supervisors_are_heard_one_by_one() {
        let (first, own_first) = Lineage::pair().expect("a lineage");
        let (second, own_second) = Lineage::pair().expect("a lineage");
        let mut older = Older::default();
        older.add([own_first, own_second]);
        older.enter(0, connection(7), |_| Some(3));
        older.enter(1, connection(5), |_| Some(4));
        older.enter(9, connection(1), |_| panic!("there is no such generation"));
        assert_eq!((older.connections(), older.generations()), (2, HashMap::from([(3, 0), (4, 1)])));
        let end = OlderEnd { id: 7, fault: None, record: None };
        let connection = connection(8);
        first.send(&LineageMessage::Ended(vec![end.to_json(), json!("nonsense")])).expect("sent");
        second.send(&LineageMessage::Began(connection.to_json())).expect("sent");
        assert!(older.kill(4, 5) && !older.kill(4, 7) && !older.kill(5, 5));
        assert!(matches!(second.receive(), Some(LineageEvent::Message(LineageMessage::Kill(5), _))));
        older.drain();
        assert!(matches!(second.receive(), Some(LineageEvent::Message(LineageMessage::Drain, _))));
        drop(second);
        let events = older.events();
        assert!(
            matches!(
                &events[..],
                [(0, OlderEvent::Ended(found)), (1, OlderEvent::Began(began)), (1, OlderEvent::Gone)]
                    if *found == end && *began == connection
            ),
            "{events:?}"
        );
        assert_eq!((older.take(0, 7), older.take(0, 7), older.take_all(1)), (Some(3), None, vec![(5, 4)]));
    }

    #[test]
    fn a_connection_without_a_slot_gets_the_next_one() {
        let (_first, own) = Lineage::pair().expect("a lineage");
        let mut older = Older::default();
        older.add([own]);
        (1..=3).for_each(|id| older.enter(0, connection(id), |_| None));
        assert_eq!((older.connections(), older.without_slot().count(), older.take(0, 1)), (3, 3, None));
        assert_eq!(older.give(9).map(|connection| connection.id), Some(2));
        assert_eq!((older.take(0, 2), older.take(0, 3), older.give(9)), (Some(9), None, None));
    }
}
