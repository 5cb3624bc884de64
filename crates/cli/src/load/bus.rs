//! `tine load … --bus`, which has agents run a load, and `tine load agent`. No process here
//! generates load.

use std::process::ExitCode;

use tine_bus::agent::{self, AgentEnd, AgentSettings};
use tine_bus::connect::Bus;
use tine_bus::coordinator::parts::divide;
use tine_bus::coordinator::{self, Audience, CoordinatorSettings, Outcome};
use tine_load::plan::script::scripts;
use tine_load::plan::{Plan, Population};
use tine_load::run::measure::Progress;
use tine_load::verdict::threshold::Threshold;

use super::launch::{self, Launched};
use super::output::Files;
use super::plan;
use super::view::View;
use super::{code, conclude};
use crate::args::bus::{LoadAgent, Together};
use crate::args::load::{Measured, Options};
use crate::diagnostics::diagnostic;
use crate::error::Error;
use crate::resolve::Target;

/// Has agents run a load, and reports it.
pub(super) fn run_mode(
    populations: &[Population],
    args: &Measured,
    bus: Bus,
    limits: &[Threshold],
) -> Result<ExitCode, Error> {
    let hosts = args.together.ssh_hosts.as_deref().map(launch::hosts).transpose()?.unwrap_or_default();
    let settings = settings(&args.together, bus, hosts.len())?;
    let names = names(args)?;
    let planner = |processors| plan_for(populations, &names, &args.options, processors);
    // What can be wrong with the load is wrong for any number of processors.
    let plan = planner(settings.agents);
    let divided = plan.and_then(|plan| divide(&plan, &vec![1; settings.agents as usize]));
    divided.map_err(|why| Error::usage(why, "see `tine load MODE --help`"))?;
    let files = Files::open(&args.outputs)?;
    let _launched = Launched::start(&hosts, &settings.bus, settings.join_timeout)?;
    let is_quiet = args.outputs.quiet;
    let mut screen = Screen { view: None, has_no_view: args.outputs.no_tui || is_quiet, is_quiet };
    let outcome = coordinator::run(&settings, &planner, &mut screen)?;
    screen.view.iter().for_each(View::clear);
    match outcome {
        Outcome::Measured(report) => Ok(conclude(&report, limits, files, is_quiet)),
        Outcome::Interrupted => Ok(ExitCode::from(code::INTERRUPTED)),
        Outcome::Failed(why) => Err(Error::unavailable(
            format_args!("cannot start the load: {why}"),
            "start `tine load agent --bus URL` on each machine, and see what the agents say",
        )),
    }
}

fn settings(together: &Together, bus: Bus, hosts: usize) -> Result<CoordinatorSettings, Error> {
    let of_hosts = u32::try_from(hosts).ok().filter(|hosts| (1..=1000).contains(hosts));
    let Some(agents) = together.agents.or(of_hosts) else {
        return Err(Error::usage("--bus without --agents", "give the number of agents, as in --agents 4"));
    };
    if together.allow_lost >= agents {
        return Err(Error::usage(
            format_args!("all of {agents} agents may be lost (--allow-lost)"),
            "allow fewer",
        ));
    }
    let (allow_lost, join_timeout) = (together.allow_lost, together.join_timeout);
    Ok(CoordinatorSettings { bus, agents, allow_lost, join_timeout })
}

/// Returns the names of the addresses, which the agents resolve.
fn names(args: &Measured) -> Result<Vec<String>, Error> {
    let names = args.addresses.iter().map(|text| Target::name_over_tcp(text)).collect::<Result<_, _>>()?;
    if !args.options.all_addresses {
        return Ok(names);
    }
    let targets = args.addresses.iter().map(|text| Target::resolve(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(targets.into_iter().flat_map(Target::split).map(|target| target.name).collect())
}

fn plan_for(
    populations: &[Population],
    names: &[String],
    options: &Options,
    processors: u32,
) -> Result<Plan, String> {
    let processes = options.processes.or(Some(processors));
    let options = Options { processes, ..options.clone() };
    let plan = plan::plan(populations.to_vec(), names.to_vec(), &options);
    scripts(&plan).map_err(|why| format!("bad load: {why}"))?;
    Ok(plan)
}

/// What the user of a coordinator sees.
struct Screen {
    view: Option<View>,
    has_no_view: bool,
    is_quiet: bool,
}

impl Audience for Screen {
    fn tell(&mut self, text: &str) {
        if !self.is_quiet {
            self.view.iter().for_each(View::clear);
            self.view = None;
            diagnostic!("tine: {text}");
        }
    }

    fn show(&mut self, plan: &Plan, progress: &Progress) {
        let has_no_view = self.has_no_view;
        self.view.get_or_insert_with(|| View::new(plan, has_no_view)).show(progress);
    }
}

/// Runs `tine load agent`.
pub(super) fn run_agent(args: &LoadAgent) -> Result<ExitCode, Error> {
    let Some(bus) = args.bus.bus() else {
        return Err(Error::usage("an agent without a bus", "give --bus URL"));
    };
    let settings = AgentSettings {
        bus,
        once: args.once,
        join_timeout: args.join_timeout,
        results: args.results.clone(),
        // This program, also if another one is in its place by now.
        runner: ["/proc/self/exe", "load", "runner"].map(str::to_owned).to_vec(),
    };
    let end = agent::run(&settings, &mut |text| {
        if !args.quiet {
            diagnostic!("tine: {text}");
        }
    });
    match end? {
        AgentEnd::Done => Ok(ExitCode::SUCCESS),
        AgentEnd::Interrupted => Ok(ExitCode::from(code::INTERRUPTED)),
        AgentEnd::Failed(why) => Err(Error::unavailable(why, "start a load with the same --bus")),
    }
}
