//! Access rules in shared memory: the supervisor rewrites them when a file has changed, and forkers
//! and spares read them. Connection processes do not have this memory.

use std::io;

use super::compiled::CompiledRules;
use super::decide::{self, RuleContext, RuleVerdict};
use super::list::RuleSource;
use super::local::ClientGroups;
use super::names::PendingNameRules;
use super::seqlock::SeqLocked;
use super::table;
use super::window::Moment;
use crate::admission::reason::Reason;
use crate::error::{Error, next_move};
use crate::net::peer::{Credentials, Peer};

/// Access rules in force.
#[derive(Debug)]
pub(crate) struct LiveRules {
    table: SeqLocked,
    context: RuleContext,
}

impl LiveRules {
    /// Puts compiled rules into shared memory.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(rules: &CompiledRules) -> io::Result<LiveRules> {
        let table = SeqLocked::new(&rules.words, rules.source.has_files())?;
        Ok(LiveRules { table, context: rules.context.clone() })
    }

    /// Why a client is denied, if it is. Of the rules, those about users and groups apply to
    /// clients of Unix sockets, those about machines to clients of vsock sockets, and those about
    /// addresses to others.
    #[inline]
    pub(crate) fn denial(&self, peer: Peer, groups: ClientGroups) -> Option<Reason> {
        let address = match peer {
            Peer::Tcp(address) => address,
            Peer::Unix(client) => return self.denial_of_local(client, groups),
            Peer::Vsock { cid, .. } => return self.denial_of_machine(cid),
        };
        let moment = self.moment();
        reason(self.table.read(|table| decide::by_address(table, &self.context, address.ip(), moment)))
    }

    #[cold]
    fn denial_of_machine(&self, cid: u32) -> Option<Reason> {
        let moment = self.moment();
        reason(self.table.read(|table| decide::by_machine(table, &self.context, cid, moment)))
    }

    /// The time; `None` where it does not matter, so that the clock is not read.
    #[inline]
    fn moment(&self) -> Option<Moment> {
        (!self.context.windows.is_empty()).then(Moment::now)
    }

    #[cold]
    fn denial_of_local(&self, client: Option<Credentials>, groups: ClientGroups) -> Option<Reason> {
        let RuleContext { windows, local, .. } = &self.context;
        if decide::is_outside(windows, self.moment()) {
            return Some(Reason::Time);
        }
        (!local.is_empty() && local.deny(client, groups)).then_some(Reason::Denied)
    }

    /// Whether a rule allows a client explicitly: by its address, its user or its machine.
    pub(crate) fn lists(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self
                .table
                .read(|table| table::find(table, address.ip()).is_some_and(|found| found.answer.allows)),
            Peer::Unix(client) => client.is_some_and(|client| self.context.local.allow_user(client.uid)),
            Peer::Vsock { cid, .. } => self.context.machines.decide(cid) == Some(true),
        }
    }

    /// The rules by host name still to be applied to a client; `None` if there cannot be any.
    pub(crate) fn pending_name_rules(&self, peer: Peer) -> Option<PendingNameRules> {
        let Peer::Tcp(address) = peer else { return None };
        if !self.context.names {
            return None;
        }
        Some(self.table.read(|table| decide::pending(table, &self.context, address.ip())))
    }

    /// The variables that the rule for a client sets, as `NAME=VALUE` and a zero byte each.
    pub(crate) fn variables(&self, peer: Peer) -> Vec<u8> {
        let Peer::Tcp(address) = peer else { return Vec::new() };
        if !self.context.sets_variables {
            return Vec::new();
        }
        self.table.read(|table| match table::find(table, address.ip()).map(|found| found.answer.text) {
            Some(at @ 1..) => table::text(table, at),
            _ => Vec::new(),
        })
    }

    /// Reads the files again and puts their rules in force; returns the number of rules. Runs in
    /// the supervisor.
    ///
    /// # Errors
    /// A file cannot be read, has a line that is not a rule, or is too large: the old rules stay.
    pub(crate) fn reload(&self, source: &RuleSource) -> Result<usize, Error> {
        let list = source.read()?;
        self.table.publish(&list.to_words()).map_err(|why| {
            Error::system("cannot make the table of access rules", &why, next_move::of_call(&why))
        })?;
        Ok(list.rules.len())
    }

    /// Leaves the rules out of processes forked from now on: connection processes do not need them,
    /// and each mapping makes a fork slower.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.table.exclude_from_fork()
    }

    /// Unmaps the rules in this process.
    pub(crate) fn unmap(self) -> io::Result<()> {
        self.table.unmap()
    }
}

/// The reason of a denial.
#[inline]
fn reason(verdict: RuleVerdict) -> Option<Reason> {
    match verdict {
        RuleVerdict::Rule(_, true) | RuleVerdict::Default(true) | RuleVerdict::NeedsName => None,
        RuleVerdict::Rule(_, false) | RuleVerdict::Default(false) => Some(Reason::Denied),
        RuleVerdict::OutsideAccessTimes => Some(Reason::Time),
    }
}
