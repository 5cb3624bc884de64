//! Samples of what the server counts, one each second, for plots of the last hour; and the clients
//! that get each new one as an event (server-sent events, html.spec.whatwg.org).
//!
//! The last five minutes have every sample, the rest of the hour one in ten seconds. What a client
//! does not take in time is not kept for it: it is disconnected, and asks again from where it was.

use std::cell::RefCell;
use std::collections::VecDeque;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Seconds that have every sample; the distance of others in seconds; how many there are of these.
const FINE: usize = 300;
const COARSE_STEP: u64 = 10;
const COARSE: usize = 330;

/// Bytes of all samples, at most: a server can have many services.
const MAX_BYTES: usize = 16 << 20;

/// Clients that get events, at most.
const MAX_FOLLOWERS: usize = 64;

/// Events that wait for a client.
const WAITING: usize = 8;

/// What a sample has of the metrics of a service.
const KEYS: [&str; 14] = [
    "service",
    "phase",
    "connections",
    "spares",
    "accepted",
    "ended_by_kind",
    "ended_by_signal",
    "rejected_by_reason",
    "delayed_by_reason",
    "waiting",
    "bytes_in",
    "bytes_out",
    "processes",
    "listeners",
];

/// The distributions of a sample: their counts alone.
const DISTRIBUTIONS: [&str; 3] = ["start", "first_byte", "duration"];

/// A sample: milliseconds since 1970, and an object.
#[derive(Clone, Debug)]
struct Sample {
    at: u64,
    text: String,
}

/// The samples, and who follows them.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    fine: RefCell<VecDeque<Sample>>,
    coarse: RefCell<VecDeque<Sample>>,
    followers: RefCell<Vec<Sender<Bytes>>>,
}

/// What has begun and ended since the sample before.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) live: Vec<Value>,
    pub(crate) ended: Vec<Value>,
}

impl Samples {
    /// Whether anybody follows.
    pub(crate) fn are_followed(&self) -> bool {
        let mut followers = self.followers.borrow_mut();
        followers.retain(|follower| !follower.is_closed());
        !followers.is_empty()
    }

    /// Adds a sample of services at a time, and sends it to all followers.
    pub(crate) fn add(&self, at: u64, services: &[Value], changes: Changes) {
        let mut event = compact(at, services);
        let sample = Sample { at, text: event.to_string() };
        let Changes { live, ended } = changes;
        event["live"] = live.into();
        event["ended"] = ended.into();
        self.keep(sample);
        self.send(&Bytes::from(format!("id: {at}\nevent: sample\ndata: {event}\n\n")));
    }

    /// Tells followers that the server does not reply.
    pub(crate) fn no_reply(&self) {
        self.send(&Bytes::from_static(b"event: lost\ndata: {}\n\n"));
    }

    fn send(&self, event: &Bytes) {
        // One that is behind is disconnected: it asks again.
        self.followers.borrow_mut().retain(|follower| follower.try_send(event.clone()).is_ok());
    }

    fn keep(&self, sample: Sample) {
        let (mut fine, mut coarse) = (self.fine.borrow_mut(), self.coarse.borrow_mut());
        fine.push_back(sample);
        while fine.len() > FINE {
            let Some(oldest) = fine.pop_front() else { break };
            let step = COARSE_STEP * 1_000;
            if coarse.back().is_none_or(|last| oldest.at / step > last.at / step) {
                coarse.push_back(oldest);
            }
        }
        let bytes =
            |samples: &VecDeque<Sample>| samples.iter().map(|sample| sample.text.len()).sum::<usize>();
        let mut total = bytes(&fine) + bytes(&coarse);
        while coarse.len() > COARSE || total > MAX_BYTES {
            let oldest = coarse.pop_front().or_else(|| fine.pop_front());
            let Some(oldest) = oldest else { break };
            total -= oldest.text.len();
        }
    }

