//! Names that the server gives to its processes, log events and log keys. The tests use these
//! constants and functions, so a renamed process or key is a change of this file alone.

use serde_json::Value;

/// Forkers in ps(1), before their number.
pub const FORKER: &str = "tine: forker";
/// Connection processes in ps(1): ids of more than four digits shorten `conn` to `c`.
pub const CONNECTION: &str = "tine: c";
/// Spares in ps(1).
pub const SPARE: &str = "tine: spare";
/// Workers (`--reuse`) in ps(1).
pub const WORKER: &str = "tine: worker";
/// The rejector in ps(1).
pub const REJECTOR: &str = "tine: rejector";
/// The delayer in ps(1).
pub const DELAYER: &str = "tine: delayer";
/// The proxy reader in ps(1).
pub const PROXY_READER: &str = "tine: proxy";
/// The stderr logger in ps(1).
pub const STDERR_LOGGER: &str = "tine: logger";
/// The cgroup cleaner in ps(1).
pub const CGROUP_CLEANER: &str = "tine: cleaner";
/// The connector in ps(1).
pub const CONNECTOR: &str = "tine: connector";
/// The log writer in ps(1).
pub const LOG_WRITER: &str = "tine: writer";
/// Jailers in ps(1), before their number.
pub const JAILER: &str = "tine: jailer";
/// The jailer of the first forker in ps(1).
pub const FIRST_JAILER: &str = "tine: jailer 1";
/// The first process of each room of a full jail in ps(1).
pub const INIT: &str = "tine: init";
/// The process of a room that has no first process of the server (`--jail-init no`) in ps(1).
pub const ROOM: &str = "tine: room";
/// The name of a control process in ps(1). It begins as that of a connection process does.
pub const CONTROL: &str = "tine: control";

/// The log event of a rejected client.
pub const REJECT: &str = "reject";

/// The log key of how a connection, or a process that was restarted, ended.
pub const OUTCOME: &str = "outcome";

/// The log key of how many events a summary line stands for.
const SUPPRESSED: &str = "suppressed";

/// How a connection, or a process that was restarted, ended. Empty if the event does not say it.
#[must_use]
pub fn outcome(event: &Value) -> &str {
    event[OUTCOME].as_str().unwrap_or_default()
}

/// The number of events that a summary line stands for; `None` for a line of a single event.
#[must_use]
pub fn suppressed(event: &Value) -> Option<u64> {
    event[SUPPRESSED].as_u64()
}

/// The number of events that these log lines stand for, single ones and summaries together.
#[must_use]
pub fn total(events: &[Value]) -> u64 {
    events.iter().map(|event| suppressed(event).unwrap_or(1)).sum()
}

/// The process id in a log event.
///
/// # Panics
/// If the event has none.
#[must_use]
pub fn pid(event: &Value) -> i32 {
    let pid = event["pid"].as_i64().unwrap_or_else(|| panic!("no process id in {event}"));
    i32::try_from(pid).expect("a process id")
}
