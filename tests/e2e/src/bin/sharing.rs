//! A server whose connections share state. Each line of a client is a command; the reply is a line.
//! Usage: sharing ADDRESS [CONTROL]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use tine::shared::{
    Broadcast, Cell, Counter, Gauge, Histogram, JobId, JobState, Jobs, Mutex, Queue, Semaphore, Table,
};
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
    table: Table<u64, [u64; 4]>,
    queue: Queue<Wide>,
    news: Broadcast<Wide>,
    permits: Semaphore,
    /// What has returned: of the mutex, of the cell, of the counter, of the table, pushed, popped.
    tallies: [Counter; 6],
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
            table: Table::new("table", 100)?,
            queue: Queue::new("queue", 20)?,
            news: Broadcast::new("news", 8)?,
            permits: Semaphore::new("permits", 3)?,
            tallies: [
                Counter::new("tally_mutex")?,
                Counter::new("tally_cell")?,
                Counter::new("tally_counter")?,
                Counter::new("tally_table")?,
                Counter::new("tally_pushed")?,
                Counter::new("tally_popped")?,
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
                *total = total.wrapping_add(number(1));
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
            "scribble" => scribble(number(1))?,
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
        let mut subscription = self.news.subscribe();
        while Instant::now() < end {
            match random.below(9) {
                0 => {
                    let mut wide = self.wide.lock();
                    self.note_torn(&wide[..]);
                    *wide = wide.map(|word| word.wrapping_add(1));
                    drop(wide);
                    self.tallies[0].add(1);
                }
                1 => {
                    self.cell.update(|cell| {
                        self.note_torn(cell);
                        *cell = cell.map(|word| word.wrapping_add(1));
                    });
                    self.tallies[1].add(1);
                }
                2 => self.note_torn(&self.cell.get()),
                3 => self.change_table(random.below(50) as u64),
                4 => self.push([random.below(1000) as u64; 16]),
                5 => self.pop(),
                6 => self.news.send([random.below(1000) as u64; 16]),
                7 => {
                    let _permit = self.permits.acquire();
                    while let Some(message) = subscription.try_next() {
                        self.note_torn(&message.value);
                    }
                }
                _ => {
                    self.hits.add(1);
                    self.tallies[2].add(1);
                }
            }
        }
        "over".to_owned()
    }

    fn change_table(&self, key: u64) {
        let changed = self.table.update(&key, |entry| {
            let value = entry.get().unwrap_or_default();
            self.note_torn(&value);
            entry.set(value.map(|word| word.wrapping_add(1)));
        });
        if changed.is_ok() {
            self.tallies[3].add(1);
        }
    }

    fn push(&self, value: Wide) {
        if self.queue.try_push(value).is_ok() {
            self.tallies[4].add(1);
        }
    }

    fn pop(&self) {
        if let Some(value) = self.queue.try_pop() {
            self.note_torn(&value);
            self.tallies[5].add(1);
        }
    }

    fn note_torn(&self, value: &[u64]) {
        if value.iter().any(|word| *word != value[0]) {
            self.torn.add(1);
        }
    }

    /// The operations that count in the mutex, the cell, the counter and the table beyond those
    /// that have returned; what is missing in the queue, the torn values, the free permits, and
    /// the counter.
    fn check(&self) -> String {
        let in_table = self.table.iter().map(|(_, value)| value[0]).sum();
        let counts = [self.wide.lock()[0], self.cell.get()[0], self.hits.get(), in_table];
        let tally = |at: usize| self.tallies[at].get() as i64;
        let beyond = counts.iter().enumerate().map(|(at, count)| *count as i64 - tally(at));
        let missing = tally(4) - tally(5) - self.queue.len() as i64;
        let rest = [missing, self.torn.get() as i64, self.permits.available() as i64, self.hits.get() as i64];
        let numbers: Vec<String> = beyond.chain(rest).map(|number| number.to_string()).collect();
        numbers.join(" ")
    }
}

/// Overwrites all shared memory that this process may write, or the first of it.
fn scribble(seed: u64) -> Result<String, HandlerError> {
    const MOST: u64 = 4 << 20;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    let mut random = Random::new(seed);
    let mut count = 0;
    for line in maps.lines().filter(|line| line.split_whitespace().nth(1) == Some("rw-s")) {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap_or_default();
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut bytes = random.bytes((end - start).min(MOST) as usize);
        // Whole parts with the same bits, too.
        for (number, part) in bytes.chunks_mut(4096).enumerate() {
            match number % 4 {
                0 => part.fill(0),
                1 => part.fill(0xff),
                _ => {}
            }
        }
        memory.write_all_at(&bytes, start)?;
        count += 1;
    }
    Ok(format!("scribbled {count}"))
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
