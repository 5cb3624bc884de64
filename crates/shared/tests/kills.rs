//! Processes that are killed at any instruction leave shared state whole. The test runs in the main
//! thread: a process with several threads must not fork.

use std::process::ExitCode;

use tine_shared::server::{self, Lives};
use tine_shared::{Counter, Frozen, Table};
use tine_sys::process::{Alone, Fresh, Side, exit_now, fork, wait_for};

const NAME: &str = "processes_that_are_killed_leave_all_whole";

/// Processes at a time, and how many are killed in all.
const PROCESSES: usize = 4;
const KILLS: u64 = 400;

/// Keys that all processes change, fewer than there are slots.
const KEYS: u64 = 200;

#[derive(Clone, Copy)]
struct Shared {
    table: Table<u64, [u64; 4]>,
    frozen: Frozen<u64>,
    turns: Counter,
    wrong: Counter,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--list") {
        if !has("--ignored") {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !has("--exact") || has(NAME) {
        test();
        println!("test {NAME} ... ok");
    }
    ExitCode::SUCCESS
}

fn test() {
    let shared = Shared {
        table: Table::new("table", 100).expect("memory"),
        frozen: Frozen::load("frozen", |writer| writer.extend(&[0; 64])).expect("memory"),
        turns: Counter::new("turns").expect("memory"),
        wrong: Counter::new("wrong").expect("memory"),
    };
    let lives = server::begin(PROCESSES + 1).expect("memory").expect("shared state");
    let alone = Alone::check().expect("one thread");
    let mut children: Vec<i32> = (0..PROCESSES).map(|number| start(&alone, shared, number, 0)).collect();
    for kill in 0..KILLS {
        // They have made progress: nobody waits for a dead process.
        let until = shared.turns.get() + 1 + kill * 7 % 50;
        while shared.turns.get() < until {
            std::thread::yield_now();
        }
        let number = kill as usize % PROCESSES;
        end(lives, number, children[number]);
        children[number] = start(&alone, shared, number, kill + 1);
    }
    children.into_iter().enumerate().for_each(|(number, pid)| end(lives, number, pid));
    check(shared);
}

fn start(alone: &Alone, shared: Shared, number: usize, seed: u64) -> i32 {
    match fork(alone, rustix::process::Signal::CHILD.as_raw()).expect("a process") {
        Side::Parent(pid) => pid,
        Side::Child(fresh) => serve(fresh, shared, number, seed),
    }
}

/// Kills a process, and does what a supervisor does then.
fn end(lives: &Lives, number: usize, pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a child");
    wait_for(pid.as_raw_nonzero().get()).expect("a child");
    lives.end(number);
}

/// Changes entries until it is killed.
fn serve(_fresh: Fresh, shared: Shared, number: usize, seed: u64) -> ! {
    server::enter(number);
    let mut random = seed * PROCESSES as u64 + number as u64 + 1;
    // The supervisor may have ended.
    for turn in 0..u64::MAX {
        if turn % 64 == 0 && rustix::process::getppid().is_none_or(rustix::process::Pid::is_init) {
            break;
        }
        random = (random ^ random << 13) ^ (random ^ random << 13) >> 7;
        random ^= random << 17;
        let (key, value) = (random % KEYS, [random >> 32; 4]);
        match random >> 16 & 7 {
            0..3 => drop(shared.table.insert(key, value).is_ok()),
            3..5 => drop(shared.table.remove(&key).is_some()),
            5 => {
                let _ = shared.table.update(&key, |entry| entry.set(value));
            }
            6 if turn % 8 == 0 => {
                let _ = shared.frozen.replace(|writer| writer.extend(&[random; 64]));
            }
            _ => {
                let snapshot = shared.frozen.get();
                let is_whole = snapshot.len() == 64 && snapshot.iter().all(|value| *value == snapshot[0]);
                let entry = shared.table.get(&key).unwrap_or_default();
                if !is_whole || entry.iter().any(|word| *word != entry[0]) {
                    shared.wrong.add(1);
                }
            }
        }
        shared.turns.add(1);
    }
    exit_now(0)
}

/// Every entry is whole, once there, counted, and has room.
fn check(shared: Shared) {
    assert_eq!(shared.wrong.get(), 0, "half written values");
    server::enter(PROCESSES);
    let mut entries: Vec<(u64, [u64; 4])> = shared.table.iter().collect();
    entries.sort_unstable();
    assert!(entries.iter().all(|(_, value)| *value == [value[0]; 4]), "half written");
    assert!(entries.windows(2).all(|pair| pair[0].0 != pair[1].0), "an entry twice");
    for (key, value) in &entries {
        assert_eq!(shared.table.get(key), Some(*value));
    }
    // Each stripe is taken: who died while it counted makes others count.
    (KEYS..KEYS + 1000).for_each(|key| assert_eq!(shared.table.remove(&key), None));
    assert_eq!(shared.table.len(), entries.len());
    shared.table.clear();
    assert_eq!((shared.table.len(), shared.table.iter().count()), (0, 0));
    for key in 0..100 {
        assert_eq!(shared.table.insert(key, [key; 4]), Ok(None), "a slot is lost");
    }
    shared.frozen.replace(|writer| writer.push(&7)).expect("memory");
    assert_eq!(shared.frozen.get()[..], [7]);
}
