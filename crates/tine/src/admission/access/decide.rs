//! Decides about a client by the access rules, on a table of words. Makes no system call.

use std::net::IpAddr;
use std::rc::Rc;

use super::local::LocalRules;
use super::machines::MachineRules;
use super::names::PendingNameRules;
use super::table::{self, TableMatch};
use super::window::{Moment, Window};
use super::words::RuleWords;

/// Bits of an IPv6 address; IPv4 addresses are mapped into IPv6.
const ADDRESS_BITS: u8 = 128;

/// What a decision needs beside the table.
#[derive(Clone, Debug)]
pub(super) struct RuleContext {
    /// Clients are allowed in these only; none stands for all day.
    pub(super) windows: Rc<[Window]>,
    /// Rules may set variables.
    pub(super) sets_variables: bool,
    /// Rules may name hosts.
    pub(super) names: bool,
    /// The rules about clients of Unix sockets.
    pub(super) local: Rc<LocalRules>,
    /// The rules about clients of vsock sockets.
    pub(super) machines: Rc<MachineRules>,
}

/// The decision about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleVerdict {
    /// By the rule of this number, which allows (true) or denies.
    Rule(u32, bool),
    /// No rule applies: allowed (true) or denied.
    Default(bool),
    /// A rule by host name may outweigh the rules by address; the connection's process decides.
    NeedsName,
    /// No client is allowed at this time.
    OutsideAccessTimes,
}

/// Whether a moment is outside the access times.
pub(super) fn is_outside(windows: &[Window], moment: Option<Moment>) -> bool {
    !windows.is_empty() && moment.is_some_and(|moment| !windows.iter().any(|window| window.contains(moment)))
}

/// Decides about a client of a vsock socket by its machine and, if `moment` is given, by time. Of
/// the blocks, only the one of every client applies to it.
#[cold]
pub(super) fn by_machine(
    table: impl RuleWords,
    context: &RuleContext,
    cid: u32,
    moment: Option<Moment>,
) -> RuleVerdict {
    if is_outside(&context.windows, moment) {
        return RuleVerdict::OutsideAccessTimes;
    }
    let by_block = || table::of_every_client(table).map(|answer| answer.allows);
    let allows = context.machines.decide(cid).or_else(by_block);
    RuleVerdict::Default(allows.unwrap_or_else(|| table::default_allows(table)))
}

/// Decides by address and, if `moment` is given, by time.
pub(super) fn by_address(
    table: impl RuleWords,
    context: &RuleContext,
    address: IpAddr,
    moment: Option<Moment>,
) -> RuleVerdict {
    if is_outside(&context.windows, moment) {
        return RuleVerdict::OutsideAccessTimes;
    }
    match table::find(table, address) {
        found if needs_name(table, context, found) => RuleVerdict::NeedsName,
        Some(found) => RuleVerdict::Rule(found.answer.rule, found.answer.allows),
        None => RuleVerdict::Default(table::default_allows(table)),
    }
}

/// Decides by address and host name; returns the number of the rule, if one applies, and whether
/// the client is allowed.
pub(super) fn by_name(
    table: impl RuleWords,
    context: &RuleContext,
    address: IpAddr,
    name: Option<&str>,
) -> (Option<u32>, bool) {
    let pending = pending(table, context, address);
    match pending.rule_for(name) {
        Some(rule) => (Some(rule.rule), rule.allows),
        None => (table::find(table, address).map(|found| found.answer.rule), pending.allows),
    }
}

/// The rules by host name that are still to be applied to a client, and the result if none applies.
/// Also for a client about which [`by_address`] decided without its name: the rules may have
/// changed since.
pub(super) fn pending(table: impl RuleWords, context: &RuleContext, address: IpAddr) -> PendingNameRules {
    let found = table::find(table, address);
    PendingNameRules {
        allows: found.map_or_else(|| table::default_allows(table), |found| found.answer.allows),
        in_a_block: found.is_some_and(|found| found.length > 0),
        names: if needs_name(table, context, found) { table::names(table) } else { Vec::new() },
    }
}

/// Whether a host name can outweigh the rule found by address: not where that is about a single
/// address.
fn needs_name(table: impl RuleWords, context: &RuleContext, found: Option<TableMatch>) -> bool {
    context.names && table::has_names(table) && found.is_none_or(|found| found.length < ADDRESS_BITS)
}
