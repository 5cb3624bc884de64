//! Standard output: one screen after another on a terminal, else one text.

use std::io::{self, IsTerminal, Write};

use tine::cli::next_move;

use super::show::{Line, Look};
use crate::error::Error;

/// Clears the screen, and begins at its top (ECMA-48, 8.3.39 and 8.3.21).
const CLEAR: &str = "\x1b[2J\x1b[H";
/// Bold, and no more (ECMA-48, 8.3.117).
const BOLD: (&str, &str) = ("\x1b[1m", "\x1b[0m");

/// How steps are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// Each step has the whole screen.
    clears: bool,
    /// Titles are bold.
    is_bold: bool,
}

impl Output {
    /// The output of a demo that pauses or not.
    pub(super) fn of_environment(pauses: bool) -> Output {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Output::new(pauses, io::stdout().is_terminal() && !is_dumb, is_set("NO_COLOR"))
    }

    /// Without a pause nobody could read a screen before it is cleared. `has_escapes`: standard
    /// output is a terminal that knows escape sequences.
    fn new(pauses: bool, has_escapes: bool, no_colour: bool) -> Output {
        Output { clears: pauses && has_escapes, is_bold: has_escapes && !no_colour }
    }

    /// Prints the lines of a step.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn print(self, lines: &[Line]) -> Result<(), Error> {
        write(&self.text(lines))
    }

    fn text(self, lines: &[Line]) -> String {
        let line = |line: &Line| match line.look {
            Look::Bold if self.is_bold => format!("{}{}{}\n", BOLD.0, line.text, BOLD.1),
            _ => format!("{}\n", line.text),
        };
        let text: String = lines.iter().map(line).collect();
        match self.clears {
            true => format!("{CLEAR}{text}"),
            false => text,
        }
    }
}

/// Writes text at once.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|why| Error::system("cannot write to standard output", &why, next_move::of_output(&why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_for_terminals_that_know_them() {
        let lines = [
            Line { text: "title".into(), look: Look::Bold },
            Line { text: "text".into(), look: Look::Plain },
        ];
        for (pauses, has_escapes, no_colour, expected) in [
            (true, true, false, "\x1b[2J\x1b[H\x1b[1mtitle\x1b[0m\ntext\n"),
            (true, true, true, "\x1b[2J\x1b[Htitle\ntext\n"),
            (false, true, false, "\x1b[1mtitle\x1b[0m\ntext\n"),
            (false, true, true, "title\ntext\n"),
            (true, false, false, "title\ntext\n"),
            (false, false, true, "title\ntext\n"),
        ] {
            assert_eq!(Output::new(pauses, has_escapes, no_colour).text(&lines), expected);
        }
    }
}
