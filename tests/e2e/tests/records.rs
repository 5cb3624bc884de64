//! The record of each connection: its times, its bytes, what it waited for and how it ended, in the
//! `end` line, in the rows of a list and in the totals, whichever way connections are served.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::load::load;
use tine_e2e::names::{WORKER, outcome};
use tine_e2e::{Client, Server, kill, network, procfs, wait_until};

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// The modes in which connections are served, with the options and the program of each.
const MODES: [(&str, &[&str], &[&str]); 4] = [
    ("forkers", &[], &[]),
    ("spares", &["--spares", "8"], &[]),
    ("workers", &["--spares", "8", "--reuse", "50"], &[]),
    ("program", &[], &["cat"]),
];

#[test]
fn totals_and_records_are_those_of_the_load_client_in_every_mode() {
    network::own();
    // The load client sends and receives as much in each connection.
    let mut bytes = None;
    for (name, options, program) in MODES {
        let controlled = Controlled::serve(&format!("records-{name}"), options, program);
        let address = format!("127.0.0.1:{}", controlled.server.port());
        let loaded = load(&["crr", &address, "-n", "300", "-c", "6"]);
        loaded.expect_sound();
        let served = loaded.ended();
        // A connection ends a moment after its client.
        let status = wait_until("every connection has ended", || {
            let status = controlled.status();
            (number(&status, "ended") == served).then_some(status)
        });
        assert_eq!((number(&status, "accepted"), number(&status, "failed")), (served, 0), "{name}");
        assert_eq!(number(&status, "connections"), 0, "{name}");
        // Workers do not wait for a supervisor that is behind.
        let unrecorded = number(&status, "unrecorded");
        assert!(unrecorded == 0 || name == "workers", "{name}: {unrecorded}");
        let peak = number(&status, "peak");
        assert!((1..=served).contains(&peak), "{name}: {peak}");
        let rows = controlled.json(&["list", "--ended"]);
        let ids: BTreeSet<u64> = rows.iter().map(|row| number(row, "id")).collect();
        assert_eq!((ids.len() as u64 + unrecorded, rows.len()), (served, ids.len()), "{name}");
        assert!(ids.iter().all(|id| (1..=served).contains(id)), "{name}: {ids:?}");
        assert!(rows.iter().all(|row| row["outcome"] == "exit 0" && row["state"] == "ended"), "{name}");
        let ends = controlled.server.log.wait_for("end", served as usize);
        for row in &rows {
            let end = ends.iter().find(|end| end["id"] == row["id"]).expect("a line");
            let of_row = ["peer", "pid", "bytes_in", "bytes_out"].map(|key| row[key].clone());
            let mut of_line = ["peer", "pid", "in", "out"].map(|key| end[key].clone());
            assert_eq!(of_row, std::mem::take(&mut of_line), "{name}: {row} {end}");
            let counted = (number(row, "bytes_in"), number(row, "bytes_out"));
            assert_eq!(*bytes.get_or_insert(counted), counted, "{name}: {row}");
            let (source, of_line) = if name == "program" { ("kernel", "kernel") } else { ("process", "") };
            assert_eq!(row["bytes_source"], source, "{name}");
            assert_eq!(end["bytes_source"].as_str().unwrap_or_default(), of_line, "{name}");
        }
    }
}

#[test]
fn the_kernel_counts_the_bytes_of_programs_however_they_end() {
    let script = "read x; printf abc; [ \"$x\" = stay ] && exec cat >/dev/null; exit 0";
    let controlled = Controlled::serve("bytes", &["--client-gone", "leave"], &["sh", "-c", script]);
    let mut clients: Vec<Client> = Vec::new();
    for (text, ends_first) in [("hello\n", false), ("stay\n", true)] {
        let mut client = controlled.server.connect();
        client.send(text).expect("abc");
        if ends_first {
            client.half_close();
        }
        assert!(client.read_to_end().is_empty());
        clients.push(client);
    }
    let mut reset = controlled.server.connect();
    reset.send("stay\n").expect("abc");
    reset.reset();
    let ends = controlled.server.log.wait_for("end", 3);
    let mut bytes: Vec<[&Value; 3]> =
        ends.iter().map(|end| ["in", "out", "bytes_source"].map(|key| &end[key])).collect();
    bytes.sort_by_key(|[received, ..]| received.as_u64());
    let kernel = json!("kernel");
    let [five, six, three] = [5, 6, 3].map(|number| json!(number));
    assert_eq!(bytes, [[&five, &three, &kernel], [&five, &three, &kernel], [&six, &three, &kernel]]);
}

