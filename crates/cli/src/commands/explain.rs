//! `tine explain`: what would become of a client.

use std::process::ExitCode;

use tine::cli::{Decision, Moment, confirmed_name, decide};

use crate::args::{Explain, Serve, WhenLimited};
use crate::commands::describe::print;
use crate::commands::serve::{access, exempt};
use crate::config::{Config, Service};
use crate::error::Error;

/// Says for each service whether a client is let in, by which rule, and what limits hold for it then.
pub fn run(args: &Explain) -> Result<ExitCode, Error> {
    let config = Config::read(&args.file)?;
    let moment = args.at.unwrap_or_else(Moment::now);
    let mut text = String::new();
    for service in &config.services {
        let lines = explained(service, args, moment).map_err(|error| error.within(&service.place))?;
        text += &format!("{}: {}\n", service.name, lines.join("\n  "));
    }
    print(text.as_bytes())
}

/// The first line decides; those after it are about who is let in.
fn explained(service: &Service, args: &Explain, moment: Moment) -> Result<Vec<String>, Error> {
    let serve = &service.args;
    let access = access(serve)?;
    let looked_up = || args.name.clone().or_else(|| confirmed_name(args.peer));
    let name = serve.program.reverse_dns.then(looked_up).flatten();
    let decision = access.as_ref().map(|access| decide(access, args.peer, name.as_deref(), moment));
    let mut lines = vec![
        decision
            .as_ref()
            .map_or_else(|| "allowed: there are no rules".into(), |decision| said(decision, moment)),
    ];
    if serve.program.reverse_dns {
        lines.push(name.map_or_else(|| "its host has no name".into(), |name| format!("its host is {name}")));
    }
    if decision.is_none_or(|decision| decision.allowed) {
        lines.extend(limits(serve, args)?);
    }
    Ok(lines)
}

fn said(decision: &Decision, moment: Moment) -> String {
    let word = if decision.allowed { "allowed" } else { "denied" };
    match (decision.rule, decision.allowed) {
        (Some(times), _) if decision.outside_access_times => {
            format!("{word} at {moment}: access-times is {times}")
        }
        (Some(rule), _) => format!("{word} by: {rule}"),
        (None, true) => format!("{word}: no rule is about it"),
        (None, false) => format!("{word}: others are allowed, and no rule allows it"),
    }
}

/// What holds for the client's source and prefix.
fn limits(serve: &Serve, args: &Explain) -> Result<Vec<String>, Error> {
    let source = serve.per_source_net_block_size.source_of(args.peer);
    let prefix = serve.per_prefix_net_block_size.prefix_of(args.peer);
    let mut lines = Vec::new();
    for (what, whose, most, rate) in [
        ("source", source, serve.max_connections_per_source, serve.rate_per_source),
        ("prefix", prefix, serve.max_connections_per_prefix, serve.rate_per_prefix),
    ] {
        let most = most.map(|most| format!("at most {most} at a time"));
        let rate = rate.map(|rate| format!("at most {rate}"));
        let all: Vec<String> = most.into_iter().chain(rate).collect();
        if !all.is_empty() {
            lines.push(format!("its {what}, {whose}: {}", all.join(", ")));
        }
    }
    let is_punished = serve.per_source_penalties.0.is_some();
    if is_punished {
        let exempt =
            exempt(serve)?.is_some_and(|exempt| decide(&exempt, args.peer, None, Moment::now()).allowed);
        lines.push(
            if exempt { "it is never punished" } else { "it is punished for what its connections do" }.into(),
        );
    }
    if !lines.is_empty() {
        lines.push(match &serve.when_limited {
            WhenLimited::Delay => {
                format!(
                    "beyond that, it waits for {} at most",
                    humantime::format_duration(serve.delay_timeout)
                )
            }
            WhenLimited::Reject(_) => "beyond that, it is refused".into(),
            WhenLimited::Close => "beyond that, it is closed".into(),
        });
    }
    Ok(lines)
}
