//! The figures of a run, computed from its findings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::machine::Machine;
use super::record::{Figures, Measure};
use super::state::State;
use super::{Bytes, Findings};
use crate::units::SECOND;

/// The figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Exchanges (or connections, in modes that count those) done per second of the measured time.
    pub rate: f64,
    /// Exchanges (or connections) done in the measured time.
    pub done: u64,
    /// Length of the measured time.
    pub window_seconds: f64,
    /// Connections that ended in an error, in the whole run.
    pub errors: u64,
    /// Connections planned.
    pub connections: u64,
    /// Number of connections that ended in each state.
    pub states: BTreeMap<State, u64>,
    /// Connections and exchanges in flight at the stop.
    pub in_flight: u64,
    /// Age of the oldest of them, in nanoseconds.
    pub oldest_in_flight_ns: u64,
    /// Maximum number of connections open at the same time.
    pub most_open: u64,
    /// From the planned start to the complete reply.
    pub latency_ns: Figures,
    /// From the actual start to the complete reply; open loops only.
    pub uncorrected_ns: Figures,
    /// From the start of connecting to the connection.
    pub connect_ns: Figures,
    /// From the actual start to the first byte of the reply.
    pub first_byte_ns: Figures,
    /// From the time at which the client could have started an arrival to the time at which it did.
    pub lateness_ns: Figures,
    /// Bytes of the whole run.
    pub bytes: Bytes,
    /// Bytes sent per second of the measured time.
    pub sent_per_second: f64,
    /// Bytes received per second of the measured time.
    pub received_per_second: f64,
    /// Processor time of the client for each exchange (or connection), in nanoseconds.
    pub client_cpu_ns_per_done: u64,
    /// Processor time of the whole machine for each, in nanoseconds: client, server and everything
    /// else.
    pub machine_cpu_ns_per_done: u64,
    /// Part of the machine's processor time that was in use, from 0 to 1.
    pub machine_busy: f64,
    /// Part that other machines on the same hardware took.
    pub machine_steal: f64,
}

impl Summary {
    /// Returns the figures of a measure.
    #[must_use]
    pub fn figures(&self, measure: Measure) -> &Figures {
        match measure {
            Measure::Exchange => &self.latency_ns,
            Measure::Connect => &self.connect_ns,
            Measure::FirstByte => &self.first_byte_ns,
            Measure::Uncorrected => &self.uncorrected_ns,
            Measure::Lateness => &self.lateness_ns,
        }
    }

    /// Computes the figures of findings that were measured for `window_ns` nanoseconds.
    #[must_use]
    pub fn new(findings: &Findings, window_ns: u64, kernel: &Counters, machine: &Machine) -> Summary {
        let seconds = window_ns as f64 / SECOND as f64;
        let per_second = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
        let figures = |measure| findings.records.of(measure).figures();
        let done: u64 = findings.seconds.iter().map(|second| second.done).sum();
        let total = kernel.processor.total.max(1) as f64;
        let busy_ns = kernel.processor.busy as u128 * u128::from(SECOND / machine.ticks_per_second.max(1));
        Summary {
            rate: per_second(findings.measured),
            done: findings.measured,
            window_seconds: seconds,
            errors: findings.connections.errors(),
            connections: findings.connections.planned,
            states: findings.connections.states.clone(),
            in_flight: findings.ages.count(),
            oldest_in_flight_ns: findings.ages.max(),
            most_open: findings.most_open,
            latency_ns: figures(Measure::Exchange),
            uncorrected_ns: figures(Measure::Uncorrected),
            connect_ns: figures(Measure::Connect),
            first_byte_ns: figures(Measure::FirstByte),
            lateness_ns: figures(Measure::Lateness),
            bytes: findings.bytes,
            sent_per_second: per_second(findings.measured_bytes.sent),
            received_per_second: per_second(findings.measured_bytes.received),
            client_cpu_ns_per_done: findings.usage.cpu_ns / done.max(1),
            machine_cpu_ns_per_done: (busy_ns / u128::from(done.max(1))) as u64,
            machine_busy: kernel.processor.busy as f64 / total,
            machine_steal: kernel.processor.steal as f64 / total,
        }
    }
}
