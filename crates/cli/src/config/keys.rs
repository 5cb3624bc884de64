//! The keys of a configuration: the options of `tine serve`, and the words of a command line for
//! them.

use crate::error::Error;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args as _};

use super::value::{Entry, TomlValue};
use crate::args::Serve;
use crate::args::{control, fleet, logging, observe, program, readiness, warm};

/// Options that are no keys.
const NEVER: [&str; 2] = ["config", "help"];

/// Options that say which events are logged.
pub(super) const LEVELS: [&str; 2] = ["verbose", "quiet"];

/// Options that are numbers in octal.
const OCTAL: [&str; 2] = ["umask", "socket-mode"];

/// The option that the others of a warm start need.
const WARM: &str = "warm";

/// An option.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) takes: Takes,
    pub(super) scope: Scope,
}

/// Where a key belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The server as a whole: the top of the file.
    Server,
    /// Any service.
    Service,
    /// Services with a program.
    Program,
    /// Services with a program and the key `warm`.
    Warm,
    /// Any service, and the top of the file for those that do not have it.
    Anywhere,
}

/// The value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `true` or `false`.
    Bool,
    One,
    Many,
}

impl Takes {
    /// The fault of a value that is neither true nor false.
    pub(super) fn no_bool(entry: &Entry) -> Error {
        entry.position.fault(format_args!("{} is true or false", entry.key), "write true or false")
    }
}

/// All keys.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// The keys, from the table of options.
    pub(super) fn new() -> Keys {
        let command = Serve::augment_args(clap::Command::new("serve"));
        let key = |arg: &clap::Arg| {
            let name = arg.get_long().filter(|name| !NEVER.contains(name))?.to_owned();
            let takes = match arg.get_action() {
                ArgAction::SetTrue => Takes::Bool,
                ArgAction::Append => Takes::Many,
                _ => Takes::One,
            };
            let scope = match arg.get_help_heading() {
                _ if LEVELS.contains(&name.as_str()) => Scope::Anywhere,
                Some(
                    logging::HEADING
                    | readiness::HEADING
                    | control::HEADING
                    | observe::HEADING
                    | fleet::HEADING,
                ) => Scope::Server,
                Some(warm::HEADING) if name != WARM => Scope::Warm,
                Some(program::HEADING | warm::HEADING) => Scope::Program,
                _ => Scope::Service,
            };
            Some(Key { name, takes, scope })
        };
        Keys(command.get_arguments().filter_map(key).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }

    /// All keys, in the order of the options.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// Whether a key concerns the server as a whole.
    pub(super) fn is_server_wide(&self, name: &str) -> bool {
        self.get(name).is_some_and(|key| matches!(key.scope, Scope::Server | Scope::Anywhere))
    }

    /// Whether services have this key.
    pub(super) fn is_of_services(&self, name: &str) -> bool {
        self.get(name).is_some_and(|key| key.scope != Scope::Server)
    }

    /// Whether a key needs a program.
    pub(super) fn needs_program(&self, name: &str) -> bool {
        self.get(name).is_some_and(|key| matches!(key.scope, Scope::Program | Scope::Warm))
    }

    /// The other key that a key needs.
    pub(super) fn other_of(&self, name: &str) -> Option<&'static str> {
        self.get(name).filter(|key| key.scope == Scope::Warm).map(|_| WARM)
    }

    /// The words of a command line for an entry.
    pub(super) fn words(&self, entry: &Entry) -> Result<Vec<String>, Error> {
        let Entry { key, position, value } = entry;
        let takes = self.get(key).map_or(Takes::One, |key| key.takes);
        let with = |word: String| format!("--{key}={word}");
        match (takes, value) {
            (Takes::Bool, TomlValue::Bool(true)) => Ok(vec![format!("--{key}")]),
            (Takes::Bool, TomlValue::Bool(false)) => Ok(Vec::new()),
            (Takes::Bool, _) => Err(Takes::no_bool(entry)),
            // The option is in octal, too.
            (Takes::One, TomlValue::Number(digits, 8)) if OCTAL.contains(&key.as_str()) => {
                Ok(vec![with(digits.clone())])
            }
            (Takes::One, value) => value.word().map(|word| vec![with(word)]).ok_or_else(|| {
                position.fault(format_args!("{key} takes one value"), format_args!("write {key} = \"VALUE\""))
            }),
            (Takes::Many, value) => {
                many(value).map(|words| words.into_iter().map(with).collect()).ok_or_else(|| {
                    position.fault(
                        format_args!("{key} takes names and texts"),
                        format_args!("write {key} = {{ NAME = \"VALUE\" }}, or a list of texts"),
                    )
                })
            }
        }
    }
}

fn many(value: &TomlValue) -> Option<Vec<String>> {
    match value {
        TomlValue::Table(table) => {
            table.iter().map(|(name, value)| Some(format!("{name}={}", value.word()?))).collect()
        }
        value => value.words(),
    }
}

/// The known name that is most similar to this one, if one is similar enough.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let similarity = |other: &str| strsim::jaro_winkler(name, other);
    known.max_by(|a, b| similarity(a).total_cmp(&similarity(b))).filter(|best| similarity(best) > 0.8)
}

/// Whether a message of the parser is about this option.
pub(super) fn is_blamed(error: &clap::Error, key: &str) -> bool {
    let is_it =
        |arg: &str| arg.strip_prefix("--").and_then(|arg| arg.split([' ', '=', '[']).next()) == Some(key);
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => is_it(arg),
        Some(ContextValue::Strings(args)) => args.iter().any(|arg| is_it(arg)),
        _ => false,
    }
}

/// A message about `--option <VALUE>` or `--option[=<VALUE>]` as one about the key `option`.
pub(super) fn without_dashes(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    for (number, part) in text.split("'--").enumerate() {
        match part.split_once('\'').filter(|_| number > 0) {
            None => said.push_str(part),
            Some((option, rest)) => {
                said.push('\'');
                said.push_str(option.split([' ', '[']).next().unwrap_or(option));
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
    fn messages_about_options_become_messages_about_keys() {
        for (typed, meant) in [
            ("invalid value 'x' for '--backlog <N>': no", "invalid value 'x' for 'backlog': no"),
            (
                "the argument '--pty' cannot be used with '--line-buffered'",
                "the argument 'pty' cannot be used with 'line-buffered'",
            ),
            ("invalid value 'x' for '--jail[=<MODE>]'", "invalid value 'x' for 'jail'"),
            ("nothing of the kind", "nothing of the kind"),
        ] {
            assert_eq!(without_dashes(typed), meant);
        }
    }

    #[test]
    fn a_misspelt_name_has_a_similar_one() {
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
