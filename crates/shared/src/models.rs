//! Models: every order in which threads, as processes, can run, up to a number of preemptions
//! (`scripts/models`). A wake that is lost is a deadlock there, which ends the model.

use std::mem::ManuallyDrop;

use loom::thread;

use crate::broadcast::Broadcast;
use crate::cell::Cell;
use crate::event::Event;
use crate::lock::Lock;
use crate::once::Once;
use crate::owner::{Members, test_members};
use crate::queue::Queue;
use crate::rwlock::RwLock;
use crate::semaphore::Semaphore;
use crate::show::{LetGo, Shown};
use crate::subscription::Reader;
use crate::sync::{AcqRel, Acquire, AtomicU32, Relaxed, Release};
use crate::turn::{Caller, Turn};

/// Runs a model with this many members.
fn model(preemptions: usize, count: usize, run: impl Fn(Processes) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || run(Processes(test_members(count))));
}

#[derive(Clone, Copy)]
struct Processes(Members);

impl Processes {
    fn caller(self, number: usize) -> Caller {
        Caller { own: self.0.owner(number), members: self.0 }
    }

    /// What the supervisor does once it has reaped a process.
    fn end(self, number: usize, let_go: impl FnOnce(LetGo)) {
        let (owner, objects) = self.0.end(number, &self.0.lives[number]);
        if !objects.is_empty() {
            let_go(LetGo { owner, object: 0 });
        }
    }
}

fn word() -> &'static AtomicU32 {
    Box::leak(Box::new(AtomicU32::new(0)))
}

/// Adds one, as only one process at a time can.
fn add(number: &AtomicU32) {
    number.store(number.load(Relaxed) + 1, Relaxed);
}

#[test]
fn a_lock_has_one_holder_at_a_time() {
    model(3, 3, |processes| {
        let (lock, number) = (Lock::make("lock").expect("memory"), word());
        let run = move |process| {
            let turn = Turn::take(lock, processes.caller(process));
            add(number);
            drop(turn);
        };
        let others = [1, 2].map(|process| thread::spawn(move || run(process)));
        run(0);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        assert_eq!(number.load(Relaxed), 3);
        assert!(!lock.is_held());
    });
}

#[test]
fn a_lock_opens_when_its_holder_dies() {
    model(3, 3, |processes| {
        let (lock, number) = (Lock::make("lock").expect("memory"), word());
        let take = move |process| {
            let turn = ManuallyDrop::new(Turn::take(lock, processes.caller(process)));
            add(number);
            turn
        };
        let dies = thread::spawn(move || {
            take(1);
        });
        let other = thread::spawn(move || drop(ManuallyDrop::into_inner(take(2))));
        dies.join().expect("no panic");
        processes.end(1, |dead| lock.let_go(dead.owner));
        other.join().expect("no panic");
        drop(ManuallyDrop::into_inner(take(0)));
        assert_eq!(number.load(Relaxed), 3);
    });
}

#[test]
fn a_cell_is_never_read_in_parts() {
    model(3, 1, |processes| {
        let cell = Cell::make("cell", &(0u32, 0u32)).expect("memory");
        let reader = thread::spawn(move || {
            let (one, other) = cell.get();
            assert_eq!(one, other);
        });
        for number in 1..=3 {
            cell.update_as(processes.caller(0), |value| *value = (number, number));
        }
        reader.join().expect("no panic");
    });
}

#[test]
fn a_cell_is_changed_by_one_process_at_a_time() {
    model(3, 2, |processes| {
        let cell = Cell::make("cell", &0u32).expect("memory");
        let change = move |process| cell.update_as(processes.caller(process), |value| *value += 1);
        let other = thread::spawn(move || change(1));
        change(0);
        other.join().expect("no panic");
        assert_eq!(cell.get(), 2);
    });
}

#[test]
fn a_queue_loses_nothing_and_doubles_nothing() {
    model(2, 3, |processes| {
        let queue = Queue::<u32>::make("queue", 1).expect("memory");
        let pushers = [1, 2].map(|process| {
            thread::spawn(move || {
                assert!(queue.push_as(processes.caller(process), process as u32, None));
            })
        });
        let popped = [0, 0].map(|_| queue.pop_as(processes.caller(0), None).expect("a value"));
        assert!(popped == [1, 2] || popped == [2, 1], "{popped:?}");
        pushers.into_iter().for_each(|pusher| pusher.join().expect("no panic"));
        assert!(queue.is_empty());
    });
}

