//! How a copy of a template becomes the process of its connection: what is the same for all copies,
//! and the message for one.

use std::ffi::CStr;
use std::fmt;

use serde_json::{Value, json};
use tine_sys::exec::CStrings;
use tine_sys::plant::{CopyBase, CopySteps};

use super::accept_plan::AcceptPlan;
use super::census::{DescriptorKind, Duplicate, Shown};
use super::copies::ValuePlace;
use super::own_room::OwnRoom;
use crate::jail::copy_room::CopyRoom;
use crate::net::peer::Peer;

/// What all copies of a template have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyPlan {
    base: CopyBase,
    /// The parent of all copies, with which they die; `None` where they outlive it.
    parent: Option<i32>,
    connection: Vec<Duplicate>,
    stderr: Vec<Duplicate>,
    files: Vec<OpenFile>,
    /// Duplicates of these, by the numbers of the files.
    duplicates: Vec<(i32, Duplicate)>,
    /// The room that each copy makes for itself, if it has its own.
    room: Option<OwnRoom>,
    /// How each copy goes on with its client, if the program was about to accept one.
    accepting: Option<AcceptPlan>,
    /// The names of the variables that describe a connection.
    names: Vec<String>,
    places: Vec<ValuePlace>,
    canaries: Vec<u64>,
}

/// A file that each copy opens for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenFile {
    number: i32,
    flags: u32,
    offset: u64,
}

/// What one copy has of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyOf<'a> {
    /// The variables that describe its connection, `NAME=VALUE`.
    pub(crate) variables: &'a CStrings,
    /// The client, for a program that accepts it; `None` if there is none.
    pub(crate) peer: Option<Peer>,
    /// Whether it gets a descriptor for its standard error.
    pub(crate) has_stderr: bool,
    /// How many lists of members it gets, of the cgroups that it enters.
    pub(crate) cgroups: usize,
    /// Its stack canary.
    pub(crate) canary: u64,
    /// Whether it stops before it goes on as the program.
    pub(crate) stops: bool,
}

/// Why there cannot be a copy for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotCopied {
    /// The template has other variables than this connection.
    OtherVariables,
    /// A value is longer than its place.
    LongValue,
    /// There is more to do than a message has room for.
    LongMessage,
}

impl fmt::Display for NotCopied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotCopied::OtherVariables => {
                "it has other variables than the template, as over another kind of socket"
            }
            NotCopied::LongValue => "a variable is longer than its place in the template",
            NotCopied::LongMessage => "a copy has more to change than a message has room for",
        })
    }
}

impl CopyPlan {
    /// The plan for a template. `names`: the variables that describe its connection. `room`: that
    /// of each copy, if it has its own.
    pub(super) fn new(
        base: CopyBase,
        parent: Option<i32>,
        shown: &Shown,
        names: Vec<String>,
        room: Option<&CopyRoom>,
    ) -> CopyPlan {
        let duplicates = shown.descriptors.iter().filter_map(|found| match found.kind {
            DescriptorKind::SameAs(file) => {
                let closes_on_exec = shown.close_on_exec.contains(&found.number);
                Some((file, Duplicate { number: found.number, closes_on_exec }))
            }
            _ => None,
        });
        let files = shown.descriptors.iter().filter_map(|found| match found.kind {
            DescriptorKind::File { offset, flags, .. } => {
                Some(OpenFile { number: found.number, flags, offset })
            }
            _ => None,
        });
        CopyPlan {
            base,
            parent,
            connection: shown.connection.clone(),
            stderr: shown.stderr.clone(),
            files: files.collect(),
            duplicates: duplicates.collect(),
            room: room.map(|room| OwnRoom::new(room.clone(), shown.ids)),
            accepting: None,
            names,
            places: shown.found.places.clone(),
            canaries: shown.found.canaries.clone(),
        }
    }

    /// The plan for a program that was about to accept a client, if it was.
    pub(super) fn accepting(self, accepting: Option<AcceptPlan>) -> CopyPlan {
        CopyPlan { accepting, ..self }
    }

    /// The places of the stack canary that each copy renews.
    pub(super) fn canaries(&self) -> usize {
        self.canaries.len()
    }

    /// Whether copies can neither trace nor signal the template.
    pub(crate) fn protects_template(&self) -> bool {
        self.base.protects_template()
    }

    /// The message for a copy, which gets these descriptors with it: its connection, its standard
    /// error if it has one of its own, and the lists of members of its cgroups.
    ///
    /// # Errors
    /// This template cannot serve the connection.
    pub(crate) fn message(&self, copy: &CopyOf) -> Result<Vec<u8>, NotCopied> {
        self.base.finish(self.steps(copy)?).map_err(|_| NotCopied::LongMessage)
    }

