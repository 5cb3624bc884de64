//! `tine load ab`: starts two servers in turn, loads them, and stops when it is clear which is
//! faster.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;
use tine_load::combine::ab::{Comparison, Decision, Round, Side, block, source_of_round};
use tine_load::combine::ratio::Ratio;
use tine_load::findings::counters::time_wait_sockets;
use tine_load::findings::machine::Machine;
use tine_load::plan::Population;
use tine_load::plan::sources::Block;
use tine_load::plan::splitmix::Random;
use tine_load::report::{Report, SCHEMA};
use tine_load::run::measure::measure;
use tine_load::units::{duration, rounded};
use tine_sys::signal::Set;

use super::server::{TestServer, free_port};
use super::{cannot_start, code, output, plan};
use crate::args::load::Ab;
use crate::diagnostics::diagnostic;
use crate::error::Error;

/// Time for which the kernel keeps a socket in TIME_WAIT, and a few seconds.
const TIME_WAIT: Duration = Duration::from_secs(65);

/// The result that --json writes.
#[derive(Serialize)]
struct AbResult<'a> {
    schema: String,
    a: &'a str,
    b: &'a str,
    decision: String,
    comparison: &'a Comparison,
    rounds: &'a [Round],
    reports: &'a [Report],
}

/// The rounds measured so far, and the conditions that all rounds share.
struct Session<'a> {
    args: &'a Ab,
    /// One port for all rounds: with one for each, more sockets would be in TIME_WAIT than the
    /// kernel keeps.
    port: u16,
    machine: Machine,
    signals: Set,
    rounds: Vec<Round>,
    reports: Vec<Report>,
}

/// Measures until the result is precise enough, or the maximum number of pairs is reached.
pub(super) fn run(args: &Ab) -> Result<ExitCode, Error> {
    let file = args.json.as_ref().map(|path| output::create(path)).transpose()?;
    let signals = prepare_process().map_err(|why| cannot_start(&why))?;
    let (port, machine) = (free_port()?, Machine::this());
    let mut session = Session { args, port, machine, signals, rounds: Vec::new(), reports: Vec::new() };
    let decision = session.measure()?;
    let comparison = Comparison::of(&session.rounds);
    output::print(&comparison_text(&comparison))?;
    let Some(decision) = decision else { return Ok(ExitCode::from(code::INTERRUPTED)) };
    let result = AbResult {
        schema: format!("{SCHEMA}/ab"),
        a: &args.a,
        b: &args.b,
        decision: format!("{decision:?}").to_lowercase(),
        comparison: &comparison,
        rounds: &session.rounds,
        reports: &session.reports,
    };
    if let Some((file, path)) = file.zip(args.json.as_ref())
        && let Err(error) = output::write_json(file, path, &result)
    {
        diagnostic!("tine: {error}");
        return Ok(ExitCode::from(code::CANNOT_WRITE));
    }
    if session.reports.iter().any(|report| report.findings.connections.wrong() > 0) {
        output::print("wrong bytes came: the figures do not count\n")?;
        return Ok(ExitCode::from(code::WRONG_BYTES));
    }
    let (text, code) = verdict(args, decision, &comparison, session.rounds.len() / 2);
    output::print(&text)?;
    Ok(ExitCode::from(code))
}

/// Blocks the signals that stop the command, to take them between rounds. Makes this process the
/// subreaper of its descendants, so that it reaps the processes that a shell leaves behind.
fn prepare_process() -> std::io::Result<Set> {
    let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
    signals.block()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(signals)
}

