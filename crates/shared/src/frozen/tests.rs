use std::io::Write;

use super::*;
use crate::error::ErrorKind;

fn load(name: &str, values: &[u32]) -> Frozen<u32> {
    Frozen::load(name, |writer| writer.extend(values)).expect("memory")
}

/// What another process sees: it has the version that this one had, and looks for itself.
fn as_others(frozen: Frozen<u32>, had: &Snapshot<u32>, looked_for: u64) -> Vec<u32> {
    *frozen.current() = Current { version: Arc::clone(&had.version), looked_for };
    frozen.get().to_vec()
}

#[test]
fn a_snapshot_stays_while_all_is_replaced() {
    let frozen = load("replaced", &[1, 2, 3]);
    let before = frozen.get();
    for number in 1..=20u32 {
        frozen.replace(|writer| (0..number).try_for_each(|value| writer.push(&value))).expect("memory");
        assert_eq!(frozen.get().to_vec(), (0..number).collect::<Vec<u32>>());
        assert_eq!(as_others(frozen, &before, 0), (0..number).collect::<Vec<u32>>());
        assert_eq!(frozen.get().version(), u64::from(number));
    }
    assert_eq!((&before[..], before.version()), (&[1, 2, 3][..], 0));
    assert_eq!(frozen.figures(), [Figure::gauge("bytes", 80.0), Figure::counter("version", 20)]);
    frozen.replace(|_| Ok(())).expect("memory");
    assert!(frozen.get().is_empty());
    Shown::leave(&frozen);
    assert!(frozen.current().version.map.bytes().is_empty());
}

#[test]
fn a_version_is_unmapped_with_its_last_snapshot() {
    let frozen = load("unmapped", &[1]);
    let snapshot = frozen.get();
    let version = Arc::downgrade(&snapshot.version);
    frozen.replace(|writer| writer.push(&2)).expect("memory");
    assert_eq!(version.strong_count(), 1);
    drop(snapshot);
    assert_eq!(version.strong_count(), 0);
}

#[test]
fn what_cannot_be_loaded_changes_nothing() {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let error = Frozen::<u8>::load("denied", |_| Err(denied())).expect_err("it cannot be read");
    assert_eq!(error.kind(), ErrorKind::Load);
    let text = "cannot load \"denied\": permission denied; \
                check what it is loaded from, and that there is memory for it";
    assert_eq!(error.to_string(), text);

    let frozen = load("stays", &[7]);
    let error = frozen.replace(|writer| writer.write_all(b"12345")).expect_err("no whole values");
    assert!(error.what().ends_with("5 bytes are no number of values with 4 each"), "{error}");
    assert!(frozen.replace(|writer| writer.push(&1).and(Err(denied()))).is_err());
    assert_eq!((&frozen.get()[..], frozen.get().version()), (&[7][..], 0));
}

#[test]
fn who_dies_at_any_step_of_a_replacement_stops_nobody() {
    let frozen = load("dies", &[0]);
    let first = frozen.get();
    let file = |value: u32| writer::write::<u32>("dies", |writer| writer.push(&value)).expect("memory");
    // Before it is in the mailbox.
    frozen.begin();
    assert_eq!(as_others(frozen, &first, 0), [0]);
    // Before the old one is removed.
    let number = frozen.begin();
    frozen.put(number, &file(1)).expect("room");
    assert_eq!(as_others(frozen, &first, 0), [0]);
    assert_eq!(as_others(frozen, &first, 99), [0], "the old one counts");
    // Before the number is written.
    frozen.0.mailbox.remove_before(number);
    assert_eq!(as_others(frozen, &first, 0), [0]);
    frozen.replace(|writer| writer.push(&2)).expect("memory");
    assert_eq!(as_others(frozen, &first, 0), [2]);
    assert_eq!(frozen.0.mailbox.first().expect("room").expect("a file").0, 3);
    // Any number of times.
    for value in 0..100 {
        let number = frozen.begin();
        let _ = frozen.put(number, &file(value));
    }
    frozen.replace(|writer| writer.push(&3)).expect("memory");
    assert_eq!(as_others(frozen, &first, 0), [3]);
}

#[test]
fn what_the_library_has_not_put_there_is_refused() {
    let frozen = load("hostile", &[5]);
    let first = frozen.get();
    let open = tine_sys::frozen::file(c"tine test").expect("memory");
    rustix::io::write(&open, b"abcd").expect("room");
    let odd = tine_sys::frozen::file(c"tine test").expect("memory");
    rustix::io::write(&odd, b"abcde").expect("room");
    tine_sys::frozen::seal(&odd).expect("it can be sealed");
    for file in [open, odd] {
        frozen.0.mailbox.clear();
        frozen.put(77, &file).expect("room");
        frozen.0.words[PUBLISHED].store(77, Relaxed);
        assert_eq!(as_others(frozen, &first, 0), [5]);
        assert_eq!(frozen.current().looked_for, 77, "it is looked at once");
    }
    frozen.0.mailbox.clear();
    assert_eq!(as_others(frozen, &first, 0), [5], "nothing is there");
    frozen.replace(|writer| writer.push(&6)).expect("memory");
    assert_eq!(as_others(frozen, &first, 0), [6]);
}

#[test]
fn threads_replace_and_read() {
    let frozen = load("raced", &[0; 1000]);
    std::thread::scope(|scope| {
        for thread in 1..=2u32 {
            scope.spawn(move || {
                for _ in 0..50 {
                    let fill = |writer: &mut FrozenWriter<u32>| writer.extend(&[thread; 1000]);
                    frozen.replace(fill).expect("memory");
                    let snapshot = frozen.get();
                    assert!(snapshot.iter().all(|value| *value == snapshot[0]), "mixed");
                    assert_eq!(snapshot.len(), 1000);
                }
            });
        }
    });
    assert_eq!(frozen.0.words[PUBLISHED].load(Relaxed), 100);
    let newest = frozen.0.mailbox.first().expect("room").expect("a file").0;
    assert_eq!(newest, 100);
}

#[test]
fn it_can_be_large() {
    const VALUES: usize = 256 << 20 >> 3;
    let block: Vec<u64> = (0..1 << 17).collect();
    let fill =
        |writer: &mut FrozenWriter<u64>| (0..VALUES / block.len()).try_for_each(|_| writer.extend(&block));
    let frozen = Frozen::load("large", fill).expect("memory");
    let snapshot = frozen.get();
    assert_eq!(snapshot.len(), VALUES);
    assert_eq!(snapshot[VALUES - 1], block.len() as u64 - 1);
    assert_eq!(frozen.figures()[0], Figure::gauge("bytes", (256 << 20) as f64));
}
