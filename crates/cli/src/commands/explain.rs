//! `tine explain`: what the services of a configuration would do with a client.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::Server;
use tine::cli::{
    Decision, ExplainedLimit, ExplainedProxy, ExplainedVerdict, Moment, confirmed_name, decide, explain,
};

use crate::args::limits::LimitOptions;
use crate::args::parsed;
use crate::args::proxy::ProxyOptions;
use crate::commands::describe::print;
use crate::config::{Config, ServiceConfig};
use crate::error::Error;
use crate::exit;

/// `tine explain`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("The server decides by the same code.\n{}", exit::help("explain")))]
pub struct Explain {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The client's address
    #[arg(value_name = "PEER")]
    pub peer: IpAddr,

    /// Decide as at this time: 12:30 (today), 'Sat 12:30' or 2026-11-24T12:30, local time [default:
    /// now]
    #[arg(long, value_name = "TIME", value_parser = parsed::<Moment>)]
    pub at: Option<Moment>,

    /// Decide as for this host name [default: looked up for services with --reverse-dns]
    #[arg(long, value_name = "HOST")]
    pub name: Option<String>,

    /// Decide as for a client whose source and prefix have this many connections
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub connections: usize,
}

/// Prints for each service whether it allows a client, by which rule, and which limits apply to it.
pub(crate) fn run(args: &Explain) -> Result<ExitCode, Error> {
    let config = Config::read(&args.file)?;
    let moment = args.at.unwrap_or_else(Moment::now);
    let mut text = String::new();
    for service in &config.services {
        let lines = explained(service, args, moment).map_err(|error| error.within(&service.position))?;
        text += &format!("{}: {}\n", service.name, lines.join("\n  "));
    }
    print(text.as_bytes())
}

/// The lines about one service. The first is the decision, the others apply to an allowed client.
fn explained(service: &ServiceConfig, args: &Explain, moment: Moment) -> Result<Vec<String>, Error> {
    let serve = &service.args;
    let reverse_dns = serve.program.reverse_dns;
    let access = serve.access.access(reverse_dns)?;
    let looked_up = || args.name.clone().or_else(|| confirmed_name(args.peer));
    let name = reverse_dns.then(looked_up).flatten();
    let decision = access.as_ref().map(|access| decide(access, args.peer, name.as_deref(), moment));
    let mut lines = vec![
        decision
            .as_ref()
            .map_or_else(|| "allowed: there are no rules".into(), |decision| said(decision, moment)),
    ];
    if reverse_dns {
        lines.push(name.map_or_else(|| "its host has no name".into(), |name| format!("its host is {name}")));
    }
    if decision.is_none_or(|decision| decision.allowed) {
        lines.extend(limits(&serve.limits, &serve.proxy, args)?);
        let excluded = serve.connection_log.excluded()?;
        if excluded.is_some_and(|clients| decide(&clients, args.peer, None, moment).allowed) {
            lines.push("its connections are logged only if they fail".into());
        }
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
        (None, true) => format!("{word}: no rule matches"),
        (None, false) => format!("{word}: no rule allows it, and others are allowed"),
    }
}

/// The limits of the client's source and prefix, and what they do with the client.
fn limits(options: &LimitOptions, proxy: &ProxyOptions, args: &Explain) -> Result<Vec<String>, Error> {
    let server = proxy.apply(options.apply(Server::new())?)?;
    let explanation = explain(&server, args.peer, args.connections)?;
    let mut lines: Vec<String> = explanation.limits.iter().map(limit).collect();
    lines.extend(explanation.penalized.map(|penalized| match penalized {
        true => "it gets penalties for faults of its connections".into(),
        false => "it is exempt from penalties".into(),
    }));
    if !lines.is_empty() {
        lines.push(match explanation.over_limit {
            ExplainedVerdict::Delayed(_, timeout) => {
                format!("beyond that, it is delayed for {} at most", humantime::format_duration(timeout))
            }
            ExplainedVerdict::Closed(_) => "beyond that, it is closed".into(),
            ExplainedVerdict::Rejected(_) | ExplainedVerdict::Admitted => {
                "beyond that, it is rejected".into()
            }
        });
    }
    if args.connections > 0 {
        lines.push(format!("with {} connections, it is {}", args.connections, verdict(explanation.verdict)));
    }
    lines.extend(explanation.proxy.map(connection));
    Ok(lines)
}

/// What happens to a connection from the address itself, instead of one of a proxy for it.
fn connection(explained: ExplainedProxy) -> String {
    match explained {
        ExplainedProxy::MustSendHeader(time) => format!(
            "if it connects itself, it is a proxy: it must send a PROXY header within {}",
            humantime::format_duration(time)
        ),
        ExplainedProxy::Served => "if it connects itself, no PROXY header is looked for".into(),
        ExplainedProxy::Rejected(reason) => {
            format!("if it connects itself, it is rejected (reason={reason}): it is not a proxy")
        }
    }
}

fn limit(limit: &ExplainedLimit) -> String {
    let max = limit.max_connections.map(|max| format!("at most {max} at a time"));
    let rate = limit.rate.map(|rate| format!("at most {rate}"));
    let all: Vec<String> = max.into_iter().chain(rate).collect();
    format!("its {}, {}: {}", limit.of, limit.block, all.join(", "))
}

fn verdict(verdict: ExplainedVerdict) -> String {
    match verdict {
        ExplainedVerdict::Admitted => "admitted".into(),
        ExplainedVerdict::Delayed(reason, _) => format!("delayed (reason={reason})"),
        ExplainedVerdict::Rejected(reason) => format!("rejected (reason={reason})"),
        ExplainedVerdict::Closed(reason) => format!("closed (reason={reason})"),
    }
}
