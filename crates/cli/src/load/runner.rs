//! The runner of an agent: a process that an agent starts, which forks load workers, as `tine load`
//! does without a bus. Its standard input is the channel to the agent. It knows nothing of the bus.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use tine_bus::channel::{Incoming, Order, Said, tell, tell_if_there_is_room};
use tine_bus::messages::Assignment;
use tine_load::plan::Plan;
use tine_load::plan::endpoint::Endpoint;
use tine_load::plan::proxy::ProxyHeaders;
use tine_load::plan::script::scripts;
use tine_load::plan::sources::Block;
use tine_load::report::Report;
use tine_load::run::load::Load;
use tine_load::run::measure::measure_from;

use super::cannot_start;
use super::plan::sources;
use crate::error::Error;
use crate::resolve::Target;

/// Time between two notices of the progress.
const PROGRESS: Duration = Duration::from_millis(250);

/// Runs one part of a load, by the orders of an agent. Ends at the end of the channel.
pub(super) fn run() -> Result<ExitCode, Error> {
    let _ = rustix::thread::set_name(c"tine: runner");
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(|why| without_agent(&why))?;
    let mut incoming = Incoming::default();
    let order = incoming.next(&channel).map_err(|why| without_agent(&why))?;
    let Some(Order::Prepare(assignment)) = order else { return Ok(ExitCode::SUCCESS) };
    let load = match prepare(&assignment) {
        Ok(load) => load,
        Err(why) => return cannot(&channel, &why),
    };
    tell(&channel, &Said::Ready).map_err(|why| without_agent(&why))?;
    let order = incoming.next(&channel).map_err(|why| without_agent(&why))?;
    let Some(Order::Begin { at_ns }) = order else { return Ok(ExitCode::SUCCESS) };
    let measured = measure_from(&load, at_ns, Some(PROGRESS), &mut |progress| {
        // An agent that is gone takes this process with it.
        let _ = tell_if_there_is_room(&channel, &Said::Progress { numbers: Box::new(progress.numbers) });
    });
    let measurement = match measured {
        Ok(measurement) => measurement,
        Err(why) => return cannot(&channel, &cannot_start(&why)),
    };
    let report = Report::new(&load.part.of_plan(&load.plan), measurement);
    // Serializing cannot fail: all maps have strings for keys.
    let text = serde_json::to_string(&report).unwrap_or_default();
    tell(&channel, &Said::Result { text }).map_err(|why| without_agent(&why))?;
    Ok(ExitCode::SUCCESS)
}

fn without_agent(why: &io::Error) -> Error {
    Error::system("the agent does not answer", why, "start `tine load agent`, which starts this")
}

fn cannot(channel: &OwnedFd, why: &Error) -> Result<ExitCode, Error> {
    let said = Said::Cannot { why: why.to_string() };
    tell(channel, &said).map_err(|why| without_agent(&why))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a load of a plan, with the addresses as this machine resolves them.
fn prepare(assignment: &Assignment) -> Result<Load, Error> {
    let plan = assignment.plan.clone();
    let unusable = |why: String| Error::usage(why, "give another load");
    plan.targets.iter().try_for_each(|text| Target::name_over_tcp(text).map(drop))?;
    let targets = plan.targets.iter().map(|text| Target::resolve(text)).collect::<Result<Vec<_>, _>>()?;
    let targets: Vec<Vec<Endpoint>> = targets.into_iter().map(|target| target.endpoints).collect();
    let sources = sources(&blocks(&plan.sources).map_err(unusable)?, &targets)?;
    let proxy = proxy(&plan).map_err(unusable)?;
    let scripts = scripts(&plan).map_err(unusable)?;
    Ok(Load { part: assignment.part, plan, scripts, targets, sources, proxy })
}

fn blocks(texts: &[String]) -> Result<Vec<Block>, String> {
    texts.iter().map(|text| text.parse()).collect()
}

fn proxy(plan: &Plan) -> Result<Option<ProxyHeaders>, String> {
    let sources = blocks(&plan.proxy_sources)?;
    Ok(plan.proxy_header.map(|version| ProxyHeaders { version, sources }))
}
