//! A coordinator: gathers agents, divides a load among them, starts them at one moment, and unites
//! their results. It connects to the bus and to no server.

mod member;
pub mod parts;
mod state;

use std::time::Duration;

use async_nats::Client;
use tine_load::plan::Plan;
use tine_load::report::Report;
use tine_load::run::clock::now;
use tine_load::run::measure::Progress;
use tine_load::units::nanoseconds;
use tokio::sync::mpsc::{Receiver, channel};

use crate::connect::{Bus, BusError, runtime};
use crate::events::{Happening, QUEUE, Stops, day, feed, note_bus, tick};
use crate::messages::{Announcement, LOBBY, TICK, VERSION, from, read, to, to_all, write};
use crate::names::Name;
use state::{Action, Coordinator, Ending, Planner, Wanted};

/// What a coordinator was told.
#[derive(Clone, Debug)]
pub struct CoordinatorSettings {
    /// The bus.
    pub bus: Bus,
    /// Number of agents.
    pub agents: u32,
    /// Number of agents that may be lost.
    pub allow_lost: u32,
    /// Time in which they have to join.
    pub join_timeout: Duration,
}

/// How a run has ended.
#[derive(Debug)]
pub enum Outcome {
    /// With a result.
    Measured(Box<Report>),
    /// A signal ended it before the start.
    Interrupted,
    /// It could not start.
    Failed(String),
}

/// What the user gets to see.
pub trait Audience {
    /// A message.
    fn tell(&mut self, text: &str);

    /// The progress of all agents together.
    fn show(&mut self, plan: &Plan, progress: &Progress);
}

/// Runs a load on agents, in this process, which must not fork afterwards. `planner` makes the plan
/// for a number of processors.
///
/// # Errors
/// It has no connection to the bus, or no memory or descriptors for one.
pub fn run(
    settings: &CoordinatorSettings,
    planner: &dyn Fn(u32) -> Result<Plan, String>,
    audience: &mut dyn Audience,
) -> Result<Outcome, BusError> {
    let stops = Stops::block().map_err(|why| BusError::of_system(&why))?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let run = Name::random(16).map_err(|why| BusError::of_system(&why))?;
        let (queue, happenings) = channel(QUEUE);
        let client = settings.bus.connect(&format!("tine-load-{run}"), queue.clone()).await?;
        stops.feed(queue.clone());
        let subscriber = client.subscribe(from(&run, "*")).await.map_err(|why| BusError::of_bus(&why))?;
        feed(subscriber, queue.clone());
        tick(Duration::from_nanos(TICK), queue);
        let mut process = CoordinatorProcess { run, client, is_away: false };
        let outcome = process.coordinate(settings, planner, happenings, audience).await;
        // What was sent last is under way for as long as that may take.
        let _ = tokio::time::timeout(Duration::from_secs(2), process.client.flush()).await;
        Ok(outcome)
    })
}

/// The process of a coordinator.
struct CoordinatorProcess {
    run: Name,
    client: Client,
    /// Whether the bus is away.
    is_away: bool,
}

impl CoordinatorProcess {
    async fn coordinate(
        &mut self,
        settings: &CoordinatorSettings,
        planner: Planner<'_>,
        mut happenings: Receiver<Happening>,
        audience: &mut dyn Audience,
    ) -> Outcome {
        let wanted = Wanted {
            agents: settings.agents as usize,
            allow_lost: settings.allow_lost,
            join_by: now() + nanoseconds(settings.join_timeout),
        };
        let mut coordinator = Coordinator::new(wanted, planner);
        while let Some(happening) = happenings.recv().await {
            for action in self.decide(&mut coordinator, happening, audience) {
                if let Action::End(ending) = action {
                    return outcome(ending, coordinator);
                }
                self.apply(action, audience).await;
            }
            if let Some(plan) = coordinator.plan() {
                let (elapsed_ns, numbers) = coordinator.progress(now());
                audience.show(plan, &Progress { elapsed_ns, numbers });
            }
        }
        Outcome::Failed("nothing happens any more".into())
    }

    fn decide(
        &mut self,
        coordinator: &mut Coordinator,
        happening: Happening,
        audience: &mut dyn Audience,
    ) -> Vec<Action> {
        let now = now();
        match happening {
            Happening::Message { subject, text } => {
                // The last part of the subject is the agent. Messages that are none are left out.
                let agent = subject.rsplit('.').next().map(|name| Name::try_from(name.to_owned()));
                match (agent, read(&text)) {
                    (Some(Ok(agent)), Some(message)) => coordinator.on_message(&agent, message, now, day()),
                    _ => Vec::new(),
                }
            }
            Happening::Bus(is_there) => {
                let text = note_bus(&mut self.is_away, is_there);
                text.into_iter().for_each(|text| audience.tell(text));
                coordinator.on_bus(is_there, now);
                Vec::new()
            }
            Happening::BusError(why) => {
                audience.tell(&format!("the bus reports: {why}"));
                Vec::new()
            }
            Happening::Signal => coordinator.on_interrupt(now),
            Happening::Tick => coordinator.on_tick(now),
            Happening::Runner(..) => Vec::new(),
        }
    }

    async fn apply(&self, action: Action, audience: &mut dyn Audience) {
        let (subject, text) = match action {
            Action::Announce => {
                let announcement = Announcement { version: VERSION, run: self.run.clone() };
                (LOBBY.to_owned(), write(&announcement))
            }
            Action::To(agent, message) => (to(&self.run, agent.as_str()), write(&message)),
            Action::All(message) => (to_all(&self.run), write(&message)),
            Action::Tell(text) => return audience.tell(&text),
            Action::End(_) => return,
        };
        if let Err(why) = self.client.publish(subject, text.into()).await {
            audience.tell(&format!("cannot send on the bus: {why}"));
        }
    }
}

fn outcome(ending: Ending, coordinator: Coordinator) -> Outcome {
    match ending {
        Ending::Interrupted => Outcome::Interrupted,
        Ending::Failed(why) => Outcome::Failed(why),
        Ending::Measured => match coordinator.into_report() {
            Some(report) => Outcome::Measured(Box::new(report)),
            None => Outcome::Failed("there is no plan".into()),
        },
    }
}
