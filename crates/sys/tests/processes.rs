//! What holds in forked processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::time::{Duration, Instant};

use tine_sys::beside::fork_beside_sleepers;
use tine_sys::exec::{CStrings, Execution, Stack, spawn_sibling};
use tine_sys::fd::{Floor, close_from, close_strays, inherited, open_numbers};
use tine_sys::process::{Alone, Ended, Fresh, How, Side, exit_now, fork, reap, wait_for};
use tine_sys::signal::{Set, defaults, first_real_time};

mod main_thread;

const TESTS: &[(&str, fn())] = &[
    ("a_panic_in_a_child_does_not_reach_the_code_that_forked", panic_in_a_child),
    ("a_child_does_not_return_to_the_code_that_forked", return_in_a_child),
    ("a_child_closes_the_descriptors_from_the_floor_on", close_in_a_child),
    ("flags_of_clone_are_not_exit_signals", exit_signals),
    ("a_child_has_default_actions_and_no_blocked_signals", defaults_in_a_child),
    ("strays_are_closed_and_owned_descriptors_stay_open", strays),
    ("a_floor_has_a_free_number_below_it", floor),
    ("a_failed_execution_leaves_descriptors_open", failed_execution),
    ("an_executed_program_inherits_three_descriptors", executed_program),
    ("a_process_is_forked_beside_a_thread_that_sleeps", fork_beside_a_sleeper),
    ("a_process_is_not_forked_beside_a_thread_that_runs", fork_beside_a_runner),
    ("a_fault_is_noted_before_it_ends_the_process", noted_fault),
];

fn main() -> ExitCode {
    main_thread::run(TESTS)
}

fn fork_beside_a_sleeper() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || receiver.recv());
        match fork_beside_sleepers(Instant::now() + Duration::from_secs(60)).expect("a process") {
            Side::Child(_fresh) => {
                let memory = vec![1u8; 1 << 20];
                exit_now(if Alone::check().is_ok() { i32::from(memory[9]) + 2 } else { 9 })
            }
            Side::Parent(pid) => assert_eq!(wait_for(pid).expect("a child"), How::Exited(3)),
        }
        drop(sender);
    });
}

fn fork_beside_a_runner() {
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stops.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let refused = fork_beside_sleepers(Instant::now());
        stops.store(true, Relaxed);
        assert_eq!(refused.expect_err("another thread runs").kind(), io::ErrorKind::WouldBlock);
    });
}

fn alone() -> Alone {
    Alone::check().expect("one thread")
}

/// Forks a child that runs this and is expected to end by it.
fn run_in_child(child: impl FnOnce(Fresh) -> i32) -> i32 {
    match fork(&alone(), 0).expect("a process") {
        Side::Parent(pid) => pid,
        Side::Child(fresh) => {
            let code = child(fresh);
            exit_now(code)
        }
    }
}

fn end_of(pid: i32) -> Ended {
    loop {
        match reap(pid).expect("a child") {
            Some(ended) => return ended,
            None => std::thread::yield_now(),
        }
    }
}

fn panic_in_a_child() {
    let pid = catch_unwind(|| match fork(&alone(), 0).expect("a process") {
        Side::Parent(pid) => pid,
        Side::Child(_fresh) => panic!("on purpose"),
    });
    // In the child, this would be an error.
    let pid = pid.unwrap_or_else(|_| exit_now(1));
    assert_eq!(end_of(pid).how, How::Exited(101));
}

fn return_in_a_child() {
    let forked = || match fork(&alone(), 0).expect("a process") {
        Side::Parent(pid) => Some(pid),
        Side::Child(_) => None,
    };
    let pid = forked().unwrap_or_else(|| exit_now(1));
    assert_eq!(end_of(pid).how, How::Exited(101));
}

fn close_in_a_child() {
    let (below, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let floor = Floor::above_open(&[]);
    let above: Vec<OwnedFd> = (0..3).map(|_| floor.duplicate(&below).expect("a number")).collect();
    let numbers: Vec<i32> = above.iter().map(AsRawFd::as_raw_fd).collect();
    let pid = run_in_child(|fresh| {
        close_from(&fresh, floor);
        let open = open_numbers();
        let closed = numbers.iter().all(|number| !open.contains(number));
        let own = floor.duplicate(&below).expect("a number");
        close_from(&fresh, floor);
        let stays = [&below, &own].iter().all(|descriptor| rustix::io::fcntl_getfd(descriptor).is_ok());
        exit_now(i32::from(!closed || !open.contains(&below.as_raw_fd()) || !stays))
    });
    assert_eq!(end_of(pid).how, How::Exited(0));
    assert!(numbers.iter().all(|number| open_numbers().contains(number)), "closed in the parent");
}

fn exit_signals() {
    // CLONE_VM, as the lowest flag, and numbers that are no signal.
    for signal in [0x100, 0x100 | 17, 65, -1] {
        let error = match fork(&alone(), signal) {
            Err(error) => error,
            Ok(Side::Child(_fresh)) => exit_now(1),
            Ok(Side::Parent(pid)) => panic!("forked {pid} with {signal}"),
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{signal}");
    }
}

fn defaults_in_a_child() {
    let signals = Set::of(&[first_real_time()]);
    signals.block().expect("a valid set");
    let pid = run_in_child(|fresh| {
        defaults(&fresh);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let set = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            u64::from_str_radix(line.expect("a line of proc_pid_status(5)").trim(), 16).expect("a set")
        };
        // The C library keeps the signals from 32 to the first real-time signal to itself.
        let reserved = (1 << (first_real_time() - 1)) - (1 << 31);
        let others = [set("SigBlk:"), set("SigIgn:"), set("SigCgt:")].map(|set| set & !reserved);
        exit_now(i32::from(others != [0; 3]))
    });
    assert_eq!(end_of(pid).how, How::Exited(0));
}

fn strays() {
    // Without close-on-exec, as descriptors are after an exec.
    let inherit = || {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        (reader.into_raw_fd(), writer.into_raw_fd())
    };
    let (kept, stray) = inherit();
    let file = std::fs::File::open("/dev/null").expect("readable");
    close_strays(&[kept]);
    let open = open_numbers();
    assert!(open.contains(&kept) && open.contains(&file.as_raw_fd()) && !open.contains(&stray), "{open:?}");
    assert_eq!(inherited(kept).expect("without an owner").as_raw_fd(), kept);
}

fn floor() {
    let file = std::fs::File::open("/dev/null").expect("readable");
    let floor = Floor::above_open(&[]);
    assert_eq!(floor.number(), open_numbers().last().expect("some") + 2);
    let moved = floor.duplicate(&file).expect("a number");
    assert_eq!(moved.as_raw_fd(), floor.number());
    assert_eq!(Floor::above_open(&[moved.as_fd()]), floor);
    assert_eq!(Floor::above_open(&[]).number(), moved.as_raw_fd() + 2);
}

fn execution<'a>(
    path: &'a std::ffi::CStr,
    words: &'a mut (CStrings, CStrings),
    output: &'a OwnedFd,
) -> Execution<'a> {
    Execution::new(path, &mut words.0, &mut words.1, output.as_fd())
}

