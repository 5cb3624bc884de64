//! The keys of the file: the options of `tine serve`, and what would be typed for them.

use crate::error::Error;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args as _};

use super::value::{Entry, Value};
use crate::args::Serve;
use crate::args::program::HEADING;

/// The options that concern the server as a whole.
pub(super) const SERVER_WIDE: [&str; 5] = ["log", "verbose", "quiet", "print-ports", "ready-fd"];

/// Options of the command line that no file can have.
const NEVER: [&str; 2] = ["config", "help"];

/// An option.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) takes: Takes,
    about_a_program: bool,
}

/// What stands behind the equals sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `true` or `false`.
    Yes,
    One,
    Many,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    pub(super) fn new() -> Keys {
        let command = Serve::augment_args(clap::Command::new("serve"));
        let key = |arg: &clap::Arg| {
            let name = arg.get_long().filter(|name| !NEVER.contains(name))?.to_owned();
            let takes = match arg.get_action() {
                ArgAction::SetTrue => Takes::Yes,
                ArgAction::Append => Takes::Many,
                _ => Takes::One,
            };
            Some(Key { name, takes, about_a_program: arg.get_help_heading() == Some(HEADING) })
        };
        Keys(command.get_arguments().filter_map(key).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }

    /// Those of a service, or those of the whole server.
    pub(super) fn all(&self, server_wide: bool) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| SERVER_WIDE.contains(&key.name.as_str()) == server_wide)
    }

    pub(super) fn is_about_a_program(&self, name: &str) -> bool {
        self.get(name).is_some_and(|key| key.about_a_program)
    }

    /// What would be typed for an entry.
    pub(super) fn words(&self, entry: &Entry) -> Result<Vec<String>, Error> {
        let Entry { key, place, value } = entry;
        let takes = self.get(key).map_or(Takes::One, |key| key.takes);
        let with = |word: String| format!("--{key}={word}");
        match (takes, value) {
            (Takes::Yes, Value::Bool(true)) => Ok(vec![format!("--{key}")]),
            (Takes::Yes, Value::Bool(false)) => Ok(Vec::new()),
            (Takes::Yes, _) => {
                Err(place.fault(format_args!("{key} is either on or off"), "write true or false"))
            }
            // Written in octal, as it is meant.
            (Takes::One, Value::Number(digits, 8)) if key == "umask" => Ok(vec![with(digits.clone())]),
            (Takes::One, value) => value.word().map(|word| vec![with(word)]).ok_or_else(|| {
                place.fault(format_args!("{key} takes one value"), format_args!("write {key} = \"VALUE\""))
            }),
            (Takes::Many, value) => {
                many(value).map(|words| words.into_iter().map(with).collect()).ok_or_else(|| {
                    place.fault(
                        format_args!("{key} takes names and texts"),
                        format_args!("write {key} = {{ NAME = \"VALUE\" }}, or a list of texts"),
                    )
                })
            }
        }
    }
}

fn many(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Table(table) => {
            table.iter().map(|(name, value)| Some(format!("{name}={}", value.word()?))).collect()
        }
        value => value.words(),
    }
}

/// The known name that is most like this one, if one is.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let likeness = |other: &str| strsim::jaro_winkler(name, other);
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|best| likeness(best) > 0.8)
}

/// Whether an error of the command line is about this option.
pub(super) fn is_blamed(error: &clap::Error, key: &str) -> bool {
    let is_it = |arg: &str| arg.strip_prefix("--").and_then(|arg| arg.split([' ', '=']).next()) == Some(key);
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => is_it(arg),
        Some(ContextValue::Strings(args)) => args.iter().any(|arg| is_it(arg)),
        _ => false,
    }
}

/// What was said of `--option <VALUE>`, said of `option`.
pub(super) fn without_dashes(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    for (number, part) in text.split("'--").enumerate() {
        match part.split_once('\'').filter(|_| number > 0) {
            None => said.push_str(part),
            Some((option, rest)) => {
                said.push('\'');
                said.push_str(option.split(' ').next().unwrap_or(option));
                said.push('\'');
                said.push_str(rest);
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_named_as_in_a_file() {
        for (typed, meant) in [
            ("invalid value 'x' for '--backlog <N>': no", "invalid value 'x' for 'backlog': no"),
            (
                "the argument '--pty' cannot be used with '--line-buffered'",
                "the argument 'pty' cannot be used with 'line-buffered'",
            ),
            ("nothing of the kind", "nothing of the kind"),
        ] {
            assert_eq!(without_dashes(typed), meant);
        }
    }

    #[test]
    fn misspelt_names_have_a_neighbour() {
        let known = ["max-connections", "max-connections-per-source", "backlog", "env"];
        for (typed, meant) in [
            ("max-conections", Some("max-connections")),
            ("maxconnections", Some("max-connections")),
            ("backlogs", Some("backlog")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }
}
