//! The fields of a message, by their names and types.

use crate::import::textproto::{At, Field, Message, TextFault, Value};

/// A message whose fields are asked for by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'m> {
    message: &'m Message,
    /// Where it is, for what is missing in it.
    pub(super) at: At,
}

impl<'m> Fields<'m> {
    pub(super) fn new(message: &'m Message, at: At) -> Fields<'m> {
        Fields { message, at }
    }

    /// Every field, in the order of the text.
    pub(super) fn all(self) -> impl Iterator<Item = &'m Field> {
        self.message.fields.iter()
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.all().any(|field| field.name == name)
    }

    /// A field that can be there once.
    ///
    /// # Errors
    /// It is there several times.
    pub(super) fn one(self, name: &str) -> Result<Option<&'m Field>, TextFault> {
        let mut found = self.all().filter(|field| field.name == name);
        let first = found.next();
        match found.next() {
            Some(second) => Err(second.at.fault(format!("{name} is there twice"))),
            None => Ok(first),
        }
    }

    /// # Errors
    /// It is no text, or there several times.
    pub(super) fn text(self, name: &str) -> Result<Option<&'m str>, TextFault> {
        self.one(name)?.map(text).transpose()
    }

    /// The values of a field that can be there several times.
    ///
    /// # Errors
    /// One is no text.
    pub(super) fn texts(self, name: &str) -> Result<Vec<String>, TextFault> {
        let found = self.all().filter(|field| field.name == name);
        found.map(|field| text(field).map(str::to_owned)).collect()
    }

    /// # Errors
    /// It is no number of this type, or there several times.
    pub(super) fn number(self, name: &str) -> Result<Option<u64>, TextFault> {
        let Some(field) = self.one(name)? else { return Ok(None) };
        let value = match &field.value {
            Value::Number(number) => integer(number).and_then(|number| u64::try_from(number).ok()),
            _ => None,
        };
        value.map(Some).ok_or_else(|| field.at.fault(format!("{name} is no number from 0 on")))
    }

    /// # Errors
    /// It is no number of this type, or there several times.
    pub(super) fn signed(self, name: &str) -> Result<Option<i32>, TextFault> {
        let Some(field) = self.one(name)? else { return Ok(None) };
        let value = match &field.value {
            Value::Number(number) => integer(number).and_then(|number| i32::try_from(number).ok()),
            _ => None,
        };
        value.map(Some).ok_or_else(|| field.at.fault(format!("{name} is no number of 32 bits")))
    }

    /// A field that is true or false.
    ///
    /// # Errors
    /// It is neither, or there several times.
    pub(super) fn flag(self, name: &str, default: bool) -> Result<bool, TextFault> {
        let Some(field) = self.one(name)? else { return Ok(default) };
        is_true(&field.value).ok_or_else(|| field.at.fault(format!("{name} is neither true nor false")))
    }

    /// The name of an enum. `names` has those that there are, by their numbers.
    ///
    /// # Errors
    /// It is no such name, or there several times.
    pub(super) fn choice(
        self,
        name: &str,
        names: &[&'static str],
    ) -> Result<Option<&'static str>, TextFault> {
        let Some(field) = self.one(name)? else { return Ok(None) };
        let found = match &field.value {
            Value::Word(word) => names.iter().find(|name| *name == word),
            Value::Number(number) => {
                integer(number).and_then(|number| names.get(usize::try_from(number).ok()?))
            }
            _ => None,
        };
        let found = found.ok_or_else(|| field.at.fault(format!("{name} is none of {}", names.join(", "))))?;
        Ok(Some(found))
    }

    /// # Errors
    /// It is no message, or there several times.
    pub(super) fn within(self, name: &str) -> Result<Option<Fields<'m>>, TextFault> {
        self.one(name)?.map(message).transpose()
    }

    /// The messages of a field that can be there several times.
    ///
    /// # Errors
    /// One is no message.
    pub(super) fn each_within(self, name: &str) -> Result<Vec<Fields<'m>>, TextFault> {
        self.all().filter(|field| field.name == name).map(message).collect()
    }
}

