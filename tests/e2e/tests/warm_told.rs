//! What operators are told of a program that is started warm.

use serde_json::{Value, json};
use tine_e2e::control::Controlled;
use tine_e2e::http::{get, observer_of};
use tine_e2e::wait_until;

/// A program that answers each line, and one that cannot be copied: it has a timer.
const ECHO: [&str; 1] = ["cat"];
const REFUSED: [&str; 5] =
    ["/usr/bin/python3", "-I", "-S", "-c", "import signal, os; signal.alarm(99); os.read(0, 1)"];

fn serve(name: &str, options: &[&str], program: &[&str]) -> Controlled {
    Controlled::serve(name, &[&["--forkers", "1", "--observe", "127.0.0.1:0"], options].concat(), program)
}

fn metrics(controlled: &Controlled) -> Vec<String> {
    let found = get(&observer_of(&controlled.server), "/metrics");
    found.body.lines().filter(|line| line.starts_with("tine_warm_")).map(str::to_owned).collect()
}

/// The template of the only forker, once it is ready.
fn ready(controlled: &Controlled) -> u64 {
    wait_until("a template is ready", || controlled.status()["warm"]["templates"][0]["pid"].as_u64())
}

#[test]
fn copies_and_their_template_are_told() {
    let controlled = serve("warm-told", &["--warm"], &ECHO);
    let template = ready(&controlled);
    let line = &controlled.server.log.wait_for("warm", 1)[0];
    assert_eq!(
        (&line["state"], &line["forker"], &line["pid"]),
        (&json!("ready"), &json!(1), &json!(template))
    );
    let mut client = controlled.server.connect();
    client.echo("x");
    let row = controlled.json(&["list"]).remove(0);
    assert_eq!(row["start"], "warm", "{row}");
    assert!(controlled.done(&["show", &row["id"].to_string()]).contains("start      warm\n"));
    client.finish();
    assert_eq!(controlled.server.log.wait_for("end", 1)[0]["start"], "warm");
    let ended = wait_until("it is recorded", || controlled.json(&["list", "--ended"]).pop());
    assert_eq!(ended["start"], "warm", "{ended}");
    let status = controlled.status();
    let expected = json!({
        "templates": [{ "forker": 1, "state": "ready", "pid": template }],
        "copies": 1, "templates_made": 1, "copy_crashes": 0,
    });
    assert_eq!(status["warm"], expected);
    let is_template = |process: &Value| process["role"] == "template 1" && process["pid"] == template;
    assert!(status["processes"].as_array().expect("processes").iter().any(is_template), "{status}");
    let text = controlled.done(&["status"]);
    for line in [
        "warm         1 copies, 0 of them crashed, 1 templates made",
        &format!("template 1   ready, pid {template}"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // What is collected is kept for a moment.
    let told = |name: &str, end: &str| {
        wait_until(name, || {
            let is_it =
                |line: &String| line.starts_with(&format!("tine_warm_{name}{{")) && line.ends_with(end);
            metrics(&controlled).iter().any(is_it).then_some(())
        });
    };
    told("copies_total", "} 1");
    told("templates_total", "} 1");
    told("copy_crashes_total", "} 0");
    told("template_ready", "forker=\"1\"} 1");
}

#[test]
fn a_program_that_is_executed_instead_is_told() {
    let controlled = serve("warm-refused", &["--warm=try"], &REFUSED);
    let template = || controlled.status()["warm"]["templates"][0].clone();
    let refused = wait_until("it is refused", || Some(template()).filter(|one| one["state"] == "refused"));
    assert_eq!(refused, json!({ "forker": 1, "state": "refused", "pid": null }));
    assert!(controlled.done(&["status"]).lines().any(|line| line == "template 1   refused"));
    let mut client = controlled.server.connect();
    client.send("x").half_close();
    client.read_to_end();
    assert_eq!(controlled.server.log.wait_for("end", 1)[0]["start"], "cold");
    let told = || metrics(&controlled).iter().any(|line| line.contains("_ready{") && line.ends_with(" 0"));
    wait_until("it is told that there is no template", || told().then_some(()));
}
