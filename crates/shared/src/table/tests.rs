use std::collections::HashMap;
use std::sync::atomic::AtomicU32;

use super::*;
use crate::owner::{MAX_CLAIMS, Members};
use crate::sync::{AtomicU64, Relaxed};
use crate::text::Text;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1) };
}

fn table<K: Plain, V: Plain>(name: &str, capacity: usize) -> Table<K, V> {
    Table::with_clock(name, capacity, || NOW.get()).expect("memory")
}

fn pass(time: Duration) {
    NOW.set(NOW.get() + time.as_nanos() as u64);
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}

fn some_members(count: usize) -> Members {
    let lives: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
    let claims: Vec<AtomicU64> = (0..count * MAX_CLAIMS).map(|_| AtomicU64::new(0)).collect();
    Members { lives: lives.leak(), claims: claims.leak() }
}

/// A table as the standard library would have it: values, and when they expire.
type Model = HashMap<u64, ([u64; 3], Option<u64>)>;

fn live(model: &Model, key: u64) -> Option<[u64; 3]> {
    model
        .get(&key)
        .filter(|(_, expiry)| expiry.is_none_or(|expiry| expiry > NOW.get()))
        .map(|(value, _)| *value)
}

fn one_operation(table: Table<u64, [u64; 3]>, model: &mut Model, random: &mut Random) {
    let key = random.below(300);
    let value = [key, random.next(), random.next()];
    let time = Duration::from_nanos(1 + random.below(500));
    let before = live(model, key);
    let expiry = NOW.get() + time.as_nanos() as u64;
    let is_full = |model: &Model| {
        assert!(before.is_none(), "it is there already");
        let length = model.keys().filter(|key| live(model, **key).is_some()).count();
        assert!(length >= table.capacity(), "full at {length}");
    };
    match random.below(8) {
        0..2 => match table.insert(key, value) {
            Ok(old) => {
                assert_eq!(old, before);
                model.insert(key, (value, None));
            }
            Err(_) => is_full(model),
        },
        2 => match table.insert_for(key, value, time) {
            Ok(old) => {
                assert_eq!(old, before);
                model.insert(key, (value, Some(expiry)));
            }
            Err(_) => is_full(model),
        },
        3 | 4 => {
            assert_eq!(table.remove(&key), before);
            model.remove(&key);
        }
        5 => {
            let kept = model.get(&key).filter(|_| before.is_some()).and_then(|(_, expiry)| *expiry);
            let change = |entry: &mut Entry<[u64; 3]>| {
                assert_eq!(entry.get(), before);
                assert_eq!(entry.expires_in().is_some(), kept.is_some());
                entry.set(value);
            };
            match table.update(&key, change) {
                Ok(()) => drop(model.insert(key, (value, kept))),
                Err(_) => is_full(model),
            }
        }
        6 => {
            assert_eq!(table.update(&key, Entry::remove), Ok(before));
            model.remove(&key);
        }
        _ => pass(Duration::from_nanos(random.below(20))),
    }
    let other = random.below(300);
    assert_eq!(table.get(&other), live(model, other));
    assert_eq!(table.contains(&key), live(model, key).is_some());
    let left =
        model.get(&key).and_then(|(_, expiry)| expiry.and_then(|expiry| expiry.checked_sub(NOW.get())));
    assert_eq!(table.expires_in(&key), left.filter(|left| *left > 0).map(Duration::from_nanos));
}

#[test]
fn it_does_what_a_map_does() {
    let table: Table<u64, [u64; 3]> = table("as_a_map", 100);
    let mut model = Model::new();
    let mut random = Random(7);
    for number in 0..100_000 {
        one_operation(table, &mut model, &mut random);
        if number % 1000 == 0 {
            let mut entries: Vec<(u64, [u64; 3])> = table.iter().collect();
            let mut expected: Vec<(u64, [u64; 3])> =
                model.keys().filter_map(|key| live(&model, *key).map(|value| (*key, value))).collect();
            entries.sort_unstable();
            expected.sort_unstable();
            assert_eq!(entries, expected);
            assert!((entries.len()..=table.0.slots.count()).contains(&table.len()));
        }
    }
    table.clear();
    assert_eq!((table.len(), table.is_empty(), table.iter().count()), (0, true, 0));
}

