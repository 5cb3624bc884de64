//! Sets of system calls: what `SystemCallFilter=` (systemd.exec(5)) means.

use std::collections::BTreeMap;

use syscalls::Sysno;

use crate::error::Error;

const GROUPS: &str = include_str!("groups.txt");

/// A term of a filter of system calls: calls that are allowed, or, behind `~`, refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    allows: bool,
    name: String,
}

impl Term {
    /// `NAME`, `@GROUP`, `~NAME`, `~@GROUP`.
    ///
    /// # Errors
    /// There is no such group, or no call of this name on any architecture.
    pub(crate) fn parse(text: &str) -> Result<Term, Error> {
        let (allows, name) = match text.strip_prefix('~') {
            Some(name) => (false, name),
            None => (true, text),
        };
        let is_group = name.starts_with('@');
        if is_group && members(name).is_none() {
            return Err(Error::usage(
                format_args!("there is no group of system calls {name}"),
                format_args!("choose one of {}", group_names().collect::<Vec<_>>().join(" ")),
            ));
        }
        // A call of another architecture is in a group: it may be named, and means nothing here.
        if !is_group && number(name).is_none() && !is_member(name) {
            return Err(Error::usage(
                format_args!("there is no system call {name:?}"),
                "name one as in syscalls(2), or a group as in `@system-service`",
            ));
        }
        Ok(Term { allows, name: name.to_owned() })
    }

    pub(crate) fn allows(&self) -> bool {
        self.allows
    }
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.allows { "" } else { "~" }, self.name)
    }
}

/// System calls of this architecture, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallSet(BTreeMap<i64, &'static str>);

impl CallSet {
    /// All calls.
    pub(crate) fn all() -> CallSet {
        CallSet(Sysno::iter().map(|call| (i64::from(call.id()), call.name())).collect())
    }

    /// Adds a call or a group; names that this architecture does not have are left out.
    pub(crate) fn add(&mut self, name: &str) {
        self.0.extend(expand(name));
    }

    /// Removes a call or a group.
    pub(crate) fn remove(&mut self, name: &str) {
        expand(name).into_iter().for_each(|(number, _)| _ = self.0.remove(&number));
    }

    /// This set with the terms applied in their order.
    pub(crate) fn with<'a>(mut self, terms: impl IntoIterator<Item = &'a Term>) -> CallSet {
        for term in terms {
            match term.allows {
                true => self.add(&term.name),
                false => self.remove(&term.name),
            }
        }
        self
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0.contains_key(&number))
    }

    /// Whether all of these calls are in the set, as far as this architecture has them.
    pub(crate) fn has_all(&self, names: &[&str]) -> bool {
        names.iter().filter_map(|name| number(name)).all(|number| self.0.contains_key(&number))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }
}

/// The number of a call on this architecture.
pub(crate) fn number(name: &str) -> Option<i64> {
    name.parse::<Sysno>().ok().map(|call| i64::from(call.id()))
}

/// The name of a system call of this architecture.
pub(crate) fn name_of(number: i64) -> Option<&'static str> {
    CallSet::all().0.get(&number).copied()
}

/// A call, or all calls of a group and of the groups in it.
fn expand(name: &str) -> Vec<(i64, &'static str)> {
    match members(name) {
        Some(members) => members.flat_map(expand).collect(),
        None => {
            let call = name.parse::<Sysno>().ok();
            call.map(|call| (i64::from(call.id()), call.name())).into_iter().collect()
        }
    }
}

/// The lines of the table without comments.
fn lines() -> impl Iterator<Item = &'static str> {
    GROUPS.lines().filter(|line| !line.starts_with('#'))
}

fn group_names() -> impl Iterator<Item = &'static str> {
    lines().filter(|line| line.starts_with('@'))
}

fn is_member(name: &str) -> bool {
    lines().filter(|line| line.starts_with(' ')).flat_map(str::split_whitespace).any(|member| member == name)
}

/// The members of a group; `None` if there is no such group.
fn members(group: &str) -> Option<impl Iterator<Item = &'static str>> {
    let mut rest = lines().skip_while(move |line| !line.starts_with('@') || *line != group);
    rest.next()?;
    Some(rest.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<Term> {
        text.split_whitespace().map(|term| Term::parse(term).expect("a term")).collect()
    }

    #[test]
    fn every_group_is_found_and_has_members_that_exist() {
        assert!(group_names().count() > 25);
        for group in group_names() {
            let found: Vec<_> = members(group).expect("a group").collect();
            assert!(!found.is_empty(), "{group}");
            for member in found.into_iter().filter(|member| member.starts_with('@')) {
                assert!(members(member).is_some(), "{group}: {member}");
            }
        }
    }

    #[test]
    fn terms_apply_in_their_order() {
        for (text, has, has_not) in [
            ("read", "read", "write"),
            ("@basic-io", "write", "socket"),
            ("@system-service", "mmap", "mount"),
            ("@system-service ~@network-io", "read", "socket"),
            ("@system-service ~@network-io socket", "socket", "connect"),
            ("~read read", "read", "write"),
        ] {
            let set = CallSet::default().with(&terms(text));
            assert!(set.has(has), "{text}: {has}");
            assert!(!set.has(has_not), "{text}: {has_not}");
        }
        assert!(CallSet::all().with(&terms("~@mount")).has("read"));
        assert!(!CallSet::all().with(&terms("~@mount")).has("mount"));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for text in ["", "~", "reed", "@", "@system-services", "~@nothing", "@system-service read"] {
            Term::parse(text).expect_err(text);
        }
        // Of other architectures.
        for text in ["read", "~@swap", "riscv_hwprobe", "@system-service"] {
            assert_eq!(Term::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn calls_of_other_architectures_are_left_out() {
        let mut set = CallSet::default();
        set.add("riscv_hwprobe");
        assert_eq!(set.len(), usize::from(cfg!(target_arch = "riscv64")));
        assert!(set.has_all(&["no_such_call"]));
    }
}
