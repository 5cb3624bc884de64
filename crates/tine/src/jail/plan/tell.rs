//! Tells operators what is in force.

use serde_json::{Map, Value, json};

use super::Plan;
use crate::jail::JailMode;
use crate::jail::layer::LayerState;

impl Plan {
    /// The mode of a jail that is in force, for records of connections.
    pub(crate) fn mode_in_force(&self) -> Option<&'static str> {
        match (&self.full, self.mode) {
            (Some(_), _) => Some("full"),
            (None, JailMode::None) => None,
            (None, _) => Some("light"),
        }
    }

    /// The mode and the layers, for `tine status`.
    pub(crate) fn to_json(&self) -> Value {
        let layers = self.layers.iter().filter(|(_, state)| *state != LayerState::Off);
        let layers = layers.map(|(layer, state)| {
            json!({ "layer": layer.name(), "state": state.name(), "detail": state.detail() })
        });
        json!({ "mode": self.mode.to_string(), "layers": layers.collect::<Vec<_>>() })
    }

    /// For each layer that was asked for, 1 if it is fully in force, else 0.
    pub(crate) fn layers_in_force(&self) -> Map<String, Value> {
        let asked = self.layers.iter().filter(|(_, state)| *state != LayerState::Off);
        asked.map(|(layer, _)| (layer.name().to_owned(), json!(u8::from(self.is_on(*layer))))).collect()
    }
}
