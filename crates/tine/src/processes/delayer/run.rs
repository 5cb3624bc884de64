//! The delayer's loop: waits, receives clients, and releases or rejects queued ones.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tine_sys::process::exit_now;
use tine_sys::wait;

use super::DelayerStart;
use super::queue::{DelayQueue, QueuedClient};
use super::release::Pass;
use crate::ipc::messages::{Delayed, Rejection, Treatment};
use crate::lifecycle::timing::LAST_CLIENTS_WAIT;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{StartReport, start_helper};
use crate::system::clock::now;
use crate::system::open_files::raise_limit;

/// Interval of the checks whether queued clients have disconnected, in nanoseconds.
const DISCONNECT_CHECK: u64 = 1_000_000_000;

/// Clients that are received before queued ones get a chance to be released.
const RECEIVE_BATCH: usize = 64;

/// Runs as the delayer until the server drains and the queue is empty.
pub(crate) fn run(delayer: &DelayerStart, report: StartReport) -> ! {
    let role = ConfinedRole::Delayer;
    let entered =
        start_helper(delayer.alone, delayer.identity.as_ref(), delayer.supervisor, c"tine: delayer");
    let queue = entered.map(|()| {
        // The clients of a predecessor were disconnected with it.
        delayer.admission.clear_all_queued();
        DelayQueue::new(descriptors_for(delayer.admission.limits().max_delayed()))
    });
    let mut queue = report.finish(queue, &role);
    let mut pass = Pass::default();
    let mut check_at = now() + DISCONNECT_CHECK;
    while !delayer.board.is_draining() {
        let check = (!queue.is_empty()).then_some(check_at);
        let deadline = [queue.next_deadline(), pass.next_chance, check].into_iter().flatten().min();
        let woken = delayer.wait(deadline, pass.forkers_behind);
        delayer.receive(&mut queue);
        let expired = queue.take_expired(now());
        delayer.update_marks(&mut queue);
        expired.iter().for_each(|client| delayer.reject(client));
        let checks = check_at <= now();
        if checks {
            check_at = now() + DISCONNECT_CHECK;
            remove_disconnected(&mut queue);
        }
        // The heads of the queues have declined; they are asked again when there is a reason.
        let has_chance = pass.next_chance.is_some_and(|chance| chance <= now());
        if woken || has_chance || checks || !expired.is_empty() {
            pass = delayer.release_all_ready(&mut queue);
        } else {
            delayer.release_new_queues(&mut queue, &mut pass);
        }
        delayer.update_marks(&mut queue);
        delayer.board.set_waiting(queue.len());
    }
    delayer.receive_last(&mut queue);
    delayer.release_everyone(&mut queue);
    exit_now(0)
}

/// Raises the limit on descriptors for this many queued clients, and returns for how many there
/// are. Clients beyond that are rejected with a text; without a descriptor they could only be
/// closed.
fn descriptors_for(max: usize) -> usize {
    const OTHER_DESCRIPTORS: u64 = 64;
    let (_, limit) = raise_limit(max as u64 + OTHER_DESCRIPTORS);
    usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS)).map_or(max, |limit| limit.clamp(1, max))
}

impl DelayerStart<'_> {
    /// Waits for clients and for a reason to release some. True if a connection has ended, or
    /// forkers that were behind take clients again.
    fn wait(&self, deadline: Option<u64>, forkers_behind: bool) -> bool {
        let mut poll =
            vec![PollFd::new(&self.arrivals, PollFlags::IN), PollFd::new(&self.wakeup, PollFlags::IN)];
        if forkers_behind {
            poll.push(PollFd::new(&self.released, PollFlags::OUT));
        }
        // Interrupted: everything is checked in any case.
        let _ = wait::until(&mut poll, deadline.map(instant));
        self.wakeup.clear();
        poll[1..].iter().any(|entry| !entry.revents().is_empty())
    }

    /// Receives clients from the forkers; false if there may be more.
    fn receive(&self, queue: &mut DelayQueue<OwnedFd>) -> bool {
        for _ in 0..RECEIVE_BATCH {
            match self.arrivals.receive() {
                Ok(Some((client, message))) => {
                    if let Some(displaced) = queue.push(self.queued(client, message)) {
                        // Before the client knows: its next connection must not find it queued.
                        self.update_marks(queue);
                        self.reject(&displaced);
                    }
                }
                // The end of the channel, after the supervisor's; or no client.
                Ok(None) | Err(rustix::io::Errno::AGAIN) => return true,
                // Out of descriptors: the client is closed.
                Err(_) => {}
            }
        }
        false
    }

    /// Receives the clients that forkers were sending when the drain began.
    fn receive_last(&self, queue: &mut DelayQueue<OwnedFd>) {
        let deadline = Instant::now() + LAST_CLIENTS_WAIT;
        loop {
            // Checked before the channel: a forker that is not sending now sends no more.
            let forkers_send = self.board.is_passing();
            while !self.receive(queue) {}
            if !forkers_send || deadline <= Instant::now() {
                return;
            }
            let mut poll = [PollFd::new(&self.arrivals, PollFlags::IN)];
            let _ = wait::until(&mut poll, Some(deadline.min(Instant::now() + Duration::from_millis(1))));
        }
    }

    fn queued(&self, client: OwnedFd, message: Delayed) -> QueuedClient<OwnedFd> {
        let Delayed { peer, reason, since, deadline, proxied } = message;
        let mut blocks = self.admission.limits().delay_blocks(peer);
        let blocks = [blocks.next(), blocks.next()];
        QueuedClient { client, peer, blocks, reason, since, deadline, proxied }
    }

    /// Marks the blocks that have queued clients by now, and clears the marks of those that have
    /// none.
    fn update_marks(&self, queue: &mut DelayQueue<OwnedFd>) {
        let changes = queue.take_changes();
        changes.iter().for_each(|(block, queued)| _ = self.admission.set_queued(block, *queued));
    }

    fn reject(&self, client: &QueuedClient<OwnedFd>) {
        let QueuedClient { peer, reason, proxied, .. } = *client;
        let message = Rejection { peer, reason, treatment: Treatment::Reject, proxied };
        self.board.count_rejected(reason);
        self.rejector.send(client.client.as_fd(), &message);
    }
}

/// Removes the clients that were reset, or closed in both directions. A client that has only ended
/// its own direction still waits for an answer.
fn remove_disconnected(queue: &mut DelayQueue<OwnedFd>) {
    queue.remove_if(|client| {
        let mut poll = [PollFd::new(&client.client, PollFlags::empty())];
        matches!(wait::now(&mut poll), Ok(1))
    });
}

/// A time of the monotonic clock as an [`Instant`], which uses the same clock.
fn instant(time: u64) -> Instant {
    Instant::now() + Duration::from_nanos(time.saturating_sub(now()))
}
