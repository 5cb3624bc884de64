//! The live view of a load: one bar, on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tine_load::plan::Plan;
use tine_load::run::coordinator::Moment;
use tine_load::run::live::Numbers;
use tine_load::units::{SECOND, duration, grouped, rounded};

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_millis(250);

/// The live view; nothing where standard error is no terminal.
pub struct View {
    bar: Option<ProgressBar>,
    length: u64,
    by_requests: bool,
    before: Moment,
}

impl View {
    /// One for this load.
    pub fn new(plan: &Plan, is_off: bool) -> View {
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
        View { bar, length, by_requests, before: Moment { elapsed_ns: 0, numbers: Numbers::default() } }
    }

    /// How often it wants to be shown.
    pub fn period(&self) -> Option<Duration> {
        self.bar.as_ref().map(|_| RENEWAL)
    }

    /// Shows a moment: the rate and latency since the last one.
    pub fn show(&mut self, moment: &Moment) {
        let Some(bar) = &self.bar else { return };
        let seconds = moment.elapsed_ns.saturating_sub(self.before.elapsed_ns) as f64 / SECOND as f64;
        if seconds < RENEWAL.as_secs_f64() / 2.0 {
            return;
        }
        let (now, before) = (&moment.numbers, &self.before.numbers);
        let rate = now.done.saturating_sub(before.done) as f64 / seconds;
        let at = |share| now.quantile_since(before, share).map_or("-".to_owned(), duration);
        bar.set_position(if self.by_requests { now.done } else { moment.elapsed_ns.min(self.length) });
        bar.set_message(format!(
            "{}/s  p50 {}  p99 {}  {} open  {} done  {} errors",
            rounded(rate),
            at(0.5),
            at(0.99),
            grouped(now.open),
            grouped(now.done),
            grouped(now.errors)
        ));
        self.before = *moment;
    }

    /// Takes it away: the summary says it all.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