/// Runs this in a child of a child, so that the sibling is a child of a process that expects it.
fn run_as_parent_of_siblings(program: impl FnOnce(&Alone) -> io::Result<i32>) -> How {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("a subreaper");
    let id = run_in_child(|_fresh| {
        let spawned = program(&alone());
        exit_now(i32::from(spawned.is_err()))
    });
    end_of(id).how
}

fn failed_execution() {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let how = run_as_parent_of_siblings(|alone| {
        let mut words = <(CStrings, CStrings)>::default();
        let id = AtomicI32::new(0);
        let failed = |error: &io::Error| {
            let text = format!("{:?}", error.kind());
            i32::from(rustix::io::write(&writer, text.as_bytes()) != Ok(text.len()))
        };
        let mut execution = execution(c"/nonexistent/program", &mut words, &writer);
        let pid = spawn_sibling(alone, &id, &mut Stack::new()?, &mut execution, &failed)?;
        assert_eq!(pid, id.load(Relaxed));
        Ok(pid)
    });
    assert_eq!(how, How::Exited(0));
    drop(writer);
    let text = read_all(reader);
    assert_eq!(text, "NotFound");
}

fn executed_program() {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let how = run_as_parent_of_siblings(|alone| {
        let mut words = <(CStrings, CStrings)>::default();
        ["ls", "/proc/self/fd"].iter().for_each(|word| words.0.push(word));
        let mut execution = execution(c"/bin/ls", &mut words, &writer);
        spawn_sibling(alone, &AtomicI32::new(0), &mut Stack::new()?, &mut execution, &|_| 1)
    });
    assert_eq!(how, How::Exited(0));
    drop(writer);
    // The last one is the directory that ls(1) reads.
    assert_eq!(read_all(reader), "0\n1\n2\n3\n");
}

fn read_all(reader: OwnedFd) -> String {
    let mut text = String::new();
    io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text).expect("text");
    text
}

fn noted_fault() {
    use tine_sys::fault::{self, HAS_ADDRESS, NOT_IN_PROGRAM};
    use tine_sys::memory::Shared;

    type Crash = fn();

    const SEGV: i32 = 11;
    const ABRT: i32 = 6;
    let crashes: [(Crash, i32, bool, Option<u64>); 4] = [
        (write_to_no_memory, SEGV, true, Some(0x1230)),
        (|| _ = overflow(0), SEGV, true, None),
        (|| std::process::abort(), ABRT, false, None),
        // Sent by a process: the signal has no address, and still ends this one.
        (|| tine_sys::signal::raise(SEGV), SEGV, false, None),
    ];
    for (crash, signal, noted, address) in crashes {
        let words = Shared::<fault::FaultWords>::new(1).expect("memory");
        let pid = run_in_child(|fresh| {
            defaults(&fresh);
            fault::install().expect("a handler");
            fault::note_in(words.entry(0).expect("an entry"));
            crash();
            1
        });
        assert_eq!(end_of(pid).how, How::Signaled(signal));
        let [kind, at, instruction] = words[0].each_ref().map(|word| word.load(Relaxed));
        assert_eq!(kind, signal as u64 | if noted { HAS_ADDRESS } else { 0 });
        assert!(address.is_none_or(|address| at == address), "{at:#x}");
        // abort(3) and raise(3) may be in a library.
        assert!(!noted || (instruction > 0 && instruction < NOT_IN_PROGRAM), "{instruction:#x}");
    }
}

fn write_to_no_memory() {
    let nowhere = std::ptr::without_provenance_mut::<u64>(0x1230);
    // SAFETY: there is none. The kernel maps nothing there, so the write faults, as is wanted.
    unsafe { nowhere.write_volatile(7) };
}

/// Recurses until the stack overflows.
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    if std::hint::black_box(false) {
        return 0;
    }
    overflow(frame[7] + 1) + frame[9]
}
