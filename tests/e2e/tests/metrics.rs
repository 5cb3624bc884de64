//! What a server counts for monitoring is what clients and programs did.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::wait_until;

/// The first line of the reply to a request.
fn ask(socket: &str, request: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).expect("a control socket");
    stream.write_all(format!("{request}\n").as_bytes()).expect("it reads");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a reply");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn metrics_count_what_connections_did() {
    let program = ["sh", "-c", "read n; [ $n = 0 ] && exit 0; [ $n = 1 ] && exit 3; kill -SEGV $$"];
    let controlled = Controlled::serve("control-metrics", &["-c", "7"], &program);
    let metrics = || {
        let line = ask(&controlled.folder.path("c.sock"), &json!({ "command": "metrics" }));
        assert_eq!(line["type"], "metrics", "{line}");
        line
    };
    for number in ["0", "0", "1", "2"] {
        let mut client = controlled.server.connect();
        client.send(format!("{number}\n"));
        client.finish();
    }
    let ended = || metrics()["ended_by_kind"].clone();
    wait_until("all have ended", || (ended()["signal"] == 1 && ended()["success"] == 2).then_some(()));
    let found = metrics();
    assert_eq!((&found["accepted"], &found["connections"]), (&4.into(), &0.into()));
    assert_eq!((&found["ended_by_kind"]["exit"], &found["ended_by_signal"]["SEGV"]), (&1.into(), &1.into()));
    assert_eq!((&found["max_connections"], &found["generation"]), (&7.into(), &1.into()));
    let count = |name: &str| -> u64 {
        found[name]["counts"].as_array().expect("counts").iter().filter_map(Value::as_u64).sum()
    };
    for name in ["start", "duration", "cpu", "memory"] {
        assert_eq!(count(name), 4, "{name}: {found}");
        assert!(found[name]["sum"].as_f64().is_some_and(|sum| sum > 0.0), "{name}: {found}");
    }
    assert_eq!((found["bytes_in"].as_u64(), found["bytes_out"].as_u64()), (Some(8), Some(0)));
    let roles: Vec<_> = found["processes"].as_array().expect("processes").iter().collect();
    assert!(roles.iter().any(|process| process["role"] == "supervisor"), "{found}");
    assert!(roles.iter().all(|process| process["rss_kib"].as_u64() > Some(0)), "{found}");
    let listener = &found["listeners"][0];
    assert_eq!((&listener["queued"], &listener["overflows"]), (&0.into(), &0.into()), "{found}");
    // Counts go on after an upgrade.
    controlled.done(&["upgrade"]);
    let later = metrics();
    assert_eq!((&later["ended_by_kind"], &later["generation"]), (&found["ended_by_kind"], &2.into()));
    assert_eq!(later["duration"]["counts"], found["duration"]["counts"]);
}
