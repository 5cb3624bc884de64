//! Measures what processes share (`tine::shared`) against what could stand in its place.
//!
//! usage: bench/shared/run [ROUNDS]
//!
//! Every figure is a ratio of interleaved runs: in each round every contender runs once, one after
//! the other, in processes of its own. Printed are the median of the rounds' ratios, their range,
//! and the target.

mod forks;
mod locks;
mod tables;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a contender runs in a round.
const TIME: Duration = Duration::from_millis(200);

/// Operations between two looks at the clock.
const BATCH: u64 = 1000;

/// A race: ours against a yardstick, as operations in a second.
struct Race<'a> {
    name: String,
    ours: Box<dyn Fn() -> f64 + 'a>,
    yardstick: Box<dyn Fn() -> f64 + 'a>,
    target: f64,
}

/// The operations in a second of a function, in this thread.
fn rate(mut operation: impl FnMut()) -> f64 {
    let (start, mut operations) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        (0..BATCH).for_each(|_| operation());
        operations += BATCH;
    }
    operations as f64 / start.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(races: &[Race], rounds: usize) -> bool {
    let mut results = vec![(Vec::new(), Vec::new(), Vec::new()); races.len()];
    for round in 0..rounds {
        for (race, (ours, yardstick, ratios)) in races.iter().zip(&mut results) {
            let (our, its) = match round % 2 {
                0 => ((race.ours)(), (race.yardstick)()),
                _ => {
                    let its = (race.yardstick)();
                    ((race.ours)(), its)
                }
            };
            ours.push(our);
            yardstick.push(its);
            ratios.push(our / its);
        }
    }
    println!(
        "{:<48} {:>9} {:>9} {:>6}  range        target",
        "rate against the yardstick", "ours", "its", "ratio"
    );
    let mut are_met = true;
    for (race, (ours, yardstick, ratios)) in races.iter().zip(&mut results) {
        let ratio = median(ratios);
        let nanoseconds = |rates: &mut [f64]| format!("{:.1} ns", 1e9 / median(rates));
        let is_met = ratio >= race.target;
        are_met &= is_met;
        println!(
            "{:<48} {:>9} {:>9} {ratio:>6.2}  {:.2} to {:.2}  {:.2}{}",
            race.name,
            nanoseconds(ours),
            nanoseconds(yardstick),
            ratios[0],
            ratios[ratios.len() - 1],
            race.target,
            if is_met { "" } else { " missed" }
        );
    }
    are_met
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(7, |rounds| rounds.parse().expect("usage: run [ROUNDS] [NAME]"));
    let only = arguments.next().unwrap_or_default();
    let locks = locks::Locks::make();
    let frozen = forks::load();
    let tables = tables::Tables::make();
    tine_shared::server::begin(64).expect("memory");
    let mut races = locks.races();
    races.extend(tables.races());
    races.push(forks::race(frozen));
    races.retain(|race| race.name.contains(&only));
    if run(&races, rounds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
