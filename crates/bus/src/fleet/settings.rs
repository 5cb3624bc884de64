//! What the server tells its link at the start.

use serde::{Deserialize, Serialize};

use crate::connect::{Bus, BusError, Secret};
use crate::names::Name;

/// The settings of a link.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// The bus.
    pub bus: Bus,
    /// The fleet.
    pub fleet: Name,
    /// The name of this server in the fleet.
    pub node: Name,
    /// Whether limits count the connections at other nodes, too.
    pub shares_use: bool,
    /// Whether orders of the fleet are passed on.
    pub obeys: bool,
}

/// The settings as JSON.
#[derive(Serialize, Deserialize)]
struct WrittenSettings {
    url: String,
    credentials: Option<String>,
    nkey: Option<String>,
    ca: Option<String>,
    fleet: Name,
    node: Name,
    shares_use: bool,
    #[serde(default = "yes")]
    obeys: bool,
}

fn yes() -> bool {
    true
}

impl LinkSettings {
    /// The settings as a text. Reads the files with what the bus is to know: the link cannot.
    ///
    /// # Errors
    /// A file cannot be read, or the address of the bus is none.
    pub fn to_text(&self) -> Result<String, BusError> {
        self.bus.options()?;
        let text = |secret: &Option<Secret>| secret.as_ref().map(Secret::text).transpose();
        let written = WrittenSettings {
            url: self.bus.url.clone(),
            credentials: text(&self.bus.credentials)?,
            nkey: text(&self.bus.nkey)?,
            ca: self.bus.ca.as_ref().map(|file| file.display().to_string()),
            fleet: self.fleet.clone(),
            node: self.node.clone(),
            shares_use: self.shares_use,
            obeys: self.obeys,
        };
        // Serializing cannot fail: there are no maps.
        Ok(serde_json::to_string(&written).unwrap_or_default())
    }

    /// The settings in a text; `None` if it has none.
    pub(super) fn parse(text: &str) -> Option<LinkSettings> {
        let written: WrittenSettings = serde_json::from_str(text).ok()?;
        let bus = Bus {
            url: written.url,
            credentials: written.credentials.map(Secret::Text),
            nkey: written.nkey.map(Secret::Text),
            ca: written.ca.map(Into::into),
        };
        let WrittenSettings { fleet, node, shares_use, obeys, .. } = written;
        Some(LinkSettings { bus, fleet, node, shares_use, obeys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_as_text_with_the_contents_of_files() {
        let file = std::env::temp_dir().join(format!("tine-link-settings-{}", std::process::id()));
        std::fs::write(&file, "SUABWAKMEF2H5AFSJWPENEZ4WYBB5R4J2WYQRUV3EWG54CORMQWNM4C6RI\n")
            .expect("written");
        let bus = Bus { url: "nats://a".into(), nkey: Some(Secret::File(file.clone())), ..Bus::default() };
        let (fleet, node) = (Name::of("f"), Name::of("n"));
        let settings = LinkSettings { bus, fleet, node, shares_use: true, obeys: false };
        let text = settings.to_text();
        std::fs::remove_file(&file).expect("it was written");
        let text = text.expect("a file that can be read");
        let read = LinkSettings::parse(&text).expect("settings");
        assert!(matches!(&read.bus.nkey, Some(Secret::Text(text)) if text.starts_with("SUABW")));
        assert_eq!(read.to_text().expect("no file"), text);
        assert!(settings.to_text().is_err_and(|why| !why.is_temporary));
        // Without what a server of an earlier version does not say.
        let text = text.replace(",\"obeys\":false", "");
        assert!(LinkSettings::parse(&text).expect("settings").obeys);
        for wrong in ["", "{}", &text.replace("\"n\"", "\"a.b\""), &text.replace("true", "1")] {
            assert!(LinkSettings::parse(wrong).is_none(), "{wrong}");
        }
    }
}