#[test]
fn it_has_room_for_its_capacity_and_for_no_end() {
    for capacity in [1usize, 2, 7, 100, 5000] {
        let table: Table<u32, ()> = table(&format!("of_{capacity}"), capacity);
        for key in 0..capacity as u32 {
            assert_eq!(table.insert(key, ()), Ok(None), "{key} of {capacity}");
        }
        assert_eq!(table.len(), capacity);
        let full = (0..).find_map(|more| table.insert(capacity as u32 + more, ()).err()).expect("it ends");
        assert_eq!(full, TableFull { name: table.0.name, capacity });
        assert!(table.len() <= table.0.slots.count());
        assert_eq!(table.insert(0, ()), Ok(Some(())), "it is there already");
        assert_eq!(table.remove(&0), Some(()));
        assert_eq!(table.insert(0, ()), Ok(None), "its place is free");
    }
    let full = TableFull { name: "sessions", capacity: 7 };
    let text = "the table \"sessions\" has no room for another entry: its capacity is 7; \
                raise the capacity, or let entries expire (`insert_for`)";
    assert_eq!(full.to_string(), text);
}

#[test]
fn expired_entries_make_room() {
    let second = Duration::from_secs(1);
    let table: Table<u64, u64> = table("make_room", 64);
    let length = (0..).find(|key| table.insert_for(*key, *key, second).is_err()).expect("it ends");
    assert!((64..=128).contains(&table.len()), "{length}");
    pass(second);
    assert_eq!((table.get(&0), table.contains(&0), table.iter().count()), (None, false, 0));
    for key in 1000..1064 {
        assert_eq!(table.insert(key, key), Ok(None));
    }
    assert_eq!(table.iter().count(), 64);
    assert!((64..=128).contains(&table.len()));
    let figures = table.figures();
    let figure = |name| figures.iter().find(|figure| figure.name == name).expect(name);
    assert_eq!(*figure("capacity"), Figure::gauge("capacity", 64.0));
    assert_eq!(*figure("length"), Figure::gauge("length", table.len() as f64));
    assert_ne!(*figure("expired"), Figure::counter("expired", 0));
}

#[test]
fn keys_can_be_texts_and_values_nothing() {
    let table: Table<(Text<20>, Option<u8>), ()> = table("texts", 10);
    let key = |text, more| (Text::<20>::cut(text), more);
    for (text, more) in
        [("", None), ("", Some(0)), ("a", None), ("a longer text", None), ("a longer one", None)]
    {
        assert!(!table.contains(&key(text, more)));
        assert_eq!(table.insert(key(text, more), ()), Ok(None));
        assert!(table.contains(&key(text, more)));
    }
    assert_eq!(table.len(), 5);
}

#[test]
fn threads_lose_nothing() {
    const ROUNDS: u64 = 20_000;
    let table: Table<u64, (u64, u64)> = Table::new("of_threads", 1000).expect("memory");
    let add = |key: u64| {
        let change = |entry: &mut Entry<(u64, u64)>| {
            let (one, other) = entry.get().unwrap_or_default();
            assert_eq!(one, other);
            entry.set((one + 1, other + 1));
        };
        table.update(&key, change).expect("room");
    };
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                for round in 0..ROUNDS {
                    add(round % 3);
                    add(1000 + thread);
                    let own = 10_000 + thread * 100 + random.below(100);
                    match table.insert(own, (round, round)).expect("room") {
                        Some(_) => assert!(table.remove(&own).is_some()),
                        None => assert_eq!(table.get(&own), Some((round, round))),
                    }
                    if let Some((one, other)) = table.get(&random.below(3)) {
                        assert_eq!(one, other, "half written");
                    }
                }
            });
        }
    });
    let total: u64 = (0..3).map(|key| table.get(&key).expect("it is there").0).sum();
    assert_eq!(total, 4 * ROUNDS);
    assert!((1000..1004).all(|key| table.get(&key) == Some((ROUNDS, ROUNDS))));
    assert_eq!(table.len(), table.iter().count());
}

