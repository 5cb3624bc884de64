//! Stats: the one table that every connection can write decides nothing. Whatever is written there,
//! limits, slots, penalties and the accounting of processes are the same, and each log line is
//! valid.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tine_e2e::names::{REJECT, outcome};
use tine_e2e::{Client, Server};

use crate::intruder::{self, Intruder};

const MODES: [&[&str]; 2] = [&[], &["--spares", "4"]];

/// A time in which a client that is not served would notice that it is.
const MOMENT: Duration = Duration::from_millis(100);

/// Orders that overwrite the stats of every connection: with zeros, with each number of a report,
/// with ones, and with pseudo-random bytes.
fn garbage() -> Vec<String> {
    let fixed = [0, 1, 2, 3, 4, 5, 6, 0x7f, 0x80, 0xff].map(|byte| format!("fill {byte}"));
    fixed.into_iter().chain((0..10).map(|seed| format!("randomize {seed}"))).collect()
}

/// Takes every slot of a server with four, from three sources.
fn four_intruders(server: &Server) -> [Intruder; 4] {
    ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.4"].map(|source| Intruder::from_source(source, server))
}

#[test]
fn garbage_in_the_stats_frees_no_slot_and_takes_none() {
    for mode in MODES {
        let mut server = intruder::serve(&[&["--max-connections", "4", "--per-source", "3"], mode]);
        for round in 1..=3 {
            let mut served = four_intruders(&server);
            let mut waiting = Client::from_source("127.0.0.5", server.port());
            waiting.send("pid\n");
            for order in garbage() {
                served[0].done(&order);
                served.iter_mut().for_each(|intruder| drop(intruder.done("pid")));
            }
            waiting.expect_silence(MOMENT);
            assert_eq!(server.log.of("accept").len(), 5 * round - 1, "{mode:?}");
            let [first, mut others @ ..] = served;
            assert_eq!(first.last_order("exit 7", &server), "exit 7");
            assert!(waiting.read_line().starts_with("ok "), "a client for each slot");
            others.iter_mut().for_each(|intruder| drop(intruder.client.finish()));
            waiting.finish();
            server.log.wait_for("end", 5 * round);
        }
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let ids = |event| -> BTreeSet<u64> {
            server.log.of(event).iter().filter_map(|line| line["id"].as_u64()).collect()
        };
        let all: BTreeSet<u64> = (1..=15).collect();
        assert_eq!([ids("accept"), ids("end")], [all.clone(), all], "{mode:?}");
        assert_eq!(server.log.of("end").len(), 15, "one end line for each connection");
        assert_eq!(server.log.events().len(), server.log.lines().len(), "every line is JSON");
    }
}

#[test]
fn garbage_in_the_stats_changes_no_connection_limit_of_a_source() {
    for mode in MODES {
        let server = intruder::serve(&[&["--per-source", "2"], mode]);
        let mut held: Vec<Intruder> = (0..2).map(|_| Intruder::from_source("127.0.0.2", &server)).collect();
        for order in garbage() {
            held[0].done(&order);
            assert_eq!(Client::from_source("127.0.0.2", server.port()).read_to_end(), b"", "{mode:?}");
        }
        Intruder::from_source("127.0.0.3", &server).done("pid");
        drop(held.pop());
        server.log.wait_for("end", 2);
        Intruder::from_source("127.0.0.2", &server).done("pid");
        let rejected = server.log.of(REJECT);
        assert!(rejected.iter().all(|event| event["reason"] == "source"), "{rejected:?}");
    }
}

/// The garbage stays in the stats, as these processes end without a report.
#[test]
fn garbage_in_the_stats_hides_no_exit_code_signal_or_crash_and_forges_none() {
    for mode in MODES {
        for order in garbage() {
            let server = intruder::serve(&[&["--penalties"], mode]);
            let mut intruder = Intruder::from_source("127.0.0.2", &server);
            let victim = |number: u8| Intruder::from_source(&format!("127.0.1.{number}"), &server);
            let (exits, fails, crashes) = (victim(1), victim(2), victim(3));
            intruder.done(&order);
            // A report of exit code 0 may say more of it: a reset, or a timeout.
            let outcome = exits.last_order("exit 0", &server);
            let is_success = ["exit 0", "reset"].contains(&&*outcome) || outcome.starts_with("timeout ");
            assert!(is_success, "{order}: {outcome:?}");
            assert_eq!(fails.last_order("exit 7", &server), "exit 7", "{order}");
            assert_eq!(crashes.last_order("crash", &server), "signal SEGV", "{order}");
            let penalties = server.log.wait_for("penalty", 1);
            assert!(
                penalties.len() == 1 && penalties[0]["peer"].to_string().contains("127.0.1.3"),
                "{order}: {penalties:?}"
            );
            for (number, is_served) in [(1, true), (2, true), (3, false)] {
                let source = format!("127.0.1.{number}");
                assert_eq!(intruder::is_served(&source, &server), is_served, "{order}: {source} {mode:?}");
            }
        }
    }
}

/// The victims exit with the codes of a panic and of a silent client, without a report of their
/// own.
#[test]
fn garbage_in_the_stats_causes_and_prevents_no_penalty() {
    for order in garbage() {
        let server = intruder::serve(&[&["--penalties"]]);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        for (number, code, reason) in [(1, 101, Some("crash")), (2, 64, Some("noauth")), (3, 7, None)] {
            let source = format!("127.0.1.{number}");
            let victim = Intruder::from_source(&source, &server);
            intruder.done(&order);
            victim.last_order(&format!("exit {code}"), &server);
            assert_eq!(intruder::is_served(&source, &server), reason.is_none(), "{order}: exit {code}");
            let penalties = server.log.wait_for("penalty", number.min(2));
            let penalty = penalties.iter().find(|event| event["peer"].to_string().contains(&source));
            assert_eq!(penalty.and_then(|event| event["reason"].as_str()), reason, "{order}: exit {code}");
        }
    }
}

#[test]
fn garbage_in_the_stats_leaves_outcomes_of_a_drain_and_the_number_of_connections() {
    for mode in MODES {
        let mut server = intruder::serve(&[mode]);
        let mut intruder = Intruder::from_source("127.0.0.2", &server);
        let _idle = Intruder::from_source("127.0.0.3", &server);
        for order in garbage() {
            intruder.done(&order);
        }
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 1);
        intruder.done("fill 255");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let ends = server.log.of("end");
        assert!(ends.len() == 2 && ends.iter().all(|end| outcome(end) == "signal TERM"), "{ends:?}");
        assert_eq!(server.log.of("stop")[0]["connections"], 2);
    }
}
