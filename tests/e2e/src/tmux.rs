//! A terminal with a shell, as an operator has one. tmux(1) has it: it takes keys and tells what is
//! on the screen.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::folder::Folder;
use crate::procfs;
use crate::server::run;
use crate::wait::{TEST_TIMEOUT, wait_until};

/// What the shell writes when it waits for a command.
pub const PROMPT: &str = "shell> ";

/// A terminal. Dropping it ends its tmux, with what runs in it.
pub struct Terminal {
    folder: Folder,
    /// The server of tmux. It is no daemon: it is a child of the test until it has ended.
    server: Child,
}

impl Terminal {
    /// Starts a shell in a terminal of this size. `name` must differ between the tests of one
    /// process.
    ///
    /// # Panics
    /// If tmux does not start.
    #[must_use]
    pub fn new(name: &str, columns: u16, lines: u16) -> Terminal {
        let folder = Folder::new(&format!("tmux-{name}"));
        // The status line of tmux would take a line of the terminal.
        folder.write("tmux.conf", "set -g status off\n");
        let server = tmux(&folder).arg("-D").stdin(Stdio::null()).spawn().expect("tmux starts");
        let terminal = Terminal { folder, server };
        let socket = terminal.path("socket");
        wait_until("tmux listens", || UnixStream::connect(&socket).ok());
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = format!("PS1='{PROMPT}' exec sh");
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &lines, &shell]);
        terminal.wait_for(PROMPT.trim_end());
        terminal
    }

    /// A file of this terminal.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.path(name)
    }

    /// Runs a command of tmux, and returns what it prints.
    fn tmux(&self, words: &[&str]) -> String {
        let (code, out, err) = run(tmux(&self.folder).arg("-N").args(words));
        assert_eq!(code, 0, "tmux {words:?}: {out}{err}");
        out
    }

    fn number(&self, format: &str) -> i32 {
        self.tmux(&["display-message", "-p", format]).trim().parse().expect("a number")
    }

    /// The path of the terminal, to which any process may write.
    #[must_use]
    pub fn device(&self) -> String {
        self.tmux(&["display-message", "-p", "#{pane_tty}"]).trim().to_owned()
    }

    /// The process that runs in the shell.
    #[must_use]
    pub fn foreground(&self) -> i32 {
        let shell = self.number("#{pane_pid}");
        wait_until("the shell has a child", || procfs::children(shell).first().map(|child| child.pid))
    }

    /// Types a command and Enter.
    pub fn type_line(&self, line: &str) {
        self.type_text(line);
        self.press("Enter");
    }

    /// Types text.
    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key, by its name in tmux(1).
    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Changes the size.
    pub fn resize(&self, columns: u16, lines: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is on the screen, with escape sequences for colours and attributes.
    #[must_use]
    pub fn styled_screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen has this text, and returns all of it.
    ///
    /// # Panics
    /// If it does not appear.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait_until(&format!("the screen has {part:?}"), |screen| screen.contains(part))
    }

    /// Waits until the shell waits for a command. What is typed earlier may go to the one before.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_for_prompt(&self) {
        self.wait_until("the shell waits", |screen| screen.trim_end().ends_with(PROMPT.trim_end()));
    }

    /// Waits until the screen is as it should be, and returns it.
    ///
    /// # Panics
    /// If it never is.
    pub fn wait_until(&self, condition: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            // The screen says more than that it is not as it should be.
            assert!(
                Instant::now() < deadline,
                "timed out waiting until {condition}; the screen is\n{screen}"
            );
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What runs in the terminal gets a HUP.
        let (code, ..) = run(tmux(&self.folder).args(["-N", "kill-server"]));
        if code != 0 {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

/// tmux with the socket and configuration of a terminal, up to its command.
fn tmux(folder: &Folder) -> Command {
    let mut command = Command::new("tmux");
    // One that runs around the tests is not ours.
    command.env_remove("TMUX").env_remove("NO_COLOR");
    command.args(["-u", "-S", &folder.path("socket"), "-f", &folder.path("tmux.conf")]);
    command
}
