//! The attributes that xinetd.conf(5) describes, and those in effect for a service, defaults
//! included.

use std::collections::BTreeMap;

use super::super::addresses::blocks;
use super::entry::{Attribute, Operator, XinetdSection};
use super::values;

/// The number of values of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Exactly this many; with another number, xinetd ignores the line.
    Exactly(usize),
    /// Any number, in one line.
    Any,
    /// Any number, and further lines can add (`+=`) and remove (`-=`) some.
    List,
}

/// A section in which an attribute has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Service,
    Defaults,
    Both,
}

use Place::{Both, Defaults, Service};
use Values::{Any, Exactly, List};

/// All attributes. In any other place, xinetd ignores them.
pub(super) const TABLE: [(&str, Values, Place); 48] = [
    ("access_times", Any, Service),
    ("banner", Exactly(1), Both),
    ("banner_fail", Exactly(1), Both),
    ("banner_success", Exactly(1), Both),
    ("bind", Exactly(1), Both),
    ("cps", Exactly(2), Both),
    ("deny_time", Exactly(1), Service),
    ("disable", Exactly(1), Service),
    ("disabled", List, Defaults),
    ("enabled", List, Defaults),
    ("env", List, Service),
    ("flags", Any, Service),
    ("group", Exactly(1), Service),
    ("groups", Exactly(1), Both),
    ("id", Exactly(1), Service),
    ("instances", Exactly(1), Both),
    ("interface", Exactly(1), Both),
    ("leaky_bucket", Exactly(4), Both),
    ("libwrap", Exactly(1), Service),
    ("log_on_failure", List, Both),
    ("log_on_success", List, Both),
    ("log_type", Any, Both),
    ("max_load", Exactly(1), Both),
    ("mdns", Exactly(1), Both),
    ("nice", Exactly(1), Service),
    ("no_access", List, Both),
    ("only_from", List, Both),
    ("passenv", List, Both),
    ("per_source", Exactly(1), Both),
    ("port", Exactly(1), Service),
    ("protocol", Exactly(1), Service),
    ("redirect", Exactly(2), Service),
    ("rlimit_as", Exactly(1), Service),
    ("rlimit_cpu", Exactly(1), Service),
    ("rlimit_data", Exactly(1), Service),
    ("rlimit_files", Exactly(1), Service),
    ("rlimit_rss", Exactly(1), Service),
    ("rlimit_stack", Exactly(1), Service),
    ("rpc_number", Exactly(1), Service),
    ("rpc_version", Exactly(1), Service),
    ("server", Exactly(1), Service),
    ("server_args", Any, Service),
    ("socket_type", Exactly(1), Service),
    ("type", Any, Service),
    ("umask", Exactly(1), Both),
    ("user", Exactly(1), Service),
    ("v6only", Exactly(1), Both),
    ("wait", Exactly(1), Service),
];

/// The attributes in effect for a service, by name.
#[derive(Debug, Default)]
pub(super) struct Effective {
    values: BTreeMap<String, Vec<String>>,
    /// The lines that xinetd ignores, and why.
    pub(super) ignored: Vec<String>,
}

impl Effective {
    /// The attributes of a service: its own, and the defaults of the others.
    pub(super) fn of(service: &XinetdSection, defaults: Option<&XinetdSection>) -> Effective {
        let mut from_defaults = Effective::default();
        for (_, attribute) in defaults.into_iter().flat_map(|section| &section.attributes) {
            // A line of the defaults concerns all services: `finish` mentions it once. xinetd takes
            // `v6only = no` there as its default.
            let is_default = attribute.name == "v6only" && attribute.values.iter().all(|value| value == "no");
            if ignored(attribute, Defaults).is_none() && !is_default {
                from_defaults.put(attribute, true);
            }
        }
        let mut own = Effective::default();
        for (position, attribute) in &service.attributes {
            let name = canonical(&attribute.name);
            if let Some(why) = ignored(attribute, Service) {
                own.ignored.push(format!("{position}: {}: {why}", attribute.name));
            } else if own.values.contains_key(name) && !is_list(name) {
                own.ignored.push(format!("{position}: {}: the first line counts", attribute.name));
            } else if attribute.operator == Operator::Set || own.values.contains_key(name) {
                own.put(attribute, is_list(name) && name != "only_from");
            } else {
                // It extends or reduces the defaults, which become its own.
                own.values.insert(name.to_owned(), from_defaults.all(name).to_vec());
                own.put(attribute, true);
            }
        }
        let mut values = from_defaults.values;
        values.extend(own.values);
        Effective { values, ignored: own.ignored }
    }

