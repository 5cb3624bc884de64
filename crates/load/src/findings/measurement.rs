//! The result of one run: the findings of all workers, and the measurements of the coordinator.

use serde::{Deserialize, Serialize};

use super::Findings;
use super::agents::Agents;
use super::counters::Counters;

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The findings of all workers.
    pub findings: Findings,
    /// Workers that ended before they sent their findings.
    pub lost: Vec<LostWorker>,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// Length of the measured time, in nanoseconds.
    pub window_ns: u64,
    /// Growth of the kernel's counters.
    pub kernel: Counters,
    /// Greatest decrease of the machine's available memory, in KiB.
    pub memory_kib: u64,
    /// Start of the run, in milliseconds since 1970.
    pub began_ms: u64,
    /// The agents that have measured, if there were any.
    pub agents: Option<Agents>,
}

/// A worker that ended before it sent its findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostWorker {
    /// Its number, from 0.
    pub worker: usize,
    /// Its process id.
    pub pid: i32,
    /// How it ended: `exit 101`, `signal 9`.
    pub outcome: String,
}
