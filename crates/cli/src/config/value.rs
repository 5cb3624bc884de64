//! What TOML can say, as far as an option can be meant by it.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use crate::error::Error;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Place;

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// Its digits, and what they count by.
    Number(String, u32),
    Bool(bool),
    List(Vec<Value>),
    Table(Vec<(String, Value)>),
    /// A date, which no option takes.
    Other,
}

/// A file while it is read.
pub(super) struct Source<'a> {
    pub(super) file: Rc<Path>,
    pub(super) text: &'a str,
}

/// A table's keys and values, in the order of the file.
type Ordered<'t, 'i> = Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)>;

impl Source<'_> {
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        Place { file: Rc::clone(&self.file), line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    }

    pub(super) fn entry(&self, key: &Spanned<DeString>, value: &Spanned<DeValue>) -> Result<Entry, Error> {
        let place = self.place(&key.span());
        let key = key.get_ref().to_string();
        let value = Value::from(value.get_ref());
        if value.has_zero_byte() {
            return Err(place.fault(format_args!("there is a zero byte in {key}"), "take it away"));
        }
        Ok(Entry { key, place, value })
    }
}

/// A table's keys and values, in the order of the file.
pub(super) fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Ordered<'t, 'i> {
    let mut entries: Ordered = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

impl Value {
    fn from(value: &DeValue) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Number(number.as_str().to_owned(), number.radix()),
            DeValue::Float(number) => Value::Text(number.as_str().to_owned()),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Datetime(_) => Value::Other,
            DeValue::Array(list) => Value::List(list.iter().map(|one| Value::from(one.get_ref())).collect()),
            DeValue::Table(table) => Value::Table(
                in_order(table)
                    .into_iter()
                    .map(|(key, value)| (key.get_ref().to_string(), Value::from(value.get_ref())))
                    .collect(),
            ),
        }
    }

    fn has_zero_byte(&self) -> bool {
        match self {
            Value::Text(text) => text.contains('\0'),
            Value::List(list) => list.iter().any(Value::has_zero_byte),
            Value::Table(table) => {
                table.iter().any(|(key, value)| key.contains('\0') || value.has_zero_byte())
            }
            Value::Number(..) | Value::Bool(_) | Value::Other => false,
        }
    }

    /// What would be typed for it; `None` where that is no single word.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Number(digits, 10) => Some(digits.clone()),
            Value::Number(digits, radix) => Some(i64::from_str_radix(digits, *radix).ok()?.to_string()),
            Value::Bool(_) | Value::List(_) | Value::Table(_) | Value::Other => None,
        }
    }

    /// The words of a list; one word is a list, too.
    pub(super) fn words(&self) -> Option<Vec<String>> {
        match self {
            Value::List(list) => list.iter().map(Value::word).collect(),
            value => value.word().map(|word| vec![word]),
        }
    }
}
