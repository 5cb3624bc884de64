//! Samples the server each second.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::asking::{Asking, SAMPLED_ENDED, SAMPLED_LIVE};
use crate::samples::{Changes, Samples};

const EACH: Duration = Duration::from_secs(1);

/// Samples the server until the observer ends.
pub(crate) async fn sample(asking: &Asking, samples: &Samples) {
    let mut ticks = interval(EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = HashSet::new();
    loop {
        ticks.tick().await;
        let Ok(services) = asking.metrics().await else {
            samples.no_reply();
            continue;
        };
        let changes = match samples.are_followed() {
            // Lists are asked for only while somebody looks.
            true => changes(asking, &mut known).await,
            false => {
                known.clear();
                Changes::default()
            }
        };
        samples.add(now(), &services, changes);
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// The newest connections, and those that have ended since the last call: `known` has the ids of
/// the last ones that had ended by then.
async fn changes(asking: &Asking, known: &mut HashSet<String>) -> Changes {
    let (Ok(newest), Ok(ended)) = (asking.newest().await, asking.last_ended().await) else {
        return Changes::default();
    };
    let mut live: Vec<Value> = newest.to_vec();
    live.sort_by_key(|row| row["age_ms"].as_u64());
    live.truncate(SAMPLED_LIVE);
    let is_first = known.is_empty();
    let id = |row: &Value| row["id"].to_string();
    // The newest first.
    let new = ended.iter().filter(|row| !is_first && !known.contains(&id(row)));
    let new = new.take(SAMPLED_ENDED).cloned().collect();
    *known = ended.iter().map(id).collect();
    // An empty history is known, too.
    known.insert(String::new());
    Changes { live, ended: new }
}