#[test]
fn each_change_wakes_somebody() {
    model(3, 0, |_| {
        let (event, left) = (Event::make("event").expect("memory"), word());
        let take = move || left.fetch_update(AcqRel, Acquire, |left| left.checked_sub(1)).ok();
        let takers = [(); 2].map(|()| {
            thread::spawn(move || {
                event.wait(None, take).expect("no deadline");
                if left.load(Relaxed) > 0 {
                    event.notify(1);
                }
            })
        });
        for _ in &takers {
            left.fetch_add(1, AcqRel);
            event.notify(1);
        }
        takers.into_iter().for_each(|taker| taker.join().expect("no panic"));
    });
}

#[test]
fn a_process_that_dies_after_a_wake_wakes_another_one() {
    model(2, 0, |_| {
        let (event, left) = (Event::make("event").expect("memory"), word());
        let take = move || left.fetch_update(AcqRel, Acquire, |left| left.checked_sub(1)).ok();
        let is_over = word();
        // Waits once, and dies when it is woken.
        let dies = thread::spawn(move || {
            let mut looks = 0;
            event.wait(None, || {
                looks += 1;
                (looks > 1 || left.load(Acquire) + is_over.load(Acquire) > 0).then_some(())
            })
        });
        let taker = thread::spawn(move || {
            let taken = event.wait(None, take);
            // The other one ends in any case.
            is_over.store(1, Release);
            event.notify(1);
            taken
        });
        left.store(1, Release);
        event.notify(1);
        dies.join().expect("no panic");
        event.wake_again(1);
        assert_eq!(taker.join().expect("no panic"), Some(1));
    });
}

#[test]
fn a_queue_survives_a_process() {
    model(2, 3, |processes| {
        let queue = Queue::<u32>::make("queue", 1).expect("memory");
        let dies = thread::spawn(move || {
            let _ = ManuallyDrop::new(Turn::take(queue.ring.lock, processes.caller(1)));
            assert!(queue.add(&7));
        });
        let popper = thread::spawn(move || queue.pop_as(processes.caller(2), None));
        dies.join().expect("no panic");
        processes.end(1, |dead| queue.ring.let_go(dead));
        assert_eq!(popper.join().expect("no panic"), Some(7));
    });
}

#[test]
fn a_semaphore_has_no_more_permits_than_it_has() {
    model(3, 2, |processes| {
        let (semaphore, number) = (Semaphore::make("semaphore", 1).expect("memory"), word());
        let run = move |process| {
            let permit = semaphore.acquire_as(processes.caller(process), None);
            add(number);
            drop(permit.expect("no deadline"));
        };
        let other = thread::spawn(move || run(1));
        run(0);
        other.join().expect("no panic");
        assert_eq!(number.load(Relaxed), 2);
    });
}

#[test]
fn the_permit_of_a_dead_process_wakes_somebody() {
    model(2, 3, |processes| {
        let semaphore = Semaphore::make("semaphore", 1).expect("memory");
        let acquire = move |process| {
            ManuallyDrop::new(semaphore.acquire_as(processes.caller(process), None).expect("no deadline"))
        };
        let dies = thread::spawn(move || {
            acquire(1);
        });
        let other = thread::spawn(move || drop(ManuallyDrop::into_inner(acquire(2))));
        dies.join().expect("no panic");
        processes.end(1, |dead| semaphore.let_go(dead));
        other.join().expect("no panic");
    });
}

#[test]
fn a_broadcast_is_received_whole_and_in_order() {
    model(2, 2, |processes| {
        let broadcast = Broadcast::<(u32, u32)>::make("broadcast", 2).expect("memory");
        let mut reader = Reader::new(broadcast, None);
        let sender = thread::spawn(move || {
            (1..=3).for_each(|number| broadcast.send_as(processes.caller(1), (), (number, number)));
        });
        let event = reader.bell().event;
        let mut before = 0;
        while before < 3 {
            let message = event.wait(None, || reader.next()).expect("no deadline");
            assert_eq!(message.value.0, message.value.1);
            assert_eq!(u64::from(message.value.0), u64::from(before) + 1 + message.lost);
            before = message.value.0;
        }
        sender.join().expect("no panic");
    });
}

