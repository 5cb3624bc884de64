//! `tine man` and `tine completions`: the command line, described for other programs.

use std::io::Write;
use std::process::ExitCode;

use crate::error::Error;
use clap::CommandFactory;

use crate::args::{Args, Completions, Man};

/// Prints a manual page in roff, as `man -l -` reads it.
pub fn man(args: &Man) -> Result<ExitCode, Error> {
    let mut page = Args::command();
    let mut words = vec!["tine"];
    for name in &args.command {
        let found = page.get_subcommands().find(|command| command.get_name() == name).cloned();
        let missing = || Error::usage(format_args!("there is no command '{name}'"), "see `tine --help`");
        words.push(name);
        page = found.ok_or_else(missing)?.display_name(words.join("-")).bin_name(words.join(" "));
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text).map_err(|why| cannot_print(&why))?;
    print(&text)
}

/// Prints a script that a shell loads.
pub fn completions(args: &Completions) -> Result<ExitCode, Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "tine", &mut text);
    print(&text)
}

/// Prints what somebody asked for.
pub fn print(text: &[u8]) -> Result<ExitCode, Error> {
    std::io::stdout().write_all(text).map_err(|why| cannot_print(&why))?;
    Ok(ExitCode::SUCCESS)
}

fn cannot_print(why: &std::io::Error) -> Error {
    Error::system("cannot print", why, "give standard output a reader")
}
