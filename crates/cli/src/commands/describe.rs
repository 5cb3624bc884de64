//! `tine man` and `tine completions`: descriptions of the command line for other programs.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args as ClapArgs, CommandFactory};
use tine::cli::next_move;

use crate::args::Args;
use crate::error::Error;
use crate::exit;

/// `tine man`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("man"))]
pub struct Man {
    /// Command to describe, as in `load crr` [default: tine]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `tine completions`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("completions"))]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

/// Prints a manual page in roff, as `man -l -` reads it.
pub(crate) fn man(args: &Man) -> Result<ExitCode, Error> {
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

/// Prints a completion script for a shell.
pub(crate) fn completions(args: &Completions) -> Result<ExitCode, Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "tine", &mut text);
    print(&text)
}

/// Prints the output of a command.
pub(crate) fn print(text: &[u8]) -> Result<ExitCode, Error> {
    std::io::stdout().write_all(text).map_err(|why| cannot_print(&why))?;
    Ok(ExitCode::SUCCESS)
}

fn cannot_print(why: &std::io::Error) -> Error {
    Error::system("cannot print", why, next_move::of_output(why))
}
