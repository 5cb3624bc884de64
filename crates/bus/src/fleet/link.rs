//! The process of a link: waits for the bus, its service and the time, and applies what is decided.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering as Memory;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tine::cli::{LinkRecord, Linked};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::asks;
use super::clock::Clock;
use super::deeds::BusDeed;
use super::files::{Kept, Originals, of_resolver, readable};
use super::jetstream::expecting;
use super::messages::Ask;
use super::settings::LinkSettings;
use super::state::Fleet;
use super::subjects::Subjects;
use crate::connect::{runtime, timed};
use crate::names::{Name, bounded};

/// Time between two messages to the service, at least.
const TICK: Duration = Duration::from_millis(25);
/// Time in which what was sent last has to be under way.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// The port of name servers.
const DNS: u16 = 53;
/// Complaints of the bus that wait, messages of the service that are read at a time, and
/// ticks between two looks at the files, while the bus is away.
const COMPLAINTS: usize = 16;
const MESSAGES: usize = 16;
const LOOK_EACH: u32 = 40;

/// Runs until the service ends.
///
/// # Errors
/// Why it cannot run.
pub(super) fn run(linked: &Linked) -> Result<(), String> {
    let text = linked.wait_for_start().map_err(|why| format!("no settings: {why}"))?;
    let mut settings = LinkSettings::parse(&text).ok_or("the settings are of another version")?;
    let runtime = runtime().map_err(|why| why.what)?;
    let (servers, _) = settings.bus.options().map_err(|why| format!("{}; {}", why.what, why.next))?;
    let mut ports: Vec<u16> = servers.iter().map(|server| server.port()).collect();
    ports.push(DNS);
    let originals = Originals::note(of_resolver().into_iter().chain(settings.bus.ca.clone()));
    let kept = match &settings.bus.ca {
        Some(file) => Kept::of_file(file).map_err(|why| format!("cannot use {}: {why}", file.display()))?,
        None => Kept::of_system().map_err(|why| format!("cannot keep the authorities: {why}"))?,
    };
    let incarnation = Name::random(16).map_err(|why| format!("no random numbers: {why}"))?;
    tine::cli::confine_link(&readable(), &ports).map_err(|why| format!("cannot confine itself: {why}"))?;
    let is_own = settings.bus.ca.replace(kept.path()).is_some();
    runtime.block_on(tokio::task::unconstrained(async {
        let link = Link::new(linked, &settings, is_own, incarnation).await?;
        link.serve(&originals).await
    }))
}

/// What is listened to.
struct Ears {
    nodes: Subscriber,
    asks: Subscriber,
    own_asks: Subscriber,
    orders: Subscriber,
    answers: Subscriber,
    /// The bucket, and the number of the watch.
    watch: Option<(u64, Subscriber)>,
    complaints: Receiver<String>,
    service: UnixStream,
    ticks: Interval,
}

/// Something that happens.
enum LinkEvent {
    Node(Message),
    Ask(Message),
    FleetOrder(Message),
    Answer(Message),
    Watched(u64, Option<Message>),
    Complaint(String),
    Service,
    Tick,
    /// The client has ended, for a reason that it has told.
    ClientEnd,
}

