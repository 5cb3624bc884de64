//! The command `tine`: arguments and configuration files, dispatch, exit code.

#![forbid(unsafe_code)]
// They panic where nothing can be written, and the exit code would be wrong.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod args;
mod client;
mod commands;
pub mod config;
mod control;
mod demo;
mod diagnostics;
pub mod error;
mod exit;
mod fleet;
pub mod import;
mod load;
mod peers;
mod resolve;
mod services;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tine::cli::{Linked, Observed, Takeover};

/// Runs the command of the command line, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if let Some(peer) = words.next().and_then(|name| peers::find(&name)) {
        return peer.run(words);
    }
    if let Some(observed) = Observed::from_environment() {
        return tine_observe::run(observed);
    }
    if let Some(linked) = Linked::from_environment() {
        return tine_bus::fleet::run(linked);
    }
    // Before anything can fail: the server that started this process waits for what it says.
    let takeover = match Takeover::from_environment() {
        Ok(takeover) => takeover,
        Err(error) => return fail(&error.into()),
    };
    let parsed = args::Args::command()
        .try_get_matches()
        .and_then(|matches| args::Args::from_arg_matches(&matches).map(|args| (args, matches)));
    let (args, mut matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let text = format!("the new binary does not take the options of this server: {error}");
            takeover.iter().for_each(|takeover| takeover.failed(text.trim_end(), 100));
            return args::explain(&error);
        }
    };
    // The command drops them before the server forks: a fork copies the page tables of the rest.
    let typed = matches.remove_subcommand().map(|(_, typed)| typed).unwrap_or_default();
    drop(matches);
    match run(args.command, typed, takeover) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// Runs a command. `typed` has the options of `serve` that were given; `takeover` is for that, too.
fn run(
    command: args::Command,
    typed: clap::ArgMatches,
    takeover: Option<Takeover>,
) -> Result<ExitCode, error::Error> {
    match command {
        args::Command::Serve(serve) => commands::serve::run(*serve, typed, takeover),
        args::Command::Client(client) => client::run(client),
        args::Command::Load(load) => load::run(*load),
        args::Command::Demo(demo) => demo::run(&demo),
        args::Command::Check(check) => commands::check::run(&check),
        args::Command::Explain(explain) => commands::explain::run(&explain),
        args::Command::JailCheck(check) => commands::jail_check::run(&check),
        args::Command::WarmCheck(check) => commands::warm_check::run(&check),
        args::Command::Import(import) => commands::import::run(&import),
        args::Command::Status(status) => control::status::run(&status),
        args::Command::List(list) => control::list::run(&list),
        args::Command::Top(top) => control::top::run(&top),
        args::Command::Show(show) => control::show::run(&show),
        args::Command::Crashes(crashes) => control::crashes::run(&crashes),
        args::Command::Logs(logs) => control::logs::run(&logs),
        args::Command::Kill(kill) => control::steer::kill(&kill),
        args::Command::Ban(ban) => control::steer::ban(&ban),
        args::Command::Unban(unban) => control::steer::unban(&unban),
        args::Command::Bans(bans) => control::steer::bans(&bans),
        args::Command::Pause(service) => control::steer::of_service(&service, "pause"),
        args::Command::Resume(service) => control::steer::of_service(&service, "resume"),
        args::Command::Drain(service) => control::steer::of_service(&service, "drain"),
        args::Command::Set(set) => control::set::run(&set),
        args::Command::Reload(reload) => control::replace::reload(&reload),
        args::Command::Upgrade(upgrade) => control::replace::upgrade(&upgrade),
        args::Command::Fleet(fleet) => fleet::run(&fleet.command),
        args::Command::Man(page) => commands::describe::man(&page),
        args::Command::Completions(shell) => commands::describe::completions(&shell),
    }
}

fn fail(error: &error::Error) -> ExitCode {
    diagnostics::diagnostic!("tine: {error}");
    ExitCode::from(error.exit_code())
}
