//! Connections that send messages at intervals: a load whose workers print the replies.

use std::process::ExitCode;
use std::time::Duration;

use tine_load::plan::part::Part;
use tine_load::plan::script::scripts;
use tine_load::plan::sources::Sources;
use tine_load::plan::{Arrivals, Close, MessageText, Mode, Plan, Population};
use tine_load::run::converse::{Conversation, converse};
use tine_load::run::load::Load;
use tine_load::units::nanoseconds;

use super::printer::{Output, Printer};
use super::status::Status;
use super::summary::Summary;
use crate::args::Client;
use crate::diagnostics::diagnostic;
use crate::error::{Error, fewer};
use crate::exit;
use crate::resolve::Target;

/// Time between two updates of the status lines.
const UPDATE: Duration = Duration::from_millis(200);

/// Runs all connections to their end, or until Ctrl-C.
pub(super) fn run(args: &Client, message: &str, targets: &[Target]) -> Result<ExitCode, Error> {
    let load = load(args, message, targets)?;
    let output = match (args.quiet, args.connections) {
        (true, _) => Output::None,
        (false, 1) => Output::Bytes,
        (false, _) => Output::Numbered,
    };
    let printer = Printer::new(targets, output, args.count.is_none(), args.wait);
    let status = Status::new(load.workers(), args.quiet);
    let period = status.is_shown().then_some(UPDATE);
    let ran = converse(&load, &printer, period, &mut |live| status.update(live));
    status.clear();
    let conversation = ran.map_err(|why| {
        let next = fewer("ask for fewer processes (--processes)", &why);
        Error::system("cannot start the client", &why, next)
    })?;
    let summary = Summary::new(&conversation);
    if !args.quiet || conversation.interrupted || summary.errors() > 0 {
        diagnostic!("{summary}");
    }
    Ok(ExitCode::from(exit_code(&conversation, &summary)))
}

/// Each connection is made once, by a process of its own unless `--processes` says otherwise.
fn load(args: &Client, message: &str, targets: &[Target]) -> Result<Load, Error> {
    let plan = Plan {
        populations: vec![Population { mode: Mode::Messages, weight: 1 }],
        targets: targets.iter().map(|target| target.name.clone()).collect(),
        processes: args.processes.unwrap_or(args.connections),
        connections: args.connections,
        rate: None,
        arrivals: Arrivals::Constant,
        warmup_ns: 0,
        ramp_ns: 0,
        duration_ns: None,
        requests: Some(args.connections.into()),
        per_connection: args.count,
        close: Close::FinClient,
        half_close: false,
        message: MessageText::Template(message.to_owned()),
        expect: if args.expect_echo { "echo" } else { "none" }.to_owned(),
        think_ns: nanoseconds(args.every),
        pace_ns: 0,
        timeout_ns: nanoseconds(args.wait),
        max_lateness_ns: 0,
        sources: Vec::new(),
        proxy_header: args.proxy.proxy_header,
        proxy_sources: args.proxy.proxy_source.iter().map(ToString::to_string).collect(),
        seed: 0,
    };
    let scripts = scripts(&plan)
        .map_err(|why| Error::usage(format_args!("bad message: {why}"), "see `tine client --help`"))?;
    Ok(Load {
        part: Part::whole(&plan),
        scripts,
        plan,
        targets: targets.iter().map(|target| target.endpoints.clone()).collect(),
        sources: Sources::new(Vec::new(), &[]),
        proxy: args.proxy.headers(),
    })
}

fn exit_code(conversation: &Conversation, summary: &Summary) -> u8 {
    match (conversation.interrupted, summary.wrong_replies(), summary.errors()) {
        (true, ..) => super::INTERRUPTED,
        (false, 1.., _) => super::WRONG_BYTES,
        (false, 0, 0) if conversation.lost.is_empty() => 0,
        (false, 0, _) => exit::SYSTEM,
    }
}
