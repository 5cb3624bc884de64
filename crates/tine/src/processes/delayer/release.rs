//! Which queued clients are released to the forkers.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use tine_sys::wait;

use super::DelayerStart;
use super::counts::Counts;
use super::queue::{DelayQueue, QueuedClient};
use crate::admission::block::Block;
use crate::admission::limits::{LimitsMode, SourceLimits};
use crate::ipc::messages::Delayed;
use crate::system::clock::now;

/// Why the heads of the queues were not released.
#[derive(Default)]
pub(super) struct Pass {
    /// One waits for the end of a connection.
    wants_slot: bool,
    /// When the rates and penalties admit the next one at the earliest.
    pub(super) next_chance: Option<u64>,
    /// The forkers take no more clients for now.
    pub(super) forkers_behind: bool,
}

impl DelayerStart<'_> {
    /// Releases every client that its limits admit.
    pub(super) fn release_all_ready(&self, queue: &mut DelayQueue<OwnedFd>) -> Pass {
        // Set before the connections are counted: one that ends in between wakes this process.
        self.board.set_delayer_wants_slot(!queue.is_empty());
        let mut counts = Counts::default();
        for limit in self.in_force().connections(self.admission.limits().aggregations) {
            counts.add(self.board.blocks(limit.aggregation));
        }
        let mut pass = Pass::default();
        queue.release_ready(|client| self.try_release(client, &mut pass, &mut counts, |_| 0));
        self.board.set_delayer_wants_slot(pass.wants_slot);
        pass
    }

    /// Releases the clients of new queues that their limits admit.
    pub(super) fn release_new_queues(&self, queue: &mut DelayQueue<OwnedFd>, pass: &mut Pass) {
        self.board.set_delayer_wants_slot(!queue.is_empty());
        let mut counts = Counts::default();
        let count = |block| self.board.slots_in(block).count();
        queue.release_new(|client| self.try_release(client, pass, &mut counts, count));
        self.board.set_delayer_wants_slot(pass.wants_slot);
    }

    /// Releases every client, whatever its limits: the server drains, and no accepted client is
    /// lost.
    pub(super) fn release_everyone(&self, queue: &mut DelayQueue<OwnedFd>) {
        while !queue.is_empty() {
            let mut poll = [PollFd::new(&self.released, PollFlags::OUT)];
            let _ = wait::until(&mut poll, None);
            queue.release_ready(|client| self.forkers_accept() && self.release(client));
        }
        self.admission.clear_all_queued();
    }

    /// Releases a client if its limits admit it. `count` counts the connections that are not in
    /// `counts`.
    fn try_release(
        &self,
        client: &QueuedClient<OwnedFd>,
        pass: &mut Pass,
        counts: &mut Counts,
        count: impl Fn(Block) -> usize,
    ) -> bool {
        if self.board.limits_mode() == LimitsMode::Report {
            // An operator has set that since: no client waits any longer.
            let is_sent = self.forkers_accept() && self.release(client);
            pass.forkers_behind |= !is_sent;
            return is_sent;
        }
        let in_force = self.in_force();
        let limits = || in_force.connections_of(client.peer, self.admission.limits().aggregations);
        if !counts.are_below(limits(), count) {
            pass.wants_slot = true;
            return false;
        }
        if !self.has_chance(client, pass) {
            return false;
        }
        pass.forkers_behind |= !self.forkers_accept();
        if pass.forkers_behind {
            return false;
        }
        if !self.admission.take_token(client.peer, &in_force) {
            // Another client took the token: the next chance is later.
            self.has_chance(client, pass);
            return false;
        }
        let sent = self.release(client);
        if sent {
            counts.add(limits().map(|(_, block)| block));
        }
        pass.forkers_behind |= !sent;
        sent
    }

    /// Whether rates and penalties admit a client now; if not, notes when they do.
    fn has_chance(&self, client: &QueuedClient<OwnedFd>, pass: &mut Pass) -> bool {
        let chance = self.admission.earliest_admission(client.peer, &self.in_force());
        let is_now = chance <= now();
        if !is_now {
            pass.next_chance = Some(pass.next_chance.map_or(chance, |next| next.min(chance)));
        }
        is_now
    }

    /// The limits per source and prefix that are in force.
    fn in_force(&self) -> SourceLimits {
        self.admission.in_force(self.board.changed_limits())
    }

    /// Whether the channel to the forkers has room.
    fn forkers_accept(&self) -> bool {
        let mut poll = [PollFd::new(&self.released, PollFlags::OUT)];
        matches!(wait::now(&mut poll), Ok(1))
    }

    fn release(&self, client: &QueuedClient<OwnedFd>) -> bool {
        let QueuedClient { peer, reason, since, deadline, proxied, .. } = *client;
        self.released.send(client.client.as_fd(), &Delayed { peer, reason, since, deadline, proxied })
    }
}
