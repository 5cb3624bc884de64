//! Commands for results in files: `tine load compare`, `tine load merge`.

use std::path::Path;
use std::process::ExitCode;

use tine::cli::next_move;
use tine_load::combine::compare::compare;
use tine_load::combine::merge::merge;
use tine_load::report::{Report, SCHEMA};

use super::output::{Files, print};
use super::{code, conclude};
use crate::args::load::{Compare, Merge};
use crate::error::Error;

/// Runs `tine load compare`.
pub(super) fn run_compare(args: &Compare) -> Result<ExitCode, Error> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let rows = compare(&before, &after, args.tolerance)
        .map_err(|why| Error::usage(why, "compare results of the same mode, close and rate"))?;
    let mut is_invalid = false;
    let mut text = String::new();
    for (path, report) in [(&args.before, &before), (&args.after, &after)] {
        for reason in &report.validity.reasons {
            text += &format!("INVALID: {}: {reason}\n", path.display());
            is_invalid = true;
        }
    }
    text += &format!("{:<8} {:>14} {:>14} {:>8}\n", "", "A", "B", "B/A");
    for row in &rows {
        let verdict = if row.is_worse { "  worse" } else { "" };
        text +=
            &format!("{:<8} {:>14} {:>14} {:>8.3}{verdict}\n", row.name, row.before, row.after, row.ratio);
    }
    print(&text)?;
    let is_worse = rows.iter().any(|row| row.is_worse);
    Ok(ExitCode::from(match (is_invalid, is_worse) {
        (true, _) => code::INVALID,
        (false, true) => code::LIMIT,
        (false, false) => 0,
    }))
}

/// Runs `tine load merge`.
pub(super) fn run_merge(args: &Merge) -> Result<ExitCode, Error> {
    let reports = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let files = Files::open(&args.outputs)?;
    let sum =
        merge(&reports).map_err(|why| Error::usage(why, "add up results of one load that ran together"))?;
    Ok(conclude(&sum, &args.fail_if, files, args.outputs.quiet))
}

fn read(path: &Path) -> Result<Report, Error> {
    let text = std::fs::read(path).map_err(|why| {
        let reason = tine_sys::reason(&why);
        Error::usage(format_args!("cannot read {}: {reason}", path.display()), next_move::of_file(&why))
    })?;
    let next = "give a file that `tine load --json` wrote";
    let report: Report = serde_json::from_slice(&text)
        .map_err(|why| Error::usage(format_args!("{} is not a result: {why}", path.display()), next))?;
    match report.schema == SCHEMA {
        true => Ok(report),
        false => Err(Error::usage(
            format_args!("{} has the schema '{}', not {SCHEMA}", path.display(), report.schema),
            "read it with the version of tine that wrote it",
        )),
    }
}