#[test]
fn a_socket_that_outlives_its_program_is_counted_so_far_and_a_stop_holds_nothing_back() {
    let script = "setsid sleep 63 & read x; exit 0";
    let options = ["--kill-mode", "process"];
    let mut controlled = Controlled::serve("outlives", &options, &["sh", "-c", script]);
    let mut client = controlled.server.connect();
    client.send("hello\n");
    let end = &controlled.server.log.wait_for("end", 1)[0];
    assert_eq!((&end["in"], &end["bytes_source"]), (&json!(6), &json!("kernel")), "{end}");
    let mut last = controlled.server.connect();
    last.send("a\n");
    wait_until("it has ended", || {
        let status = controlled.status();
        (number(&status, "accepted") == 2 && number(&status, "connections") == 0).then_some(())
    });
    controlled.server.signal(Signal::TERM);
    assert_eq!(controlled.server.wait().code(), Some(0));
    let ends = controlled.server.log.of("end");
    assert_eq!((ends.len(), &ends[1]["in"]), (2, &json!(2)), "{ends:?}");
}

#[test]
fn without_a_control_socket_nobody_asks_the_kernel() {
    let controlled = Controlled::serve("silent", &[], &["cat"]);
    let without = Server::program(&["--control", "none"], &["cat"]);
    let sockets = |server: &Server| {
        let descriptors = procfs::descriptors(server.pid());
        descriptors.iter().filter(|(_, target)| target.starts_with("socket:")).count()
    };
    assert!(sockets(&without) < sockets(&controlled.server));
    without.connect().echo("x").finish();
    let end = &without.log.wait_for("end", 1)[0];
    assert_eq!((&end["in"], &end["bytes_source"]), (&json!(null), &json!(null)), "{end}");
}

#[test]
fn the_peak_of_workers_is_the_most_at_a_time() {
    let options = ["--spares", "8", "--reuse", "50", "--log", "off"];
    let controlled = Controlled::serve("peak", &options, &[]);
    for held in [3, 7, 2] {
        let mut clients: Vec<Client> = (0..held).map(|_| controlled.server.connect()).collect();
        clients.iter_mut().for_each(|client| _ = client.echo("x"));
        assert_eq!(number(&controlled.status(), "connections"), held);
        drop(clients);
        wait_until("they have ended", || (number(&controlled.status(), "connections") == 0).then_some(()));
    }
    let status = controlled.status();
    assert_eq!((number(&status, "peak"), number(&status, "ended"), number(&status, "failed")), (7, 12, 0));
}

#[test]
fn a_killed_worker_has_one_record_and_others_keep_theirs() {
    let controlled = Controlled::serve("killed", &["--spares", "2", "--reuse", "1000"], &[]);
    wait_until("the workers wait", || (controlled.server.named(WORKER).len() == 2).then_some(()));
    for _ in 0..5 {
        controlled.server.connect().echo("x").finish();
    }
    let mut victim = controlled.server.connect();
    victim.echo("x");
    let row = controlled.json(&["list"]).remove(0);
    kill(number(&row, "pid") as i32, Signal::KILL);
    victim.expect_closed();
    let status = wait_until("its end is recorded", || {
        let status = controlled.status();
        (number(&status, "ended") == 6).then_some(status)
    });
    assert_eq!(number(&status, "failed"), 1);
    let rows = controlled.json(&["list", "--ended"]);
    let killed: Vec<&Value> = rows.iter().filter(|row| row["outcome"] == "signal KILL").collect();
    assert_eq!((rows.len(), killed.len(), &killed[0]["id"]), (6, 1, &row["id"]));
}

