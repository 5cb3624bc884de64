use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::exposition::text;
use crate::negotiation::Exposition;

#[test]
fn services_become_families() {
    let service = json!({
        "service": null, "version": "0.1.0", "phase": "paused", "start_time": 100.5, "connections": 3,
        "ended_by_kind": { "success": 4, "panic": 0 },
        "processes": [{ "role": "forker 1", "cpu_ms": 250, "rss_kib": 2, "restarts": 1 }],
        "listeners": [{ "address": "[::]:9", "queued": 1, "overflows": null }],
        "shared": [
            { "name": "hits", "kind": "counter", "counters": { "value": 7 }, "gauges": {} },
            { "name": "jobs", "kind": "queue", "counters": {}, "gauges": { "length": 2.0 } },
            {
                "name": "seconds",
                "histogram": { "bounds": [1.0], "counts": [2, 1], "sum": 4.5, "exemplars": [] },
            },
        ],
        "duration": { "bounds": [1.0], "counts": [1, 1], "sum": 3.5, "exemplars": [] },
        "warm": {
            "templates": [
                { "forker": 1, "state": "ready", "pid": 4711 },
                { "forker": 2, "state": "making", "pid": null },
            ],
            "copies": 70, "templates_made": 4, "copy_crashes": 3,
        },
    });
    let other = json!({ "service": "git", "connections": 1 });
    let text = text(&families(&[service, other], "9"), Exposition::Prometheus);
    for line in [
        "tine_build_info{version=\"0.1.0\"} 1",
        "tine_phase{service=\"9\",phase=\"paused\"} 1",
        "tine_phase{service=\"9\",phase=\"serving\"} 0",
        "tine_start_time_seconds{service=\"9\"} 100.5",
        "tine_connections{service=\"9\"} 3",
        "tine_connections{service=\"git\"} 1",
        "tine_connections_ended_total{service=\"9\",kind=\"success\"} 4",
        "tine_connections_ended_total{service=\"9\",kind=\"panic\"} 0",
        "tine_process_cpu_seconds_total{service=\"9\",role=\"forker 1\"} 0.25",
        "tine_process_resident_memory_bytes{service=\"9\",role=\"forker 1\"} 2048",
        "tine_listener_queue{service=\"9\",address=\"[::]:9\"} 1",
        "tine_shared_counter_total{service=\"9\",name=\"hits\",figure=\"value\"} 7",
        "tine_shared_gauge{service=\"9\",name=\"jobs\",figure=\"length\"} 2",
        "tine_shared_histogram_bucket{service=\"9\",name=\"seconds\",le=\"+Inf\"} 3",
        "tine_connection_duration_seconds_bucket{service=\"9\",le=\"+Inf\"} 2",
        "tine_warm_copies_total{service=\"9\"} 70",
        "tine_warm_templates_total{service=\"9\"} 4",
        "tine_warm_copy_crashes_total{service=\"9\"} 3",
        "tine_warm_template_ready{service=\"9\",forker=\"1\"} 1",
        "tine_warm_template_ready{service=\"9\",forker=\"2\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("tine_listener_overflows_total{"), "{text}");
    assert!(!text.lines().any(|line| line.contains("warm") && line.contains("\"git\"")), "{text}");
}

#[test]
fn each_family_is_documented_and_no_other() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitoring.md");
    let document = std::fs::read_to_string(document).expect("a document");
    let documented = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> = documented.filter(|name| name.starts_with("tine_")).collect();
    let named = |(name, _, kind, _): &(&str, _, Kind, _)| match kind {
        Kind::Counter => format!("{name}_total"),
        _ => (*name).to_owned(),
    };
    let all: BTreeSet<String> = TABLE.iter().map(named).chain(["tine_build_info".to_owned()]).collect();
    assert_eq!(documented, all.iter().map(String::as_str).collect());
}
