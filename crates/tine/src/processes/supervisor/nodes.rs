//! What other nodes have told by way of the link, and what this node tells them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Supervisor;
use super::role::Role;
use super::state::ServerEvent;
use crate::admission::access::prefix::Prefix;
use crate::admission::block::Block;
use crate::admission::fleet_use::{FleetNodes, TICK};
use crate::connection::handler::Handler;
use crate::ipc::linking::{BanRecord, BanState, LinkRecord, ServiceRecord};
use crate::net::peer::Peer;
use crate::processes::bus_link::BusLink;
use crate::processes::control::view::FleetView;
use crate::system::clock;

/// A penalty of another node lasts no longer than this, whatever that says.
const LONGEST_PENALTY: Duration = Duration::from_secs(24 * 60 * 60);

fn nodes(view: &FleetView) -> FleetNodes {
    let FleetView { is_connected, present, lost, .. } = *view;
    FleetNodes { is_connected, present, lost }
}

/// The record for the link; `None` for a source that is of this machine alone.
fn used_record(source: Block, held: u32, taken: u32) -> Option<ServiceRecord> {
    Some(ServiceRecord::Used { source: source.network()?, held, taken })
}

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Restarts the link where that is due, and puts in force what it tells of other nodes.
    pub(super) fn look_after_link(&mut self, events: &mut Vec<ServerEvent>) {
        let Some(link) = &mut self.fleet.link else { return };
        let before = nodes(&self.fleet.view);
        let records = link.look_after(self.alone, &mut self.controllers, &mut self.log);
        if link.takes_all() {
            let used = self.fleet.used.tell_all().into_iter();
            let used = used.filter_map(|(source, held, taken)| used_record(source, held, taken));
            link.tell(self.bans.records().map(ServiceRecord::Ban).chain(used));
        }
        for record in records {
            match record {
                Some(record) => self.on_link_record(record, events),
                None => {
                    self.fleet.used.forget_remote();
                    self.fleet.view.is_connected = false;
                }
            }
        }
        if nodes(&self.fleet.view) != before {
            let FleetView { is_connected, present, lost, .. } = self.fleet.view;
            self.log.fleet(is_connected, present, lost);
        }
        self.tick_fleet();
    }

    /// When the link is to be looked after at the latest.
    pub(super) fn fleet_deadline(&self) -> Option<Instant> {
        let tick = self.fleet.link.is_some().then_some(self.fleet.tick_at);
        self.fleet.link.as_ref().and_then(BusLink::deadline).into_iter().chain(tick).min()
    }

    /// Whether sources have limits over all nodes, or had some at the start: the other nodes count
    /// on what this one tells.
    fn limits_fleet(&self) -> bool {
        self.fleet.link.is_some() && self.memory.admission.fleet().is_some()
    }

    /// Puts other limits over all nodes in force.
    pub(super) fn change_fleet_limits(&mut self) {
        self.fleet.used.set_limits(self.settings.limits.fleet);
        if self.limits_fleet() {
            self.tell_use();
        }
    }

    /// Looks at the board, and tells what it says.
    fn tick_fleet(&mut self) {
        let now = Instant::now();
        if self.fleet.link.is_none() || self.fleet.tick_at > now {
            return;
        }
        self.fleet.tick_at = now + TICK;
        for (peer, milliseconds) in self.memory.board.punished_since(&mut self.fleet.punished) {
            self.tell_penalty(peer, Duration::from_millis(milliseconds));
        }
        if self.limits_fleet() {
            self.tell_use();
        }
    }

    /// Tells the use of sources, and sets what this node may do.
    fn tell_use(&mut self) {
        let aggregation = self.settings.limits.aggregations.source;
        let mut held: HashMap<Block, u32> = HashMap::new();
        self.memory.board.served_blocks(aggregation).for_each(|source| *held.entry(source).or_default() += 1);
        let nodes = nodes(&self.fleet.view);
        let now = clock::now();
        let tick = self.fleet.used.on_tick(held, nodes, now);
        if let Some(tables) = self.memory.admission.fleet() {
            tick.caps.iter().for_each(|(source, cap)| tables.set_cap(source, *cap, now));
            if let Some(rate) = self.settings.limits.fleet.rate_per_source {
                let tokens = tick.tokens.iter();
                tokens.for_each(|(source, tokens)| {
                    tables.set_tokens(source, *tokens, rate, nodes.count(), now);
                });
            }
        }
        let told = tick.told.into_iter();
        let told = told.filter_map(|(source, held, taken)| used_record(source, held, taken));
        self.fleet.link.iter_mut().for_each(|link| link.tell(told.clone()));
    }

    /// A connection has ended here.
    pub(super) fn note_fleet_end(&mut self, peer: Peer) {
        if self.limits_fleet()
            && let Some(source) = peer.block(self.settings.limits.aggregations.source)
        {
            self.fleet.used.on_end(source);
        }
    }

    fn on_link_record(&mut self, record: LinkRecord, events: &mut Vec<ServerEvent>) {
        match record {
            LinkRecord::Bus(is_there) => self.fleet.view.is_connected = is_there,
            LinkRecord::Nodes { present, lost } => {
                let view = &mut self.fleet.view;
                (view.present, view.lost) = (present, lost);
                self.memory.board.set_fleet_nodes(nodes(view).count());
            }
            LinkRecord::Ban(ban) => self.take_ban(ban, events),
            LinkRecord::Penalty { source, milliseconds } => {
                self.take_penalty(source, Duration::from_millis(milliseconds));
            }
            LinkRecord::Used { source, held, taken } => {
                let peer = Peer::Tcp((source.to_network().0, 0).into());
                let source = peer.block(self.settings.limits.aggregations.source);
                source.into_iter().for_each(|source| self.fleet.used.on_remote(source, held, taken));
            }
            LinkRecord::Drain => self.drain_for_fleet(events),
            LinkRecord::Warning(text) => self.log.warning(&format!("link: {text}")),
            LinkRecord::Ready | LinkRecord::Failed(_) => {}
        }
    }

    /// A ban of another node is not logged by each node: those can be very many.
    fn take_ban(&mut self, ban: BanRecord, events: &mut Vec<ServerEvent>) {
        if !self.bans.merge(ban) {
            return;
        }
        self.fleet.view.bans += 1;
        self.bans.note_change();
        if ban.state != BanState::Lifted {
            // It logs the clients.
            events.push(ServerEvent::RoleNeeded(Role::Rejector));
        }
    }

    /// Has the source of another node's client rejected here, too, if this server has penalties.
    fn take_penalty(&mut self, source: Prefix, time: Duration) {
        let peer = Peer::Tcp((source.to_network().0, 0).into());
        if let Some(time) = self.memory.admission.punish(peer, time.min(LONGEST_PENALTY)) {
            self.fleet.view.penalties += 1;
            self.log.penalty(&peer, "fleet", time);
        }
    }

    fn drain_for_fleet(&mut self, events: &mut Vec<ServerEvent>) {
        let may_drain = self.fleet.link.as_ref().is_some_and(BusLink::may_drain);
        match (may_drain, self.settings.master) {
            (true, None) => {
                self.log.warning("an operator of the fleet has this node drain");
                self.on_command(Signal::TERM.as_raw(), None, events);
            }
            // The others go on.
            (true, Some(_)) if self.handovers.ask_to_drain() => {
                self.log.warning("an operator of the fleet has this service drain");
            }
            (true, Some(_)) => self.log.warning(
                "an operator of the fleet wants this service to drain, and its master does not hear: \
                 drain it here (tine drain)",
            ),
            (false, _) => self.log.warning(
                "an operator of the fleet wants this node to drain, which it does with --bus-control only",
            ),
        }
    }

    /// Tells other nodes of a ban that was given or lifted here.
    pub(super) fn tell_ban(&mut self, ban: BanRecord) {
        self.fleet.link.iter_mut().for_each(|link| link.tell([ServiceRecord::Ban(ban)]));
    }

    /// Tells other nodes of a penalty that was given here.
    pub(super) fn tell_penalty(&mut self, peer: Peer, time: Duration) {
        let Some(link) = &mut self.fleet.link else { return };
        let source = peer.block(self.memory.admission.limits().aggregations.source);
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A client of a Unix socket is of this machine alone.
        if let Some(source) = source.and_then(|source| source.network()) {
            link.tell([ServiceRecord::Penalty { source, milliseconds }]);
        }
    }
}
