//! `tine top`: the processes and connections of a server as they live, on the whole terminal.
//!
//! A thread reads keys, another asks the server. What they send is an [`Event`], which [`State`]
//! applies; then the screen is drawn.

mod asker;
mod draw;
mod keys;
mod order;
mod pages;
mod screen;
mod snapshot;
mod state;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod tree;

use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use ratatui::crossterm::event;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use tine::cli::next_move;
use tine_sys::signal::Set;

use self::asker::Asker;
use self::state::{Action, Event, State};
use self::terminal::Screen;
use super::target::Target;
use crate::args::positive;
use crate::error::Error;
use crate::exit;

/// `tine top`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("top"))]
pub struct Top {
    /// Time between two updates
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive)]
    pub interval: Duration,

    /// Processes and connections of this service [default: all]
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// What the loop waits for.
enum Message {
    Event(Event),
    /// TERM, INT or HUP: it stays pending until the terminal is given back.
    Signal,
    /// No key can be read any more.
    NoInput(io::Error),
}

/// Shows the server until the operator quits.
pub(crate) fn run(args: &Top) -> Result<ExitCode, Error> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let next = "run it in one, or use `tine list` and `tine status`";
        return Err(Error::usage("`tine top` needs a terminal as standard input and output", next));
    }
    let (asker, name) = Asker::new(&args.target, args.service.as_ref())?;
    let snapshot = asker.snapshot()?;
    // Before the first thread: a signal goes to any thread that does not block it.
    let signals = Set::of(&[Signal::TERM.as_raw(), Signal::INT.as_raw(), Signal::HUP.as_raw()]);
    let before = signals.block().map_err(|why| cannot_wait(&why))?;
    let pending = signals.descriptor().map_err(|why| cannot_wait(&why))?;
    let mut screen = Screen::take().map_err(|why| cannot_draw(&why))?;
    let size = screen.size().map_err(|why| cannot_draw(&why))?;
    let state = State::new(name, size, snapshot);
    let ended = start(asker, pending).map_err(|why| cannot_wait(&why)).and_then(|running| {
        let Running { messages, times, asker, replies } = running;
        Loop { screen: &mut screen, state, interval: args.interval, times, asker, replies }.run(&messages)
    });
    drop(screen);
    // If a signal was the reason, it ends the command now, as its sender expects.
    before.make_mask().map_err(|why| cannot_wait(&why))?;
    ended.map(|()| ExitCode::SUCCESS)
}

/// The threads, and the channels to and from them.
struct Running {
    messages: Receiver<Message>,
    times: Sender<()>,
    asker: Asker,
    replies: Sender<Message>,
}

fn start(asker: Asker, pending: OwnedFd) -> io::Result<Running> {
    let (replies, messages) = channel();
    let times = asker.clone().start(replies.clone())?;
    let (keys, signals) = (replies.clone(), replies.clone());
    thread::Builder::new().name("keys".into()).spawn(move || read_keys(&keys))?;
    thread::Builder::new().name("signals".into()).spawn(move || wait_for_signal(&pending, &signals))?;
    Ok(Running { messages, times, asker, replies })
}

/// Sends keys and changes of the size, until the command ends.
fn read_keys(messages: &Sender<Message>) {
    loop {
        let message = match event::read() {
            Ok(event::Event::Key(key)) => Message::Event(Event::Key(key)),
            Ok(event::Event::Resize(columns, lines)) => Message::Event(Event::Resize(columns, lines)),
            Ok(_) => continue,
            Err(why) => {
                let _ = messages.send(Message::NoInput(why));
                return;
            }
        };
        if messages.send(message).is_err() {
            return;
        }
    }
}

/// Waits for one signal, and leaves it pending.
fn wait_for_signal(pending: &OwnedFd, messages: &Sender<Message>) {
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(pending, PollFlags::IN)], None) {}
    let _ = messages.send(Message::Signal);
}

struct Loop<'a> {
    screen: &'a mut Screen,
    state: State,
    interval: Duration,
    /// Asks the server.
    times: Sender<()>,
    asker: Asker,
    replies: Sender<Message>,
}

impl Loop<'_> {
    /// Draws, waits and applies, until something ends it.
    fn run(mut self, messages: &Receiver<Message>) -> Result<(), Error> {
        let mut next_tick = Some(Instant::now() + self.interval);
        loop {
            self.screen.draw(&self.state).map_err(|why| cannot_draw(&why))?;
            let first = match next_tick {
                Some(time) => messages.recv_timeout(time.saturating_duration_since(Instant::now())),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let first = match first {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => Message::Event(Event::Tick),
                // This loop has a sender itself.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            // All that has arrived is one change of the screen.
            for message in std::iter::once(first).chain(messages.try_iter()) {
                let event = match message {
                    Message::Event(event) => event,
                    Message::Signal => return Ok(()),
                    Message::NoInput(why) => {
                        return Err(Error::system("cannot read keys", &why, next_move::of_call(&why)));
                    }
                };
                let is_tick = matches!(event, Event::Tick);
                let is_reply = matches!(event, Event::Snapshot(_) | Event::Lost(_));
                let action = self.state.apply(event);
                if is_reply || (is_tick && action.is_none()) {
                    next_tick = Some(Instant::now() + self.interval);
                }
                match action {
                    None => {}
                    // The next time is counted from its answer: a slow server is not asked twice.
                    Some(Action::Ask) => {
                        next_tick = None;
                        let _ = self.times.send(());
                    }
                    Some(Action::Kill(victim)) => self.asker.kill(victim, &self.replies),
                    Some(Action::Redraw) => self.screen.clear().map_err(|why| cannot_draw(&why))?,
                    Some(Action::Quit) => return Ok(()),
                }
            }
        }
    }
}

fn cannot_wait(why: &io::Error) -> Error {
    Error::system("cannot wait for keys and signals", why, next_move::of_call(why))
}

fn cannot_draw(why: &io::Error) -> Error {
    Error::system("cannot draw on the terminal", why, next_move::of_output(why))
}
