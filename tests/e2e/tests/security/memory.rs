//! Memory: connection processes share one table with the server, the stats, and cannot reach the
//! memory of any other process.

use rustix::process::Signal;
use tine_e2e::cgroup::DelegatedCgroup;
use tine_e2e::names::{CGROUP_CLEANER, DELAYER, FORKER, PROXY_READER, REJECTOR, STDERR_LOGGER};
use tine_e2e::procfs::{Mapping, mappings};
use tine_e2e::{Client, Server, wait_until};

use crate::intruder::{self, Intruder};

const MODES: [&[&str]; 2] = [&[], &["--spares", "4"]];

/// The memory that the supervisor shares with other processes: board, stats, drain flag, and the
/// tables of limits and rules.
fn shared_memory(server: &Server) -> Vec<Mapping> {
    mappings(server.pid()).into_iter().filter(Mapping::is_shared_and_writable).collect()
}

#[test]
fn of_all_shared_memory_a_connection_can_write_one_table_the_stats() {
    for mode in MODES {
        let server = intruder::serve(&[&["--all-limits"], mode]);
        let tables = shared_memory(&server);
        assert!(tables.len() > 4, "board, stats, drain flag and the tables of limits: {tables:?}");
        let intruder = Intruder::from_source("127.0.0.2", &server);
        let writable: Vec<Mapping> =
            mappings(intruder.pid).into_iter().filter(Mapping::is_shared_and_writable).collect();
        assert!(writable.len() == 1 && tables.contains(&writable[0]), "{mode:?}: {writable:?}");
    }
}

/// In a drain, spares leave and a forker, which keeps these tables for its spares, forks for the
/// clients of the backlog.
#[test]
fn a_connection_of_the_backlog_that_spares_leave_to_a_forker_can_write_the_stats_only() {
    let server = intruder::serve(&[&["--all-limits", "--spares", "1", "--max-connections", "1"]]);
    let first = Intruder::from_source("127.0.0.2", &server);
    let mut queued = Client::from_source("127.0.0.3", server.port());
    queued.send("pid\n");
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    drop(first);
    let reply = queued.read_line();
    let pid = reply.strip_prefix("ok ").and_then(|pid| pid.parse().ok()).expect("a process id");
    let writable: Vec<Mapping> = mappings(pid).into_iter().filter(Mapping::is_shared_and_writable).collect();
    assert!(writable.len() == 1 && shared_memory(&server).contains(&writable[0]), "{writable:?}");
}

/// The shared memory that the helper with this name can write, and its other shared memory.
fn shared_memory_of(server: &Server, name: &str) -> (Vec<Mapping>, Vec<Mapping>) {
    let helper = wait_until("the helper runs", || server.named(name).into_iter().next()).pid;
    let shared = mappings(helper).into_iter().filter(|mapping| mapping.permissions.ends_with('s'));
    shared.partition(Mapping::is_shared_and_writable)
}

#[test]
fn a_helper_has_the_shared_memory_that_it_uses() {
    let cgroup = DelegatedCgroup::new("memory");
    let limits = ["--max-connections", "5000", "--max-connections-per-source", "2", "--deny", "192.0.2.1"];
    let delays = ["--when-limited", "delay", "--per-source-penalties", "yes"];
    let helpers = ["--proxy-from", "192.0.2.2", "--stderr", "log"];
    let server = cgroup.program(&[&limits[..], &delays, &helpers].concat(), &["cat"]);
    let tables = shared_memory(&server);
    let is_whole = |mapping: &&Mapping| tables.contains(mapping);
    for name in [REJECTOR, STDERR_LOGGER, PROXY_READER, CGROUP_CLEANER] {
        let (writable, _) = shared_memory_of(&server, name);
        assert_eq!(writable.len(), 2, "{name}: stats and lines, which decide nothing: {writable:?}");
    }
    let (writable, read_only) = shared_memory_of(&server, DELAYER);
    assert_eq!(writable.iter().filter(is_whole).count(), 3, "stats, lines, buckets: {writable:?}");
    let part: Vec<&Mapping> = writable.iter().filter(|mapping| !is_whole(mapping)).collect();
    assert_eq!(part.len(), 1, "the notes of the board: {writable:?}");
    // The slots are behind it.
    let slots = read_only.iter().find(|mapping| mapping.start == part[0].end).expect("the rest of the board");
    assert!(slots.object == part[0].object && slots.end - slots.start > 300_000, "{slots:?}");
    let of_penalties = |mapping: &&Mapping| {
        tables.iter().any(|table| table.start == mapping.start && table.object == mapping.object)
    };
    assert_eq!(read_only.iter().filter(of_penalties).count(), 1, "the penalties: {read_only:?}");
}

#[test]
fn a_connection_can_neither_read_nor_write_the_board_and_the_tables_of_limits() {
    for mode in MODES {
        let server = intruder::serve(&[&["--all-limits"], mode]);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        let own = mappings(intruder.pid);
        let tables = shared_memory(&server);
        let withheld: Vec<&Mapping> = tables.iter().filter(|table| !own.contains(table)).collect();
        assert_eq!(withheld.len(), tables.len() - 1, "all but the stats");
        for table in withheld {
            for address in [table.start, table.end - 8] {
                // The address is not mapped: the same access by an instruction would be SIGSEGV.
                intruder.denied(&format!("read self {address}"), "Input/output error");
                intruder.denied(&format!("write self {address}"), "Input/output error");
            }
        }
    }
}

#[test]
fn a_connection_can_read_the_drain_flag_and_not_write_it() {
    for mode in MODES {
        let server = intruder::serve(&[mode]);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        let flag = shared_memory(&server).into_iter().find(|table| table.object.contains("memfd:tine flag"));
        let object = flag.expect("the drain flag of the supervisor").object;
        let views: Vec<Mapping> =
            mappings(intruder.pid).into_iter().filter(|mapping| mapping.object == object).collect();
        assert!(views.len() == 1 && views[0].permissions.starts_with("r--"), "{mode:?}: {views:?}");
        intruder.done(&format!("read self {}", views[0].start));
        intruder.denied(&format!("write self {}", views[0].start), "Input/output error");
    }
}

/// A change of user makes a process undumpable until it executes a program, so only root can open
/// its memory or take its descriptors (ptrace(2), `PTRACE_MODE_ATTACH`).
#[test]
fn with_user_a_handler_reaches_no_memory_and_no_descriptor_of_another_process() {
    for mode in MODES {
        let server = intruder::serve(&[&["--user", "nobody"], mode]);
        let sibling = Intruder::from_source("127.0.0.3", &server);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        let table = &mappings(intruder.pid)[0];
        intruder.done(&format!("read self {}", table.start));
        let forker = wait_until("a forker runs", || server.named(FORKER).into_iter().next()).pid;
        for pid in [server.pid(), forker, sibling.pid] {
            intruder.denied(&format!("read {pid} {}", table.start), "Permission denied");
            intruder.denied(&format!("write {pid} {}", table.start), "Permission denied");
            intruder.denied(&format!("take-descriptor {pid} 3"), "Operation not permitted");
        }
    }
}