#[test]
fn a_topic_is_received_while_slots_are_overwritten() {
    model(2, 2, |processes| {
        let broadcast = Broadcast::<u32, u32>::make("broadcast", 1).expect("memory");
        let mut reader = Reader::new(broadcast, Some(7));
        let sender = thread::spawn(move || {
            broadcast.send_as(processes.caller(1), 8, 80);
            broadcast.send_as(processes.caller(1), 7, 70);
        });
        let event = reader.bell().event;
        let message = event.wait(None, || reader.next()).expect("no deadline");
        assert_eq!((message.topic, message.value), (7, 70));
        sender.join().expect("no panic");
    });
}

#[test]
fn two_permits_reach_two_processes() {
    model(2, 3, |processes| {
        let semaphore = Semaphore::make("semaphore", 2).expect("memory");
        let acquire =
            move |process| semaphore.acquire_as(processes.caller(process), None).expect("no deadline");
        let permits = [0, 0].map(acquire);
        let others = [1, 2].map(|process| thread::spawn(move || ManuallyDrop::new(acquire(process))));
        drop(permits);
        for other in others {
            let _ = other.join().expect("no panic");
        }
    });
}

#[test]
fn a_value_is_made_once_even_if_a_process_dies() {
    model(3, 3, |processes| {
        let (once, made) = (Once::<u32>::make("once").expect("memory"), word());
        let dies = thread::spawn(move || {
            // It dies before the value counts.
            let _ = ManuallyDrop::new(once.turn(processes.caller(1)));
        });
        let make = move |process| {
            once.get().unwrap_or_else(|| {
                once.make_as(processes.caller(process), || {
                    add(made);
                    7
                })
            })
        };
        let other = thread::spawn(move || make(2));
        dies.join().expect("no panic");
        processes.end(1, |dead| once.let_go(dead));
        assert_eq!((make(0), other.join().expect("no panic"), made.load(Relaxed)), (7, 7, 1));
    });
}

#[test]
fn nobody_reads_while_another_process_writes() {
    model(3, 3, |processes| {
        let (rwlock, outside) = (RwLock::make("rwlock", &0u32).expect("memory"), word());
        let reader = move |process| {
            move || {
                let guard = rwlock.read_as(processes.caller(process), None).expect("no deadline");
                assert_eq!(outside.load(Relaxed), *guard);
            }
        };
        let other = thread::spawn(reader(1));
        let writer = thread::spawn(move || {
            let mut guard = rwlock.write_as(processes.caller(2), None).expect("no deadline");
            outside.store(1, Relaxed);
            *guard = 1;
        });
        reader(0)();
        other.join().expect("no panic");
        writer.join().expect("no panic");
    });
}

#[test]
fn a_reader_that_dies_lets_the_writer_in() {
    model(2, 3, |processes| {
        let rwlock = RwLock::make("rwlock", &0u32).expect("memory");
        let dies = thread::spawn(move || {
            let _ = ManuallyDrop::new(rwlock.read_as(processes.caller(1), None));
        });
        let writer =
            thread::spawn(move || *rwlock.write_as(processes.caller(2), None).expect("no deadline") += 1);
        dies.join().expect("no panic");
        processes.end(1, |dead| rwlock.let_go(dead));
        writer.join().expect("no panic");
    });
}

#[test]
fn a_writer_that_dies_lets_readers_in() {
    model(2, 3, |processes| {
        let rwlock = RwLock::make("rwlock", &0u32).expect("memory");
        let dies = thread::spawn(move || {
            let mut guard =
                ManuallyDrop::new(rwlock.write_as(processes.caller(1), None).expect("no deadline"));
            **guard = 1;
        });
        let reader = thread::spawn(move || *rwlock.read_as(processes.caller(2), None).expect("no deadline"));
        dies.join().expect("no panic");
        processes.end(1, |dead| rwlock.let_go(dead));
        assert_eq!(reader.join().expect("no panic"), 0);
    });
}