impl Session<'_> {
    /// Measures block after block. `None` if a signal interrupts it.
    fn measure(&mut self) -> Result<Option<Decision>, Error> {
        let mut random = Random::new(self.args.options.seed);
        loop {
            for side in block(&mut random) {
                let Some(report) = self.round(side)? else { return Ok(None) };
                if report.is_unreached() {
                    return Err(Error::usage(
                        format_args!("server {side:?} could not be reached"),
                        "check its command",
                    ));
                }
                let round = Round::new(side, &report);
                if !self.args.quiet {
                    output::print(&round_text(self.rounds.len(), &round))?;
                }
                self.rounds.push(round);
                self.reports.push(report);
            }
            let (pairs, max_pairs) = (self.rounds.len() / 2, self.args.max_pairs as usize);
            match Comparison::of(&self.rounds).decide(pairs, self.args.precision, max_pairs) {
                Decision::More => {}
                decided => return Ok(Some(decided)),
            }
        }
    }

    /// Runs one round: a fresh server, and a load from a source of its own. `None` if a signal
    /// interrupts it.
    fn round(&self, side: Side) -> Result<Option<Report>, Error> {
        if !self.wait_for_time_wait() {
            return Ok(None);
        }
        let command = if side == Side::A { &self.args.a } else { &self.args.b };
        let server = TestServer::start(&command.replace("{port}", &self.port.to_string()), self.port)?;
        let source = source_of_round(self.rounds.len(), &self.machine);
        let measured = measure_server(self.args, self.port, source);
        server.stop();
        let report = measured?;
        let is_interrupted = report.interrupted || self.signals.take().is_some();
        Ok((!is_interrupted).then_some(report))
    }

    /// Waits until enough sockets of earlier loads have left TIME_WAIT for those of a round, for a
    /// minute at most. False if a signal arrives meanwhile.
    fn wait_for_time_wait(&self) -> bool {
        let most = self.machine.max_time_wait().saturating_sub(self.machine.ports());
        if time_wait_sockets() > most {
            diagnostic!("waiting for connections of earlier loads to leave TIME_WAIT");
        }
        let deadline = Instant::now() + TIME_WAIT;
        while time_wait_sockets() > most && Instant::now() < deadline {
            if self.signals.take().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        true
    }
}

fn measure_server(args: &Ab, port: u16, source: Block) -> Result<Report, Error> {
    let mut options = args.options.clone();
    options.duration =
        options.duration.or(Some(Duration::from_secs(2)).filter(|_| options.requests.is_none()));
    if options.warmup.is_zero() {
        options.warmup = Duration::from_millis(500);
    }
    if options.source.is_empty() {
        options.source.push(source);
    }
    let population = vec![Population { mode: args.mode, weight: 1 }];
    let load = plan::load(population, &[format!("127.0.0.1:{port}")], &options)?;
    let measurement = measure(&load, None, &mut |_| {}).map_err(|why| cannot_start(&why))?;
    Ok(Report::new(&load.plan, measurement))
}

/// The verdict on a number of pairs, and the exit code.
fn verdict(args: &Ab, decision: Decision, comparison: &Comparison, pairs: usize) -> (String, u8) {
    if comparison.is_worse_by(args.tolerance) {
        (format!("B is slower than A by more than {:.1} %\n", args.tolerance * 100.0), code::LIMIT)
    } else if decision == Decision::GiveUp {
        let precision = args.precision * 100.0;
        (format!("inconclusive: not as precise as {precision:.1} % after {pairs} pairs\n"), code::INVALID)
    } else {
        (String::new(), 0)
    }
}

fn round_text(number: usize, round: &Round) -> String {
    let discarded = if round.discarded.is_empty() {
        String::new()
    } else {
        format!("  discarded: {}", round.discarded.join("; "))
    };
    format!(
        "{:>3} {:?}  {:>10}/s  p50 {:>8}  p99 {:>8}  {} errors{discarded}\n",
        number + 1,
        round.side,
        rounded(round.rate),
        duration(round.p50_ns),
        duration(round.p99_ns),
        round.errors
    )
}

fn comparison_text(comparison: &Comparison) -> String {
    let mut text = format!("{:<22} {:>8}   95 % interval\n", "", "B/A");
    let rows: [(&str, Option<Ratio>); 5] = [
        ("rate", comparison.rate),
        ("p50", comparison.p50),
        ("p99", comparison.p99),
        ("machine's time for each", comparison.machine_cpu),
        ("noise: rate of A to A", comparison.control),
    ];
    for (name, ratio) in rows {
        text += &match ratio {
            Some(ratio) => format!(
                "{name:<23} {:>7.3}   {:.3} … {:.3}  ({} pairs)\n",
                ratio.ratio, ratio.low, ratio.high, ratio.pairs
            ),
            None => format!("{name:<23} too few rounds\n"),
        };
    }
    if comparison.discarded > 0 {
        text += &format!("{} pairs were discarded\n", comparison.discarded);
    }
    text
}