#[test]
fn times_are_in_the_rows_and_in_the_end_line() {
    for (name, options, program) in &MODES[..3] {
        let controlled = Controlled::serve(&format!("times-{name}"), options, program);
        let mut client = controlled.server.connect();
        let row = wait_until("it is listed", || controlled.json(&["list"]).pop());
        assert_eq!(
            (&row["first_byte_ms"], &row["waited_ms"], &row["limit"]),
            (&json!(null), &json!(null), &json!(null))
        );
        client.expect_silence(Duration::from_millis(300));
        client.echo("x");
        let row = controlled.json(&["list"]).remove(0);
        let first_byte = number(&row, "first_byte_ms");
        assert!((300..=number(&row, "age_ms")).contains(&first_byte), "{name}: {row}");
        assert_eq!(row["accepted"], row["started"], "{name}");
        client.finish();
        let end = &controlled.server.log.wait_for("end", 1)[0];
        let seconds = |key: &str| end[key].as_f64().unwrap_or_else(|| panic!("no {key}: {end}"));
        assert!((0.3..=seconds("seconds")).contains(&seconds("first_byte_seconds")), "{name}: {end}");
        assert_eq!(end["waited_seconds"], json!(null));
        let ended = wait_until("it is recorded", || controlled.json(&["list", "--ended"]).pop());
        assert_eq!(number(&ended, "first_byte_ms"), first_byte);
        assert_eq!(outcome(end), ended["outcome"].as_str().expect("an outcome"));
    }
}

#[test]
fn the_first_byte_for_a_program_is_observed_where_bytes_are_counted() {
    let controlled = Controlled::serve("first-byte", &["--idle-timeout", "60s"], &["cat"]);
    let mut client = controlled.server.connect();
    client.echo("hello");
    let row = wait_until("it is observed", || {
        controlled.json(&["list"]).pop().filter(|row| !row["first_byte_ms"].is_null())
    });
    assert!(number(&row, "first_byte_ms") <= number(&row, "age_ms"), "{row}");
    client.finish();
    let end = &controlled.server.log.wait_for("end", 1)[0];
    assert!(end["first_byte_seconds"].as_f64() <= end["seconds"].as_f64(), "{end}");
}

#[test]
fn a_client_that_waited_has_its_time_and_the_limit() {
    for (name, options) in [("waited", &[][..]), ("waited-workers", &["--spares", "4", "--reuse", "50"])] {
        let limit = ["--max-connections-per-source", "1", "--when-limited", "delay"];
        let controlled = Controlled::serve(name, &[&limit, options].concat(), &[]);
        let mut first = controlled.server.connect();
        first.echo("x");
        let mut second = controlled.server.connect();
        wait_until("it waits", || (number(&controlled.status(), "waiting") == 1).then_some(()));
        second.expect_silence(Duration::from_millis(300));
        first.finish();
        second.echo("y");
        let row = wait_until("it is listed", || {
            controlled.json(&["list"]).into_iter().find(|row| row["peer"] == second.address().as_str())
        });
        assert_eq!(row["limit"], "source", "{name}");
        assert!((300..=number(&row, "age_ms")).contains(&number(&row, "waited_ms")), "{name}: {row}");
        assert!(row["accepted"].as_str() < row["started"].as_str(), "{name}: {row}");
        second.finish();
        let ends = controlled.server.log.wait_for("end", 2);
        let end = ends.iter().find(|end| end["id"] == row["id"]).expect("a line");
        assert_eq!(end["limit"], "source", "{name}");
        assert!(end["waited_seconds"].as_f64() >= Some(0.3), "{name}: {end}");
        let ended = wait_until("it is recorded", || {
            controlled.json(&["list", "--ended"]).into_iter().find(|ended| ended["id"] == row["id"])
        });
        assert_eq!((&ended["waited_ms"], &ended["limit"]), (&row["waited_ms"], &row["limit"]), "{name}");
    }
}
