//! Status lines on a terminal: one for each worker, while they run.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tine_load::run::live::Live;

/// The status lines; none if standard error is no terminal.
pub(super) struct Status {
    lines: Vec<ProgressBar>,
    all: MultiProgress,
}

impl Status {
    /// Creates a line for each worker.
    pub(super) fn new(workers: usize, is_quiet: bool) -> Status {
        let all = MultiProgress::new();
        let is_shown = std::io::stderr().is_terminal() && !is_quiet;
        let style = ProgressStyle::with_template("{prefix} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = |number: usize| {
            let line = all.add(ProgressBar::new_spinner().with_style(style.clone()));
            line.set_prefix(format!("client {}", number + 1));
            line
        };
        let lines = if is_shown { (0..workers).map(line).collect() } else { Vec::new() };
        Status { lines, all }
    }

    /// Whether there are lines to update.
    pub(super) fn is_shown(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Shows the present numbers.
    pub(super) fn update(&self, live: &Live) {
        for (worker, line) in self.lines.iter().enumerate() {
            let numbers = live.of(worker);
            line.set_message(format!(
                "{} open, {} messages, {} bytes sent, {} received",
                numbers.open, numbers.messages, numbers.sent, numbers.received
            ));
            line.tick();
        }
    }

    /// Clears the lines; the summary follows.
    pub(super) fn clear(&self) {
        self.lines.iter().for_each(ProgressBar::finish_and_clear);
        // Fails only if the terminal does.
        let _ = self.all.clear();
    }
}