    /// The same for a copy that only tries its steps.
    ///
    /// # Errors
    /// The same.
    pub(super) fn trial_message(&self, copy: &CopyOf) -> Result<Vec<u8>, NotCopied> {
        self.base.finish_trial(self.steps(copy)?).map_err(|_| NotCopied::LongMessage)
    }

    fn steps(&self, copy: &CopyOf) -> Result<CopySteps, NotCopied> {
        let mut steps = self.base.begin();
        let connection = steps.receive();
        let stderr = copy.has_stderr.then(|| steps.receive());
        let cgroups: Vec<i32> = (0..copy.cgroups).map(|_| steps.receive()).collect();
        if let Some(parent) = self.parent {
            steps.die_with(parent);
        }
        // As the owner of its own /proc, by which it opens its files.
        steps.show();
        if let Some(room) = &self.room {
            room.write(&mut steps).map_err(|_| NotCopied::LongMessage)?;
        }
        steps.lead_group();
        for members in cgroups {
            steps.enter_cgroup(members);
            steps.close(members);
        }
        match &self.accepting {
            Some(plan) => plan.write(&mut steps, connection, &self.connection, copy.peer),
            None => replace(&mut steps, connection, &self.connection),
        }
        if let Some(stderr) = stderr {
            replace(&mut steps, stderr, &self.stderr);
        }
        for file in &self.files {
            steps.reopen(file.number, file.flags.cast_signed(), file.offset);
        }
        for (file, Duplicate { number, closes_on_exec }) in &self.duplicates {
            steps.duplicate(*file, *number, *closes_on_exec);
        }
        self.write_variables(&mut steps, copy.variables)?;
        for address in &self.canaries {
            steps.write(*address, &copy.canary.to_ne_bytes());
        }
        if copy.stops {
            steps.stop_last();
        }
        Ok(steps)
    }

    /// It as a text, for another process.
    pub(crate) fn to_json(&self) -> Value {
        let fds = |fds: &[Duplicate]| -> Value {
            fds.iter().map(|fd| json!([fd.number, fd.closes_on_exec])).collect()
        };
        let places = self.places.iter().map(|place| json!([place.name, place.address, place.length]));
        json!({
            "base": self.base.to_words(),
            "parent": self.parent,
            "connection": fds(&self.connection),
            "stderr": fds(&self.stderr),
            "files": self.files.iter().map(|file| json!([file.number, file.flags, file.offset])).collect::<Value>(),
            "duplicates": self.duplicates.iter().map(|(file, fd)| json!([file, fd.number, fd.closes_on_exec])).collect::<Value>(),
            "room": self.room.as_ref().map(OwnRoom::to_json),
            "accepting": self.accepting.map(AcceptPlan::to_json),
            "names": self.names,
            "places": places.collect::<Value>(),
            "canaries": self.canaries,
        })
    }

