//! What each key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::pages;
use super::screen::Layout;
use super::state::{Action, Mode, Page, State, Victim};

/// The keys, for the page of help.
pub(super) const KEYS: [(&str, &str); 15] = [
    ("up, down, k, j", "select a connection; it stays selected"),
    ("Page Up, Page Down", "select one a page before or after"),
    ("Home, g", "select the first row, whichever it is"),
    ("End, G", "select the last connection"),
    ("s", "sort: id, age, peer, in, out, cpu, memory"),
    ("r, S", "reverse the order"),
    ("/", "filter: a part of id, peer or state"),
    ("Esc", "clear the filter; without one, quit"),
    ("Enter", "all about the selected connection"),
    ("x, K", "end it, after a question"),
    ("t", "all processes"),
    ("p", "hold the screen as it is, and go on"),
    ("Ctrl-L", "draw the screen again"),
    ("?, h", "this page"),
    ("q, Ctrl-C", "quit"),
];

impl State {
    /// Applies a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Action> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        let code = key.code;
        match code {
            KeyCode::Char(letter) if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return self.press_control(letter);
            }
            _ => self.message = None,
        }
        match &mut self.mode {
            Mode::Table => return self.press_in_table(code),
            Mode::Filter(_) => self.press_in_filter(code),
            Mode::Confirm(victim) => {
                let victim = victim.clone();
                return self.press_in_question(code, victim);
            }
            Mode::Page(..) => self.press_in_page(code),
        }
        None
    }

    fn press_control(&mut self, letter: char) -> Option<Action> {
        match (letter, &self.mode) {
            ('c', _) => Some(Action::Quit),
            ('l', _) => Some(Action::Redraw),
            ('u', Mode::Filter(_)) => {
                self.set_filter(String::new());
                None
            }
            _ => None,
        }
    }

    fn press_in_table(&mut self, code: KeyCode) -> Option<Action> {
        let page = Layout::of(self).rows.max(1);
        match code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc if self.filter.is_empty() => return Some(Action::Quit),
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.cursor.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.cursor + 1),
            KeyCode::PageUp => self.select(self.cursor.saturating_sub(page)),
            KeyCode::PageDown => self.select(self.cursor + page),
            KeyCode::Home | KeyCode::Char('g') => self.select_first(),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Char('s') => {
                (self.sort, self.is_reversed) = (self.sort.next(), false);
                self.rearrange();
            }
            KeyCode::Char('r' | 'S') => {
                self.is_reversed = !self.is_reversed;
                self.rearrange();
            }
            KeyCode::Char('/') => self.mode = Mode::Filter(self.filter.clone()),
            KeyCode::Char('x' | 'K') => self.ask_about_end(),
            KeyCode::Char('p') => self.is_held = !self.is_held,
            KeyCode::Char('t') => self.mode = Mode::Page(Page::Tree, 0),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Page(Page::Help, 0),
            KeyCode::Enter => {
                if let Some(connection) = self.connection() {
                    self.mode = Mode::Page(Page::Details(Box::new(connection.clone()), false), 0);
                }
            }
            _ => {}
        }
        None
    }

    fn press_in_filter(&mut self, code: KeyCode) {
        let Mode::Filter(before) = &self.mode else { return };
        let mut filter = self.filter.clone();
        match code {
            KeyCode::Char(letter) => filter.push(letter),
            KeyCode::Backspace => _ = filter.pop(),
            KeyCode::Esc => {
                filter.clone_from(before);
                self.mode = Mode::Table;
            }
            KeyCode::Enter => self.mode = Mode::Table,
            _ => return,
        }
        self.set_filter(filter);
    }

    /// Filters. If the selected connection does not match, the first row is selected.
    fn set_filter(&mut self, filter: String) {
        let before = self.selected.clone();
        self.filter = filter;
        self.rearrange();
        if self.selected != before {
            self.select_first();
        }
    }

    /// Asks whether the selected connection, or the one of the page, is to be ended.
    fn ask_about_end(&mut self) {
        let connection = match &self.mode {
            Mode::Page(Page::Details(connection, false), _) => Some(&**connection),
            _ => self.connection(),
        };
        let Some(connection) = connection else { return };
        self.mode = Mode::Confirm(Victim {
            key: connection.key(),
            id: connection.id.clone(),
            peer: connection.peer.clone(),
            number: connection.number,
            service: connection.service.clone(),
        });
    }

    /// Only a clear answer counts: a key that is pressed by mistake neither ends a connection nor
    /// takes the question away.
    fn press_in_question(&mut self, code: KeyCode, victim: Victim) -> Option<Action> {
        match code {
            KeyCode::Char('y' | 'Y') => {
                self.mode = Mode::Table;
                self.message = Some(format!("ending connection {}", victim.id));
                return Some(Action::Kill(victim));
            }
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => self.mode = Mode::Table,
            _ => {}
        }
        None
    }

    fn press_in_page(&mut self, code: KeyCode) {
        let lines = pages::lines(self).len();
        let room = Layout::of(self).page;
        let is_details = matches!(self.mode, Mode::Page(Page::Details(_, false), _));
        let Mode::Page(_, top) = &mut self.mode else { return };
        let last = lines.saturating_sub(room);
        match code {
            KeyCode::Up | KeyCode::Char('k') => *top = top.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *top = (*top + 1).min(last),
            KeyCode::PageUp => *top = top.saturating_sub(room),
            KeyCode::PageDown => *top = (*top + room).min(last),
            KeyCode::Home | KeyCode::Char('g') => *top = 0,
            KeyCode::End | KeyCode::Char('G') => *top = last,
            KeyCode::Char('x' | 'K') if is_details => self.ask_about_end(),
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?' | 'h' | 't') => self.mode = Mode::Table,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_the_same_keys() {
        let document = include_str!("../../../../../docs/operating.md");
        let (_, section) = document.split_once("\n### tine top\n").expect("a section");
        let rows = section.lines().skip_while(|line| !line.starts_with("| key ")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let keys: Vec<String> =
            rows.filter_map(|row| Some(row.split(" | ").next()?.replace('`', ""))).collect();
        assert_eq!(keys, KEYS.map(|(keys, _)| format!("| {keys}")));
    }
}
