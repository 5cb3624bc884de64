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
    /// Of each agent of HAProxy, the service that it tells about; `None` for the only one. Their
    /// listeners are the last ones.
    pub agents: Vec<Option<String>>,
}

impl ObserverSettings {
    /// The settings as a text, for [`ObserverSetup::bind`](tine::cli::ObserverSetup::bind).
    #[must_use]
    pub fn to_text(&self) -> String {
        let ObserverSettings { name, token, control, agents } = self;
        json!({ "name": name, "token": token, "control": control, "agents": agents }).to_string()
    }

    /// The settings in a text; `None` if it has none.
    pub(crate) fn parse(text: &str) -> Option<ObserverSettings> {
        let value: Value = serde_json::from_str(text).ok()?;
        let token = match value.get("token")? {
            Value::Null => None,
            token => Some(token.as_str()?.to_owned()),
        };
        let control = value.get("control")?.as_bool()? && token.is_some();
        let agents = value.get("agents")?.as_array()?.iter().map(|agent| agent.as_str().map(str::to_owned));
        let name = value.get("name")?.as_str()?.to_owned();
        Some(ObserverSettings { name, token, control, agents: agents.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_as_text() {
        for (token, control) in [(None, false), (Some("a\"b".to_owned()), true)] {
            let agents = vec![None, Some("a".to_owned())];
            let settings = ObserverSettings { name: "9999".into(), token, control, agents };
            assert_eq!(ObserverSettings::parse(&settings.to_text()), Some(settings));
        }
        for wrong in ["", "{}", r#"{"name":"a","token":7}"#, r#"{"name":"a","token":null,"control":1}"#] {
            assert_eq!(ObserverSettings::parse(wrong), None, "{wrong}");
        }
    }
}
