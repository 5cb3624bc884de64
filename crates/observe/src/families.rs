//! The families of metrics of a server, from what its services count (`metrics` in
//! `docs/control.md`). `docs/monitoring.md` lists them. No I/O here.

use serde_json::Value;

use crate::exposition::{Distribution, Exemplar, Family, Kind, Metric, MetricValue};

/// The phases that a service can be in.
const PHASES: [&str; 3] = ["serving", "paused", "draining"];

/// What a family takes from the metrics of a service.
enum Source {
    /// A number of this key.
    Number(&'static str),
    /// A number for each key of the object of this key, as a label.
    ByLabel(&'static str, &'static str),
    /// A distribution of this key.
    Distribution(&'static str),
    /// A number of each object in a list: its key, that of the number, the label and its key, and
    /// what a number is divided by.
    List { list: &'static str, key: &'static str, label: &'static str, of: &'static str, scale: f64 },
    /// Which phase it is.
    Phase,
    /// Numbers of the state that the program shares: these of each object.
    Shared(&'static str),
    /// The histograms of the state that the program shares.
    SharedHistograms,
    /// A number, or 1 for true, in the object of the first key, which not every service has.
    Within(&'static str, &'static str),
    /// Which forkers have a template of such a program.
    Templates,
}

/// A list of processes.
const fn process(key: &'static str, scale: f64) -> Source {
    Source::List { list: "processes", key, label: "role", of: "role", scale }
}

/// A list of listeners.
const fn listener(key: &'static str) -> Source {
    Source::List { list: "listeners", key, label: "address", of: "address", scale: 1.0 }
}

/// A row for each family: name, help, kind, and where it comes from.
const TABLE: &[(&str, &str, Kind, Source)] = &[
    (
        "tine_generation",
        "1 for the first process of the server, one more after each reload or upgrade.",
        Kind::Gauge,
        Source::Number("generation"),
    ),
    (
        "tine_start_time_seconds",
        "When the service was started, in seconds since 1970.",
        Kind::Gauge,
        Source::Number("start_time"),
    ),
    ("tine_phase", "1 for the phase of the service.", Kind::Gauge, Source::Phase),
    ("tine_connections", "Connections that are served now.", Kind::Gauge, Source::Number("connections")),
    ("tine_connections_peak", "The most connections at a time so far.", Kind::Gauge, Source::Number("peak")),
    (
        "tine_connections_limit",
        "The most connections that are allowed at a time.",
        Kind::Gauge,
        Source::Number("max_connections"),
    ),
    ("tine_spares", "Spares and workers that wait for a client.", Kind::Gauge, Source::Number("spares")),
    (
        "tine_jail_layer",
        "1 for each layer of the jail that is in force, 0 for one that is missing.",
        Kind::Gauge,
        Source::ByLabel("jail_layers", "layer"),
    ),
    ("tine_bans", "Bans in force.", Kind::Gauge, Source::Number("bans")),
    ("tine_clients_waiting", "Clients in the delay queue.", Kind::Gauge, Source::Number("waiting")),
    ("tine_connections_accepted", "Connections that were begun.", Kind::Counter, Source::Number("accepted")),
    (
        "tine_connections_ended",
        "Connections that have ended, by kind of end.",
        Kind::Counter,
        Source::ByLabel("ended_by_kind", "kind"),
    ),
    (
        "tine_connections_signaled",
        "Connections whose process was ended by a signal.",
        Kind::Counter,
        Source::ByLabel("ended_by_signal", "signal"),
    ),
    (
        "tine_clients_rejected",
        "Clients that were rejected, by reason.",
        Kind::Counter,
        Source::ByLabel("rejected_by_reason", "reason"),
    ),
    (
        "tine_clients_reported",
        "Clients that were served although a limit or a rule objects, by reason.",
        Kind::Counter,
        Source::ByLabel("reported_by_reason", "reason"),
    ),
    (
        "tine_clients_delayed",
        "Clients that were put into the delay queue, by reason.",
        Kind::Counter,
        Source::ByLabel("delayed_by_reason", "reason"),
    ),
    (
        "tine_slot_waits",
        "How often a forker had to wait for a free slot.",
        Kind::Counter,
        Source::Number("slot_waits"),
    ),
    (
        "tine_fork_failures",
        "Processes that could not be created.",
        Kind::Counter,
        Source::Number("fork_failures"),
    ),
    (
        "tine_log_lines_dropped",
        "Lines that the target of the log has not taken.",
        Kind::Counter,
        Source::Number("log_lines_dropped"),
    ),
    (
        "tine_received_bytes",
        "Bytes that clients have sent on connections that have ended.",
        Kind::Counter,
        Source::Number("bytes_in"),
    ),
    (
        "tine_sent_bytes",
        "Bytes that clients have received on connections that have ended.",
        Kind::Counter,
        Source::Number("bytes_out"),
    ),
    (
        "tine_connection_start_seconds",
        "From the accept of a client until its process is created.",
        Kind::Histogram,
        Source::Distribution("start"),
    ),
    (
        "tine_connection_first_byte_seconds",
        "From the start of a connection to the first byte of its client.",
        Kind::Histogram,
        Source::Distribution("first_byte"),
    ),
    (
        "tine_connection_duration_seconds",
        "From the accept of a client to the end of its connection.",
        Kind::Histogram,
        Source::Distribution("duration"),
    ),
    (
        "tine_connection_delay_seconds",
        "The time of clients in the delay queue.",
        Kind::Histogram,
        Source::Distribution("waited"),
    ),
    (
        "tine_connection_cpu_seconds",
        "The processor time of a connection.",
        Kind::Histogram,
        Source::Distribution("cpu"),
    ),
    (
        "tine_connection_peak_memory_bytes",
        "The peak memory of the process of a connection.",
        Kind::Histogram,
        Source::Distribution("memory"),
    ),
    (
        "tine_process_cpu_seconds",
        "The processor time of the supervisor, of forkers, helpers and templates.",
        Kind::Counter,
        process("cpu_ms", 1_000.0),
    ),
    (
        "tine_process_resident_memory_bytes",
        "The memory of the supervisor, of forkers, helpers and templates.",
        Kind::Gauge,
        process("rss_kib", 1.0 / 1_024.0),
    ),
    (
        "tine_process_restarts",
        "How often forkers and helpers were restarted.",
        Kind::Counter,
        process("restarts", 1.0),
    ),
    ("tine_listener_queue", "Clients in the accept queue of a listener.", Kind::Gauge, listener("queued")),
    ("tine_listener_backlog", "The length of the accept queue.", Kind::Gauge, listener("backlog")),
    (
        "tine_listener_overflows",
        "Clients that the kernel has dropped, since the accept queue was full.",
        Kind::Counter,
        listener("overflows"),
    ),
    (
        "tine_bus_connected",
        "1 while the bus of the fleet is there, 0 while it is away.",
        Kind::Gauge,
        Source::Within("fleet", "connected"),
    ),
    (
        "tine_fleet_nodes",
        "Nodes of the fleet that are heard, this one included.",
        Kind::Gauge,
        Source::Within("fleet", "nodes"),
    ),
    (
        "tine_fleet_nodes_lost",
        "Nodes of the fleet that are not heard, and have not left.",
        Kind::Gauge,
        Source::Within("fleet", "lost"),
    ),
    (
        "tine_fleet_bans_received",
        "Bans and lifts that other nodes have told.",
        Kind::Counter,
        Source::Within("fleet", "bans_received"),
    ),
    (
        "tine_fleet_penalties_received",
        "Penalties that other nodes have told.",
        Kind::Counter,
        Source::Within("fleet", "penalties_received"),
    ),
    (
        "tine_warm_copies",
        "Connections that were served by copies of a template.",
        Kind::Counter,
        Source::Within("warm", "copies"),
    ),
    (
        "tine_warm_templates",
        "Templates of the program that were made.",
        Kind::Counter,
        Source::Within("warm", "templates_made"),
    ),
    (
        "tine_warm_copy_crashes",
        "Copies of a template that have crashed.",
        Kind::Counter,
        Source::Within("warm", "copy_crashes"),
    ),
    (
        "tine_warm_template_ready",
        "1 for each forker that has a template, 0 for one that executes the program.",
        Kind::Gauge,
        Source::Templates,
    ),
    (
        "tine_shared_counter",
        "Counts of the state that the program shares between its processes, by name.",
        Kind::Counter,
        Source::Shared("counters"),
    ),
    (
        "tine_shared_gauge",
        "Figures of the state that the program shares between its processes, by name.",
        Kind::Gauge,
        Source::Shared("gauges"),
    ),
    (
        "tine_shared_histogram",
        "Histograms that the program shares between its processes, by name.",
        Kind::Histogram,
        Source::SharedHistograms,
    ),
];

/// The families of services, each an object of type `metrics`. `name` is that of the server, for a
/// service without one.
pub(crate) fn families(services: &[Value], name: &str) -> Vec<Family> {
    let build = services.first().and_then(|service| service["version"].as_str()).map(|version| Metric {
        labels: vec![("version", version.to_owned())],
        value: MetricValue::Number(1.0),
    });
    let build = Family {
        name: "tine_build_info",
        help: "The version of the server.",
        kind: Kind::Info,
        metrics: build.into_iter().collect(),
    };
    let of_table = TABLE.iter().map(|(family, help, kind, source)| Family {
        name: family,
        help,
        kind: *kind,
        metrics: services.iter().flat_map(|service| metrics(service, name, source)).collect(),
    });
    std::iter::once(build).chain(of_table).collect()
}

fn metrics(service: &Value, name: &str, source: &Source) -> Vec<Metric> {
    let service_name = service["service"].as_str().unwrap_or(name);
    let metric = |label: Option<(&'static str, &str)>, value: f64| {
        let mut labels = vec![("service", service_name.to_owned())];
        labels.extend(label.map(|(key, value)| (key, value.to_owned())));
        Metric { labels, value: MetricValue::Number(value) }
    };
    match *source {
        Source::Number(key) => service[key].as_f64().map(|value| metric(None, value)).into_iter().collect(),
        Source::Phase => PHASES
            .into_iter()
            .map(|phase| metric(Some(("phase", phase)), f64::from(u8::from(service["phase"] == phase))))
            .collect(),
        Source::ByLabel(key, label) => {
            let counts = service[key].as_object().into_iter().flatten();
            let counts = counts.filter_map(|(value, count)| Some((value, count.as_f64()?)));
            counts.map(|(value, count)| metric(Some((label, value)), count)).collect()
        }
        Source::List { list, key, label, of, scale } => {
            let objects = service[list].as_array().into_iter().flatten();
            let found = objects.filter_map(|object| Some((object[of].as_str()?, object[key].as_f64()?)));
            found.map(|(value, number)| metric(Some((label, value)), number / scale)).collect()
        }
        Source::Within(object, key) => {
            let value = &service[object][key];
            let number = value.as_f64().or(value.as_bool().map(|is_true| f64::from(u8::from(is_true))));
            number.map(|number| metric(None, number)).into_iter().collect()
        }
        Source::Templates => {
            let templates = service["warm"]["templates"].as_array().into_iter().flatten();
            let ready = |template: &Value| {
                let (forker, is_ready) = (template["forker"].to_string(), template["state"] == "ready");
                metric(Some(("forker", &forker)), f64::from(u8::from(is_ready)))
            };
            templates.map(ready).collect()
        }
        Source::Shared(kind) => {
            let shared = service["shared"].as_array().into_iter().flatten();
            shared.flat_map(|object| shared_numbers(object, kind, service_name)).collect()
        }
        Source::SharedHistograms => {
            let shared = service["shared"].as_array().into_iter().flatten();
            shared.filter_map(|object| shared_histogram(object, service_name)).collect()
        }
        Source::Distribution(key) => {
            let labels = vec![("service", service_name.to_owned())];
            let distribution = distribution(&service[key]).map(MetricValue::Distribution);
            distribution.map(|value| Metric { labels, value }).into_iter().collect()
        }
    }
}

/// The labels of an object that the program shares.
fn shared_labels(object: &Value, service: &str) -> Option<Vec<(&'static str, String)>> {
    Some(vec![("service", service.to_owned()), ("name", object["name"].as_str()?.to_owned())])
}

/// The numbers of this kind of a shared object, each with the name of its figure.
fn shared_numbers(object: &Value, kind: &str, service: &str) -> Vec<Metric> {
    let figures = object[kind].as_object().into_iter().flatten();
    let number = |(figure, value): (&String, &Value)| {
        let mut labels = shared_labels(object, service)?;
        labels.push(("figure", figure.clone()));
        Some(Metric { labels, value: MetricValue::Number(value.as_f64()?) })
    };
    figures.filter_map(number).collect()
}

fn shared_histogram(object: &Value, service: &str) -> Option<Metric> {
    let value = MetricValue::Distribution(distribution(&object["histogram"])?);
    Some(Metric { labels: shared_labels(object, service)?, value })
}

fn distribution(value: &Value) -> Option<Distribution> {
    let exemplar = |exemplar: &Value| {
        Some(Exemplar {
            bucket: usize::try_from(exemplar["bucket"].as_u64()?).ok()?,
            id: exemplar["id"].to_string(),
            value: exemplar["value"].as_f64()?,
            at: exemplar["at"].as_f64()?,
        })
    };
    Some(Distribution {
        bounds: value["bounds"].as_array()?.iter().filter_map(Value::as_f64).collect(),
        counts: value["counts"].as_array()?.iter().filter_map(Value::as_u64).collect(),
        sum: value["sum"].as_f64()?,
        exemplars: value["exemplars"].as_array().into_iter().flatten().filter_map(exemplar).collect(),
    })
}

#[cfg(test)]
mod tests;
