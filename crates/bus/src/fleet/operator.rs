//! What an operator does with a fleet: asks its nodes, bans in the bucket, orders. Runs in a
//! process of its own, without a server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{Client, HeaderMap, Message, Request, Subscriber};
use futures_util::StreamExt as _;
use tine::cli::{BanRecord, BanState, Prefix};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, timeout, timeout_at};

use super::bans::AHEAD;
use super::bucket::REPLICAS;
use super::clock::Clock;
use super::jetstream::{self, Refusal};
use super::messages::{Answer, Ask, FleetOrder, NodeMessage, Ordering, Question, Receipt};
use super::records;
use super::subjects::Subjects;
use crate::connect::{Bus, BusError, runtime};
use crate::events::{Happening, QUEUE};
use crate::messages::{read, write};
use crate::names::{Name, bounded};

/// The time in which nodes have to answer, and the one in which each has to be heard: it says
/// something each half second.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const HEARD_WITHIN: Duration = Duration::from_millis(800);
/// The time in which the bus has to answer.
const BUS_WITHIN: Duration = Duration::from_secs(5);
/// Puts that are tried, while others put the same record.
const TRIES: u32 = 8;
/// Nodes, at most.
const NODES: usize = 256;

/// An operator, who is connected to the bus.
#[derive(Debug)]
pub struct Operator {
    runtime: Runtime,
    client: Client,
    subjects: Subjects,
    /// What the bus has said.
    complaints: Receiver<Happening>,
}

/// The answers of nodes.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// In the order of their names.
    pub answers: Vec<Answer>,
    /// Nodes that are heard, and do not answer.
    pub silent: Vec<Name>,
}

/// What comes of an order to drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// It is passed on to the server.
    PassedOn,
    /// There is no such node.
    Unknown,
    /// The node refuses it, for this reason.
    Refused(String),
}

impl Operator {
    /// Connects to the bus of a fleet.
    ///
    /// # Errors
    /// The bus cannot be used.
    pub fn connect(bus: &Bus, fleet: &Name) -> Result<Operator, BusError> {
        let runtime = runtime()?;
        let (queue, complaints) = channel(QUEUE);
        let client = runtime.block_on(bus.connect("tine-fleet", queue))?;
        Ok(Operator { runtime, client, subjects: Subjects::new(fleet.clone()), complaints })
    }

    /// Asks all nodes.
    ///
    /// # Errors
    /// The bus does not permit it, or ends.
    pub fn ask(&mut self, question: Question) -> Result<Answers, BusError> {
        let (client, subjects) = (&self.client, &self.subjects);
        let answers = self.runtime.block_on(async {
            let mut nodes = listen(client, subjects.node("*")).await?;
            let inbox = client.new_inbox();
            let mut replies = listen(client, inbox.clone()).await?;
            let text = write(&Ask { ask: question });
            let sent = client.publish_with_reply(subjects.ask_all(), inbox, text.into()).await;
            sent.map_err(|why| BusError::of_bus(&why))?;
            Ok(gather(&mut nodes, &mut replies).await)
        })?;
        if answers.answers.is_empty() {
            self.refusal()?;
        }
        Ok(answers)
    }

    /// Bans a block. Returns the number of nodes that are heard.
    ///
    /// # Errors
    /// The bucket cannot be used.
    pub fn ban(&mut self, block: Prefix, time: Option<Duration>) -> Result<usize, BusError> {
        let seconds = |time: Duration| {
            let end = u128::from(Clock::read().day) + time.as_millis();
            u64::try_from(end.div_ceil(1_000)).unwrap_or(u64::MAX)
        };
        let state = time.map_or(BanState::Forever, |time| BanState::Until(seconds(time)));
        self.put(block, state).map(|nodes| nodes.unwrap_or(0))
    }

    /// Lifts a ban. Returns the number of nodes that are heard; `None` if there is no ban of this
    /// block.
    ///
    /// # Errors
    /// The bucket cannot be used.
    pub fn lift(&mut self, block: Prefix) -> Result<Option<usize>, BusError> {
        self.put(block, BanState::Lifted)
    }

