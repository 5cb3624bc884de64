use async_nats::{HeaderMap, StatusCode};
use tine::cli::{BanRecord, BanState, Prefix};

use super::*;

const TODAY: u64 = 86_400_000_000;

fn clock(now: u64) -> Clock {
    Clock { now, day: TODAY + now }
}

fn ban(text: &str, at: u64) -> BanRecord {
    BanRecord { block: text.parse::<Prefix>().expect(text), state: BanState::Forever, at }
}

fn message(subject: &str, reply: Option<&str>, text: &str) -> Message {
    Message {
        subject: subject.into(),
        reply: reply.map(Into::into),
        payload: text.to_owned().into(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
}

fn status(code: u16, reply: Option<&str>, headers: &[(&str, &str)]) -> Message {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    let status = Some(StatusCode::from_u16(code).expect("a status"));
    Message { status, headers: Some(map), ..message("inbox", reply, "") }
}

const NO_STREAM: &str = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
const OTHER_STREAM: &str = r#"{"error":{"code":400,"err_code":10058,"description":"name in use"}}"#;
const NO_PLACES: &str = r#"{"error":{"code":500,"err_code":10074,"description":"replicas > 1"}}"#;
const OTHER_REVISION: &str = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last"}}"#;

/// A bucket with what is known of bans, and what has come of the last step.
struct Tried {
    bucket: Bucket,
    bans: Bans,
    outcome: BusOutcome,
    clock: Clock,
}

impl Tried {
    fn new() -> Tried {
        let subjects = Subjects::new(Name::of("f"));
        let bucket = Bucket::new(subjects, Name::of("a"), "inbox".into());
        let mut tried =
            Tried { bucket, bans: Bans::default(), outcome: BusOutcome::default(), clock: clock(0) };
        tried.bucket.on_bus(true, tried.clock, &mut tried.outcome);
        tried
    }

    /// One whose bucket has these records, and was read.
    fn read(records: &[BanRecord]) -> Tried {
        let mut tried = Tried::new();
        tried.answer("{}");
        tried.answer(&format!(r#"{{"num_pending":{}}}"#, records.len()));
        for (record, number) in records.iter().zip(1..) {
            tried.put_by_others(record, number, records.len() as u64 - number);
        }
        assert!(tried.bucket.is_read());
        tried.outcome = BusOutcome::default();
        tried
    }

    /// The subjects of what was published; nothing stays of the last step.
    fn subjects(&mut self) -> Vec<String> {
        let deeds = std::mem::take(&mut self.outcome).deeds;
        deeds
            .into_iter()
            .map(|deed| match deed {
                BusDeed::Publish { subject, .. } => subject,
                BusDeed::Watch { inbox, .. } => inbox,
            })
            .collect()
    }

    /// The last request is answered.
    fn answer(&mut self, text: &str) {
        self.answer_number(self.bucket.request, &message("inbox.1", None, text));
    }

    fn answer_number(&mut self, number: u64, message: &Message) {
        self.bucket.on_reply(number, message, &mut self.bans, self.clock, &mut self.outcome);
    }

    fn watched(&mut self, message: &Message) {
        let generation = self.bucket.generation;
        self.bucket.on_watched(generation, message, &mut self.bans, self.clock, &mut self.outcome);
    }

    /// A record comes, with the same number and revision.
    fn put_by_others(&mut self, record: &BanRecord, number: u64, left: u64) {
        let subject = format!("$KV.tine-bans-f.{}", records::key(record.block));
        let reply = format!("$JS.ACK.KV_tine-bans-f.x.1.{number}.{number}.17.{left}");
        let text = String::from_utf8(records::write(record, &Name::of("b"))).expect("text");
        self.watched(&message(&subject, Some(&reply), &text));
    }

    fn tick(&mut self, now: u64) {
        self.clock = clock(now);
        self.bucket.on_tick(&mut self.bans, self.clock, &mut self.outcome);
    }

    fn is_waiting(&self) -> bool {
        matches!(self.bucket.state, State::Waiting { .. })
    }
}

#[test]
fn a_missing_bucket_is_created_with_as_many_replicas_as_the_bus_has_servers() {
    let mut tried = Tried::new();
    assert_eq!(tried.subjects(), ["$JS.API.STREAM.INFO.KV_tine-bans-f"]);
    tried.answer(NO_STREAM);
    assert_eq!(tried.subjects(), ["$JS.API.STREAM.CREATE.KV_tine-bans-f"]);
    tried.answer(NO_PLACES);
    let Some(BusDeed::Publish { text, .. }) = tried.outcome.deeds.first() else { panic!("a request") };
    let request: serde_json::Value = serde_json::from_slice(text).expect("JSON");
    assert_eq!((&request["num_replicas"], &request["max_msgs_per_subject"]), (&1.into(), &1.into()));
    tried.subjects();
    // Somebody else has created it meanwhile.
    tried.answer(OTHER_STREAM);
    assert_eq!(tried.subjects(), ["inbox-watch-2", "$JS.API.CONSUMER.CREATE.KV_tine-bans-f"]);
    tried.bans.order(ban("::1", TODAY), clock(0));
    assert!(!tried.bucket.is_read());
    // It is empty, so it is read.
    tried.answer(r#"{"num_pending":0,"delivered":{"consumer_seq":0}}"#);
    assert_eq!(tried.subjects(), ["$KV.tine-bans-f.6-00000000000000000000000000000001-128"]);
    assert!(tried.bucket.is_read() && tried.bucket.trouble().is_none());
}

#[test]
fn records_may_come_before_the_answer_to_the_watch() {
    let mut tried = Tried::new();
    tried.answer("{}");
    tried.put_by_others(&ban("192.0.2.1", TODAY), 1, 1);
    tried.put_by_others(&ban("192.0.2.2", TODAY), 2, 0);
    assert_eq!(tried.outcome.news.len(), 2);
    assert!(tried.bucket.is_read());
    tried.answer(r#"{"num_pending":2}"#);
    tried.tick(2_000);
    assert!(tried.bucket.is_read() && tried.bans.pending() == 0);
}

#[test]
fn puts_expect_the_revision_that_was_read() {
    let mut tried = Tried::read(&[ban("192.0.2.1", TODAY - 1)]);
    let lift = BanRecord { state: BanState::Lifted, ..ban("192.0.2.1", TODAY) };
    tried.bans.order(lift, clock(0));
    tried.tick(25);
    let [BusDeed::Publish { revision, reply, text, .. }] = &tried.outcome.deeds[..] else {
        panic!("one put")
    };
    assert_eq!((*revision, reply.is_some()), (Some(1), true));
    assert_eq!(records::read(lift.block, text), Some(lift));
    tried.answer(OTHER_REVISION);
    // The reason does not come: what is read is not the bucket.
    tried.bucket.on_second(&mut tried.bans, clock(3_000), &mut tried.outcome);
    assert!(tried.bucket.is_read());
    tried.bucket.on_second(&mut tried.bans, clock(3_100), &mut tried.outcome);
    assert!(tried.is_waiting());
}

#[test]
fn many_puts_are_under_way_at_a_time() {
    let mut tried = Tried::read(&[]);
    for number in 0..1_000_u32 {
        let block = std::net::Ipv4Addr::from_bits(number).to_string();
        tried.bans.order(ban(&block, TODAY), clock(0));
    }
    tried.tick(25);
    assert_eq!(tried.subjects().len(), IN_FLIGHT);
    let mut revision = 0;
    while let Some(number) = tried.bucket.in_flight.keys().next().copied() {
        revision += 1;
        tried.answer_number(number, &message("inbox.1", None, &format!(r#"{{"seq":{revision}}}"#)));
        assert!(tried.bucket.in_flight.len() <= IN_FLIGHT);
    }
    assert_eq!((revision, tried.subjects().len(), tried.bans.pending()), (1_000, 1_000 - IN_FLIGHT, 0));
}

#[test]
fn whatever_goes_wrong_the_bucket_is_read_anew() {
    type Fault = fn(&mut Tried);
    let faults: [(&str, Fault); 10] = [
        ("no JetStream", |tried| tried.watched(&status(503, None, &[]))),
        ("the consumer was deleted", |tried| tried.watched(&status(409, None, &[]))),
        ("a record was lost", |tried| tried.put_by_others(&ban("::2", TODAY), 3, 0)),
        ("the last record was lost", |tried| {
            tried.watched(&status(100, None, &[("Nats-Last-Consumer", "2")]))
        }),
        ("silence", |tried| tried.tick(3_001)),
        ("the bucket has gone", |tried| {
            tried.bans.order(ban("::3", TODAY), clock(0));
            tried.tick(25);
            tried.answer_number(tried.bucket.request, &status(503, None, &[]));
        }),
        ("a put is refused", |tried| {
            tried.bans.order(ban("::3", TODAY), clock(0));
            tried.tick(25);
            tried.answer(r#"{"error":{"code":500,"err_code":10077,"description":"full"}}"#);
        }),
        ("a put has no answer", |tried| {
            tried.bans.order(ban("::3", TODAY), clock(0));
            tried.tick(25);
            tried.clock = clock(5_026);
            tried.watched(&status(100, None, &[]));
            tried.tick(5_026);
        }),
        ("the bus is another one", |tried| tried.bucket.on_bus(true, clock(0), &mut tried.outcome)),
        ("junk", |tried| {
            // It is no fault.
            tried.watched(&message("$KV.tine-bans-f.x", Some("$JS.ACK.a.b"), "{}"));
            tried.watched(&message("$KV.tine-bans-f.x", None, "{}"));
            tried.watched(&message("x", Some("$JS.ACK.KV.x.1.2.2.17.0"), "\u{0}"));
            tried.answer_number(999, &message("inbox.999", None, "{}"));
            assert!(tried.bucket.is_read() && tried.outcome.deeds.is_empty());
            tried.bucket.close("a reason", clock(0), &mut tried.outcome);
        }),
    ];
    for (name, fault) in faults {
        let mut tried = Tried::read(&[ban("::1", TODAY)]);
        fault(&mut tried);
        assert!(!tried.bucket.is_read(), "{name}");
        let generation = tried.bucket.generation;
        tried.subjects();
        tried.tick(tried.clock.now + 300);
        if name != "the bus is another one" {
            assert_eq!(tried.subjects(), ["$JS.API.STREAM.INFO.KV_tine-bans-f"], "{name}");
        }
        tried.answer("{}");
        tried.answer(r#"{"num_pending":1}"#);
        // What an earlier watch still sends is left out.
        let late = message("x", Some("$JS.ACK.KV.x.1.1.1.17.0"), "");
        tried.bucket.on_watched(generation, &late, &mut tried.bans, tried.clock, &mut tried.outcome);
        tried.put_by_others(&ban("::1", TODAY), 1, 0);
        assert!(tried.bucket.is_read(), "{name}");
    }
}

#[test]
fn a_bucket_that_cannot_be_used_is_tried_more_seldom_and_told() {
    let mut tried = Tried::new();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..7 {
        tried.answer_number(tried.bucket.awaited, &status(503, None, &[]));
        let State::Waiting { until } = tried.bucket.state else { panic!("it waits") };
        waits.push(until - now);
        tried.tick(until - 1);
        assert!(tried.is_waiting());
        now = until;
        tried.tick(now);
    }
    assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
    let complaints = std::mem::take(&mut tried.outcome.complaints);
    assert_eq!(complaints.len(), 6);
    assert!(complaints[0].1.contains("no JetStream") && tried.bucket.trouble().is_some());
    // The bus does not answer at all, until its parts are one.
    tried.tick(now + 5_001);
    assert!(tried.is_waiting());
    tried.bucket.on_appearance(clock(now + 5_001));
    let State::Waiting { until } = tried.bucket.state else { panic!("it waits") };
    assert_eq!((until, tried.bucket.retry), (now + 5_251, RETRY));
    // It was not this process that slept.
    tried.bucket.on_bus(true, clock(now), &mut tried.outcome);
    tried.clock = clock(now + 60_000);
    tried.bucket.excuse(tried.clock);
    tried.tick(now + 60_000);
    assert!(!tried.is_waiting());
    // While the bus is away, nothing is tried.
    tried.bucket.on_bus(false, tried.clock, &mut tried.outcome);
    tried.outcome = BusOutcome::default();
    tried.tick(now + 600_000);
    assert!(tried.outcome.deeds.is_empty() && tried.outcome.complaints.is_empty());
}

#[test]
fn a_watch_that_may_go_on_is_told_so() {
    let mut tried = Tried::read(&[]);
    tried.watched(&status(100, Some("go.on"), &[]));
    tried.watched(&status(100, None, &[("Nats-Consumer-Stalled", "go.too"), ("Nats-Last-Consumer", "0")]));
    assert_eq!(tried.subjects(), ["go.on", "go.too"]);
    assert!(tried.bucket.is_read());
}

#[test]
fn records_that_nobody_needs_are_purged_up_to_their_revision() {
    let old = BanRecord { state: BanState::Lifted, ..ban("192.0.2.1", 1) };
    let mut tried = Tried::read(&[]);
    tried.put_by_others(&old, 1, 0);
    let [BusDeed::Publish { subject, text, .. }] = &tried.outcome.deeds[..] else { panic!("one request") };
    assert_eq!(subject, "$JS.API.STREAM.PURGE.KV_tine-bans-f");
    let request: serde_json::Value = serde_json::from_slice(text).expect("JSON");
    assert_eq!(request, serde_json::json!({ "filter": "$KV.tine-bans-f.4-c0000201-32", "seq": 2 }));
    assert_eq!((tried.bans.len(), tried.outcome.news.len()), (0, 0));
}

#[test]
fn junk_in_the_bucket_is_replaced() {
    let mut tried = Tried::read(&[ban("192.0.2.1", TODAY)]);
    let deleted = {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let reply = "$JS.ACK.domain.account.KV_tine-bans-f.x.1.8.2.17.0.random";
        Message { headers: Some(headers), ..message("$KV.tine-bans-f.4-c0000201-32", Some(reply), "") }
    };
    tried.watched(&deleted);
    tried.tick(25);
    assert!(tried.outcome.deeds.is_empty());
    tried.bucket.on_second(&mut tried.bans, clock(1_000), &mut tried.outcome);
    tried.tick(1_025);
    let [BusDeed::Publish { subject, revision, .. }] = &tried.outcome.deeds[..] else { panic!("one put") };
    assert_eq!((subject.as_str(), *revision), ("$KV.tine-bans-f.4-c0000201-32", Some(8)));
}