fn message(field: &Field) -> Result<Fields<'_>, TextFault> {
    match &field.value {
        Value::Message(message) => Ok(Fields::new(message, field.at)),
        _ => Err(field.at.fault(format!("{} is no message", field.name))),
    }
}

fn text(field: &Field) -> Result<&str, TextFault> {
    match &field.value {
        Value::Text(bytes) => std::str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'))
            .ok_or_else(|| field.at.fault(format!("{} has a zero byte or is not UTF-8", field.name))),
        _ => Err(field.at.fault(format!("{} is no text between quotes", field.name))),
    }
}

pub(super) fn is_true(value: &Value) -> Option<bool> {
    let (Value::Word(word) | Value::Number(word)) = value else { return None };
    match word.as_str() {
        "true" | "True" | "t" | "1" => Some(true),
        "false" | "False" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// The value of a number that is written in decimal, octal or hexadecimal.
fn integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let value = match hexadecimal {
        Some(digits) => i128::from_str_radix(digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i128::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    let value = value.ok()?;
    Some(if digits.len() < text.len() { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::textproto;

    /// A field in each line.
    const TEXT: &str = "t: 'a'\nn: 0x10\no: 017\nm: -3\nf: 1.5\nyes: true\nno: 0\ne: TWO\ni: 1\n  w { t: 'b' }\n\
                        z: '\\0'\nl: ['x', 'y']\nbig: 99999999999999999999";

    #[test]
    fn values_have_the_type_that_is_asked_for() {
        let message = textproto::parse(TEXT).expect("a message");
        let fields = Fields::new(&message, At { line: 1, column: 1 });
        assert_eq!(fields.text("t"), Ok(Some("a")));
        assert_eq!((fields.number("n"), fields.number("o")), (Ok(Some(16)), Ok(Some(15))));
        assert_eq!((fields.signed("m"), fields.number("none")), (Ok(Some(-3)), Ok(None)));
        assert_eq!((fields.flag("yes", false), fields.flag("no", true)), (Ok(true), Ok(false)));
        assert_eq!((fields.flag("none", true), fields.has("none")), (Ok(true), false));
        let names = ["ONE", "TWO"];
        assert_eq!(
            (fields.choice("e", &names), fields.choice("i", &names)),
            (Ok(Some("TWO")), Ok(Some("TWO")))
        );
        assert_eq!(fields.texts("l"), Ok(vec!["x".to_owned(), "y".to_owned()]));
        let within = fields.within("w").expect("a message").expect("it is there");
        assert_eq!((within.text("t"), within.at.to_string()), (Ok(Some("b")), "10:3".to_owned()));
        assert_eq!(fields.each_within("w").map(|all| all.len()), Ok(1));
    }

    #[test]
    fn values_of_another_type_are_faults() {
        let message = textproto::parse(TEXT).expect("a message");
        let fields = Fields::new(&message, At { line: 1, column: 1 });
        for (fault, expected) in [
            (fields.text("n").expect_err("a number"), "2:1: n is no text between quotes"),
            (fields.text("z").expect_err("a zero"), "11:1: z has a zero byte or is not UTF-8"),
            (fields.text("l").expect_err("two"), "12:1: l is there twice"),
            (fields.number("m").expect_err("negative"), "4:1: m is no number from 0 on"),
            (fields.number("f").expect_err("a fraction"), "5:1: f is no number from 0 on"),
            (fields.number("t").expect_err("a text"), "1:1: t is no number from 0 on"),
            (fields.number("big").expect_err("too large"), "13:1: big is no number from 0 on"),
            (fields.signed("big").expect_err("too large"), "13:1: big is no number of 32 bits"),
            (fields.flag("t", true).expect_err("a text"), "1:1: t is neither true nor false"),
            (fields.choice("e", &["ONE"]).expect_err("no such name"), "8:1: e is none of ONE"),
            (fields.within("t").expect_err("a text"), "1:1: t is no message"),
            (fields.each_within("t").expect_err("a text"), "1:1: t is no message"),
        ] {
            assert_eq!(format!("{}: {}", fault.at, fault.what), expected);
        }
    }
}
