//! What is on the screen, and what an event changes in it: no input, no output, no clock.

use ratatui::crossterm::event::KeyEvent;

use super::order::{Sort, arrange};
use super::screen::Layout;
use super::snapshot::{Connection, Key, Snapshot};

/// What happens to the screen.
#[derive(Debug)]
pub(super) enum Event {
    Key(KeyEvent),
    /// The terminal has this many columns and lines.
    Resize(u16, u16),
    /// It is time to ask the server.
    Tick,
    /// The server has answered.
    Snapshot(Box<Snapshot>),
    /// The server has not answered, for this reason.
    Lost(String),
    /// An order to end a connection has been carried out, or has failed for this reason.
    Killed {
        id: String,
        result: Result<(), String>,
    },
}

/// What is to be done then.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the server for a snapshot.
    Ask,
    /// End this connection.
    Kill(Victim),
    /// Draw every character again.
    Redraw,
    Quit,
}

/// A connection that is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) key: Key,
    pub(super) id: String,
    pub(super) peer: String,
    /// As a request names it.
    pub(super) number: u64,
    pub(super) service: Option<String>,
}

/// What keys are about.
#[derive(Debug)]
pub(super) enum Mode {
    Table,
    /// The filter is typed; this is what it was before.
    Filter(String),
    /// The operator is asked whether this connection is to be ended.
    Confirm(Victim),
    /// A text takes the place of tree and table; its first line on the screen.
    Page(Page, usize),
}

/// A text that takes the place of tree and table.
#[derive(Debug)]
pub(super) enum Page {
    Help,
    /// All processes of all services.
    Tree,
    /// A connection, as it was when the server last told of it, and whether it has ended.
    Details(Box<Connection>, bool),
}

/// What is on the screen.
#[derive(Debug)]
pub(super) struct State {
    /// Name of the server.
    pub(super) server: String,
    /// Columns and lines of the terminal.
    pub(super) size: (u16, u16),
    pub(super) snapshot: Snapshot,
    /// The connections that match the filter, sorted: places in the snapshot.
    pub(super) order: Vec<usize>,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The place of the selected connection in the order, and of the first one on the screen.
    pub(super) cursor: usize,
    pub(super) top: usize,
    /// The selected connection, which stays selected when rows move. If there is none, the first
    /// row is selected, whatever it is.
    pub(super) selected: Option<Key>,
    /// Why the server has not answered the last time.
    pub(super) lost: Option<String>,
    /// What the last line says until the next key.
    pub(super) message: Option<String>,
    /// Whether the screen stays as it is, and the server is not asked.
    pub(super) is_held: bool,
}

impl State {
    pub(super) fn new(server: String, size: (u16, u16), snapshot: Snapshot) -> State {
        let mut state = State {
            server,
            size,
            snapshot,
            order: Vec::new(),
            sort: Sort::default(),
            is_reversed: false,
            filter: String::new(),
            mode: Mode::Table,
            cursor: 0,
            top: 0,
            selected: None,
            lost: None,
            message: None,
            is_held: false,
        };
        state.rearrange();
        state
    }

    /// Applies an event. Returns what is to be done.
    pub(super) fn apply(&mut self, event: Event) -> Option<Action> {
        let mut action = None;
        match event {
            Event::Key(key) => action = self.press(key),
            Event::Resize(columns, lines) => self.size = (columns, lines),
            Event::Tick => action = (!self.is_held).then_some(Action::Ask),
            Event::Snapshot(snapshot) => self.renew(*snapshot),
            Event::Lost(why) => self.lost = Some(why),
            Event::Killed { id, result } => {
                self.message = Some(match result {
                    Ok(()) => format!("connection {id} has ended"),
                    Err(why) => format!("connection {id} has not been ended: {why}"),
                });
            }
        }
        self.scroll();
        action
    }

    /// Takes over what the server has answered.
    fn renew(&mut self, mut snapshot: Snapshot) {
        self.lost = None;
        // It was asked before the operator held the screen.
        if self.is_held {
            return;
        }
        snapshot.compare(&self.snapshot);
        self.snapshot = snapshot;
        self.rearrange();
        match &mut self.mode {
            Mode::Page(Page::Details(shown, has_ended), _) => {
                let key = shown.key();
                match self.snapshot.connections.iter().find(|one| one.is(&key)) {
                    Some(now) => **shown = now.clone(),
                    None => *has_ended = true,
                }
            }
            // Another connection could get its id, if the server is started again.
            Mode::Confirm(victim) if !self.snapshot.connections.iter().any(|one| one.is(&victim.key)) => {
                self.message = Some(format!("connection {} has ended", victim.id));
                self.mode = Mode::Table;
            }
            _ => {}
        }
    }

    /// Filters and sorts again. The selected connection stays selected; if it has ended or does not
    /// match, the one that is now in its place is.
    pub(super) fn rearrange(&mut self) {
        self.order = arrange(&self.snapshot.connections, &self.filter, self.sort, self.is_reversed);
        let Some(key) = &self.selected else {
            self.cursor = 0;
            return;
        };
        match self.order.iter().position(|at| self.snapshot.connections[*at].is(key)) {
            Some(at) => self.cursor = at,
            None => self.select(self.cursor),
        }
    }

    /// Selects the connection in this place of the order, or the last one.
    pub(super) fn select(&mut self, at: usize) {
        self.cursor = at.min(self.order.len().saturating_sub(1));
        self.selected = self.connection().map(Connection::key);
    }

    /// Selects the first row, whichever connection it is or becomes.
    pub(super) fn select_first(&mut self) {
        (self.cursor, self.selected) = (0, None);
    }

    /// The selected connection.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.order.get(self.cursor).map(|at| &self.snapshot.connections[*at])
    }

    /// Moves the part of the table that is on the screen, so that the selected row is in it and no
    /// line stays empty.
    fn scroll(&mut self) {
        let rows = Layout::of(self).rows.max(1);
        let last = self.order.len().saturating_sub(rows);
        self.top = self.top.min(last).clamp((self.cursor + 1).saturating_sub(rows), self.cursor);
    }
}
