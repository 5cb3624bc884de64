//! The values of TOML, as far as an option can have them.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use crate::error::Error;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Position;

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) value: TomlValue,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TomlValue {
    Text(String),
    /// Its digits, and their base.
    Number(String, u32),
    Bool(bool),
    List(Vec<TomlValue>),
    Table(Vec<(String, TomlValue)>),
    /// A date, which is no option's value.
    Other,
}

/// The text of a file, for positions in it.
pub(super) struct TomlSource<'a> {
    pub(super) file: Rc<Path>,
    pub(super) text: &'a str,
}

/// A table's keys and values, in the order of the file.
type Ordered<'t, 'i> = Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)>;

impl TomlSource<'_> {
    pub(super) fn position(&self, span: &Range<usize>) -> Position {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Position::new(Rc::clone(&self.file), line)
    }

    pub(super) fn entry(&self, key: &Spanned<DeString>, value: &Spanned<DeValue>) -> Result<Entry, Error> {
        let position = self.position(&key.span());
        let key = key.get_ref().to_string();
        let value = TomlValue::from(value.get_ref());
        if value.has_zero_byte() {
            return Err(position.fault(format_args!("{key} contains a zero byte"), "remove it"));
        }
        Ok(Entry { key, position, value })
    }
}

/// A table's keys and values, in the order of the file.
pub(super) fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Ordered<'t, 'i> {
    let mut entries: Ordered = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

impl TomlValue {
    fn from(value: &DeValue) -> TomlValue {
        match value {
            DeValue::String(text) => TomlValue::Text(text.to_string()),
            DeValue::Integer(number) => TomlValue::Number(number.as_str().to_owned(), number.radix()),
            DeValue::Float(number) => TomlValue::Text(number.as_str().to_owned()),
            DeValue::Boolean(yes) => TomlValue::Bool(*yes),
            DeValue::Datetime(_) => TomlValue::Other,
            DeValue::Array(list) => {
                TomlValue::List(list.iter().map(|one| TomlValue::from(one.get_ref())).collect())
            }
            DeValue::Table(table) => TomlValue::Table(
                in_order(table)
                    .into_iter()
                    .map(|(key, value)| (key.get_ref().to_string(), TomlValue::from(value.get_ref())))
                    .collect(),
            ),
        }
    }

    fn has_zero_byte(&self) -> bool {
        match self {
            TomlValue::Text(text) => text.contains('\0'),
            TomlValue::List(list) => list.iter().any(TomlValue::has_zero_byte),
            TomlValue::Table(table) => {
                table.iter().any(|(key, value)| key.contains('\0') || value.has_zero_byte())
            }
            TomlValue::Number(..) | TomlValue::Bool(_) | TomlValue::Other => false,
        }
    }

    /// The value as a word of a command line; `None` if it is not a single word.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            TomlValue::Text(text) => Some(text.clone()),
            TomlValue::Number(digits, 10) => Some(digits.clone()),
            TomlValue::Number(digits, radix) => Some(i64::from_str_radix(digits, *radix).ok()?.to_string()),
            TomlValue::Bool(_) | TomlValue::List(_) | TomlValue::Table(_) | TomlValue::Other => None,
        }
    }

    /// The words of a list; a single word counts as a list.
    pub(super) fn words(&self) -> Option<Vec<String>> {
        match self {
            TomlValue::List(list) => list.iter().map(TomlValue::word).collect(),
            value => value.word().map(|word| vec![word]),
        }
    }
}