#[test]
fn what_a_dead_process_has_claimed_is_free() {
    let table: Table<u64, u64> = table("claimed", 1);
    let slots = &table.0.slots;
    let members = some_members(2);
    let (dead, own) = (members.owner(0), members.owner(1));
    let claimed = (0..100).take_while(|_| slots.only_claim(&1, dead, members)).count();
    assert_eq!(claimed, slots.count(), "no more than there are");
    assert_eq!((table.len(), table.get(&1), table.iter().count()), (0, None, 0));
    let add = |key: u64| slots.add(&key, &slots.hash(&key), (&7, 0), (own, members));
    assert!(!add(1), "its claimer lives");
    members.lives[0].store(1, Relaxed);
    assert!(add(1) && add(2));
    assert_eq!((table.get(&1), table.get(&2), table.len()), (Some(7), Some(7), 2));
}

#[test]
fn who_dies_while_it_counts_makes_others_count() {
    let table: Table<u64, u64> = table("counts", 100);
    (0..50).for_each(|key| assert_eq!(table.insert(key, key), Ok(None)));
    let (_, _, stripes) = table.0.slots.words();
    for stripe in stripes.chunks(stripe::WORDS_OF_STRIPE) {
        stripe[1].store(77, Relaxed);
        stripe[2].store(1, Relaxed);
    }
    assert_eq!(table.len(), table.0.slots.count(), "as many as there can be");
    (0..1000).for_each(|key| assert_eq!(table.remove(&(key + 50)), None));
    assert_eq!(table.len(), 50);
}

#[test]
fn an_update_that_panics_changes_nothing() {
    let table: Table<u64, u64> = table("panics", 10);
    assert_eq!(table.insert(1, 1), Ok(None));
    let panics = |change: fn(&Table<u64, u64>, &mut Entry<u64>)| {
        let update = || table.update(&1, |entry| change(&table, entry));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(update)).is_err()
    };
    assert!(panics(|_, entry| {
        entry.set(2);
        panic!("in the update");
    }));
    assert!(panics(|table, _| assert!(table.insert(3, 3).is_ok())), "it could wait for itself");
    assert_eq!((table.get(&1), table.get(&3)), (Some(1), None));
    assert_eq!(table.update(&1, |entry| table.get(&1) == entry.get()), Ok(true), "reading is no change");
    assert_eq!(table.insert(3, 3), Ok(None), "the lock is free");
}

#[test]
fn any_words_are_survived() {
    let table: Table<[u8; 5], (char, Option<u16>)> = table("any_words", 40);
    let mut random = Random(3);
    for round in 0..50 {
        let (hints, words, stripes) = table.0.slots.words();
        // At random: with all states, or only with entries and free slots, with claims, free ones.
        words.iter().for_each(|word| word.store(random.next() & !(round % 4), Relaxed));
        hints.iter().for_each(|word| word.store(random.next(), Relaxed));
        for stripe in stripes.chunks(stripe::WORDS_OF_STRIPE) {
            stripe[1..].iter().for_each(|word| word.store(random.next() as u32, Relaxed));
        }
        let keys: Vec<[u8; 5]> = table.iter().map(|(key, _)| key).collect();
        for number in 0..200u8 {
            let key = *keys.get(usize::from(number)).unwrap_or(&[number; 5]);
            let value = ('x', Some(u16::from(number)));
            if table.insert(key, value).is_ok() {
                assert_eq!(table.get(&key), Some(value));
            }
            let _ = table.insert_for(key, value, Duration::MAX);
            let _ = table.update(&key, |entry| entry.set(('y', None)));
            let _ = (table.expires_in(&key), table.remove(&key), table.contains(&key));
            assert_eq!(table.get(&key), None);
        }
        assert!(table.len() <= table.0.slots.count());
        assert_eq!(table.figures().len(), 3);
        table.clear();
        assert_eq!(table.iter().count(), 0);
    }
}
