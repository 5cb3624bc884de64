//! The live view of a load on a terminal: a progress bar, with the present rate and latency.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tine_load::plan::Plan;
use tine_load::run::live::Numbers;
use tine_load::run::measure::Progress;
use tine_load::units::{SECOND, duration, grouped, rounded};

/// Time between two updates.
const UPDATE: Duration = Duration::from_millis(250);

/// The live view; it shows nothing if standard error is no terminal.
pub(super) struct View {
    bar: Option<ProgressBar>,
    length: u64,
    by_requests: bool,
    before: Progress,
}

impl View {
    /// Creates the view of a load.
    pub(super) fn new(plan: &Plan, is_off: bool) -> View {
        let by_requests = plan.duration_ns.is_none();
        let length = match (plan.duration_ns, plan.requests) {
            (Some(length), _) => plan.warmup_ns + length,
            (None, requests) => requests.unwrap_or(0),
        };
        let bar = (!is_off && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%\n{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()).with_style(style)
        });
        let before = Progress { elapsed_ns: 0, numbers: Numbers::default() };
        View { bar, length, by_requests, before }
    }

    /// Returns the time between two updates, if there is a bar.
    pub(super) fn period(&self) -> Option<Duration> {
        self.bar.as_ref().map(|_| UPDATE)
    }

    /// Shows the progress: rate and latency are those since the last update.
    pub(super) fn show(&mut self, progress: &Progress) {
        let Some(bar) = &self.bar else { return };
        let seconds = progress.elapsed_ns.saturating_sub(self.before.elapsed_ns) as f64 / SECOND as f64;
        if seconds < UPDATE.as_secs_f64() / 2.0 {
            return;
        }
        let (now, before) = (&progress.numbers, &self.before.numbers);
        let rate = now.done.saturating_sub(before.done) as f64 / seconds;
        let quantile = |share| now.quantile_since(before, share).map_or("-".to_owned(), duration);
        bar.set_position(if self.by_requests { now.done } else { progress.elapsed_ns.min(self.length) });
        bar.set_message(format!(
            "{}/s  p50 {}  p99 {}  {} open  {} done  {} errors",
            rounded(rate),
            quantile(0.5),
            quantile(0.99),
            grouped(now.open),
            grouped(now.done),
            grouped(now.errors())
        ));
        self.before = *progress;
    }

    /// Clears the bar; the summary follows.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
