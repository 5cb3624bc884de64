//! An agent: waits for coordinators, and runs its part of their loads, one after another.

mod facts;
mod runner;
mod state;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::Client;
use tine_load::run::clock::now;
use tine_load::units::nanoseconds;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::connect::{Bus, BusError, runtime};
use crate::events::{Happening, QUEUE, Stops, day, feed, note_bus, tick};
use crate::messages::{LOBBY, TICK, from, read, to, to_all, write};
use crate::names::Name;
use runner::Runner;
use state::{Agent, Deed};

pub use state::AgentEnd;

/// What an agent was told at its start.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The bus.
    pub bus: Bus,
    /// Whether it ends after one run.
    pub once: bool,
    /// The time after which it ends if no run has taken it.
    pub join_timeout: Option<Duration>,
    /// The directory for results that are not acknowledged.
    pub results: PathBuf,
    /// The command of its runner, whose standard input is a channel.
    pub runner: Vec<String>,
}

/// Runs as an agent, in this process, which must not fork afterwards. `tell` gets messages for the
/// user.
///
/// # Errors
/// It has no connection to the bus, or no memory or descriptors for one.
pub fn run(settings: &AgentSettings, tell: &mut dyn FnMut(&str)) -> Result<AgentEnd, BusError> {
    let stops = Stops::block().map_err(|why| BusError::of_system(&why))?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let name = facts::own_name().map_err(|why| BusError::of_system(&why))?;
        let (queue, happenings) = channel(QUEUE);
        let client = settings.bus.connect(name.as_str(), queue.clone()).await?;
        stops.feed(queue.clone());
        let lobby = client.subscribe(LOBBY).await.map_err(|why| BusError::of_bus(&why))?;
        let lobby = feed(lobby, queue.clone());
        tick(Duration::from_nanos(TICK), queue.clone());
        tell(&format!("agent {name} waits for a run on {}", settings.bus.shown()));
        let free_until = settings.join_timeout.map(|time| now() + nanoseconds(time));
        let agent = Agent::new(facts::facts(), settings.once, free_until);
        let mut process = AgentProcess {
            settings,
            name,
            client,
            queue,
            agent,
            run: None,
            runner: None,
            runners: 0,
            is_away: false,
            file: None,
        };
        let end = process.serve(happenings, tell).await;
        lobby.abort();
        // What was sent last is under way for as long as that may take.
        let _ = tokio::time::timeout(Duration::from_secs(2), process.client.flush()).await;
        Ok(end)
    })
}

/// The process of an agent.
struct AgentProcess<'a> {
    settings: &'a AgentSettings,
    name: Name,
    client: Client,
    queue: Sender<Happening>,
    agent: Agent,
    /// The run that it listens to, and the tasks that do.
    run: Option<(Name, [JoinHandle<()>; 2])>,
    runner: Option<Runner>,
    /// Number of runners so far: what earlier ones have said is left out.
    runners: u64,
    /// Whether the bus is away.
    is_away: bool,
    /// The file of the last result.
    file: Option<PathBuf>,
}

