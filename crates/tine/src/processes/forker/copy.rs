//! Has a template copied for a client of a program that is started warm.

use std::sync::atomic::Ordering::SeqCst;

use tine_sys::exec::CgroupEntry;

use super::memory::Memory;
use super::templates::Lent;
use super::trusted::Forker;
use crate::ipc::board::Entry;
use crate::net::accept::Accepted;
use crate::program::served::{LaunchContext, ProgramConnection};

/// How a client is served by a program that is started warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarmService {
    /// By a copy, which is there.
    Copied,
    /// By an execution.
    Cold,
    /// By a copy, when there is a template again.
    Later,
}

/// Has a template copied for a client, if there is one.
pub(super) fn copy_template<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    (slot, client): (usize, &Accepted),
    entry: Entry,
    launch: &LaunchContext,
) -> WarmService {
    let Forker { trusted, context } = forker;
    let (Some(templates), Some(launcher)) = (&mut trusted.templates, &mut context.launcher) else {
        return WarmService::Cold;
    };
    let board = &trusted.door.board;
    let mut lent = Lent { board, launcher, log: &mut context.log };
    let otherwise = if templates.are_only_way() { WarmService::Later } else { WarmService::Cold };
    match otherwise == WarmService::Later && !templates.copies() {
        true => templates.keep_up(&mut lent),
        false => templates.notice(&mut lent),
    }
    // A maker that was started just now is to be waited for.
    memory.are_templates_due |= templates.has_new_maker();
    // The variables of an access rule are in no template.
    let has_others = !launch.variables.is_empty() || launch.pending_name_rules.is_some();
    if !templates.copies() || (has_others && otherwise == WarmService::Cold) {
        return otherwise;
    }
    let Ok(cgroups) = launch.cgroup.as_ref().map_or(Ok(Vec::new()), CgroupEntry::open) else {
        return otherwise;
    };
    let target = ProgramConnection {
        socket: &client.socket,
        entry,
        proxied: client.proxied.as_deref(),
        launch_context: launch,
    };
    // Before there is a process: the supervisor does not take it for one that is not the server's.
    board.set_warm(slot, true);
    let copied = templates.copy(&target, &cgroups, &mut lent);
    match copied {
        Some(pid) => {
            board.pid_cell(slot).store(pid, SeqCst);
            board.count_copy();
        }
        None => board.set_warm(slot, false),
    }
    copied.map_or(otherwise, |_| WarmService::Copied)
}