    /// Begins to follow: first all samples after a time, then each new one. `None` if too many
    /// follow already.
    pub(crate) fn follow(&self, after: u64) -> Option<Receiver<Bytes>> {
        self.are_followed();
        let mut followers = self.followers.borrow_mut();
        if followers.len() >= MAX_FOLLOWERS {
            return None;
        }
        let (sender, receiver) = channel(WAITING);
        let (fine, coarse) = (self.fine.borrow(), self.coarse.borrow());
        // One from the future is of a clock that was set back.
        let after = fine.back().map_or(0, |newest| if after > newest.at { 0 } else { after });
        let missed: Vec<&str> = coarse
            .iter()
            .chain(&*fine)
            .filter(|sample| sample.at > after)
            .map(|sample| sample.text.as_str())
            .collect();
        let history = format!("retry: 1000\nevent: history\ndata: [{}]\n\n", missed.join(","));
        // The channel has room for it.
        let _ = sender.try_send(Bytes::from(history));
        followers.push(sender);
        Some(receiver)
    }
}

/// The part of metrics that plots need.
fn compact(at: u64, services: &[Value]) -> Value {
    let compact = |service: &Value| -> Value {
        let of_keys = KEYS.iter().map(|key| ((*key).to_owned(), service[key].clone()));
        let counts = |key: &&str| json!({ "counts": service[key]["counts"], "sum": service[key]["sum"] });
        let distributions = DISTRIBUTIONS.iter().map(|key| ((*key).to_owned(), counts(key)));
        Value::Object(of_keys.chain(distributions).collect())
    };
    let services: Vec<Value> = services.iter().map(compact).collect();
    json!({ "time": at as f64 / 1_000.0, "services": services })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(connections: u64) -> Vec<Value> {
        vec![
            json!({ "service": null, "connections": connections, "duration": { "counts": [1], "bounds": [1] } }),
        ]
    }

    fn text(receiver: &mut Receiver<Bytes>) -> Option<String> {
        receiver.try_recv().ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn followers_get_what_they_missed_and_what_is_new() {
        let samples = Samples::default();
        for second in 1..=3 {
            samples.add(second * 1_000, &service(second), Changes::default());
        }
        let mut all = samples.follow(0).expect("a place");
        let mut rest = samples.follow(2_000).expect("a place");
        let history = text(&mut all).expect("a history");
        assert_eq!(history.matches("\"connections\":").count(), 3, "{history}");
        let history = text(&mut rest).expect("a history");
        assert!(history.contains("\"connections\":3") && !history.contains("\"connections\":2"), "{history}");
        let later = text(&mut samples.follow(9_000).expect("a place")).expect("a history");
        assert_eq!(later.matches("\"connections\":").count(), 3, "{later}");
        assert!(samples.are_followed());
        let live = vec![json!({ "id": 7 })];
        samples.add(4_000, &service(4), Changes { live, ended: Vec::new() });
        let event = text(&mut all).expect("an event");
        assert!(event.starts_with("id: 4000\nevent: sample\ndata: {") && event.ends_with("}\n\n"), "{event}");
        assert!(event.contains("\"live\":[{\"id\":7}]") && !event.contains("bounds"), "{event}");
        drop((all, rest));
        assert!(!samples.are_followed());
    }

    #[test]
    fn one_that_is_behind_is_disconnected() {
        let samples = Samples::default();
        let mut behind = samples.follow(0).expect("a place");
        for second in 1..=WAITING as u64 {
            samples.add(second * 1_000, &service(1), Changes::default());
        }
        assert!(!samples.are_followed());
        assert_eq!(std::iter::from_fn(|| text(&mut behind)).count(), WAITING);
        let places: Vec<_> = (0..MAX_FOLLOWERS).map(|_| samples.follow(0)).collect();
        assert!(places.iter().all(Option::is_some) && samples.follow(0).is_none());
    }

    #[test]
    fn an_hour_is_kept() {
        let samples = Samples::default();
        for second in 1..=10_000 {
            samples.add(second * 1_000, &service(second), Changes::default());
        }
        let (fine, coarse) = (samples.fine.borrow(), samples.coarse.borrow());
        assert_eq!((fine.len(), coarse.len()), (FINE, COARSE));
        let oldest = coarse.front().expect("a sample").at;
        assert_eq!((10_000_000 - oldest) / 60_000, 59, "minutes");
    }
}
