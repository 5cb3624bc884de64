//! The command `tine`: arguments, dispatch, exit code.

#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod services;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => return args::explain(&error),
    };
    let done = match args.command {
        args::Command::Serve(serve) => commands::serve::run(*serve),
        args::Command::Client(client) => client::run(client),
        args::Command::Man(page) => commands::describe::man(&page),
        args::Command::Completions(shell) => commands::describe::completions(&shell),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tine: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
