//! A server whose connections share state. Each line of a client is a command; the reply is a line.
//! Usage: sharing ADDRESS [CONTROL]

use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use tine::shared::{Cell, Counter, Gauge, Histogram, JobId, JobState, Jobs, Mutex};
use tine::{Connection, Control, HandlerError, Server};
use tine_e2e::random::Random;

/// A value that is torn if its words differ.
type Wide = [u64; 16];

/// What the connections share.
#[derive(Clone, Copy)]
struct Shared {
    total: Mutex<u64>,
    wide: Mutex<Wide>,
    cell: Cell<Wide>,
    hits: Counter,
    level: Gauge,
    seconds: Histogram,
    jobs: Jobs<u64, u64>,
    /// What has returned: of the mutex, of the cell, of the counter.
    tallies: [Counter; 3],
    torn: Counter,
}

impl Shared {
    fn new() -> Result<Shared, tine::Error> {
        Ok(Shared {
            total: Mutex::new("total", 0)?,
            wide: Mutex::new("wide", [0; 16])?,
            cell: Cell::new("notice", [0; 16])?,
            hits: Counter::new("hits")?,
            level: Gauge::new("level")?,
            seconds: Histogram::new("seconds", &[0.1, 1.0])?,
            jobs: Jobs::new("squares", 8)?,
            tallies: [
                Counter::new("tally_mutex")?,
                Counter::new("tally_cell")?,
                Counter::new("tally_counter")?,
            ],
            torn: Counter::new("torn")?,
        })
    }

    /// Runs a command.
    fn command(
        &self,
        words: &[&str],
        connection: &Connection,
        lines: &mut BufReader<&Connection>,
    ) -> Result<String, HandlerError> {
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        Ok(match words.first().copied().unwrap_or_default() {
            "hit" => self.hits.add(1).to_string(),
            "measure" => {
                self.seconds.observe(0.5);
                self.level.add(-3).to_string()
            }
            "add" => {
                let mut total = self.total.lock();
                *total += number(1);
                format!("{} died={}", *total, total.owner_died())
            }
            "try" => format!("{}", self.total.try_lock().is_some()),
            // Changes the value, and holds the mutex until the next line.
            "hold" => {
                let mut total = self.total.lock();
                *total += 1000;
                lines.get_mut().write_all(b"held\n")?;
                lines.read_line(&mut String::new())?;
                "released".to_owned()
            }
            "panic" => {
                let mut total = self.total.lock();
                *total += 1000;
                panic!("with the mutex");
            }
            "job" => match self.jobs.submit(number(1)) {
                Ok(id) => id.to_string(),
                Err(full) => full.to_string(),
            },
            "wait" => describe(self.jobs.wait(id(words)?, Duration::from_secs(60))),
            "state" => describe(self.jobs.state(id(words)?)),
            // Helpers, which change what is shared.
            "helper" => format!("{:?}", connection.spawn_with(|| self.help(number(1)))?.wait()?),
            "program" => {
                format!("{:?}", connection.spawn(Command::new("sh").args(["-c", "exit 7"]))?.wait()?)
            }
            "leave" => {
                let helper = connection.spawn_with(|| self.help(3))?;
                let id = helper.id();
                // Not even a drop: the process of the connection ends.
                let _ = std::mem::ManuallyDrop::new(helper);
                id.to_string()
            }
            "late" => Counter::new("late").expect_err("too late").to_string(),
            "attack" => self.attack(number(1), Duration::from_millis(number(2))),
            "check" => self.check(),
            other => format!("unknown: {other}"),
        })
    }

    /// What a helper does.
    fn help(&self, number: u64) -> Result<(), HandlerError> {
        match number {
            0 => *self.total.lock() += 1,
            1 => return Err("no luck".into()),
            2 => std::process::abort(),
            // Until it is killed.
            _ => loop {
                std::thread::park();
            },
        }
        Ok(())
    }

    /// Uses everything, in an order that the seed gives, for a time.
    fn attack(&self, seed: u64, time: Duration) -> String {
        let (mut random, end) = (Random::new(seed), Instant::now() + time);
        while Instant::now() < end {
            match random.below(4) {
                0 => {
                    let mut wide = self.wide.lock();
                    self.note_torn(&wide);
                    *wide = wide.map(|word| word + 1);
                    drop(wide);
                    self.tallies[0].add(1);
                }
                1 => {
                    self.cell.update(|cell| {
                        self.note_torn(cell);
                        *cell = cell.map(|word| word + 1);
                    });
                    self.tallies[1].add(1);
                }
                2 => self.note_torn(&self.cell.get()),
                _ => {
                    self.hits.add(1);
                    self.tallies[2].add(1);
                }
            }
        }
        "over".to_owned()
    }

    fn note_torn(&self, value: &Wide) {
        if value.iter().any(|word| *word != value[0]) {
            self.torn.add(1);
        }
    }

    /// The operations that count in the mutex, in the cell and in the counter beyond those that
    /// have returned, and the torn values.
    fn check(&self) -> String {
        let counts = [self.wide.lock()[0], self.cell.get()[0], self.hits.get()];
        let [mutex, cell, counter] =
            std::array::from_fn(|at| counts[at] as i64 - self.tallies[at].get() as i64);
        format!("{mutex} {cell} {counter} {} {}", self.torn.get(), self.hits.get())
    }
}

fn id(words: &[&str]) -> Result<JobId, HandlerError> {
    Ok(words.get(1).copied().unwrap_or_default().parse()?)
}

fn describe(state: JobState<u64>) -> String {
    match state {
        JobState::Done(value) => format!("done {value}"),
        JobState::Failed(why) => format!("failed {why}"),
        JobState::Waiting => "waiting".to_owned(),
        JobState::Running => "running".to_owned(),
        JobState::Unknown => "unknown".to_owned(),
    }
}

/// The job: the square of a number. Some numbers are trouble.
fn square(number: u64) -> Result<u64, HandlerError> {
    match number {
        13 => std::process::abort(),
        14 => Err("no luck".into()),
        15 => panic!("in a job"),
        // Until it is killed.
        16 => loop {
            std::thread::park();
        },
        number => Ok(number * number),
    }
}

fn main() -> Result<(), tine::Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_default();
    let control = arguments.next().map_or(Control::none(), Control::at);
    let shared = Shared::new()?;
    Server::bind(&address)?
        .print_ports(true)
        .control(control)
        .jobs(shared.jobs, 2, square)
        .run(move |connection| serve(&connection, &shared))
}

fn serve(connection: &Connection, shared: &Shared) -> Result<(), HandlerError> {
    let mut lines = BufReader::new(connection);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        let reply = shared.command(&words, connection, &mut lines)?;
        writeln!(&mut &*connection, "{reply}")?;
        line.clear();
    }
    Ok(())
}
