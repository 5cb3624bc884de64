//! What a service counts, for monitoring (`docs/monitoring.md`): everything in one object, whose
//! size does not depend on the number of connections.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::fleet;
use super::shared_state;
use super::view::View;
use super::warm;
use crate::admission::reason::Reason;
use crate::ipc::board::SlotPhase;
use crate::system::clock::now;
use crate::system::procfs::ProcessUsage;

/// The metrics of a service.
pub(super) fn metrics(view: &View) -> Value {
    let by_reason = |count: &dyn Fn(Reason) -> u64| -> Map<String, Value> {
        Reason::ALL.into_iter().map(|reason| (reason.name().to_owned(), json!(count(reason)))).collect()
    };
    let board = &view.board;
    let uptime = Duration::from_nanos(now().saturating_sub(view.history.started));
    let start_time = view.history.start_date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let listeners = view.listeners.iter().map(|listener| {
        json!({
            "address": listener.address,
            "queued": listener.queued,
            "backlog": listener.backlog,
            "overflows": listener.overflows,
        })
    });
    let process = |role: &str, pid: i32, restarts: u32, usage: Option<ProcessUsage>| {
        json!({
            "role": role,
            "pid": pid,
            "restarts": restarts,
            "cpu_ms": usage.map(|usage| usage.cpu.as_millis() as u64),
            "rss_kib": usage.map(|usage| usage.rss_kib),
        })
    };
    let mut processes = vec![process("supervisor", view.pid, 0, view.usage)];
    processes.extend(view.processes.iter().map(|one| process(&one.role, one.pid, one.restarts, one.usage)));
    let mut object = json!({
        "type": "metrics",
        "service": view.service,
        "version": env!("CARGO_PKG_VERSION"),
        "generation": view.generation,
        "phase": view.phase,
        "uptime_ms": uptime.as_millis() as u64,
        "start_time": start_time.as_millis() as f64 / 1_000.0,
        "connections": board.count(SlotPhase::Serving),
        "peak": view.history.peak,
        "max_connections": view.max_connections,
        "spares": board.count(SlotPhase::Idle),
        "accepted": board.accepted(),
        "rejected_by_reason": by_reason(&|reason| board.rejected(reason)),
        "reported_by_reason": by_reason(&|reason| board.reported(reason)),
        "delayed_by_reason": by_reason(&|reason| board.delayed(reason)),
        "waiting": board.waiting(),
        "bans": view.bans.len(),
        "slot_waits": board.slot_waits(),
        "fork_failures": board.fork_failures(),
        "start": board.starts().to_json(),
        "log_lines_dropped": view.log.map(|ring| ring.dropped()),
        "jail_layers": view.jail.layers_in_force(),
        "shared": shared_state::to_json(&view.members.objects()),
        "listeners": listeners.collect::<Vec<Value>>(),
        "processes": processes,
    });
    fleet::add(view, &mut object);
    warm::add(view, &mut object);
    if let Value::Object(object) = &mut object {
        object.extend(view.history.metrics.to_json());
    }
    object
}
