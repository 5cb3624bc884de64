//! The report of one load, and the forms in which it is written: JSON (serde), text, CSV, HTML, and
//! the percentile files of HdrHistogram.

pub mod csv;
pub mod hgrm;
pub mod html;
pub mod text;

use serde::{Deserialize, Serialize};

use crate::findings::Findings;
use crate::findings::agents::Agents;
use crate::findings::counters::Counters;
use crate::findings::machine::Machine;
use crate::findings::measurement::{LostWorker, Measurement};
use crate::findings::state::Origin;
use crate::findings::summary::Summary;
use crate::plan::Plan;
use crate::verdict::validity::Validity;

/// Identifies the format of the JSON. It changes when a program that reads the old format would
/// misread the new one.
pub const SCHEMA: &str = "tine-load/1";

/// Everything about one load. `docs/load.schema.json` describes it for other programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of tine that wrote the report.
    pub tine: String,
    /// Mode and close. Loads of different names are never compared.
    pub name: String,
    /// Whether the figures describe the load that was requested.
    pub validity: Validity,
    /// The figures.
    pub summary: Summary,
    /// The load that was requested.
    pub plan: Plan,
    /// The machine of the client.
    pub machine: Machine,
    /// Start of the run, in milliseconds since 1970.
    pub began_ms: u64,
    /// Length of the measured time, in nanoseconds.
    pub window_ns: u64,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// Workers that ended before they sent their findings.
    pub lost: Vec<LostWorker>,
    /// Growth of the kernel's counters.
    pub kernel: Counters,
    /// Greatest decrease of the machine's available memory, in KiB. With held connections on one
    /// machine, it is the memory of both ends.
    pub memory_kib: u64,
    /// The agents, if several machines ran the load together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Agents>,
    /// The findings that the figures are computed from.
    pub findings: Findings,
}

impl Report {
    /// Creates the report of a finished run on this machine.
    #[must_use]
    pub fn new(plan: &Plan, measurement: Measurement) -> Report {
        let validity = Validity::of(plan, &measurement);
        let machine = Machine::this();
        let Measurement { findings, lost, interrupted, window_ns, kernel, memory_kib, began_ms, agents } =
            measurement;
        Report {
            schema: SCHEMA.into(),
            tine: env!("CARGO_PKG_VERSION").into(),
            name: plan.name(),
            summary: Summary::new(&findings, window_ns, &kernel, &machine),
            validity,
            plan: plan.clone(),
            machine,
            began_ms,
            window_ns,
            interrupted,
            lost,
            kernel,
            memory_kib,
            agents,
            findings,
        }
    }

    /// Names another machine than this one as that of the client.
    pub(crate) fn on_machine(&mut self, machine: Machine) {
        self.summary = Summary::new(&self.findings, self.window_ns, &self.kernel, &machine);
        self.machine = machine;
    }

    /// Whether all connections failed before they were made, and none because of the client: if the
    /// client causes an error, the run is invalid instead.
    #[must_use]
    pub fn is_unreached(&self) -> bool {
        let connections = &self.findings.connections;
        let is_of_client = connections.errors_of(Origin::Client) > 0;
        self.findings.most_open == 0 && connections.errors() > 0 && !is_of_client
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::findings::record::Measure;
    use crate::findings::state::State;
    use crate::units::SECOND;

    /// A report without findings.
    pub(crate) fn report(window_ns: u64) -> Report {
        let measurement = Measurement {
            findings: Findings::default(),
            lost: Vec::new(),
            interrupted: false,
            window_ns,
            kernel: Counters::default(),
            memory_kib: 0,
            began_ms: 0,
            agents: None,
        };
        let mut report = Report::new(&crate::plan::tests::plan(), measurement);
        report.validity = Validity { valid: true, ..Validity::default() };
        report
    }

    /// A measurement of one connection, which ended in a state.
    pub(crate) fn ended(state: State) -> Measurement {
        let mut findings = Findings { measured: 1, ..Findings::default() };
        findings.connections.planned = 1;
        findings.connections.count(state, 1);
        Measurement {
            findings,
            lost: Vec::new(),
            interrupted: false,
            window_ns: SECOND,
            kernel: Counters::default(),
            memory_kib: 0,
            began_ms: 0,
            agents: None,
        }
    }

    #[test]
    fn a_report_is_read_back_unchanged() {
        let mut one = report(SECOND);
        one.findings.connections.count(State::NoPorts, 2);
        one.findings.records.at(Measure::Connect).add(7);
        let text = serde_json::to_string(&one).expect("text");
        let again: Report = serde_json::from_str(&text).expect("a report");
        assert_eq!(serde_json::to_string(&again).expect("text"), text);
    }
}
