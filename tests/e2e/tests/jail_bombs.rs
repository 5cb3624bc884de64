//! Programs in full jails that take all they can get and refuse to end: their limits hold, nothing
//! of them outlives the connection, and others are served beside them. (`bench/run jail-ends`
//! measures it.)

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tine_e2e::jails::{processes_in, room_of, wait_until_idle};
use tine_e2e::load::load;
use tine_e2e::names::pid;
use tine_e2e::{Client, Server, TEST_TIMEOUT};

/// Forks until the limit on processes.
const FORKS: &str = "f() { while :; do f & done; }; f 2>/dev/null &";

/// Two processes that take memory up to their limit, again and again.
const MEMORY: &str = "for i in 1 2; do (while :; do tail /dev/zero; done) 2>/dev/null & done";

/// Fills the disk again and again.
const DISK: &str = "(while :; do head -c 64M /dev/zero > /tmp/full; done) 2>/dev/null &";

/// Opens descriptors up to the limit, and keeps the processor busy with more.
const DESCRIPTORS: &str = r#"/usr/bin/python3 -c '
import os
while True:
    try:
        os.open("/dev/null", 0)
    except OSError:
        pass' &"#;

/// Lines of standard error, which the server logs.
const LINES: &str = "seq 20000 >&2 &";

/// A hundred descendants that ignore signals, have sessions of their own or stop themselves.
const STUBBORN: &str = r#"trap '' TERM HUP INT
for i in $(seq 50); do
    (setsid sh -c 'sh -c "kill -STOP \$\$; sleep 1007" & exec sleep 1007' &)
done
while [ "$(ls /proc | grep -c '^[0-9]')" -lt 100 ]; do :; done"#;

const OPTIONS: [&str; 5] = ["--jail", "--limit-as", "256M", "--stderr", "log"];

/// Serves a script, which then waits for its client.
fn start(script: &str, more: &[&str]) -> Server {
    let script = format!("{script}\necho ready; read -r line");
    Server::program(&[&OPTIONS[..], more].concat(), &["sh", "-c", &script])
}

/// Lets a program end, and returns how long its room outlives it.
fn time_of_end(server: &Server) -> Duration {
    let mut client = server.connect();
    assert_eq!(client.read_line(), "ready");
    let address = client.address();
    let accept = server.log.wait("its accept line", |log| {
        log.of("accept").into_iter().find(|line| line["peer"] == address.as_str())
    });
    let program = pid(&accept);
    let room = room_of(program);
    let ends = pidfd_open(Pid::from_raw(program).expect("a process id"), PidfdFlags::empty());
    let ends = ends.expect("it runs");
    client.half_close();
    let timeout = Timespec { tv_sec: TEST_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&ends, PollFlags::IN)], Some(&timeout));
    assert_eq!(ready, Ok(1), "the program ends");
    let ended = Instant::now();
    while !processes_in(&room).is_empty() {
        assert!(ended.elapsed() < TEST_TIMEOUT, "{:?}", server.processes());
    }
    ended.elapsed()
}

/// Measures some ends. Machines of continuous integration are slow at times; the median is not.
fn ends_at_once(script: &str, more: &[&str]) {
    let server = start(script, more);
    let mut times: Vec<Duration> = (0..7).map(|_| time_of_end(&server)).collect();
    times.sort_unstable();
    assert!(times[3] < Duration::from_millis(500), "{times:?}");
    wait_until_idle(&server);
}

#[test]
fn a_program_that_forks_ends_at_once() {
    ends_at_once(FORKS, &[]);
}

#[test]
fn a_program_that_takes_memory_ends_at_once() {
    ends_at_once(MEMORY, &[]);
}

#[test]
fn a_program_that_fills_the_disk_ends_at_once() {
    ends_at_once(DISK, &[]);
}

#[test]
fn a_program_that_takes_descriptors_ends_at_once() {
    ends_at_once(DESCRIPTORS, &[]);
}

#[test]
fn a_program_that_floods_the_log_ends_at_once() {
    ends_at_once(LINES, &[]);
}