impl Ears {
    async fn next(&mut self) -> LinkEvent {
        let of = |message: Option<Message>, happening: fn(Message) -> LinkEvent| {
            message.map_or(LinkEvent::ClientEnd, happening)
        };
        let watch = async {
            match &mut self.watch {
                Some((generation, watch)) => (*generation, watch.next().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.nodes.next() => of(message, LinkEvent::Node),
            message = self.asks.next() => of(message, LinkEvent::Ask),
            message = self.own_asks.next() => of(message, LinkEvent::Ask),
            message = self.orders.next() => of(message, LinkEvent::FleetOrder),
            message = self.answers.next() => of(message, LinkEvent::Answer),
            (generation, message) = watch => LinkEvent::Watched(generation, message),
            Some(text) = self.complaints.recv() => LinkEvent::Complaint(text),
            // An error is found when it is read.
            _ = self.service.readable() => LinkEvent::Service,
            _ = self.ticks.tick() => LinkEvent::Tick,
        }
    }
}

/// The process.
struct Link<'a> {
    linked: &'a Linked,
    client: Client,
    fleet: Fleet,
    ears: Ears,
    /// The connections so far, if the bus is there.
    connection: Option<u64>,
    ticks: u32,
}

impl Link<'_> {
    /// Listens; the connection is made when the bus is there. With `has_ca`, it requires TLS.
    async fn new<'a>(
        linked: &'a Linked,
        settings: &LinkSettings,
        has_ca: bool,
        incarnation: Name,
    ) -> Result<Link<'a>, String> {
        let (complain, complaints) = channel(COMPLAINTS);
        let client = connect(settings, has_ca, complain).await?;
        let inbox = client.new_inbox();
        let subjects = Subjects::new(settings.fleet.clone());
        let node = settings.node.as_str();
        let listen = async |subject: String| {
            client.subscribe(subject).await.map_err(|why| format!("cannot listen to the bus: {why}"))
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ears = Ears {
            nodes: listen(subjects.node("*")).await?,
            asks: listen(subjects.ask_all()).await?,
            own_asks: listen(subjects.ask(node)).await?,
            orders: listen(subjects.order(node)).await?,
            answers: listen(format!("{inbox}.*")).await?,
            watch: None,
            complaints,
            service: waiting_for(linked).map_err(|why| format!("cannot use the channel: {why}"))?,
            ticks,
        };
        let fleet = Fleet::new(settings, incarnation, inbox, Clock::read());
        linked.send(&[LinkRecord::Ready]).map_err(|why| format!("cannot report: {why}"))?;
        Ok(Link { linked, client, fleet, ears, connection: None, ticks: 0 })
    }

    async fn serve(mut self, originals: &Originals) -> Result<(), String> {
        loop {
            let happening = self.ears.next().await;
            self.fleet.set_clock(Clock::read());
            match happening {
                LinkEvent::Node(message) => self.fleet.on_node(&message),
                LinkEvent::Ask(message) => self.ask(&message),
                LinkEvent::FleetOrder(message) => self.fleet.on_order(&message),
                LinkEvent::Answer(message) => self.fleet.on_reply(&message),
                LinkEvent::Watched(generation, Some(message)) => self.fleet.on_watched(generation, &message),
                LinkEvent::Watched(..) => self.ears.watch = None,
                LinkEvent::Complaint(text) => self.fleet.on_bus_error(&text),
                LinkEvent::Service if self.hear().is_err() => break,
                LinkEvent::Service => {}
                LinkEvent::Tick => {
                    self.look_at_connection();
                    self.fleet.on_tick();
                    if self.fleet.tell(self.linked).is_err() {
                        break;
                    }
                    self.look_at_files(originals)?;
                }
                LinkEvent::ClientEnd => return Err("the connection to the bus has ended for good".into()),
            }
            self.apply().await;
        }
        self.fleet.on_end();
        self.apply().await;
        if self.connection.is_some() {
            let _ = timeout(FLUSH_WITHIN, self.client.flush()).await;
        }
        Ok(())
    }

    /// Notes whether there is a connection, and whether it is another one: events of the client can
    /// be lost.
    fn look_at_connection(&mut self) {
        let is_there = self.client.connection_state() == State::Connected;
        let number = self.client.statistics().connects.load(Memory::Relaxed);
        let connection = is_there.then_some(number);
        if connection != self.connection {
            self.connection = connection;
            self.ears.watch = None;
            self.fleet.on_bus(is_there);
        }
    }

    /// Ends while the bus is away and a file has changed, so that the next link reads the new one.
    fn look_at_files(&mut self, originals: &Originals) -> Result<(), String> {
        self.ticks += 1;
        if self.connection.is_some() || !self.ticks.is_multiple_of(LOOK_EACH) {
            return Ok(());
        }
        let restart = |file: &std::path::Path| format!("it starts anew, as {} has changed", file.display());
        originals.changed().map_or(Ok(()), |file| Err(restart(file)))
    }

    /// Reads what the service has said.
    ///
    /// # Errors
    /// It has ended.
    fn hear(&mut self) -> io::Result<()> {
        for _ in 0..MESSAGES {
            match self.ears.service.try_io(Interest::READABLE, || self.linked.receive()) {
                Ok(records) => records.into_iter().for_each(|record| self.fleet.on_service(record)),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Passes a question of an operator on.
    fn ask(&mut self, message: &Message) {
        let Some(reply) = message.reply.clone() else { return };
        let Ok(Ask { ask }) = serde_json::from_slice(&message.payload) else { return };
        if !self.fleet.may_ask() {
            return;
        }
        // A service that does not take it now does not answer: the operator sees that.
        let Ok(stream) = self.linked.ask() else { return };
        let (client, answer) = (self.client.clone(), self.fleet.answer());
        tokio::spawn(async move {
            let text = asks::ask(stream, ask, answer).await;
            // Without a connection, nobody waits for it any more.
            let _ = client.publish(reply, text.into()).await;
        });
    }

    /// Does what was decided. What the client does not take at once is lost, as on the way: while
    /// the bus is stuck, nothing waits for it.
    async fn apply(&mut self) {
        for deed in self.fleet.take_deeds() {
            match deed {
                BusDeed::Watch { generation, inbox } => {
                    let watch = self.client.subscribe(inbox).now_or_never();
                    self.ears.watch = watch.and_then(Result::ok).map(|watch| (generation, watch));
                }
                BusDeed::Publish { subject, reply, revision, text } => {
                    let (client, text) = (&self.client, text.into());
                    let _ = match (reply, revision) {
                        (None, _) => client.publish(subject, text).now_or_never(),
                        (Some(reply), None) => client.publish_with_reply(subject, reply, text).now_or_never(),
                        (Some(reply), Some(revision)) => client
                            .publish_with_reply_and_headers(subject, reply, expecting(revision), text)
                            .now_or_never(),
                    };
                }
            }
        }
    }
}

/// The channel, for the runtime to wait for: it asks for no more than readiness.
fn waiting_for(linked: &Linked) -> io::Result<UnixStream> {
    let channel = std::os::unix::net::UnixStream::from(linked.as_fd().try_clone_to_owned()?);
    channel.set_nonblocking(true)?;
    UnixStream::from_std(channel)
}

/// Makes the client, which connects when the bus is there, and again.
async fn connect(settings: &LinkSettings, has_ca: bool, complain: Sender<String>) -> Result<Client, String> {
    let (servers, options) = settings.bus.options().map_err(|why| format!("{}; {}", why.what, why.next))?;
    timed(options)
        .name(format!("tine {}", settings.node))
        // The authorities of the system do not ask for TLS.
        .require_tls(has_ca)
        .retry_on_initial_connect()
        .event_callback(move |event| {
            let text = match event {
                Event::ServerError(why) => Some(why.to_string()),
                Event::ClientError(why) => Some(why.to_string()),
                _ => None,
            };
            // One that does not fit is like the others.
            let text = text.map(|text| bounded(text.trim_start_matches("nats: ")));
            text.map(|text| complain.try_send(text));
            async {}
        })
        .connect(servers)
        .await
        .map_err(|why| format!("cannot use the bus {}: {why}", settings.bus.shown()))
}
