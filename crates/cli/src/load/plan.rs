//! From options to a load that is ready to run.

use std::time::Duration;

use tine_load::plan::endpoint::Endpoint;
use tine_load::plan::part::Part;
use tine_load::plan::script::scripts;
use tine_load::plan::sources::{Block, Sources};
use tine_load::plan::{MessageText, Mode, Plan, Population};
use tine_load::run::load::Load;
use tine_load::units::nanoseconds;

use crate::args::load::Options;
use crate::error::Error;
use crate::resolve::Target;

/// Creates a load, with every default filled in and its addresses resolved.
pub(super) fn load(
    populations: Vec<Population>,
    addresses: &[String],
    options: &Options,
) -> Result<Load, Error> {
    let mut targets = addresses.iter().map(|text| Target::resolve(text)).collect::<Result<Vec<_>, _>>()?;
    if options.all_addresses {
        targets = targets.into_iter().flat_map(Target::split).collect();
    }
    check(&populations, options)?;
    let names = targets.iter().map(|target| target.name.clone()).collect();
    let plan = plan(populations, names, options);
    let targets: Vec<Vec<Endpoint>> = targets.into_iter().map(|target| target.endpoints).collect();
    let scripts = scripts(&plan)
        .map_err(|why| Error::usage(format_args!("bad load: {why}"), "see `tine load MODE --help`"))?;
    let sources = sources(&options.source, &targets)?;
    Ok(Load { part: Part::whole(&plan), plan, scripts, targets, sources, proxy: options.proxy.headers() })
}

/// Checks what the parser of the command line cannot.
pub(super) fn check(populations: &[Population], options: &Options) -> Result<(), Error> {
    if options.half_close && !populations.iter().any(|one| one.mode == Mode::Crr) {
        return Err(Error::usage(
            "--half-close is for connections that end with a reply",
            "use it with crr, or with a mix that has crr",
        ));
    }
    Ok(())
}

/// Makes the sources of connections to targets.
pub(super) fn sources(blocks: &[Block], targets: &[Vec<Endpoint>]) -> Result<Sources, Error> {
    let all: Vec<&Endpoint> = targets.iter().flatten().collect();
    let sources = Sources::new(blocks.to_vec(), &all);
    match blocks.is_empty() || all.iter().any(|endpoint| sources.serve(endpoint)) {
        true => Ok(sources),
        false => Err(Error::usage(
            "no --source is of the address family of a target",
            "give IPv4 sources for IPv4 targets, IPv6 sources for IPv6 targets",
        )),
    }
}

/// Creates a plan, with every default filled in.
pub(super) fn plan(populations: Vec<Population>, targets: Vec<String>, options: &Options) -> Plan {
    let is = |mode| matches!(populations.as_slice(), [one] if one.mode == mode);
    let has = |mode| populations.iter().any(|one: &Population| one.mode == mode);
    let processors =
        std::thread::available_parallelism().map_or(1, |number| u32::try_from(number.get()).unwrap_or(1));
    let processes = options.processes.unwrap_or(processors);
    let connections = options.connections.unwrap_or(match options.rate {
        _ if is(Mode::Hold) => 1000,
        Some(_) => 1024,
        None => 16 * processes,
    });
    let stays = has(Mode::Silent) || has(Mode::Hold) || has(Mode::Stream) && options.size.is_none();
    let default_duration = (options.requests.is_none() || stays).then_some(Duration::from_secs(10));
    let default_size = match () {
        () if is(Mode::Stream) => None,
        () if is(Mode::Echo) => Some(1 << 20),
        () => Some(64),
    };
    let message = match (&options.message, &options.template) {
        (Some(text), _) => MessageText::Text(text.clone()),
        (None, Some(text)) => MessageText::Template(text.clone()),
        (None, None) => MessageText::Size(options.size.or(default_size)),
    };
    let default_think = if is(Mode::Hold) { Duration::from_secs(5) } else { Duration::ZERO };
    Plan {
        targets,
        processes: processes.min(connections),
        connections,
        rate: options.rate,
        arrivals: options.arrivals,
        warmup_ns: nanoseconds(options.warmup),
        ramp_ns: nanoseconds(options.ramp),
        duration_ns: options.duration.or(default_duration).map(nanoseconds),
        requests: options.requests,
        per_connection: options.per_connection,
        close: options.close,
        half_close: options.half_close,
        message,
        expect: options.expect.clone(),
        think_ns: nanoseconds(options.think.unwrap_or(default_think)),
        pace_ns: nanoseconds(options.pace),
        timeout_ns: nanoseconds(options.timeout),
        max_lateness_ns: nanoseconds(options.max_lateness),
        sources: options.source.iter().map(ToString::to_string).collect(),
        proxy_header: options.proxy.proxy_header,
        proxy_sources: options.proxy.proxy_source.iter().map(ToString::to_string).collect(),
        seed: options.seed,
        populations,
    }
}