    /// The reverse of [`CopyPlan::to_json`]; `None` for another text.
    pub(crate) fn from_json(value: &Value) -> Option<CopyPlan> {
        let list = |key: &str| value[key].as_array();
        let words = |key: &str| list(key)?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
        let number = |value: &Value| i32::try_from(value.as_i64()?).ok();
        let fds = |key: &str| {
            let one =
                |fd: &Value| Some(Duplicate { number: number(&fd[0])?, closes_on_exec: fd[1].as_bool()? });
            list(key)?.iter().map(one).collect::<Option<Vec<_>>>()
        };
        let file = |file: &Value| {
            let flags = u32::try_from(file[1].as_u64()?).ok()?;
            Some(OpenFile { number: number(&file[0])?, flags, offset: file[2].as_u64()? })
        };
        let duplicate = |fd: &Value| {
            Some((number(&fd[0])?, Duplicate { number: number(&fd[1])?, closes_on_exec: fd[2].as_bool()? }))
        };
        let place = |place: &Value| {
            let length = usize::try_from(place[2].as_u64()?).ok()?;
            Some(ValuePlace { name: place[0].as_str()?.to_owned(), address: place[1].as_u64()?, length })
        };
        Some(CopyPlan {
            base: CopyBase::from_words(&words("base")?)?,
            parent: number(&value["parent"]),
            connection: fds("connection")?,
            stderr: fds("stderr")?,
            files: list("files")?.iter().map(file).collect::<Option<_>>()?,
            duplicates: list("duplicates")?.iter().map(duplicate).collect::<Option<_>>()?,
            room: match &value["room"] {
                Value::Null => None,
                room => Some(OwnRoom::from_json(room)?),
            },
            accepting: match &value["accepting"] {
                Value::Null => None,
                plan => Some(AcceptPlan::from_json(plan)?),
            },
            names: list("names")?
                .iter()
                .map(|name| Some(name.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            places: list("places")?.iter().map(place).collect::<Option<_>>()?,
            canaries: words("canaries")?,
        })
    }

    fn write_variables(&self, steps: &mut CopySteps, variables: &CStrings) -> Result<(), NotCopied> {
        let values: Vec<(&[u8], &[u8])> = variables.iter().map(CStr::to_bytes).filter_map(split).collect();
        let names = values.iter().map(|(name, _)| *name);
        if !self.names.is_empty() && !names.eq(self.names.iter().map(String::as_bytes)) {
            return Err(NotCopied::OtherVariables);
        }
        for ValuePlace { name, address, length } in &self.places {
            let value = values.iter().find(|(other, _)| *other == name.as_bytes());
            let (_, value) = value.ok_or(NotCopied::OtherVariables)?;
            if value.len() > *length {
                return Err(NotCopied::LongValue);
            }
            // With zero bytes: nothing of the placeholder is left.
            let mut whole = value.to_vec();
            whole.resize(*length, 0);
            steps.write(*address, &whole);
        }
        Ok(())
    }
}

/// The name and the value of a variable.
fn split(variable: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = variable.iter().position(|byte| *byte == b'=')?;
    Some((&variable[..at], &variable[at + 1..]))
}

/// Puts a descriptor that the copy has received in the place of others, and closes it.
fn replace(steps: &mut CopySteps, received: i32, others: &[Duplicate]) {
    for Duplicate { number, closes_on_exec } in others {
        steps.duplicate(received, *number, *closes_on_exec);
    }
    steps.close(received);
}

#[cfg(test)]
mod tests {
    use super::super::census::FoundDescriptor;
    use super::super::copies::MemoryFinds;
    use super::*;

    fn plan() -> CopyPlan {
        let found = |number, kind| FoundDescriptor { number, kind };
        let file = DescriptorKind::File { path: "/a".into(), offset: 7, flags: 1, hindrance: None };
        let place = ValuePlace { name: "REMOTE_PORT".into(), address: 0x1000, length: 5 };
        let duplicate = |number| Duplicate { number, closes_on_exec: number == 9 };
        let shown = Shown {
            descriptors: vec![found(5, file), found(6, DescriptorKind::SameAs(5))],
            close_on_exec: [6].into(),
            connection: vec![duplicate(0), duplicate(9)],
            stderr: vec![duplicate(2)],
            found: MemoryFinds { places: vec![place], canaries: vec![0x2000], ..MemoryFinds::default() },
            ..Shown::default()
        };
        // The data, the channel, no ruleset, no thread, no signals, and the open descriptors.
        let base = [0x5000, 3, u64::MAX, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 5, 6, 9];
        let base = CopyBase::from_words(&base).expect("numbers");
        let mut plan =
            CopyPlan::new(base, Some(77), &shown, vec!["PROTO".into(), "REMOTE_PORT".into()], None);
        plan.room = Some(super::super::own_room::tests::room());
        plan.accepting = Some(super::super::accept_plan::tests::plan());
        plan
    }

    fn variables(all: &[&str]) -> CStrings {
        let mut variables = CStrings::default();
        all.iter().for_each(|variable| variables.push(variable));
        variables
    }

    #[test]
    fn a_plan_is_the_same_as_a_text() {
        let plan = plan();
        assert_eq!(plan.duplicates, [(5, Duplicate { number: 6, closes_on_exec: true })]);
        assert_eq!(CopyPlan::from_json(&plan.to_json()), Some(plan.clone()));
        for key in ["base", "files", "duplicates", "room", "accepting", "names", "places", "canaries"] {
            let mut other = plan.to_json();
            other[key] = json!("x");
            assert_eq!(CopyPlan::from_json(&other), None, "{key}");
        }
    }

    #[test]
    fn a_message_is_for_connections_with_the_variables_of_the_template() {
        let message = |all: &[&str]| {
            let variables = &variables(all);
            plan().message(&CopyOf {
                variables,
                peer: None,
                has_stderr: true,
                cgroups: 1,
                canary: 1,
                stops: false,
            })
        };
        let found = message(&["PROTO=TCP", "REMOTE_PORT=80"]).expect("they are the same");
        assert!(found.windows(8).any(|window| window == b"80\0\0\0\0\0\0"), "without the rest");
        for (all, why) in [
            (&["PROTO=UNIX", "UNIXREMOTEEUID=0"][..], NotCopied::OtherVariables),
            (&["PROTO=TCP"], NotCopied::OtherVariables),
            (&["PROTO=TCP", "REMOTE_PORT=123456"], NotCopied::LongValue),
        ] {
            assert_eq!(message(all), Err(why), "{all:?}");
        }
    }
}
