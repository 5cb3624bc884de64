//! Programs that are traced. The tests fork.

use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tine_sys::exec::{CStrings, Execution};
use tine_sys::other_memory::read_text;
use tine_sys::process::{Alone, How, Side, exit_now, fork, has_ended, wait_for};
use tine_sys::trace::{Kin, StartFailure, TraceEvent, TraceStop, Tracer};

mod main_thread;

const TESTS: &[(&str, fn())] = &[
    ("system_calls_have_entries_and_exits", calls),
    ("what_a_program_starts_is_traced_and_ends_with_the_tracer", children),
    ("a_deadline_passes_without_an_event", deadline),
    ("a_signal_is_delivered_or_stops_the_program", signals),
    ("a_program_that_cannot_be_executed_reports_why", failure),
    ("the_end_of_the_tracing_process_kills_the_program", end_of_tracer),
];

fn main() -> ExitCode {
    main_thread::run(TESTS)
}

fn alone() -> Alone {
    Alone::check().expect("one thread")
}

/// Starts a shell command, or a file that is no program.
fn start(tracer: &mut Tracer, path: &std::ffi::CStr, command: &str) -> (i32, StartFailure) {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").expect("a device");
    let mut arguments = CStrings::default();
    ["sh", "-c", command].into_iter().for_each(|word| arguments.push(word));
    let mut environment = CStrings::default();
    environment.push("PATH=/bin:/usr/bin");
    let mut execution = Execution::new(path, &mut arguments, &mut environment, null.as_fd());
    tracer.start(Kin::Child, |_| execution.run().to_string().into_bytes()).expect("ptrace is permitted")
}

/// Lets everything run, and returns the events until one is the last.
fn until(tracer: &mut Tracer, last: impl Fn(&TraceStop) -> bool) -> Vec<TraceStop> {
    let deadline = Some(Instant::now() + Duration::from_secs(30));
    let mut all = Vec::new();
    loop {
        let stop = tracer.next(deadline).expect("no error").unwrap_or_else(|| panic!("no event: {all:?}"));
        all.push(stop);
        if last(&stop) {
            return all;
        }
        let signal = match stop.event {
            TraceEvent::Ended(_) => continue,
            TraceEvent::Signal(signal) => Some(signal),
            _ => None,
        };
        tracer.resume(stop.task, signal).expect("it has stopped");
    }
}

fn is_end(stop: &TraceStop) -> bool {
    matches!(stop.event, TraceEvent::Ended(_))
}

fn calls() {
    let alone = alone();
    let mut tracer = Tracer::new(&alone).expect("descriptors");
    let (process, failure) = start(&mut tracer, c"/bin/sh", "cd /tmp; exit 7");
    let is_change = |stop: &TraceStop| match stop.event {
        TraceEvent::Entry(call) => call.number == libc::SYS_chdir.unsigned_abs(),
        _ => false,
    };
    let begin = until(&mut tracer, is_change);
    assert_eq!(begin[0], TraceStop { task: process, event: TraceEvent::Executed(process) });
    let TraceEvent::Entry(call) = begin[begin.len() - 1].event else { unreachable!("an entry") };
    assert_eq!(read_text(process, call.arguments[0], 4096).as_deref(), Some(&b"/tmp"[..]));
    assert_eq!(read_text(process, call.arguments[0], 3), None, "longer");
    assert_eq!(read_text(process, 16, 4096), None, "nothing is there");
    tracer.resume(process, None).expect("it has stopped");
    let rest = until(&mut tracer, is_end);
    assert_eq!(rest[0].event, TraceEvent::Exit(0));
    assert_eq!(rest[rest.len() - 1].event, TraceEvent::Ended(How::Exited(7)));
    assert_eq!(failure.read(), b"");
}

fn children() {
    let alone = alone();
    let mut tracer = Tracer::new(&alone).expect("descriptors");
    let (process, _) = start(&mut tracer, c"/bin/sh", "setsid sleep 1000 & wait");
    // The child executes setsid(1), then sleep(1).
    let executed = |stop: &TraceStop| stop.task != process && matches!(stop.event, TraceEvent::Executed(_));
    let child = until(&mut tracer, executed).last().expect("an event").task;
    tracer.resume(child, None).expect("it has stopped");
    until(&mut tracer, executed);
    drop(tracer);
    assert_eq!(wait_for(process).expect_err("reaped").raw_os_error(), Some(libc::ECHILD));
    // Its parent is gone: it is reaped by another process, or still about to be.
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "), "{stat}");
}

fn deadline() {
    let alone = alone();
    let mut tracer = Tracer::new(&alone).expect("descriptors");
    assert_eq!(tracer.next(Some(Instant::now())).expect("no tasks"), None);
    let (process, _) = start(&mut tracer, c"/bin/sh", "exec sleep 1000");
    let sleeps = |stop: &TraceStop| match stop.event {
        TraceEvent::Entry(call) => call.number == libc::SYS_clock_nanosleep.unsigned_abs(),
        _ => false,
    };
    until(&mut tracer, sleeps);
    tracer.resume(process, None).expect("it has stopped");
    assert_eq!(tracer.next(Some(Instant::now() + Duration::from_millis(20))).expect("no error"), None);
}

fn signals() {
    let alone = alone();
    let mut tracer = Tracer::new(&alone).expect("descriptors");
    let (process, _) = start(&mut tracer, c"/bin/sh", "trap 'kill -STOP $$' USR1; kill -USR1 $$; exit 1");
    let halts = |stop: &TraceStop| matches!(stop.event, TraceEvent::Halted(_));
    let all = until(&mut tracer, halts);
    let delivered: Vec<_> = all
        .iter()
        .filter_map(|stop| match stop.event {
            TraceEvent::Signal(signal) => Some(signal),
            _ => None,
        })
        .collect();
    assert_eq!(delivered, [libc::SIGUSR1, libc::SIGSTOP]);
    assert_eq!(all.last().map(|stop| stop.task), Some(process));
}

fn failure() {
    let alone = alone();
    let mut tracer = Tracer::new(&alone).expect("descriptors");
    let (process, failure) = start(&mut tracer, c"/no/such/program", "");
    let all = until(&mut tracer, is_end);
    assert_eq!(all, [TraceStop { task: process, event: TraceEvent::Ended(How::Exited(127)) }]);
    let text = String::from_utf8(failure.read()).expect("a text");
    assert!(text.starts_with("No such file"), "{text}");
}

fn end_of_tracer() {
    let (sender, receiver) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
    let pid = match fork(&alone(), libc::SIGCHLD).expect("a process") {
        Side::Parent(pid) => pid,
        Side::Child(_fresh) => {
            let alone = alone();
            let mut tracer = Tracer::new(&alone).expect("descriptors");
            let (process, _) = start(&mut tracer, c"/bin/sh", "while :; do :; done");
            until(&mut tracer, |stop| matches!(stop.event, TraceEvent::Executed(_)));
            tracer.resume(process, None).expect("it has stopped");
            sender.send(&process.to_ne_bytes()).expect("a reader");
            exit_now(0)
        }
    };
    let mut bytes = [0; 4];
    receiver.recv(&mut bytes).expect("a process id");
    let process = i32::from_ne_bytes(bytes);
    assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
    assert!(!has_ended(process), "no child of this process");
    // The kill is sent before the tracer is reaped; the program ends at once, and is not reaped
    // here.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
            return;
        }
        assert!(Instant::now() < deadline, "{stat}");
        std::thread::yield_now();
    }
}
