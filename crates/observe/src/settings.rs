//! What the server tells its observer at the start.

use serde_json::{Value, json};

/// The settings of an observer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObserverSettings {
    /// The name of the server.
    pub name: String,
    /// What a client has to know (RFC 6750), if anything.
    pub token: Option<String>,
    /// Whether clients may steer. Never without a token.
    pub control: bool,
}

impl ObserverSettings {
    /// The settings as a text, for [`ObserverSetup::bind`](tine::cli::ObserverSetup::bind).
    #[must_use]
    pub fn to_text(&self) -> String {
        json!({ "name": self.name, "token": self.token, "control": self.control }).to_string()
    }

    /// The settings in a text; `None` if it has none.
    pub(crate) fn parse(text: &str) -> Option<ObserverSettings> {
        let value: Value = serde_json::from_str(text).ok()?;
        let token = match value.get("token")? {
            Value::Null => None,
            token => Some(token.as_str()?.to_owned()),
        };
        let control = value.get("control")?.as_bool()? && token.is_some();
        Some(ObserverSettings { name: value.get("name")?.as_str()?.to_owned(), token, control })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_as_text() {
        for (token, control) in [(None, false), (Some("a\"b".to_owned()), true)] {
            let settings = ObserverSettings { name: "9999".into(), token, control };
            assert_eq!(ObserverSettings::parse(&settings.to_text()), Some(settings));
        }
        for wrong in ["", "{}", r#"{"name":"a","token":7}"#, r#"{"name":"a","token":null,"control":1}"#] {
            assert_eq!(ObserverSettings::parse(wrong), None, "{wrong}");
        }
    }
}
