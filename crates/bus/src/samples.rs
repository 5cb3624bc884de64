//! Plans and results for the tests of this crate.

use tine_load::plan::{Arrivals, Close, MessageText, Mode, Plan, Population};
use tine_load::report::Report;
use tine_load::run::live::Numbers;
use tine_load::units::SECOND;

/// A simple closed loop.
pub(crate) fn plan() -> Plan {
    Plan {
        populations: vec![Population { mode: Mode::Crr, weight: 1 }],
        targets: vec!["127.0.0.1:9999".into()],
        processes: 4,
        connections: 16,
        rate: None,
        arrivals: Arrivals::Constant,
        warmup_ns: 0,
        ramp_ns: 0,
        duration_ns: Some(10 * SECOND),
        requests: None,
        per_connection: None,
        close: Close::FinClient,
        half_close: false,
        message: MessageText::Size(Some(64)),
        expect: "echo".into(),
        think_ns: 0,
        pace_ns: 1,
        timeout_ns: 5 * SECOND,
        max_lateness_ns: 10_000_000,
        sources: Vec::new(),
        proxy_header: None,
        proxy_sources: Vec::new(),
        seed: 1,
    }
}

/// The result of that load.
pub(crate) fn report_of(plan: &Plan) -> Report {
    use tine_load::findings::Findings;
    use tine_load::findings::counters::Counters;
    use tine_load::findings::measurement::Measurement;
    let measurement = Measurement {
        findings: Findings { start_late_ns: Some(7), ..Findings::default() },
        lost: Vec::new(),
        interrupted: false,
        window_ns: 10 * SECOND,
        kernel: Counters::default(),
        memory_kib: 0,
        began_ms: 0,
        agents: None,
    };
    Report::new(plan, measurement)
}

/// The result of the simple load.
pub(crate) fn report() -> Report {
    report_of(&plan())
}

/// The numbers of a load with open connections.
pub(crate) fn numbers_of(open: u64) -> Numbers {
    let mut numbers = Numbers::default();
    numbers.open = open;
    numbers
}
