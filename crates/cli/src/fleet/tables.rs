//! The answers of nodes as tables, and as JSON.

use serde_json::{Value, json};
use tine_bus::fleet::Answer;
use tine_bus::fleet::operator::Answers;
use tine_bus::names::{Name, bounded};

use crate::control::text::{age, bytes, columns, field};

/// What each node does.
pub(super) fn status(answers: &Answers) -> String {
    let mut rows = vec![["NODE", "PHASE", "CONNECTIONS", "BUS", "BANS"].map(str::to_owned).to_vec()];
    for answer in &answers.answers {
        for line in &answer.answer {
            let [connections, most] = ["connections", "max_connections"].map(|name| field(line, name));
            let bus = if answer.trouble.is_some() { "no bucket" } else { "there" };
            let pending = match answer.pending {
                0 => String::new(),
                pending => format!(" ({pending} not shared yet)"),
            };
            rows.push(vec![
                name(&answer.node, line),
                field(line, "phase"),
                format!("{connections}/{most}"),
                bus.to_owned(),
                format!("{}{pending}", field(line, "bans")),
            ]);
        }
    }
    columns(&rows)
}

/// The name of a node, with that of the service where its server has several.
fn name(node: &Name, line: &Value) -> String {
    match &line["service"] {
        Value::Null => node.to_string(),
        _ => format!("{node}/{}", field(line, "service")),
    }
}

/// The connections of all nodes.
pub(super) fn list(answers: &Answers) -> String {
    let headings = ["NODE", "ID", "PEER", "PID", "STATE", "AGE", "IN", "OUT"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for answer in &answers.answers {
        for line in &answer.answer {
            let number = |name: &str| line[name].as_u64();
            let mut cells = vec![answer.node.to_string()];
            cells.extend(["id", "peer", "pid", "state"].map(|name| field(line, name)));
            cells.push(age(number("age_ms").unwrap_or(0)));
            cells.extend([bytes(number("bytes_in")), bytes(number("bytes_out"))]);
            rows.push(cells);
        }
    }
    columns(&rows)
}

/// The lines of all nodes, each with its node; and an object for each node that has none.
pub(super) fn objects(answers: &Answers) -> Vec<Value> {
    let mut objects = Vec::new();
    for answer in &answers.answers {
        for line in &answer.answer {
            let mut object = line.clone();
            // What is no object has no meaning.
            if let Some(fields) = object.as_object_mut() {
                fields.insert("node".to_owned(), json!(answer.node));
                objects.push(object);
            }
        }
        if let Some(why) = &answer.error {
            objects.push(json!({ "node": answer.node, "error": why }));
        }
    }
    let silent = |node: &Name| json!({ "node": node, "error": "it does not answer" });
    objects.extend(answers.silent.iter().map(silent));
    objects
}

/// What an operator is to know beside the table.
pub(super) fn remarks(answers: &Answers) -> Vec<String> {
    let mut remarks: Vec<String> = answers.answers.iter().flat_map(remark).collect();
    let silent: Vec<&str> = answers.silent.iter().map(Name::as_str).collect();
    match silent.len() {
        0 => {}
        1 => remarks.push(format!("1 node does not answer: {}", silent[0])),
        number => remarks.push(format!("{number} nodes do not answer: {}", silent.join(", "))),
    }
    remarks
}

fn remark(answer: &Answer) -> Vec<String> {
    let Answer { node, left_off, error, trouble, .. } = answer;
    let mut remarks = Vec::new();
    if let Some(why) = error {
        remarks.push(format!("node {node}: {}", bounded(why)));
    }
    if let Some(why) = trouble {
        remarks.push(format!("node {node} does not share bans: {}", bounded(why)));
    }
    if *left_off > 0 {
        remarks.push(format!(
            "node {node} has {left_off} connections more than an answer has room for; `tine list` there shows all"
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let answer = |node: &str, line: Value| {
            let text = json!({ "node": node, "answer": [line] }).to_string();
            serde_json::from_str::<Answer>(&text).expect("an answer")
        };
        let status = |service: Value| {
            json!({
                "type": "status", "service": service, "phase": "serving", "connections": 3,
                "max_connections": 10, "bans": 2, "id": 7, "peer": "a\u{1b}[2J", "age_ms": 12_000,
                "pid": 4711, "state": "serving", "bytes_in": 2048,
            })
        };
        let mut second = answer("n2", status(json!("web")));
        (second.pending, second.trouble, second.left_off) = (4, Some("the bucket\nis gone".into()), 5);
        let mut third = answer("n3", json!("x"));
        (third.answer, third.error) = (Vec::new(), Some("the server does not reply".into()));
        Answers {
            answers: vec![answer("n1", status(Value::Null)), second, third],
            silent: vec![Name::of("n4")],
        }
    }

    #[test]
    fn each_node_has_a_row() {
        let expected = "\
NODE    PHASE    CONNECTIONS  BUS        BANS
n1      serving  3/10         there      2
n2/web  serving  3/10         no bucket  2 (4 not shared yet)
";
        assert_eq!(status(&answers()), expected);
        let expected = "\
NODE  ID  PEER        PID   STATE    AGE  IN    OUT
n1    7   a\\u{1b}[2J  4711  serving  12s  2.0K  -
n2    7   a\\u{1b}[2J  4711  serving  12s  2.0K  -
";
        assert_eq!(list(&answers()), expected);
    }

    #[test]
    fn what_has_no_row_is_said() {
        let expected = [
            "node n2 does not share bans: the bucket is gone",
            "node n2 has 5 connections more than an answer has room for; `tine list` there shows all",
            "node n3: the server does not reply",
            "1 node does not answer: n4",
        ];
        assert_eq!(remarks(&answers()), expected);
    }

    #[test]
    fn objects_have_their_node() {
        let objects = objects(&answers());
        let nodes: Vec<&str> = objects.iter().filter_map(|object| object["node"].as_str()).collect();
        assert_eq!(nodes, ["n1", "n2", "n3", "n4"]);
        assert_eq!(
            (&objects[0]["phase"], &objects[3]["error"]),
            (&json!("serving"), &json!("it does not answer"))
        );
    }
}
