//! The state that the program shares between its processes, as operators see it.

use serde_json::{Map, Value, json};
use tine_shared::Value as Figure;
use tine_shared::server::ObjectView;

/// Each object with its name and its kind, and its figures by name. What has no name of its own is
/// its `value`. Counters are apart from what can shrink.
pub(super) fn to_json(objects: &[ObjectView]) -> Value {
    objects.iter().map(object_to_json).collect()
}

fn object_to_json(object: &ObjectView) -> Value {
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(object.name));
    fields.insert("kind".to_owned(), json!(object.kind));
    let (mut counters, mut gauges) = (Map::new(), Map::new());
    for figure in &object.figures {
        let name = if figure.name.is_empty() { "value" } else { figure.name }.to_owned();
        match &figure.value {
            Figure::Counter(value) => _ = counters.insert(name, json!(value)),
            Figure::Gauge(value) => _ = gauges.insert(name, number(*value)),
            Figure::Histogram { bounds, counts, sum } => {
                let histogram = json!({ "bounds": bounds, "counts": counts, "sum": sum, "exemplars": [] });
                fields.insert("histogram".to_owned(), histogram);
            }
        }
    }
    fields.insert("counters".to_owned(), Value::Object(counters));
    fields.insert("gauges".to_owned(), Value::Object(gauges));
    Value::Object(fields)
}

/// A number, without a fraction where it has none.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use tine_shared::Figure as Named;

    use super::*;

    #[test]
    fn figures_are_fields() {
        let figure = |name, value| Named { name, value };
        let view = ObjectView {
            name: "jobs".into(),
            kind: "queue",
            figures: vec![
                figure("length", Figure::Gauge(2.0)),
                figure("load", Figure::Gauge(0.5)),
                figure("lost", Figure::Counter(7)),
            ],
        };
        let histogram = Figure::Histogram { bounds: vec![1.0], counts: vec![2, 3], sum: 4.5 };
        let seconds =
            ObjectView { name: "seconds".into(), kind: "histogram", figures: vec![figure("", histogram)] };
        assert_eq!(
            to_json(&[view, seconds]),
            json!([
                { "name": "jobs", "kind": "queue", "counters": { "lost": 7 }, "gauges": { "length": 2, "load": 0.5 } },
                {
                    "name": "seconds",
                    "kind": "histogram",
                    "histogram": { "bounds": [1.0], "counts": [2, 3], "sum": 4.5, "exemplars": [] },
                    "counters": {},
                    "gauges": {},
                },
            ])
        );
    }
}
