//! Models: every order in which threads, as processes, can run, up to a number of preemptions
//! (`scripts/models`). A wake that is lost is a deadlock there, which ends the model.

use std::mem::ManuallyDrop;

use loom::thread;

use crate::broadcast::Broadcast;
use crate::cell::Cell;
use crate::event::Event;
use crate::lock::Lock;
use crate::owner::{Members, test_members};
use crate::queue::Queue;
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
            let_go(LetGo { owner });
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
    model(3, 2, |processes| {
        let cell = Cell::make("cell", &(0u32, 0u32)).expect("memory");
        let sets = |process| {
            move || {
                cell.update_as(processes.caller(process), |(one, other)| {
                    *one += 1;
                    *other += 1;
                });
            }
        };
        let setters = [0, 1].map(|process| thread::spawn(sets(process)));
        let (one, other) = cell.get();
        assert_eq!(one, other);
        setters.into_iter().for_each(|setter| setter.join().expect("no panic"));
        assert_eq!(cell.get(), (2, 2));
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
        let dies = thread::spawn(move || queue.push_and_die(processes.caller(1), 7));
        let popper = thread::spawn(move || queue.pop_as(processes.caller(2), None));
        dies.join().expect("no panic");
        processes.end(1, |dead| queue.let_go(dead));
        assert_eq!(popper.join().expect("no panic"), Some(7));
    });
}

#[test]
fn a_semaphore_has_no_more_permits_than_it_has() {
    model(2, 3, |processes| {
        let (semaphore, number) = (Semaphore::make("semaphore", 1).expect("memory"), word());
        let run = move |process| {
            let permit = semaphore.acquire_as(processes.caller(process), None);
            add(number);
            drop(permit.expect("no deadline"));
        };
        let others = [1, 2].map(|process| thread::spawn(move || run(process)));
        run(0);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        assert_eq!(number.load(Relaxed), 3);
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
