//! The lines of `xinetd.conf`, and its sections.

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
    /// A line in it that is no attribute. xinetd then ignores the whole section.
    pub(super) fault: Option<String>,
}

impl XinetdSection {
    pub(super) fn new(service: Option<String>, position: Position) -> XinetdSection {
        XinetdSection { service, position, attributes: Vec::new(), is_open: false, fault: None }
    }
}

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

/// `NAME OPERATOR VALUE…`, the operator a word of its own, as xinetd demands.
fn attribute(text: &str) -> Option<Attribute> {
    let mut words = text.split_whitespace();
    let name = words.next()?;
    let operator = match words.next()? {
        "=" => Operator::Set,
        "+=" => Operator::Add,
        "-=" => Operator::Remove,
        _ => return None,
    };
    Some(Attribute { name: name.to_owned(), operator, values: words.map(str::to_owned).collect() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An attribute of a service.
    pub(in crate::import::xinetd) fn attribute(name: &str, operator: Operator, values: &[&str]) -> Attribute {
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
            // Without spaces around the operator it is no attribute: xinetd ignores the section.
            ("port=21", XinetdLine::Unknown),
            ("port= 21", XinetdLine::Unknown),
            ("port 21", XinetdLine::Unknown),
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
}