    fn put(&mut self, block: Prefix, state: BanState) -> Result<Option<usize>, BusError> {
        let bucket = BucketOfOperator { client: &self.client, subjects: &self.subjects };
        let put = self.runtime.block_on(async {
            let nodes = listen(bucket.client, bucket.subjects.node("*")).await?;
            match bucket.put(block, state).await? {
                true => Ok(Some(count(nodes).await)),
                false => Ok(None),
            }
        });
        // What the bus does not permit, it does not answer.
        put.or_else(|why| self.refusal().and(Err(why)))
    }

    /// Orders a node to drain.
    ///
    /// # Errors
    /// The bus does not permit it, or the node does not answer.
    pub fn drain(&mut self, node: &Name) -> Result<Drained, BusError> {
        let subject = self.subjects.order(node.as_str());
        let text = write(&Ordering { order: FleetOrder::Drain });
        let request = Request::new().payload(text.into()).timeout(Some(ANSWER_WITHIN));
        let answer = self.runtime.block_on(self.client.send_request(subject, request));
        match answer {
            Ok(message) => Ok(match read::<Receipt>(&message.payload) {
                Some(Receipt { error: None, .. }) => Drained::PassedOn,
                Some(Receipt { error: Some(why), .. }) => Drained::Refused(bounded(&why)),
                None => Drained::Refused("its answer has no meaning".to_owned()),
            }),
            Err(why) if why.kind() == RequestErrorKind::NoResponders => Ok(Drained::Unknown),
            Err(_) => {
                self.refusal()?;
                Err(silent(&format!("node {node} does not answer")))
            }
        }
    }

    /// What the bus has complained about, if it has.
    fn refusal(&mut self) -> Result<(), BusError> {
        while let Ok(happening) = self.complaints.try_recv() {
            if let Happening::BusError(why) = happening {
                return Err(BusError::of_bus(&bounded(&why)));
            }
        }
        Ok(())
    }
}

async fn listen(client: &Client, subject: String) -> Result<Subscriber, BusError> {
    client.subscribe(subject).await.map_err(|why| BusError::of_bus(&why))
}

fn silent(what: &str) -> BusError {
    BusError {
        what: what.to_owned(),
        next: "look whether it runs, and what the servers of the bus and their log say",
        is_temporary: true,
    }
}

/// Notes which node has said something. One that says goodbye is none.
fn hear(heard: &mut BTreeSet<Name>, message: &Message) {
    let name = message.subject.rsplit('.').next().and_then(|name| Name::try_from(name.to_owned()).ok());
    let said = name.and_then(|name| NodeMessage::read(&message.payload, &name));
    match said {
        Some(said) if said.bye => _ = heard.remove(&said.node),
        Some(said) if heard.len() < NODES => _ = heard.insert(said.node),
        _ => {}
    }
}

/// The number of nodes that are heard.
async fn count(mut nodes: Subscriber) -> usize {
    let mut heard = BTreeSet::new();
    let end = Instant::now() + HEARD_WITHIN;
    while let Ok(Some(message)) = timeout_at(end, nodes.next()).await {
        hear(&mut heard, &message);
    }
    heard.len()
}

/// Gathers answers until all nodes that are heard have answered.
async fn gather(nodes: &mut Subscriber, replies: &mut Subscriber) -> Answers {
    let start = Instant::now();
    let (mut heard, mut answers) = (BTreeSet::new(), BTreeMap::new());
    loop {
        let has_all = heard.iter().all(|node| answers.contains_key(node));
        let end = start + if has_all { HEARD_WITHIN } else { ANSWER_WITHIN };
        tokio::select! {
            Some(message) = nodes.next() => hear(&mut heard, &message),
            Some(message) = replies.next() => {
                if let Some(answer) = read::<Answer>(&message.payload).filter(|_| answers.len() < NODES) {
                    answers.insert(answer.node.clone(), answer);
                }
            }
            () = tokio::time::sleep_until(end) => break,
        }
    }
    let silent = heard.into_iter().filter(|node| !answers.contains_key(node)).collect();
    Answers { answers: answers.into_values().collect(), silent }
}

