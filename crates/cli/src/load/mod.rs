//! `tine load`: runs a load, shows it, judges it.

mod ab;
mod output;
mod plan;
mod results;
mod server;
mod view;

use std::process::ExitCode;

use tine_load::plan::{Mode, Population};
use tine_load::report::Report;
use tine_load::run::coordinator;
use tine_load::verdict::threshold::Threshold;

use crate::args::load::{Load, Measured, What};
use crate::error::Error;
use output::Files;

/// Exit codes of `tine load` besides those of all commands.
mod code {
    pub const CANNOT_WRITE: u8 = 1;
    pub const WRONG_BYTES: u8 = 3;
    pub const INVALID: u8 = 4;
    pub const LIMIT: u8 = 99;
    pub const UNREACHED: u8 = 111;
    pub const INTERRUPTED: u8 = 130;
}

/// Does what was asked for.
pub fn run(args: Load) -> Result<ExitCode, Error> {
    let of = |mode| vec![Population { mode, weight: 1 }];
    match args.what {
        What::Crr(measured) => measure(of(Mode::Crr), measured),
        What::Cc(measured) => measure(of(Mode::Cc), measured),
        What::Rr(measured) => measure(of(Mode::Rr), measured),
        What::Stream(measured) => measure(of(Mode::Stream), measured),
        What::Echo(measured) => measure(of(Mode::Echo), measured),
        What::Hold(measured) => measure(of(Mode::Hold), measured),
        What::Slow(measured) => measure(of(Mode::Slow), measured),
        What::Reset(measured) => measure(of(Mode::Reset), measured),
        What::Silent(measured) => measure(of(Mode::Silent), measured),
        What::Mix(mixed) => measure(mixed.mix, mixed.measured),
        What::Compare(compare) => results::run_compare(&compare),
        What::Ab(ab) => ab::run(&ab),
        What::Merge(merge) => results::run_merge(&merge),
    }
}

/// Runs a load, and says what came of it.
fn measure(populations: Vec<Population>, mut args: Measured) -> Result<ExitCode, Error> {
    let checks_all = populations.iter().all(|one| one.mode == Mode::Echo);
    let load = plan::load(populations, &args.addresses, &args.options)?;
    if checks_all && args.fail_if.is_empty() {
        args.fail_if.extend("errors>0".parse::<Threshold>());
    }
    let files = Files::open(&args.outputs)?;
    let mut view = view::View::new(&load.plan, args.outputs.no_tui || args.outputs.quiet);
    let period = view.period();
    let ran = coordinator::run(&load, period, &mut |moment| view.show(&moment));
    view.finish();
    let outcome = ran.map_err(|why| cannot_start(&why))?;
    let report = Report::new(&load.plan, outcome);
    Ok(conclude(&report, &args.fail_if, files, args.outputs.quiet))
}

fn cannot_start(why: &std::io::Error) -> Error {
    Error::system(
        "cannot start the load",
        why,
        "ask for fewer processes or connections, or raise the limits (`ulimit -a`)",
    )
}

/// Writes a report, and judges it.
fn conclude(report: &Report, limits: &[Threshold], files: Files, is_quiet: bool) -> ExitCode {
    let broken: Vec<String> = limits.iter().filter_map(|limit| limit.exceeded_by(&report.summary)).collect();
    let written = files.write(report, is_quiet);
    for limit in &broken {
        eprintln!("tine: a limit is not kept: {limit}");
    }
    if report.is_unreached() {
        let states: Vec<String> = report.summary.states.keys().map(ToString::to_string).collect();
        eprintln!(
            "tine: nothing could be reached ({}); check the address, and that a server listens there",
            states.join(", ")
        );
    }
    if let Err(error) = &written {
        eprintln!("tine: {error}");
    }
    ExitCode::from(match exit_code(report, !broken.is_empty()) {
        0 if written.is_err() => code::CANNOT_WRITE,
        code => code,
    })
}

/// What outranks what: wrong bytes are the worst that can be found.
fn exit_code(report: &Report, breaks_limit: bool) -> u8 {
    if report.findings.connections.wrong() > 0 {
        code::WRONG_BYTES
    } else if report.interrupted {
        code::INTERRUPTED
    } else if report.is_unreached() {
        code::UNREACHED
    } else if !report.validity.valid {
        code::INVALID
    } else if breaks_limit {
        code::LIMIT
    } else {
        0
    }
}
