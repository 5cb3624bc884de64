//! The exit codes of all commands, in one table. `--help` prints them from it or is compared with
//! it by a test, as are the tables of the documentation.

/// Success.
const DONE: u8 = 0;
/// A usage or configuration error, which trying again does not mend.
pub(crate) const USAGE: u8 = 100;
/// A layer of the jail is not in force.
pub(crate) const MISSING: u8 = 1;
/// Copies of a program serve a client otherwise than executions.
pub(crate) const DIFFERS: u8 = 3;
/// The program cannot be started warm.
pub(crate) const REFUSED: u8 = USAGE;
/// No server runs that a command could be about.
pub(crate) const NOTHING_RUNS: u8 = 3;
/// A system error, which may be temporary.
pub(crate) const SYSTEM: u8 = 111;

/// An exit code of some commands.
#[derive(Debug)]
pub(crate) struct Row {
    /// The code.
    pub code: u8,
    /// The commands that can end with it.
    pub commands: &'static [&'static str],
    /// Its meaning.
    pub meaning: &'static str,
}

/// The commands.
const ALL: [&str; 28] = [
    "serve",
    "client",
    "load",
    "demo",
    "check",
    "explain",
    "jail-check",
    "warm-check",
    "import",
    "status",
    "list",
    "top",
    "show",
    "kill",
    "ban",
    "unban",
    "bans",
    "crashes",
    "pause",
    "resume",
    "drain",
    "logs",
    "set",
    "reload",
    "upgrade",
    "fleet",
    "man",
    "completions",
];

/// The commands about a running server.
const OF_RUNNING: [&str; 16] = [
    "status", "list", "top", "show", "kill", "ban", "unban", "bans", "crashes", "pause", "resume", "drain",
    "logs", "set", "reload", "upgrade",
];

/// All exit codes, in order.
pub(crate) const TABLE: [Row; 13] = [
    Row { code: DONE, commands: &ALL, meaning: "done" },
    Row { code: 1, commands: &["load"], meaning: "a result could not be written" },
    Row { code: MISSING, commands: &["jail-check"], meaning: "a layer of the jail is missing" },
    Row { code: 3, commands: &["client", "load"], meaning: "wrong bytes came back" },
    Row { code: NOTHING_RUNS, commands: &OF_RUNNING, meaning: "no such server runs" },
    Row { code: NOTHING_RUNS, commands: &["fleet"], meaning: "no node answers" },
    Row {
        code: DIFFERS,
        commands: &["warm-check"],
        meaning: "a copy of the program differs from an execution",
    },
    Row { code: 4, commands: &["load"], meaning: "the measurement is invalid or inconclusive" },
    Row { code: 99, commands: &["load"], meaning: "a limit (--fail-if) or a tolerance was exceeded" },
    Row { code: USAGE, commands: &ALL, meaning: "usage or configuration error" },
    Row { code: REFUSED, commands: &["warm-check"], meaning: "the program cannot be started warm" },
    Row { code: SYSTEM, commands: &ALL, meaning: "system error, which may be temporary" },
    Row { code: 130, commands: &["client", "load", "demo", "logs"], meaning: "interrupted" },
];

/// The sentence about exit codes at the end of a command's `--help`.
#[must_use]
pub(crate) fn help(command: &str) -> String {
    let codes: Vec<String> = TABLE
        .iter()
        .filter(|row| row.commands.contains(&command))
        .map(|row| format!("{} {}", row.code, row.meaning))
        .collect();
    format!("Exit codes: {}.", codes.join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::args::Args;

    fn of(command: &str) -> BTreeSet<u8> {
        TABLE.iter().filter(|row| row.commands.contains(&command)).map(|row| row.code).collect()
    }

    /// The codes in the sentence that begins with `Exit codes:`: the numbers at the beginning of
    /// its parts.
    fn in_help(help: &str) -> BTreeSet<u8> {
        let Some((_, sentence)) = help.split_once("Exit codes: ") else { return BTreeSet::new() };
        let sentence = sentence.replace('\n', " ");
        let parts = sentence.split([',', ';']);
        parts.filter_map(|part| part.split_whitespace().next()?.trim_end_matches('.').parse().ok()).collect()
    }

    #[test]
    fn the_table_is_in_order_and_its_commands_exist() {
        assert!(TABLE.is_sorted_by_key(|row| row.code));
        let args = Args::command();
        for command in TABLE.iter().flat_map(|row| row.commands) {
            assert!(args.get_subcommands().any(|known| known.get_name() == *command), "{command}");
        }
    }

    #[test]
    fn help_has_the_exit_codes_of_its_command() {
        let mut seen = 0;
        for command in Args::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let codes = in_help(&help);
            assert_eq!(codes, of(command.get_name()), "{}: {help}", command.get_name());
            seen += codes.len();
            for mode in command.get_subcommands() {
                let help = mode.get_after_help().map(ToString::to_string).unwrap_or_default();
                let known = of(command.get_name());
                assert!(in_help(&help).is_subset(&known), "{}: {help}", mode.get_name());
            }
        }
        assert!(seen > TABLE.len());
    }

    #[test]
    fn documentation_has_the_same_codes() {
        let load = include_str!("../../../docs/load.md");
        let rows: BTreeSet<u8> = load
            .lines()
            .skip_while(|line| !line.starts_with("| exit code |"))
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| line.split('|').nth(1)?.trim().parse().ok())
            .collect();
        assert_eq!(rows, of("load"), "docs/load.md");
        let architecture = include_str!("../../../ARCHITECTURE.md");
        let (_, section) = architecture.split_once("## Exit codes").expect("a section");
        let section = section.split("\n## ").next().expect("its text");
        let numbers: BTreeSet<u8> =
            section.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers, TABLE.iter().map(|row| row.code).collect(), "ARCHITECTURE.md");
    }
}
