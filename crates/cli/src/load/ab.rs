//! `tine load ab`: starts two servers in turn, loads them, and stops when it is clear which is faster.

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
use tine_load::run::{coordinator, load::Load};
use tine_load::units::{duration, rounded};
use tine_sys::signal::Set;

use super::server::{Server, free_port};
use super::{cannot_start, code, plan};
use crate::args::load::Ab;
use crate::error::Error;

/// How long the kernel keeps a connection in TIME_WAIT, and a little.
const TIME_WAIT: Duration = Duration::from_secs(65);

/// What is written with --json.
#[derive(Serialize)]
struct Written<'a> {
    schema: String,
    a: &'a str,
    b: &'a str,
    decision: String,
    comparison: &'a Comparison,
    rounds: &'a [Round],
    reports: &'a [Report],
}

/// Measures until it is precise enough, or has taken too long.
pub fn run(args: &Ab) -> Result<ExitCode, Error> {
    let file = args.json.as_ref().map(|path| super::output::create(path)).transpose()?;
    let signals = take_charge().map_err(|why| cannot_start(&why))?;
    // One port for all rounds: with another for each, more connections would be in TIME_WAIT than the kernel keeps.
    let port = free_port()?;
    let machine = Machine::this();
    let mut random = Random::new(args.options.seed);
    let (mut rounds, mut reports) = (Vec::new(), Vec::new());
    let (decision, comparison) = loop {
        for side in block(&mut random) {
            let source = source_of_round(rounds.len(), &machine);
            let is_stopped = wait_for_room(&machine, &signals);
            let report = if is_stopped { None } else { Some(round(args, side, port, source)?) };
            let Some(report) = report.filter(|report| !report.interrupted && signals.take().is_none()) else {
                print_comparison(&Comparison::of(&rounds));
                return Ok(ExitCode::from(code::INTERRUPTED));
            };
            if report.is_unreached() {
                return Err(Error::usage(
                    format_args!("server {side:?} could not be reached"),
                    "check its command",
                ));
            }
            let round = Round::new(side, &report);
            if !args.quiet {
                print_round(rounds.len(), &round);
            }
            rounds.push(round);
            reports.push(report);
        }
        let comparison = Comparison::of(&rounds);
        match comparison.decide(rounds.len() / 2, args.precision, args.max_pairs as usize) {
            Decision::More => {}
            decided => break (decided, comparison),
        }
    };
    print_comparison(&comparison);
    let written = Written {
        schema: format!("{SCHEMA}/ab"),
        a: &args.a,
        b: &args.b,
        decision: format!("{decision:?}").to_lowercase(),
        comparison: &comparison,
        rounds: &rounds,
        reports: &reports,
    };
    if let Some((file, path)) = file.zip(args.json.as_ref())
        && let Err(error) = super::output::write_json(file, path, &written)
    {
        eprintln!("tine: {error}");
        return Ok(ExitCode::from(code::CANNOT_WRITE));
    }
    if reports.iter().any(|report| report.findings.connections.wrong() > 0) {
        println!("wrong bytes came: no figure counts beside that");
        return Ok(ExitCode::from(code::WRONG_BYTES));
    }
    Ok(ExitCode::from(verdict(args, decision, &comparison)))
}

/// Has the signals that stop it be asked for between rounds, and what a shell leaves behind be reaped here, not by a stranger
/// some time later.
fn take_charge() -> std::io::Result<Set> {
    let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
    signals.block()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(signals)
}

/// One round: a fresh server, a load from a source of its own.
fn round(args: &Ab, side: Side, port: u16, source: Block) -> Result<Report, Error> {
    let command = if side == Side::A { &args.a } else { &args.b };
    let server = Server::start(&command.replace("{port}", &port.to_string()), port)?;
    let measured = measure(args, port, source);
    server.stop();
    measured
}

/// Waits for connections of earlier loads to leave TIME_WAIT (a minute at most), until those of a round have room. True if a
/// signal came meanwhile.
fn wait_for_room(machine: &Machine, signals: &Set) -> bool {
    let most = machine.max_time_wait().saturating_sub(machine.ports());
    if time_wait_sockets() > most {
        eprintln!("waiting for connections of earlier loads to leave TIME_WAIT");
    }
    let deadline = Instant::now() + TIME_WAIT;
    while time_wait_sockets() > most && Instant::now() < deadline {
        if signals.take().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

fn measure(args: &Ab, port: u16, source: Block) -> Result<Report, Error> {
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
    let load: Load = plan::load(population, &[format!("127.0.0.1:{port}")], &options)?;
    let outcome = coordinator::run(&load, None, &mut |_| {}).map_err(|why| cannot_start(&why))?;
    Ok(Report::new(&load.plan, outcome))
}

fn verdict(args: &Ab, decision: Decision, comparison: &Comparison) -> u8 {
    if comparison.is_worse_by(args.tolerance) {
        println!("B is slower than A by more than {:.1} %", args.tolerance * 100.0);
        code::LIMIT
    } else if decision == Decision::GiveUp {
        println!(
            "inconclusive: not as precise as {:.1} % after {} pairs",
            args.precision * 100.0,
            args.max_pairs
        );
        code::INVALID
    } else {
        0
    }
}

fn print_round(number: usize, round: &Round) {
    let fault = if round.discarded.is_empty() {
        String::new()
    } else {
        format!("  discarded: {}", round.discarded.join("; "))
    };
    println!(
        "{:>3} {:?}  {:>10}/s  p50 {:>8}  p99 {:>8}  {} errors{fault}",
        number + 1,
        round.side,
        rounded(round.rate),
        duration(round.p50_ns),
        duration(round.p99_ns),
        round.errors
    );
}

fn print_comparison(comparison: &Comparison) {
    println!("{:<22} {:>8}   95 % interval", "", "B/A");
    let rows: [(&str, Option<Ratio>); 5] = [
        ("rate", comparison.rate),
        ("p50", comparison.p50),
        ("p99", comparison.p99),
        ("machine's time for each", comparison.machine_cpu),
        ("noise: rate of A to A", comparison.control),
    ];
    for (name, ratio) in rows {
        match ratio {
            Some(ratio) => println!(
                "{name:<23} {:>7.3}   {:.3} … {:.3}  ({} pairs)",
                ratio.ratio, ratio.low, ratio.high, ratio.pairs
            ),
            None => println!("{name:<23} too few rounds"),
        }
    }
    if comparison.discarded > 0 {
        println!("{} pairs were discarded", comparison.discarded);
    }
}
