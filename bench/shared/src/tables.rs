//! Tables, with threads of one process.

use dashmap::DashMap;
use tine_shared::Table;

use crate::{Race, rate};

/// Keys that fit the caches of a processor, and more.
const SIZES: [u64; 2] = [1000, 100_000];
const TARGET: f64 = 0.5;

type Pair = (u64, Table<u64, u64>, &'static DashMap<u64, u64>);

pub(crate) struct Tables(Vec<Pair>);

/// The rate of a function in this many threads together; one is the main thread.
fn in_threads(threads: u64, keys: u64, operation: impl Fn(u64, u64) + Sync) -> f64 {
    let run = |seed: u64| {
        let mut state = seed * 2 + 1;
        rate(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            operation((state >> 20) % keys, state);
        })
    };
    if threads == 1 {
        return run(0);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|seed| scope.spawn(move || run(seed))).collect();
        running.into_iter().map(|thread| thread.join().expect("a rate")).sum()
    })
}

impl Tables {
    pub(crate) fn make() -> Tables {
        let make = |keys: u64| {
            let table = Table::new(&format!("table_{keys}"), keys as usize).expect("memory");
            let map: &DashMap<u64, u64> = Box::leak(Box::default());
            for key in 0..keys {
                table.insert(key, key).expect("room");
                map.insert(key, key);
            }
            (keys, table, map)
        };
        Tables(SIZES.into_iter().map(make).collect())
    }

    pub(crate) fn races(&self) -> Vec<Race<'_>> {
        let of_pair = |threads| self.0.iter().flat_map(move |pair| races(*pair, threads));
        [1, 2].into_iter().flat_map(of_pair).collect()
    }
}

/// An operation with a key and a number at random.
type Operation = Box<dyn Fn(u64, u64) + Sync>;

fn races((keys, table, map): Pair, threads: u64) -> Vec<Race<'static>> {
    let mut races = Vec::new();
    let mut add = |name: &str, ours: Operation, its: Operation| {
        races.push(Race {
            name: format!("Table, {name}, {keys} keys, {threads} threads; dashmap"),
            ours: Box::new(move || in_threads(threads, keys, &*ours)),
            yardstick: Box::new(move || in_threads(threads, keys, &*its)),
            target: TARGET,
        });
    };
    add(
        "get",
        Box::new(move |key, _| _ = std::hint::black_box(table.get(&key))),
        Box::new(move |key, _| _ = std::hint::black_box(map.get(&key).map(|value| *value))),
    );
    add(
        "insert",
        Box::new(move |key, value| _ = table.insert(key, value)),
        Box::new(move |key, value| _ = map.insert(key, value)),
    );
    add(
        "update",
        Box::new(move |key, _| {
            let _ = table.update(&key, |entry| entry.set(entry.get().unwrap_or(0).wrapping_add(1)));
        }),
        Box::new(move |key, _| {
            let mut value = map.entry(key).or_insert(0);
            *value = value.wrapping_add(1);
        }),
    );
    add(
        "insert and remove",
        Box::new(move |key, value| {
            let _ = (table.remove(&key), table.insert(key, value));
        }),
        Box::new(move |key, value| {
            let _ = (map.remove(&key), map.insert(key, value));
        }),
    );
    add(
        "90 % get",
        Box::new(move |key, value| {
            if value % 10 == 0 {
                let _ = table.insert(key, value);
            } else {
                std::hint::black_box(table.get(&key));
            }
        }),
        Box::new(move |key, value| {
            if value % 10 == 0 {
                map.insert(key, value);
            } else {
                std::hint::black_box(map.get(&key).map(|value| *value));
            }
        }),
    );
    races
}
