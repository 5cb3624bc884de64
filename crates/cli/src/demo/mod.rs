//! `tine demo`: a server and a few clients, step by step, with what the kernel and the log say of
//! each step.

mod client;
pub(crate) mod language;
mod log;
mod output;
mod pause;
mod processes;
mod screen;
mod screens;
mod server;
mod show;
mod steps;
mod texts;
mod wait;
mod wrap;

use std::process::ExitCode;

use self::language::Language;
use self::output::{Output, write};
use self::pause::Pause;
use self::screen::{Screen, Step};
use self::steps::{ACTIONS, Running};
use self::texts::Texts;
use self::wait::{Stop, Waiter};
use crate::args::demo::Demo;
use crate::diagnostics::diagnostic;
use crate::error::Error;

/// Exit code of an interrupted demo.
const INTERRUPTED: u8 = 130;

/// Shows all steps, until the last one, q or Ctrl-C.
pub(crate) fn run(args: &Demo) -> Result<ExitCode, Error> {
    let texts = texts::of(args.lang.unwrap_or_else(Language::of_environment));
    let pause = Pause::of_environment(args.pause);
    let output = Output::of_environment(pause != Pause::None);
    let waiter = Waiter::new()?;
    match (Presenter { texts, pause, output }).present(waiter) {
        Ok(()) | Err(Stop::Quit) => Ok(ExitCode::SUCCESS),
        Err(Stop::Interrupted) => {
            diagnostic!("tine: interrupted");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Where steps are shown.
struct Presenter {
    texts: &'static dyn Texts,
    pause: Pause,
    output: Output,
}

impl Presenter {
    /// Does each step, and shows it. The server ends with this, whatever the result is.
    fn present(&self, waiter: Waiter) -> Result<(), Stop> {
        let (mut running, screen) = Running::start(waiter).map_err(|stop| within(stop, Step::Start))?;
        self.show(&screen, &running.waiter)?;
        for (action, step) in ACTIONS.iter().zip(&Step::ALL[1..]) {
            let screen = action(&mut running).map_err(|stop| within(stop, *step))?;
            self.show(&screen, &running.waiter)?;
        }
        Ok(())
    }

    /// Prints a step, and pauses, but for the last one.
    fn show(&self, screen: &Screen, waiter: &Waiter) -> Result<(), Stop> {
        self.output.print(&show::lines(screen, self.texts))?;
        let prompt = match (screen.step, self.pause) {
            (Step::End, _) => return Ok(write(&format!("{}\n", self.texts.over()))?),
            (_, Pause::None | Pause::Time(_)) => return self.pause.wait(waiter),
            (_, Pause::Key(None)) => self.texts.waits_for_key().to_owned(),
            (_, Pause::Key(Some(time))) => self.texts.waits_for(time),
        };
        write(&prompt)?;
        let waited = self.pause.wait(waiter);
        // What comes next, also of a shell, begins on a line of its own.
        write("\n")?;
        waited
    }
}

/// The same end, with the step in which an error has come.
fn within(stop: Stop, step: Step) -> Stop {
    match stop {
        Stop::Failed(error) => {
            Stop::Failed(error.within(format_args!("step {} of {}", step.number(), Step::ALL.len())))
        }
        other => other,
    }
}