/// The bucket, where one record is put.
struct BucketOfOperator<'a> {
    client: &'a Client,
    subjects: &'a Subjects,
}

impl BucketOfOperator<'_> {
    /// Puts a record, over the one that is there. Returns whether there was something to lift, if
    /// it lifts.
    async fn put(&self, block: Prefix, state: BanState) -> Result<bool, BusError> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let node = Name::of(&format!("operator-{host}"));
        let key = records::key(block);
        for _ in 0..TRIES {
            let (revision, current) = self.current(block, &key).await?;
            let clock = Clock::read();
            // One of a time that has not come counts nowhere.
            let current = current.filter(|current| current.at <= clock.day.saturating_add(AHEAD));
            if state == BanState::Lifted && !current.is_some_and(|current| holds(&current, clock)) {
                return Ok(false);
            }
            let at = current.map_or(0, |current| current.at + 1).max(clock.day);
            let text = records::write(&BanRecord { block, state, at }, &node);
            let put = (self.subjects.record(&key), text);
            let answer = self.request(put, Some(jetstream::expecting(revision))).await;
            match answer.and_then(|message| jetstream::done(&message)) {
                Ok(_) => return Ok(true),
                Err(Refusal::OtherRevision) => {}
                Err(refusal) => return Err(BusError::of_bus(&refusal)),
            }
        }
        Err(silent(&format!("others put records of {block} all the time")))
    }

    /// The revision and the record of a block, in a bucket that is created if there is none.
    async fn current(&self, block: Prefix, key: &str) -> Result<(u64, Option<BanRecord>), BusError> {
        let answer = self.request(jetstream::get(self.subjects, key), None).await;
        match answer.and_then(|message| jetstream::got(&message)) {
            Ok((revision, text)) => Ok((revision, text.and_then(|text| records::read(block, &text)))),
            Err(Refusal::NoRecord) => Ok((0, None)),
            Err(Refusal::NoStream) => {
                self.create().await?;
                Ok((0, None))
            }
            Err(refusal) => Err(BusError::of_bus(&refusal)),
        }
    }

    async fn create(&self) -> Result<(), BusError> {
        for replicas in [REPLICAS, 1] {
            let answer = self.request(jetstream::create(self.subjects, replicas), None).await;
            match answer.and_then(|message| jetstream::done(&message)) {
                Ok(_) | Err(Refusal::OtherStream) => return Ok(()),
                Err(Refusal::NoPlaces) => {}
                Err(refusal) => return Err(BusError::of_bus(&refusal)),
            }
        }
        Err(BusError::of_bus(&Refusal::NoPlaces))
    }

    async fn request(
        &self,
        (subject, text): jetstream::Request,
        headers: Option<HeaderMap>,
    ) -> Result<Message, Refusal> {
        let mut request = Request::new().payload(text.into()).timeout(Some(BUS_WITHIN));
        request.headers = headers;
        // Nor does a request end when the connection has.
        let answer = timeout(2 * BUS_WITHIN, self.client.send_request(subject, request)).await;
        let silence = || Refusal::Other("it does not answer".to_owned());
        answer.map_err(|_| silence())?.map_err(|why: RequestError| match why.kind() {
            RequestErrorKind::NoResponders => Refusal::NoJetStream,
            RequestErrorKind::TimedOut => silence(),
            _ => Refusal::Other(why.to_string()),
        })
    }
}

/// Whether a block is banned.
fn holds(record: &BanRecord, clock: Clock) -> bool {
    match record.state {
        BanState::Forever => true,
        BanState::Until(seconds) => seconds.saturating_mul(1_000) > clock.day,
        BanState::Lifted => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_hold_until_their_end() {
        let block = "192.0.2.1".parse().expect("an address");
        let clock = Clock { now: 0, day: 5_000 };
        for (state, expected) in [
            (BanState::Forever, true),
            (BanState::Lifted, false),
            (BanState::Until(5), false),
            (BanState::Until(6), true),
            (BanState::Until(u64::MAX), true),
        ] {
            assert_eq!(holds(&BanRecord { block, state, at: 1 }, clock), expected, "{state:?}");
        }
    }
}
