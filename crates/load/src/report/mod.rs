//! What is written about a load: one structure, in several forms.

pub mod csv;
pub mod hgrm;
pub mod html;
pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::findings::counters::Counters;
use crate::findings::machine::Machine;
use crate::findings::record::{Figures, Measure};
use crate::findings::state::State;
use crate::findings::{Bytes, Part};
use crate::plan::{Plan, SECOND};
use crate::run::coordinator::{Lost, Outcome};
use crate::verdict::validity::{Validity, judge};

/// The form of the reports written here: it changes when a reader of the old one would be misled.
pub const SCHEMA: &str = "tine-load/1";

/// Everything about one load. `docs/load.schema.json` describes it for other programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of tine that wrote it.
    pub tine: String,
    /// Mode and close, which never compare with others.
    pub name: String,
    /// Whether the figures are about what was asked for.
    pub validity: Validity,
    /// The figures.
    pub summary: Summary,
    /// What was asked for.
    pub plan: Plan,
    /// Where it ran.
    pub machine: Machine,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long the measured part was, in nanoseconds.
    pub window_ns: u64,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Workers that could not say what they found out.
    pub lost: Vec<Lost>,
    /// How much the kernel's counters grew.
    pub kernel: Counters,
    /// How much less memory the machine had to give at the most, in KiB: for held connections, what both ends take.
    pub memory_kib: u64,
    /// All that the figures come from.
    pub findings: Part,
}

/// The figures of a load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Exchanges (or connections, where those are what counts) that were done, each second.
    pub rate: f64,
    /// How many they were in the measured time.
    pub done: u64,
    /// The measured time.
    pub window_seconds: f64,
    /// Connections that ended in an error, of the whole run.
    pub errors: u64,
    /// Connections that were planned.
    pub connections: u64,
    /// How they ended.
    pub states: BTreeMap<State, u64>,
    /// Exchanges that were not answered when the load was stopped, and connections that were not made or closed.
    pub in_flight: u64,
    /// How old the oldest of them was.
    pub oldest_in_flight_ns: u64,
    /// Most connections that were open at a time.
    pub most_open: u64,
    /// From the planned start to the whole answer.
    pub latency_ns: Figures,
    /// The same from the actual start, where starts were planned.
    pub uncorrected_ns: Figures,
    /// How long connecting took.
    pub connect_ns: Figures,
    /// From the actual start to the first byte of the answer.
    pub first_byte_ns: Figures,
    /// How much later than it could have this side began.
    pub lateness_ns: Figures,
    /// Bytes of the whole run.
    pub bytes: Bytes,
    /// Bytes sent each second of the measured time.
    pub sent_per_second: f64,
    /// Bytes that came each second of it.
    pub received_per_second: f64,
    /// Processor time of this side for each that was done, in nanoseconds.
    pub client_cpu_ns_per_done: u64,
    /// Processor time of the whole machine for each that was done, in nanoseconds: client, server and all else.
    pub machine_cpu_ns_per_done: u64,
    /// The part of the processors' time that was used, from 0 to 1.
    pub machine_busy: f64,
    /// The part that others on the same hardware took.
    pub machine_steal: f64,
}

impl Report {
    /// The report about a load that is over.
    #[must_use]
    pub fn new(plan: &Plan, outcome: Outcome) -> Report {
        let validity = judge(plan, &outcome);
        let Outcome { part, lost, interrupted, window_ns, kernel, memory_kib, began_ms } = outcome;
        let machine = Machine::this();
        Report {
            schema: SCHEMA.into(),
            tine: env!("CARGO_PKG_VERSION").into(),
            name: plan.name(),
            summary: summary(&part, window_ns, &kernel, &machine),
            validity,
            plan: plan.clone(),
            machine,
            began_ms,
            window_ns,
            interrupted,
            lost,
            kernel,
            memory_kib,
            findings: part,
        }
    }

    /// Whether no connection was ever made.
    #[must_use]
    pub fn reached_nobody(&self) -> bool {
        let errors = self.findings.connections.errors();
        self.findings.most_open == 0 && errors > 0
    }
}

/// Computes the figures.
#[must_use]
pub fn summary(part: &Part, window_ns: u64, kernel: &Counters, machine: &Machine) -> Summary {
    let seconds = window_ns as f64 / SECOND as f64;
    let each_second = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
    let figures = |measure| part.records.of(measure).figures();
    let done: u64 = part.seconds.iter().map(|second| second.done).sum();
    let total = kernel.processor.total.max(1) as f64;
    let busy_ns = kernel.processor.busy as u128 * u128::from(SECOND / machine.ticks_per_second.max(1));
    Summary {
        rate: each_second(part.measured),
        done: part.measured,
        window_seconds: seconds,
        errors: part.connections.errors(),
        connections: part.connections.planned,
        states: part.connections.states.clone(),
        in_flight: part.ages.count(),
        oldest_in_flight_ns: part.ages.max(),
        most_open: part.most_open,
        latency_ns: figures(Measure::Exchange),
        uncorrected_ns: figures(Measure::Uncorrected),
        connect_ns: figures(Measure::Connect),
        first_byte_ns: figures(Measure::FirstByte),
        lateness_ns: figures(Measure::Lateness),
        bytes: part.bytes,
        sent_per_second: each_second(part.measured_bytes.sent),
        received_per_second: each_second(part.measured_bytes.received),
        client_cpu_ns_per_done: part.usage.cpu_ns / done.max(1),
        machine_cpu_ns_per_done: (busy_ns / u128::from(done.max(1))) as u64,
        machine_busy: kernel.processor.busy as f64 / total,
        machine_steal: kernel.processor.steal as f64 / total,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report in which nothing was found.
    pub(crate) fn report(window_ns: u64) -> Report {
        let outcome = Outcome {
            part: Part::default(),
            lost: Vec::new(),
            interrupted: false,
            window_ns,
            kernel: Counters::default(),
            memory_kib: 0,
            began_ms: 0,
        };
        let mut report = Report::new(&crate::plan::tests::plan(), outcome);
        report.validity = Validity { valid: true, ..Validity::default() };
        report
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let mut one = report(SECOND);
        one.findings.connections.count(State::NoPorts, 2);
        one.findings.records.at(Measure::Connect).add(7);
        let text = serde_json::to_string(&one).expect("text");
        let again: Report = serde_json::from_str(&text).expect("a report");
        assert_eq!(serde_json::to_string(&again).expect("text"), text);
    }
}
