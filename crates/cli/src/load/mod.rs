//! `tine load`: runs a load, prints it, judges it.

mod ab;
mod bus;
mod launch;
mod output;
mod plan;
mod results;
mod runner;
mod server;
mod view;

use std::process::ExitCode;

use tine_load::plan::{Mode, Population};
use tine_load::report::Report;
use tine_load::run::measure::measure;
use tine_load::verdict::threshold::Threshold;

use crate::args::load::{Load, LoadCommand, Measured};
use crate::diagnostics::diagnostic;
use crate::error::{Error, fewer};
use output::Files;

/// Exit codes of `tine load` besides those of all commands.
mod code {
    pub(super) const CANNOT_WRITE: u8 = 1;
    pub(super) const WRONG_BYTES: u8 = 3;
    pub(super) const INVALID: u8 = 4;
    pub(super) const LIMIT: u8 = 99;
    pub(super) const UNREACHED: u8 = crate::exit::SYSTEM;
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Runs a subcommand of `tine load`.
pub(crate) fn run(args: Load) -> Result<ExitCode, Error> {
    let of = |mode| vec![Population { mode, weight: 1 }];
    match args.command {
        LoadCommand::Crr(measured) => run_mode(of(Mode::Crr), measured),
        LoadCommand::Cc(measured) => run_mode(of(Mode::Cc), measured),
        LoadCommand::Rr(measured) => run_mode(of(Mode::Rr), measured),
        LoadCommand::Stream(measured) => run_mode(of(Mode::Stream), measured),
        LoadCommand::Echo(measured) => run_mode(of(Mode::Echo), measured),
        LoadCommand::Hold(measured) => run_mode(of(Mode::Hold), measured),
        LoadCommand::Slow(measured) => run_mode(of(Mode::Slow), measured),
        LoadCommand::Reset(measured) => run_mode(of(Mode::Reset), measured),
        LoadCommand::Silent(measured) => run_mode(of(Mode::Silent), measured),
        LoadCommand::Mix(mixed) => run_mode(mixed.mix, mixed.measured),
        LoadCommand::Compare(compare) => results::run_compare(&compare),
        LoadCommand::Ab(ab) => ab::run(&ab),
        LoadCommand::Merge(merge) => results::run_merge(&merge),
        LoadCommand::Agent(agent) => bus::run_agent(&agent),
        LoadCommand::Runner => runner::run(),
    }
}

/// Runs a load, and reports it.
fn run_mode(populations: Vec<Population>, mut args: Measured) -> Result<ExitCode, Error> {
    let checks_all = populations.iter().all(|one| one.mode == Mode::Echo);
    if checks_all && args.fail_if.is_empty() {
        args.fail_if.extend("errors>0".parse::<Threshold>());
    }
    plan::check(&populations, &args.options)?;
    if let Some(bus) = args.together.bus.bus() {
        return bus::run_mode(&populations, &args, bus, &args.fail_if);
    }
    let load = plan::load(populations, &args.addresses, &args.options)?;
    let files = Files::open(&args.outputs)?;
    let mut view = view::View::new(&load.plan, args.outputs.no_tui || args.outputs.quiet);
    let period = view.period();
    let measured = measure(&load, period, &mut |progress| view.show(&progress));
    view.clear();
    let measurement = measured.map_err(|why| cannot_start(&why))?;
    let report = Report::new(&load.plan, measurement);
    Ok(conclude(&report, &args.fail_if, files, args.outputs.quiet))
}

fn cannot_start(why: &std::io::Error) -> Error {
    let next = fewer("ask for fewer processes or connections", why);
    Error::system("cannot start the load", why, next)
}

/// Writes a report, and returns the exit code.
fn conclude(report: &Report, limits: &[Threshold], files: Files, is_quiet: bool) -> ExitCode {
    let exceeded: Vec<String> =
        limits.iter().filter_map(|limit| limit.exceeded_by(&report.summary)).collect();
    let written = files.write(report, is_quiet);
    for limit in &exceeded {
        diagnostic!("tine: a limit is not kept: {limit}");
    }
    if report.is_unreached() {
        let states: Vec<String> = report.summary.states.keys().map(ToString::to_string).collect();
        diagnostic!(
            "tine: nothing could be reached ({}); check the address, and that a server listens there",
            states.join(", ")
        );
    }
    if let Err(error) = &written {
        diagnostic!("tine: {error}");
    }
    ExitCode::from(match exit_code(report, !exceeded.is_empty()) {
        0 if written.is_err() => code::CANNOT_WRITE,
        code => code,
    })
}

/// Returns the exit code of a report. Wrong bytes outrank everything else.
fn exit_code(report: &Report, exceeds_limit: bool) -> u8 {
    if report.findings.connections.wrong() > 0 {
        code::WRONG_BYTES
    } else if report.interrupted {
        code::INTERRUPTED
    } else if report.is_unreached() {
        code::UNREACHED
    } else if !report.validity.valid {
        code::INVALID
    } else if exceeds_limit {
        code::LIMIT
    } else {
        0
    }
}
