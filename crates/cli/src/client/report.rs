//! What people see of a client: a status line for each process while it runs, and the summary.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tine_sys::process::How;

use super::tally::{Count, Tally};

/// A worker that ended otherwise than by finishing.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Its number, from 0.
    pub number: usize,
    pub pid: i32,
    pub how: How,
}

/// The status lines, on a terminal; else nothing.
pub struct Status {
    lines: Vec<ProgressBar>,
    all: MultiProgress,
}

impl Status {
    /// A line for each worker, if standard error is a terminal.
    pub fn new(workers: usize, quiet: bool) -> Status {
        let all = MultiProgress::new();
        let shown = std::io::stderr().is_terminal() && !quiet;
        let style = ProgressStyle::with_template("{prefix} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = |number: usize| {
            let line = all.add(ProgressBar::new_spinner().with_style(style.clone()));
            line.set_prefix(format!("client {}", number + 1));
            line
        };
        let lines = if shown { (0..workers).map(line).collect() } else { Vec::new() };
        Status { lines, all }
    }

    /// Whether there is something to renew.
    pub fn is_shown(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Shows the present numbers.
    pub fn renew(&self, tally: &Tally) {
        for (worker, line) in self.lines.iter().enumerate() {
            let of = |what| tally.of(worker, what);
            line.set_message(format!(
                "{} open, {} messages, {} bytes sent, {} received",
                of(Count::Open),
                of(Count::Messages),
                of(Count::Sent),
                of(Count::Received)
            ));
            line.tick();
        }
    }

    /// Takes the lines away: the summary says it all.
    pub fn finish(&self) {
        self.lines.iter().for_each(ProgressBar::finish_and_clear);
        // Without the lines there is nothing that could fail to be cleared.
        let _ = self.all.clear();
    }
}

/// Prints the summary on standard error.
pub fn summary(tally: &Tally, deaths: &[Death]) {
    eprintln!("{}", text(tally, deaths));
}

fn text(tally: &Tally, deaths: &[Death]) -> String {
    let of = |what| tally.sum(what);
    let mut text = format!(
        "{} connections, {} messages, {} bytes sent, {} received, {} errors, {} wrong replies",
        of(Count::Made),
        of(Count::Messages),
        of(Count::Sent),
        of(Count::Received),
        tally.errors(),
        of(Count::Wrong),
    );
    for (what, words) in Count::ERRORS.iter().filter(|(what, _)| of(*what) > 0) {
        text += &format!("\n{words}: {}", of(*what));
    }
    for death in deaths {
        let how = match death.how {
            How::Exited(code) => format!("exit {code}"),
            How::Signaled(signal) => format!("signal {signal}"),
        };
        text += &format!("\nclient {} (pid {}) died: {how}", death.number + 1, death.pid);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_went_wrong() {
        let tally = Tally::new(2).expect("memory");
        for (what, number) in
            [(Count::Made, 3), (Count::Messages, 9), (Count::Sent, 90), (Count::Received, 80)]
        {
            tally.add(1, what, number);
        }
        assert_eq!(
            text(&tally, &[]),
            "3 connections, 9 messages, 90 bytes sent, 80 received, 0 errors, 0 wrong replies"
        );
        tally.add(0, Count::Reset, 2);
        let death = Death { number: 1, pid: 77, how: How::Signaled(9) };
        let text = text(&tally, &[death]);
        assert!(text.contains("2 errors") && text.contains("\nreset by the server: 2"), "{text}");
        assert!(text.ends_with("\nclient 2 (pid 77) died: signal 9"), "{text}");
    }
}