impl AgentProcess<'_> {
    async fn serve(&mut self, mut happenings: Receiver<Happening>, tell: &mut dyn FnMut(&str)) -> AgentEnd {
        while let Some(happening) = happenings.recv().await {
            for deed in self.decide(happening, tell) {
                if let Some(end) = self.apply(deed, tell).await {
                    return end;
                }
            }
        }
        AgentEnd::Done
    }

    fn decide(&mut self, happening: Happening, tell: &mut dyn FnMut(&str)) -> Vec<Deed> {
        let now = now();
        match happening {
            Happening::Message { subject, text } => self.on_message(&subject, &text, now),
            Happening::Bus(is_there) => {
                note_bus(&mut self.is_away, is_there).into_iter().for_each(tell);
                self.agent.on_bus(is_there, now)
            }
            Happening::BusError(why) => {
                tell(&format!("the bus reports: {why}"));
                Vec::new()
            }
            Happening::Signal => self.agent.on_signal(now),
            Happening::Tick => self.agent.on_tick(now),
            Happening::Runner(number, _) if number != self.runners || self.runner.is_none() => Vec::new(),
            Happening::Runner(_, Some(said)) => self.agent.on_runner(said, now),
            Happening::Runner(_, None) => self.agent.on_runner_end(),
        }
    }

    /// Messages that are none, or of a run that it has left, are left out.
    fn on_message(&mut self, subject: &str, text: &[u8], now: u64) -> Vec<Deed> {
        if subject == LOBBY {
            let announcement = read(text);
            return announcement.map_or(Vec::new(), |one| self.agent.on_announcement(one, now));
        }
        let Some((run, _)) = &self.run else { return Vec::new() };
        if subject == to_all(run) {
            read(text).map_or(Vec::new(), |message| self.agent.on_all(message, now))
        } else if subject == to(run, self.name.as_str()) {
            read(text).map_or(Vec::new(), |message| self.agent.on_message(message, now, day()))
        } else {
            Vec::new()
        }
    }

    async fn apply(&mut self, deed: Deed, tell: &mut dyn FnMut(&str)) -> Option<AgentEnd> {
        match deed {
            Deed::Listen(run) => self.listen(run, tell).await,
            Deed::Leave => self.leave(),
            Deed::Send(message) => {
                if let Some((run, _)) = &self.run {
                    let subject = from(run, self.name.as_str());
                    // It fails when the bus is away for good; the coordinator notices.
                    let _ = self.client.publish(subject, write(&message).into()).await;
                }
            }
            Deed::Run(order) => {
                self.runner = None;
                self.runners += 1;
                match Runner::start(&self.settings.runner, self.runners, self.queue.clone()) {
                    Ok(runner) => {
                        self.runner = Some(runner);
                        self.order(&order);
                    }
                    Err(why) => {
                        let why = format!("its runner cannot be started: {}", tine_sys::reason(&why));
                        self.say(crate::channel::Said::Cannot { why }, tell).await;
                    }
                }
            }
            Deed::Order(order) => self.order(&order),
            Deed::Terminate => self.runner.iter().for_each(Runner::terminate),
            Deed::Kill => self.runner = None,
            Deed::Keep(text) => self.keep(&text, tell),
            Deed::Forget => {
                // One that somebody has removed is not missed.
                self.file.take().map(std::fs::remove_file);
            }
            Deed::TellFile => match self.file.take() {
                Some(file) => tell(&format!(
                    "the result was not acknowledged: it is in {}, for `tine load merge`",
                    file.display()
                )),
                None => tell("the result was not acknowledged, and is lost"),
            },
            Deed::Tell(text) => tell(&text),
            Deed::End(end) => return Some(end),
        }
        None
    }

    /// An order that does not arrive is one that no runner is there for, and its end is reported.
    fn order(&self, order: &crate::channel::Order) {
        self.runner.iter().for_each(|runner| drop(runner.order(order)));
    }

    /// Puts something in the mouth of a runner that could not start.
    async fn say(&mut self, said: crate::channel::Said, tell: &mut dyn FnMut(&str)) {
        for deed in self.agent.on_runner(said, now()) {
            Box::pin(self.apply(deed, tell)).await;
        }
    }

    async fn listen(&mut self, run: Name, tell: &mut dyn FnMut(&str)) {
        tell(&format!("joins run {run}"));
        let mut tasks = Vec::new();
        for subject in [to_all(&run), to(&run, self.name.as_str())] {
            match self.client.subscribe(subject).await {
                Ok(subscriber) => tasks.push(feed(subscriber, self.queue.clone())),
                Err(why) => tell(&format!("cannot listen to run {run}: {why}")),
            }
        }
        self.run = tasks.try_into().ok().map(|tasks| (run, tasks));
    }

    fn leave(&mut self) {
        if let Some((_, tasks)) = self.run.take() {
            tasks.iter().for_each(JoinHandle::abort);
        }
    }

    /// Writes a result to a file of its own, before it is sent.
    fn keep(&mut self, text: &str, tell: &mut dyn FnMut(&str)) {
        let run = self.run.as_ref().map_or("", |(run, _)| run.as_str());
        let path = self.settings.results.join(format!("tine-load-{run}-{}.json", self.name));
        match write_new(&path, text) {
            Ok(()) => self.file = Some(path),
            Err(why) => tell(&format!("cannot write {}: {}", path.display(), tine_sys::reason(&why))),
        }
    }
}

/// Writes a file that does not exist, for this user only.
fn write_new(path: &std::path::Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
