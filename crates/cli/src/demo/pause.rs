//! The pause after a step: until a key, or for a time.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tine::cli::next_move;

use super::wait::{Stop, Waiter};
use crate::error::Error;

/// When the demo goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// At once.
    None,
    /// After a time.
    Time(Duration),
    /// After Enter, or after a time.
    Key(Option<Duration>),
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Next,
    Quit,
    Other,
}

impl Pause {
    /// The pause that the option asks for, if it was given.
    pub(super) fn of_environment(time: Option<Duration>) -> Pause {
        Pause::new(time, io::stdin().is_terminal() && io::stdout().is_terminal())
    }

    /// Without a terminal for both, nobody sees that a key is waited for.
    fn new(time: Option<Duration>, has_terminal: bool) -> Pause {
        match (time, has_terminal) {
            (time, true) => Pause::Key(time),
            (Some(time), false) => Pause::Time(time),
            (None, false) => Pause::None,
        }
    }

    /// Waits.
    ///
    /// # Errors
    /// Ctrl-C, q, or the end of input.
    pub(super) fn wait(self, waiter: &Waiter) -> Result<(), Stop> {
        let end = |time| Instant::now().checked_add(time);
        let time = match self {
            Pause::None => return Ok(()),
            Pause::Time(time) => return waiter.readable_until(None, end(time)).map(|_| ()),
            Pause::Key(time) => time,
        };
        let _keys = Keys::take()?;
        let end = time.and_then(end);
        while waiter.readable_until(Some(stdin()), end)? {
            match read_key()? {
                Key::Next => break,
                Key::Quit => return Err(Stop::Quit),
                Key::Other => {}
            }
        }
        Ok(())
    }
}

/// The terminal while keys arrive as they are pressed, and are not shown. Dropping this gives it
/// back as it was. Ctrl-C stays a signal.
struct Keys {
    before: Termios,
}

impl Keys {
    /// Takes the terminal of standard input.
    fn take() -> Result<Keys, Error> {
        let cannot = |why: Errno| {
            let why = why.into();
            Error::system("cannot read keys from the terminal", &why, next_move::of_call(&why))
        };
        let before = tcgetattr(stdin()).map_err(cannot)?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &modes).map_err(cannot)?;
        Ok(Keys { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // It may be gone: there is nothing left to do then.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

fn read_key() -> Result<Key, Error> {
    let mut byte = [0];
    match rustix::io::read(stdin(), &mut byte) {
        Ok(0) => Ok(Key::Quit),
        Ok(_) => Ok(key(byte[0])),
        Err(Errno::INTR | Errno::AGAIN) => Ok(Key::Other),
        Err(why) => {
            let why = why.into();
            Err(Error::system("cannot read keys", &why, next_move::of_call(&why)))
        }
    }
}

fn key(byte: u8) -> Key {
    const END_OF_INPUT: u8 = 4;
    match byte {
        b'\n' | b'\r' => Key::Next,
        b'q' | b'Q' | END_OF_INPUT => Key::Quit,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_pauses_for_a_key_on_a_terminal_only() {
        let time = Duration::from_secs(1);
        for (option, has_terminal, expected) in [
            (None, true, Pause::Key(None)),
            (None, false, Pause::None),
            (Some(time), true, Pause::Key(Some(time))),
            (Some(time), false, Pause::Time(time)),
        ] {
            assert_eq!(Pause::new(option, has_terminal), expected);
        }
    }

    #[test]
    fn enter_goes_on_and_q_ends() {
        for (byte, expected) in
            [(b'\n', Key::Next), (b'\r', Key::Next), (b'q', Key::Quit), (4, Key::Quit), (b'x', Key::Other)]
        {
            assert_eq!(key(byte), expected, "{byte}");
        }
    }
}