#[test]
fn a_program_that_refuses_to_end_ends_at_once() {
    ends_at_once(STUBBORN, &["--limit-nproc", "150"]);
}

#[test]
fn limits_hold() {
    let printed = |options: &[&str], script: &str| {
        let server = Server::program(&[&["--jail"], options].concat(), &["sh", "-c", script]);
        server.connect().half_close().read_text()
    };
    // The program itself and its shell are two of the processes.
    let forks = r#"exec 2>/dev/null; /usr/bin/python3 -c '
import os, time
children = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        children += 1
except OSError:
    print(children)'"#;
    assert_eq!(printed(&[], forks), "62\n");
    let memory = "tail /dev/zero 2>&1 | grep -c memory; head -c 1M /dev/zero | wc -c";
    assert_eq!(printed(&["--limit-as", "64M"], memory), "1\n1048576\n");
    let descriptors = r#"/usr/bin/python3 -c '
import os
try:
    while True:
        last = os.open("/dev/null", 0)
except OSError as why:
    print(last, why.strerror)'"#;
    assert_eq!(printed(&[], descriptors), "63 Too many open files\n");
    let bytes = "for i in 1 2 3; do head -c 10M /dev/zero > /tmp/$i; done 2>/dev/null; cat /tmp/* | wc -c";
    let size: u64 = printed(&[], bytes).trim().parse().expect("a size");
    assert!((15 << 20..=16 << 20).contains(&size), "{size}");
    let files = r#"/usr/bin/python3 -c '
import os
try:
    while True:
        os.close(os.open("/tmp/%d" % len(os.listdir("/tmp")), os.O_CREAT))
except OSError:
    print(len(os.listdir("/tmp")))'"#;
    let number: u64 = printed(&[], files).trim().parse().expect("a number");
    assert!((1_000..=1_024).contains(&number), "{number}");
}

/// What a process detaches counts for none, and is in no limit.
#[test]
fn shared_memory_beyond_the_limits_can_be_refused() {
    let script = r#"/usr/bin/python3 -c '
import ctypes
libc = ctypes.CDLL(None)
print(libc.shmget(0, 1 << 30, 0o1600), libc.msgget(0, 0o1600))'"#;
    let printed = |options: &[&str]| {
        let options = [&["--jail", "--limit-as", "256M"], options].concat();
        Server::program(&options, &["sh", "-c", script]).connect().half_close().read_text()
    };
    assert_eq!(printed(&["--system-call-filter", "~shmget ~msgget"]), "-1 -1\n");
    assert_eq!(printed(&[]), "0 0\n");
}

/// Each bomb comes from an address of its own.
#[test]
fn no_request_fails_beside_bombs() {
    let bombs = [FORKS, MEMORY, DISK, DESCRIPTORS, LINES, STUBBORN];
    let cases = bombs.iter().enumerate().map(|(number, bomb)| format!("127.9.9.{number})\n{bomb}\n;;\n"));
    let cases: String = cases.collect();
    let script = format!("case $TCPREMOTEIP in\n{cases}*) exec cat ;;\nesac\necho ready; read -r line");
    let options = [&OPTIONS[..], &["--limit-nproc", "150"]].concat();
    let server = Server::program(&options, &["sh", "-c", &script]);
    let numbers = 0..bombs.len();
    let mut bombs: Vec<Client> =
        numbers.map(|number| Client::from_source(&format!("127.9.9.{number}"), server.port())).collect();
    bombs.iter_mut().for_each(|bomb| assert_eq!(bomb.read_line(), "ready"));
    let address = format!("127.0.0.1:{}", server.port());
    let loaded = load(&["crr", &address, "-c", "4", "-n", "100"]);
    loaded.expect_sum();
    assert_eq!(loaded.number("/summary/errors"), 0.0, "{}", loaded.report["summary"]);
    assert_eq!(loaded.state("ok"), 100, "{}", loaded.report["summary"]);
    bombs.iter_mut().for_each(|bomb| assert!(bomb.finish().is_empty()));
    wait_until_idle(&server);
}
