//! The terminal: taken for the screen, and given back as it was, whatever ends the command.

use std::io::{self, BufWriter, Stdout, Write, stdout};
use std::mem::ManuallyDrop;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;

use super::draw::draw;
use super::state::State;

/// Exit code of a process that has panicked, as the standard library has it.
const PANICKED: i32 = 101;

/// The terminal while the screen has it. Dropping it gives it back.
pub(super) struct Screen {
    /// It is not dropped: it would print an error, and panic, where the terminal is gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<BufWriter<Stdout>>>>,
    has_colours: bool,
}

impl Screen {
    /// Takes the terminal: keys arrive as they are pressed, and the screen is another than that of
    /// the shell.
    ///
    /// # Errors
    /// The terminal is gone, or does not take its settings.
    pub(super) fn take() -> io::Result<Screen> {
        give_back_after_a_panic();
        // One write(2) for each screen: over a slow line no half of it is seen.
        let output = BufWriter::with_capacity(64 * 1024, stdout());
        let terminal = ManuallyDrop::new(Terminal::new(CrosstermBackend::new(output))?);
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // From here on, dropping it undoes what has been done.
        let screen = Screen { terminal, has_colours };
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, state: &State) -> io::Result<()> {
        let has_colours = self.has_colours;
        self.terminal.draw(|frame| draw(frame, state, has_colours)).map(|_| ())
    }

    /// Clears the screen: all of it is drawn the next time. `Terminal::clear` would ask the
    /// terminal where the cursor is, and the thread that reads keys would take the answer.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back. It may be gone: there is nothing left to do then.
fn give_back() {
    let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
    let _ = stdout().flush();
}

/// Gives the terminal back before a panic is reported, which would be lost with the screen. A panic
/// of any thread ends the command: the others would go on with a terminal that is not theirs.
fn give_back_after_a_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        report(panic);
        std::process::exit(PANICKED);
    }));
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

    use super::*;

    /// Set in the process that panics.
    const PANICS: &str = "TINE_TEST_PANICS";

    /// A terminal: the side of its user, and that of its processes.
    fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&user).expect("a new terminal");
        unlockpt(&user).expect("a new terminal");
        let path = ptsname(&user, Vec::new()).expect("a new terminal has a path");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side = rustix::fs::open(path, flags, Mode::empty()).expect("the other side");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&side, size).expect("a terminal has a size");
        (user, side)
    }

    /// Not `assert_eq!` on the settings themselves: they cannot be compared.
    fn settings(terminal: &OwnedFd) -> String {
        let Termios { input_modes, output_modes, control_modes, local_modes, special_codes, .. } =
            tcgetattr(terminal).expect("a terminal");
        format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?} {special_codes:?}")
    }

    #[test]
    fn a_panic_of_any_thread_gives_the_terminal_back() {
        if let Some(where_) = std::env::var_os(PANICS) {
            let _screen = Screen::take().expect("a terminal");
            match where_ == "main" {
                true => panic!("for the test"),
                false => {
                    let _ = std::thread::spawn(|| panic!("for the test")).join();
                    std::thread::park();
                }
            }
        }
        for place in ["main", "another"] {
            let (user, side) = pseudo_terminal();
            let before = settings(&side);
            let end = || Stdio::from(side.try_clone().expect("a descriptor"));
            let module = module_path!().split_once("::").expect("a crate").1;
            let test = format!("{module}::a_panic_of_any_thread_gives_the_terminal_back");
            let mut child = Command::new(std::env::current_exe().expect("a test has a path"))
                .args(["--exact", &test, "--nocapture"])
                .env(PANICS, place)
                .stdin(end())
                .stdout(end())
                .stderr(end())
                .spawn()
                .expect("the test starts");
            let code = child.wait().expect("our child").code();
            assert_eq!(settings(&side), before, "{place}");
            drop(side);
            let mut output = Vec::new();
            // The end of a terminal is an error (EIO).
            let _ = File::from(user).read_to_end(&mut output);
            let output = String::from_utf8_lossy(&output);
            let (taken, rest) = output.split_once("\x1b[?1049h").expect("another screen");
            let (_, rest) = rest.split_once("\x1b[?1049l").expect("the screen of before");
            assert!(rest.contains("for the test") && !taken.contains("for the test"), "{output}");
            assert_eq!(code, Some(PANICKED), "{output}");
        }
    }
}