    /// The values of an attribute; none if it is not given.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether an attribute is given, with or without values.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The attributes and their values, in the order of the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.values.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Enters a line. `adds_up`: a further `=` adds to the values, instead of replacing them.
    fn put(&mut self, attribute: &Attribute, adds_up: bool) {
        let values = self.values.entry(canonical(&attribute.name).to_owned()).or_default();
        match attribute.operator {
            Operator::Set if adds_up => values.extend_from_slice(&attribute.values),
            Operator::Set => values.clone_from(&attribute.values),
            Operator::Add => values.extend_from_slice(&attribute.values),
            Operator::Remove => {
                let is_same = |one: &str, other: &str| {
                    one == other || blocks(one).is_some_and(|found| blocks(other) == Some(found))
                };
                values.retain(|value| !attribute.values.iter().any(|removed| is_same(value, removed)));
            }
        }
    }
}

/// The lines of the defaults that xinetd ignores, and why.
pub(super) fn ignored_defaults(defaults: &XinetdSection) -> Vec<String> {
    let lines = defaults.attributes.iter();
    lines
        .filter_map(|(position, attribute)| {
            let why = ignored(attribute, Defaults)?;
            Some(format!("{position}: {} in the defaults: {why}", attribute.name))
        })
        .collect()
}

/// Why xinetd does not start with these defaults, if it does not.
pub(super) fn fault_of_defaults(defaults: &XinetdSection) -> Option<String> {
    if let Some(line) = &defaults.fault {
        return Some(format!("xinetd does not start: this line of the defaults is no attribute: {line}"));
    }
    let meant = defaults.attributes.iter().filter(|(_, attribute)| ignored(attribute, Defaults).is_none());
    meant
        .filter_map(|(_, attribute)| values::check(&attribute.name, &attribute.values).err())
        .next()
        .map(|why| format!("the defaults: {why}"))
}

/// Why xinetd ignores a line in a section of this kind, if it does.
fn ignored(attribute: &Attribute, place: Place) -> Option<String> {
    let known = TABLE.iter().find(|(name, ..)| *name == attribute.name);
    let Some((_, values, meant)) = known else {
        return Some(format!("xinetd knows no attribute of this name (= {})", attribute.values.join(" ")));
    };
    if *meant != place && *meant != Both {
        return Some("xinetd ignores it there".into());
    }
    match values {
        Exactly(number) if attribute.values.len() != *number => {
            Some(format!("xinetd ignores it, as it has {} values, not {number}", attribute.values.len()))
        }
        List => None,
        _ if attribute.operator != Operator::Set => {
            Some("xinetd ignores it, as it cannot be changed by += and -=".into())
        }
        _ => None,
    }
}

/// Whether further lines of an attribute add up.
fn is_list(name: &str) -> bool {
    TABLE.iter().any(|(known, values, _)| *known == name && *values == List)
}

/// The name of an attribute that has two.
fn canonical(name: &str) -> &str {
    if name == "interface" { "bind" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Position;
    use crate::import::xinetd::entry::tests::attribute;

    fn section(service: Option<&str>, all: &[Attribute]) -> XinetdSection {
        let position = || Position::new(std::rc::Rc::from(std::path::Path::new("f")), 1);
        let mut section = XinetdSection::new(service.map(Into::into), position());
        section.attributes = all.iter().map(|one| (position(), one.clone())).collect();
        section
    }

    #[test]
    fn services_start_from_the_defaults() {
        use Operator::{Add, Remove, Set};
        let defaults = section(
            None,
            &[
                attribute("instances", Set, &["60"]),
                attribute("only_from", Set, &["a", "b"]),
                attribute("no_access", Set, &["x"]),
                attribute("user", Set, &["root"]),
                attribute("interface", Set, &["::1"]),
            ],
        );
        let service = section(
            Some("s"),
            &[
                attribute("instances", Set, &["5"]),
                attribute("instances", Set, &["50"]),
                attribute("nice", Set, &["1", "2"]),
                attribute("flags", Add, &["NODELAY"]),
                attribute("enabled", Set, &["s"]),
                attribute("User", Set, &["nobody"]),
                attribute("only_from", Add, &["c"]),
                attribute("only_from", Remove, &["a"]),
                attribute("no_access", Set, &["y"]),
                attribute("no_access", Set, &["w"]),
                attribute("no_access", Add, &["z"]),
                attribute("env", Set, &["A=1"]),
                attribute("env", Set, &["B=2"]),
            ],
        );
        let all = Effective::of(&service, Some(&defaults));
        for (name, values) in [
            ("instances", &["5"][..]),
            ("only_from", &["b", "c"]),
            // Neither line may be lost.
            ("no_access", &["y", "w", "z"]),
            ("env", &["A=1", "B=2"]),
            ("bind", &["::1"]),
            // xinetd ignores these.
            ("user", &[]),
            ("nice", &[]),
            ("flags", &[]),
            ("enabled", &[]),
        ] {
            assert_eq!(all.all(name), values, "{name}");
        }
        let ignored: Vec<&str> = all.ignored.iter().filter_map(|line| line.split(": ").nth(1)).collect();
        assert_eq!(ignored, ["instances", "nice", "flags", "enabled", "User"]);
        assert_eq!(ignored_defaults(&defaults), ["f:1: user in the defaults: xinetd ignores it there"]);
    }
}
