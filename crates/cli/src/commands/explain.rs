//! `tine explain`: what the services of a configuration would do with a client.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::cli::{
    Decision, ExplainedClient, ExplainedLimit, ExplainedProxy, ExplainedVerdict, Moment, confirmed_name,
    decide, explain,
};
use tine::{Identity, LimitsMode, Server};

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

    /// The client: its address, or for a client of a Unix socket uid:USER and its groups, as in
    /// uid:1000 gid:100 gid:27 [default of the groups: those of the user]
    #[arg(value_name = "PEER", required = true, value_parser = peer_word)]
    pub peer: Vec<PeerWord>,

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

/// A word about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerWord {
    /// Its address.
    Address(IpAddr),
    /// The user of a client of a Unix socket, by name or number.
    User(String),
    /// One of its groups, by name or number.
    Group(String),
}

fn peer_word(text: &str) -> Result<PeerWord, &'static str> {
    match (text.strip_prefix("uid:"), text.strip_prefix("gid:"), text.parse()) {
        (Some(user), ..) => Ok(PeerWord::User(user.into())),
        (_, Some(group), _) => Ok(PeerWord::Group(group.into())),
        (.., Ok(address)) => Ok(PeerWord::Address(address)),
        (.., Err(_)) => Err("write an IP address, or uid:USER and gid:GROUP"),
    }
}

/// The client of these words. Without groups, it has those of its user.
fn client(words: &[PeerWord]) -> Result<ExplainedClient, Error> {
    if let [PeerWord::Address(address)] = words {
        return Ok(ExplainedClient::Address(*address));
    }
    let (mut user, mut groups) = (None, Vec::new());
    for word in words {
        match word {
            PeerWord::User(name) if user.is_none() => user = Some(name),
            PeerWord::Group(group) => groups.push(Identity::of_group(group)?.gid),
            PeerWord::User(_) | PeerWord::Address(_) => return Err(not_one_client()),
        }
    }
    let own = Identity::of_user(user.ok_or_else(not_one_client)?)?;
    let uid = own.uid.unwrap_or(u32::MAX);
    Ok(match groups.split_first() {
        Some((gid, groups)) => ExplainedClient::Local { uid, gid: *gid, groups: groups.to_vec() },
        None => ExplainedClient::Local { uid, gid: own.gid, groups: own.groups },
    })
}

fn not_one_client() -> Error {
    Error::usage(
        "the words after FILE are not one client",
        "give one IP address, or one uid:USER and its gid:GROUP",
    )
}

/// Prints for each service whether it allows a client, by which rule, and which limits apply to it.
pub(crate) fn run(args: &Explain) -> Result<ExitCode, Error> {
    let config = Config::read(&args.file)?;
    let client = client(&args.peer)?;
    let moment = args.at.unwrap_or_else(Moment::now);
    let mut text = String::new();
    for service in &config.services {
        let lines =
            explained(service, args, &client, moment).map_err(|error| error.within(&service.position))?;
        text += &format!("{}: {}\n", service.name, lines.join("\n  "));
    }
    print(text.as_bytes())
}

/// The lines about one service. The first is the decision, the others apply to an allowed client.
fn explained(
    service: &ServiceConfig,
    args: &Explain,
    client: &ExplainedClient,
    moment: Moment,
) -> Result<Vec<String>, Error> {
    let serve = &service.args;
    let reverse_dns = serve.program.reverse_dns;
    let access = serve.access.access(reverse_dns)?;
    // A client of a Unix socket has no host.
    let address = match client {
        ExplainedClient::Address(address) if reverse_dns => Some(*address),
        _ => None,
    };
    let name = address.and_then(|address| args.name.clone().or_else(|| confirmed_name(address)));
    let decision = access.as_ref().map(|access| decide(access, client, name.as_deref(), moment));
    let mut lines = vec![
        decision
            .as_ref()
            .map_or_else(|| "allowed: there are no rules".into(), |decision| said(decision, moment)),
    ];
    if address.is_some() {
        lines.push(name.map_or_else(|| "its host has no name".into(), |name| format!("its host is {name}")));
    }
    if decision.is_none_or(|decision| decision.allowed) {
        lines.extend(limits(&serve.limits, &serve.proxy, client, args.connections)?);
        let excluded = serve.connection_log.excluded()?;
        if excluded.is_some_and(|clients| decide(&clients, client, None, moment).rule.is_some()) {
            lines.push("its connections are logged only if they fail".into());
        }
    }
    if serve.limits.limits == LimitsMode::Report {
        lines.push("limits and rules are only reported: it is served in any case (limits = report)".into());
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
fn limits(
    options: &LimitOptions,
    proxy: &ProxyOptions,
    client: &ExplainedClient,
    connections: usize,
) -> Result<Vec<String>, Error> {
    let server = proxy.apply(options.apply(Server::new())?)?;
    let explanation = explain(&server, client, connections)?;
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
        if matches!(explanation.over_limit, ExplainedVerdict::Delayed(..)) {
            let of_fleet = explanation.over_fleet.map(verdict);
            lines.extend(of_fleet.map(|verdict| format!("beyond a limit over all nodes, it is {verdict}")));
        }
    }
    if connections > 0 {
        lines.push(format!("with {connections} connections, it is {}", verdict(explanation.verdict)));
    }
    lines.extend(explanation.proxy.map(connection));
    Ok(lines)
}

/// What happens to a connection of the client itself, instead of one of a proxy for it.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(words: &str) -> Result<ExplainedClient, String> {
        let words: Result<Vec<PeerWord>, _> = words.split(' ').map(peer_word).collect();
        client(&words?).map_err(|error| error.to_string())
    }

    #[test]
    fn one_address_or_one_user_with_groups() {
        let local = |uid, gid, groups: &[u32]| ExplainedClient::Local { uid, gid, groups: groups.to_vec() };
        for (words, meant) in [
            ("192.0.2.1", ExplainedClient::Address([192, 0, 2, 1].into())),
            ("::1", ExplainedClient::Address("::1".parse().expect("an address"))),
            ("uid:0 gid:5", local(0, 5, &[])),
            ("uid:root gid:root gid:7 gid:8", local(0, 0, &[7, 8])),
            ("gid:7 uid:4000000001", local(4_000_000_001, 7, &[])),
            // Without an entry in the database, a user has the group of the same number.
            ("uid:4000000001", local(4_000_000_001, 4_000_000_001, &[])),
        ] {
            assert_eq!(client_of(words), Ok(meant), "{words}");
        }
        for words in ["gid:0", "uid:0 uid:1", "uid:0 ::1", "::1 ::2", "::1 gid:0"] {
            assert!(client_of(words).is_err_and(|error| error.contains("not one client")), "{words}");
        }
        for words in ["", "nobody", "uid:no-such-user", "uid:0 gid:no-such-group", "uid:"] {
            client_of(words).expect_err(words);
        }
    }
}
