//! The state that a supervisor hands to the next one, and takes from the one before.

use super::Supervisor;
use super::bans::Bans;
use crate::admission::reason::Reason;
use crate::connection::handler::Handler;
use crate::error::Error;
use crate::ipc::board::SlotPhase;
use crate::ipc::handover::lineage::Lineage;
use crate::ipc::handover::state::{OlderConnection, ServiceState};
use crate::system::clock::now;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// The state, while no process accepts.
    pub(super) fn compose_state(&self) -> String {
        let (board, history) = (&self.memory.board, &self.history);
        let counts = |count: &dyn Fn(Reason) -> u64| {
            let counts = Reason::ALL.into_iter().map(|reason| (reason, count(reason)));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        let [buckets, penalties] = self.memory.admission.export_sources(now());
        ServiceState {
            // Clients that were accepted and wait get their numbers later, from this supervisor.
            last_id: board.connections() + self.clients_without_id(),
            generation: history.generation,
            is_paused: self.capacity.is_paused,
            started: Some(history.started),
            peak: history.peak as u64,
            ended: history.ended_total,
            failed: history.failed_total,
            unrecorded: history.unrecorded_total,
            delayed: counts(&|reason| board.delayed(reason)),
            rejected: counts(&|reason| board.rejected(reason)),
            reported: counts(&|reason| board.reported(reason)),
            connections: self.all_connections(),
            history: self.history.oldest_first().cloned().collect(),
            bans: Some(self.bans.to_text()),
            buckets,
            penalties,
            metrics: Some(self.history.metrics.clone()),
        }
        .to_text()
    }

    /// The connections of this generation and of those before it.
    fn all_connections(&self) -> Vec<OlderConnection> {
        let board = &self.memory.board;
        let serving = (0..self.capacity.total()).filter(|slot| board.phase(*slot) == SlotPhase::Serving);
        let generations = self.older.generations();
        let connection = |slot: usize| {
            let entry = board.entry(slot);
            let generation = match board.is_older(slot) {
                true => generations.get(&slot)? + 1,
                false => 0,
            };
            Some(OlderConnection {
                id: entry.id,
                pid: board.pid(slot),
                peer: entry.peer,
                proxied: board.proxied(slot),
                start: entry.start,
                waited: board.waited(slot),
                generation,
            })
        };
        let without_slot = self.older.without_slot().map(|older| OlderConnection {
            // As seen from the next generation.
            generation: older.generation + 1,
            ..older
        });
        serving.filter_map(connection).chain(without_slot).collect()
    }

    /// The most clients that helpers can have which get a number later.
    fn clients_without_id(&self) -> u64 {
        let helpers = self.channels.delayer.is_some() || self.channels.proxy_reader.is_some();
        if helpers { self.settings.max_connections as u64 + self.memory.board.waiting() } else { 0 }
    }

    /// Takes a state over, before any process accepts.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn restore_state(
        &mut self,
        text: &[u8],
        lineage: Lineage,
        older: Vec<Lineage>,
    ) -> Result<(), Error> {
        let no_state = |why: &str| {
            let what = format_args!("the older server has sent what is no state: {why}").to_string();
            Error::usage(what, "restart the server")
        };
        let state = ServiceState::parse(text).map_err(|why| no_state(&why))?;
        let board = &self.memory.board;
        board.number_after(state.last_id);
        board.count_on(&state.rejected, &state.reported, &state.delayed);
        self.memory.admission.import_sources([state.buckets.as_ref(), state.penalties.as_ref()]);
        self.history.generation = state.generation.saturating_add(1);
        self.history.ended_total = state.ended;
        self.history.failed_total = state.failed;
        self.history.unrecorded_total = state.unrecorded;
        self.history.record_count(usize::try_from(state.peak).unwrap_or(usize::MAX));
        if let Some(started) = state.started {
            self.history.take_start(started);
        }
        self.history.take_over(state.history);
        if let Some(metrics) = state.metrics {
            self.history.metrics = metrics;
        }
        if let Some(bans) = state.bans {
            // Without them, clients would be admitted that an operator has banned.
            let bans = Bans::from_text(&bans, self.settings.state_file.clone());
            self.bans = bans.ok_or_else(|| no_state("its bans are none"))?;
            self.bans.put_on(board);
        }
        self.older.add(std::iter::once(lineage).chain(older));
        for connection in state.connections {
            self.hold_older(connection, connection.generation);
        }
        self.withdraw_surplus();
        if state.is_paused {
            self.capacity.is_paused = true;
            self.stop_accepting();
        }
        Ok(())
    }

    /// Withdraws the slots beyond the maximum, which are there for connections of older
    /// generations: those that are taken are withdrawn when the connections have ended.
    fn withdraw_surplus(&mut self) {
        let missing = self.capacity.missing(self.settings.max_connections);
        let withdrawn = self.memory.board.withdraw_free(missing);
        self.capacity.withdrawn += withdrawn;
    }
}
