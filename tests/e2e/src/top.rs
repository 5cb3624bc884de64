//! `tine top` in a terminal.

use crate::client::Client;
use crate::control::Controlled;
use crate::server::tine;
use crate::tmux::Terminal;

/// A server, and a terminal in which `tine top` shows it.
pub struct Watched {
    /// The server.
    pub controlled: Controlled,
    /// The terminal.
    pub terminal: Terminal,
}

/// The command line of `tine top`, with updates that come often.
#[must_use]
pub fn top(socket: &str) -> String {
    format!("{} top --interval 50ms --control {socket}", tine().display())
}

impl Watched {
    /// Starts a server without a program, and `tine top` with these variables.
    #[must_use]
    pub fn start(name: &str, variables: &str) -> Watched {
        let controlled = Controlled::serve(name, &[], &[]);
        let terminal = Terminal::new(name, 80, 24);
        terminal.type_line(&format!("{variables} {}", top(&controlled.folder.path("c.sock"))));
        terminal.wait_for("no connection");
        Watched { controlled, terminal }
    }

    /// Connects a client from an address of its own, and waits until it is on the screen.
    #[must_use]
    pub fn connect(&self, address: &str) -> Client {
        let mut client = Client::from_source(address, self.controlled.server.port());
        client.echo("x");
        self.terminal.wait_for(&client.address());
        client
    }

    /// Presses a key, and waits until the screen has this text.
    pub fn press(&self, key: &str, part: &str) -> String {
        self.terminal.press(key);
        self.terminal.wait_for(part)
    }

    /// Waits until the screen has this text and these peers. The text alone does not say that the
    /// rows below it are drawn, too.
    pub fn wait_for_peers(&self, part: &str, expected: &[&str]) {
        let condition = format!("the screen has {part:?} and {expected:?}");
        self.terminal.wait_until(&condition, |screen| screen.contains(part) && peers(screen) == expected);
    }
}

/// The addresses of the peers in the rows of the table, from top to bottom.
#[must_use]
pub fn peers(screen: &str) -> Vec<&str> {
    let rows = screen.lines().skip_while(|line| !line.contains("ID PEER")).skip(1);
    let peers = rows.filter_map(|row| row.split_whitespace().nth(1)?.split_once(':'));
    peers.map(|(address, _)| address).filter(|address| address.starts_with("127.")).collect()
}
