//! Debian's Prometheus scrapes the observer: it finds nothing wrong, and what it answers is what
//! `tine load` has counted.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use tine_e2e::http::{get, get_with, observer_of, try_request};
use tine_e2e::load::load;
use tine_e2e::other_process::{OtherProcess, free_port};
use tine_e2e::{Folder, Server, network, wait_until};

/// A Prometheus. Dropping it ends it.
struct Prometheus {
    _process: OtherProcess,
    address: String,
    _folder: Folder,
}

impl Prometheus {
    /// A Prometheus that scrapes an address each second.
    fn scraping(target: &str) -> Prometheus {
        let folder = Folder::new("prometheus");
        let configuration = folder.write(
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: tine\n  static_configs:\n  \
                 - targets: ['{target}']\n"
            ),
        );
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path("data")))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null());
        let _process = OtherProcess::start(&mut command);
        let prometheus = Prometheus { _process, address, _folder: folder };
        wait_until("Prometheus is ready", || {
            let ready = "GET /-/ready HTTP/1.0\r\n\r\n";
            try_request(&prometheus.address, ready).ok().filter(|answer| answer.status == 200)
        });
        prometheus
    }

    /// The values of the series that an expression gives.
    fn values(&self, expression: &str) -> Vec<f64> {
        let query: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v1/query?query={query}");
        let answer = try_request(&self.address, &format!("GET {path} HTTP/1.0\r\n\r\n")).expect("an answer");
        let found = answer.json();
        let series = found["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {found}"));
        let value = |series: &Value| series["value"][1].as_str().and_then(|value| value.parse().ok());
        series.iter().filter_map(value).collect()
    }

    fn value(&self, expression: &str) -> Option<f64> {
        self.values(expression).first().copied()
    }

    /// Waits until an expression has a value. What it has before is printed, for a test that fails.
    fn wait_for(&self, expression: &str, expected: f64) {
        let mut last = None;
        wait_until(&format!("{expression} is {expected}"), || {
            let value = self.value(expression);
            if value != last {
                eprintln!("{expression} is {value:?}");
                last = value;
            }
            (value == Some(expected)).then_some(())
        });
    }
}

#[test]
fn what_prometheus_knows_is_what_the_load_client_counted() {
    network::own();
    let server = Server::serve(&["--observe", "127.0.0.1:0", "--name", "web", "-c", "500"]);
    let prometheus = Prometheus::scraping(&observer_of(&server));
    prometheus.wait_for("up", 1.0);
    let target = format!("127.0.0.1:{}", server.port());
    // A number and no duration: a stop would count planned connections that never began.
    let loaded = load(&["crr", &target, "--rate", "300", "-n", "1800", "--max-lateness", "5s"]);
    loaded.expect_sound();
    let counted = loaded.ended() as f64;
    assert!(counted > 1_000.0, "{counted}");
    for (expression, expected) in [
        ("tine_connections_accepted_total{service=\"web\"}", counted),
        ("sum(tine_connections_ended_total)", counted),
        ("tine_connections_ended_total{kind=\"success\"}", counted),
        ("tine_connection_duration_seconds_count", counted),
        ("tine_connection_start_seconds_count", counted),
        ("tine_connection_duration_seconds_bucket{le=\"+Inf\"}", counted),
        ("tine_connections", 0.0),
        ("sum(tine_clients_rejected_total)", 0.0),
        ("up", 1.0),
    ] {
        prometheus.wait_for(expression, expected);
    }
    let scraped = prometheus.value("count_over_time(up[1m])").expect("samples");
    assert!(scraped >= 6.0, "{scraped}");
    let times =
        prometheus.value("histogram_quantile(0.5, sum by (le) (tine_connection_start_seconds_bucket))");
    assert!(times.is_some_and(|median| median > 0.0 && median < 0.1), "{times:?}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let server = Server::serve(&["--observe", "127.0.0.1:0"]);
    let address = observer_of(&server);
    server.connect().echo("x").finish();
    server.log.wait_for("end", 1);
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("the package is installed");
    let text = get(&address, "/metrics").body;
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let done = check.wait_with_output().expect("our child");
    let said = [done.stdout, done.stderr].concat();
    assert_eq!((done.status.code(), String::from_utf8_lossy(&said).as_ref()), (Some(0), ""));
    // OpenMetrics has the same series.
    let open = get_with(&address, "/metrics", "Accept: application/openmetrics-text");
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(series(&open.body), series(&text));
}
