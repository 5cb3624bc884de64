//! The lines of `xinetd.conf`, and the attributes in effect for a service, defaults included.

use std::collections::BTreeMap;

use crate::config::Position;

/// A line by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum XinetdLine {
    Nothing,
    /// Of a service, or of the defaults (`None`).
    Begin(Option<String>),
    Brace,
    End,
    Attribute(Attribute),
    Include(String),
    IncludeFolder(String),
    Unknown,
}

/// `NAME = VALUE…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) operator: Operator,
    pub(super) values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Set,
    Add,
    Remove,
}

/// A service, or the defaults.
#[derive(Clone, Debug)]
pub(super) struct XinetdSection {
    /// `None`: the defaults.
    pub(super) service: Option<String>,
    pub(super) position: Position,
    pub(super) attributes: Vec<(Position, Attribute)>,
    /// Its opening brace has been read.
    pub(super) is_open: bool,
}

impl XinetdSection {
    pub(super) fn new(service: Option<String>, position: Position) -> XinetdSection {
        XinetdSection { service, position, attributes: Vec::new(), is_open: false }
    }
}

/// The attributes in effect for a service, by name: position and values.
pub(super) type Effective = BTreeMap<String, (Position, Vec<String>)>;

/// Attributes whose default values a service can extend or reduce.
const LISTS: [&str; 9] = [
    "only_from",
    "no_access",
    "passenv",
    "log_on_success",
    "log_on_failure",
    "env",
    "flags",
    "access_times",
    "type",
];

/// Parses a line.
pub(super) fn line(text: &str) -> XinetdLine {
    let text = text.trim();
    if text.contains('\0') {
        return XinetdLine::Unknown;
    }
    if text.is_empty() || text.starts_with('#') {
        return XinetdLine::Nothing;
    }
    match text {
        "{" => return XinetdLine::Brace,
        "}" => return XinetdLine::End,
        "defaults" => return XinetdLine::Begin(None),
        _ => {}
    }
    if let Some(attribute) = attribute(text) {
        return XinetdLine::Attribute(attribute);
    }
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["service", name] => XinetdLine::Begin(Some(name.to_owned())),
        ["include", path] => XinetdLine::Include(path.to_owned()),
        ["includedir", path] => XinetdLine::IncludeFolder(path.to_owned()),
        _ => XinetdLine::Unknown,
    }
}

fn attribute(text: &str) -> Option<Attribute> {
    let (left, right) = text.split_once('=')?;
    let (name, operator) = match left.as_bytes().last()? {
        b'+' => (&left[..left.len() - 1], Operator::Add),
        b'-' => (&left[..left.len() - 1], Operator::Remove),
        _ => (left, Operator::Set),
    };
    let name = name.trim();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| Attribute {
        name: name.to_ascii_lowercase(),
        operator,
        values: right.split_whitespace().map(str::to_owned).collect(),
    })
}

/// The attributes in effect for a service: its own, and the defaults of the others.
pub(super) fn effective(service: &XinetdSection, defaults: &[XinetdSection]) -> Effective {
    let mut effective = Effective::new();
    for (position, attribute) in defaults.iter().flat_map(|section| &section.attributes) {
        put(&mut effective, position, attribute);
    }
    let mut own = Effective::new();
    for (position, attribute) in &service.attributes {
        let into = if own.contains_key(&attribute.name) { &mut own } else { &mut effective };
        if attribute.operator == Operator::Set {
            put(&mut own, position, attribute);
        } else {
            put(into, position, attribute);
        }
    }
    effective.extend(own);
    effective
}

fn put(all: &mut Effective, position: &Position, attribute: &Attribute) {
    let (_, values) = all.entry(attribute.name.clone()).or_insert_with(|| (position.clone(), Vec::new()));
    let is_list = LISTS.contains(&attribute.name.as_str());
    match attribute.operator {
        // Several lines of a list in one section add up, as xinetd has it.
        Operator::Set if is_list && matches!(attribute.name.as_str(), "env" | "passenv") => {
            values.extend_from_slice(&attribute.values);
        }
        Operator::Set => values.clone_from(&attribute.values),
        Operator::Add => values.extend_from_slice(&attribute.values),
        Operator::Remove => values.retain(|value| !attribute.values.contains(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, operator: Operator, values: &[&str]) -> Attribute {
        Attribute {
            name: name.into(),
            operator,
            values: values.iter().map(|value| (*value).into()).collect(),
        }
    }

    #[test]
    fn lines() {
        for (text, meant) in [
            ("", XinetdLine::Nothing),
            ("  # x = y", XinetdLine::Nothing),
            ("service ftp", XinetdLine::Begin(Some("ftp".into()))),
            ("defaults", XinetdLine::Begin(None)),
            (" { ", XinetdLine::Brace),
            ("}", XinetdLine::End),
            ("\tport\t= 21", XinetdLine::Attribute(attribute("port", Operator::Set, &["21"]))),
            ("port=21", XinetdLine::Attribute(attribute("port", Operator::Set, &["21"]))),
            (
                "only_from += 1.2.3.4 5.6.7.8",
                XinetdLine::Attribute(attribute("only_from", Operator::Add, &["1.2.3.4", "5.6.7.8"])),
            ),
            ("only_from -= a", XinetdLine::Attribute(attribute("only_from", Operator::Remove, &["a"]))),
            ("only_from =", XinetdLine::Attribute(attribute("only_from", Operator::Set, &[]))),
            (
                "server_args = --x=y",
                XinetdLine::Attribute(attribute("server_args", Operator::Set, &["--x=y"])),
            ),
            ("include /a", XinetdLine::Include("/a".into())),
            ("includedir /a", XinetdLine::IncludeFolder("/a".into())),
            ("service", XinetdLine::Unknown),
            ("what is this", XinetdLine::Unknown),
            ("a b = c", XinetdLine::Unknown),
        ] {
            assert_eq!(line(text), meant, "{text:?}");
        }
    }

    #[test]
    fn services_start_from_the_defaults() {
        let position = || Position::new(std::rc::Rc::from(std::path::Path::new("f")), 1);
        let section = |service: Option<&str>, all: &[Attribute]| XinetdSection {
            service: service.map(Into::into),
            position: position(),
            attributes: all.iter().map(|one| (position(), one.clone())).collect(),
            is_open: true,
        };
        let defaults = section(
            None,
            &[
                attribute("instances", Operator::Set, &["60"]),
                attribute("only_from", Operator::Set, &["a", "b"]),
                attribute("no_access", Operator::Set, &["x"]),
            ],
        );
        let service = section(
            Some("s"),
            &[
                attribute("instances", Operator::Set, &["5"]),
                attribute("only_from", Operator::Add, &["c"]),
                attribute("only_from", Operator::Remove, &["a"]),
                attribute("no_access", Operator::Set, &["y"]),
                attribute("no_access", Operator::Add, &["z"]),
                attribute("env", Operator::Set, &["A=1"]),
                attribute("env", Operator::Set, &["B=2"]),
            ],
        );
        let all = effective(&service, &[defaults]);
        for (name, values) in [
            ("instances", &["5"][..]),
            ("only_from", &["b", "c"]),
            ("no_access", &["y", "z"]),
            ("env", &["A=1", "B=2"]),
        ] {
            assert_eq!(all[name].1, values, "{name}");
        }
    }
}
