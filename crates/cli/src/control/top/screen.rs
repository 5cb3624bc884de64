//! The lines of the screen, as text: which line is where, and what it says.

use super::pages;
use super::state::{Mode, State};
use super::table::Table;
use super::tree::{self, fit, rate};
use crate::control::text::age;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    /// The head of the screen.
    Head,
    /// Above the rows of the table, and above a page.
    Heading,
    /// The selected row.
    Selected,
    /// A row whose connection is being ended.
    Ending,
    /// What needs the operator's attention.
    Alarm,
}

/// A line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

/// How many lines each part of the screen has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) head: usize,
    pub(super) tree: usize,
    /// Above the rows of the table.
    pub(super) headings: usize,
    /// Rows of the table.
    pub(super) rows: usize,
    /// Lines of a page, which has one heading.
    pub(super) page: usize,
}

impl Layout {
    /// The parts of a screen of this size. The tree has at most a third, the last line is about
    /// keys. Where there is hardly room, the table has it.
    pub(super) fn of(state: &State) -> Layout {
        let height = usize::from(state.size.1);
        let head = match height {
            0..4 => 0,
            4..8 => 1,
            _ => 2,
        };
        let headings = match height {
            0..3 => 0,
            3..8 => 1,
            _ => 2,
        };
        let room = height.saturating_sub(8) / 3;
        let tree = if room == 0 { 0 } else { room.min(tree_lines(state).len()) };
        let footer = usize::from(height > 1);
        Layout {
            head,
            tree,
            headings,
            rows: height.saturating_sub(head + tree + headings + footer),
            page: height.saturating_sub(head + 1 + footer),
        }
    }
}

fn tree_lines(state: &State) -> Vec<String> {
    tree::lines(&state.snapshot, usize::from(state.size.0))
}

/// The lines of the screen, from top to bottom, exactly as many as it has.
pub(super) fn lines(state: &State) -> Vec<Line> {
    let height = usize::from(state.size.1);
    let layout = Layout::of(state);
    let mut lines = head(state);
    lines.truncate(layout.head);
    match &state.mode {
        Mode::Page(_, top) => {
            lines.push(Line { text: pages::heading(state), look: Look::Heading });
            let page = pages::lines(state).into_iter().skip(*top).take(layout.page);
            lines.extend(page.map(plain));
        }
        _ => {
            lines.extend(part_of_tree(state, layout.tree));
            lines.extend(table(state, &layout));
        }
    }
    lines.resize(height.saturating_sub(1), plain(String::new()));
    if height > 0 {
        lines.push(footer(state));
    }
    lines
}

fn plain(text: String) -> Line {
    Line { text, look: Look::Plain }
}

/// The head: the server, and its figures.
fn head(state: &State) -> Vec<Line> {
    let services = &state.snapshot.services;
    let sum = |of: fn(&super::snapshot::Service) -> u64| services.iter().map(of).sum::<u64>();
    let sum_of_rates = |of: fn(&super::snapshot::Service) -> Option<f64>| {
        rate(services.iter().map(of).sum::<Option<f64>>().filter(|_| !services.is_empty()))
    };
    let first = match &state.lost {
        Some(why) => Line { text: format!("{}: {why}", state.server), look: Look::Alarm },
        None => {
            let version = services.first().map_or("", |service| &service.version);
            let uptime = services.iter().map(|service| service.uptime_ms).max().unwrap_or(0);
            let held = if state.is_held { "  HELD" } else { "" };
            let text =
                format!("tine {version}  {}  {}  up {}{held}", state.server, phases(state), age(uptime));
            Line { text, look: Look::Head }
        }
    };
    let (connections, most) = (sum(|service| service.connections), sum(|service| service.max_connections));
    // The totals are last: a narrow terminal has no room for them.
    let mut figures = vec![
        format!("{connections} of {most} connections"),
        format!("{} accepted/s", sum_of_rates(|service| service.accepted_rate)),
        format!("{} rejected/s", sum_of_rates(|service| service.rejected_rate)),
        format!("{} failed", sum(|service| service.failed)),
        format!("{} rejected", sum(|service| service.rejected)),
        format!("{} accepted", sum(|service| service.accepted)),
    ];
    if let waiting @ 1.. = sum(|service| service.waiting) {
        figures.insert(3, format!("{waiting} in the delay queue"));
    }
    vec![first, plain(fit(&figures, "  ", usize::from(state.size.0)))]
}

/// The phase of the services; how many are in each if they differ.
fn phases(state: &State) -> String {
    let mut phases: Vec<(&str, usize)> = Vec::new();
    for service in &state.snapshot.services {
        match phases.iter_mut().find(|(phase, _)| *phase == service.phase) {
            Some((_, count)) => *count += 1,
            None => phases.push((&service.phase, 1)),
        }
    }
    match &phases[..] {
        [(phase, _)] => (*phase).to_owned(),
        several => {
            several.iter().map(|(phase, count)| format!("{phase} {count}")).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The first lines of the tree. If there are more, the last line says so.
fn part_of_tree(state: &State, room: usize) -> Vec<Line> {
    let mut lines = tree_lines(state);
    if lines.len() > room && room > 0 {
        let more = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(format!(" {more} more lines: t"));
    }
    lines.truncate(room);
    lines.into_iter().map(plain).collect()
}

/// The table: only the rows that are on the screen are made.
fn table(state: &State, layout: &Layout) -> Vec<Line> {
    let table = Table::new(usize::from(state.size.0), state.snapshot.id_width);
    let headings = [
        Line { text: title(state, layout.rows), look: Look::Plain },
        Line { text: table.headings(), look: Look::Heading },
    ];
    let mut lines = headings[2 - layout.headings..].to_vec();
    for (at, connection) in state.order.iter().enumerate().skip(state.top).take(layout.rows) {
        let connection = &state.snapshot.connections[*connection];
        let look = match &connection.state {
            _ if at == state.cursor => Look::Selected,
            state if state == "ending" => Look::Ending,
            _ => Look::Plain,
        };
        lines.push(Line { text: table.row(connection), look });
    }
    lines
}

/// What part of the connections is on the screen, in which order.
fn title(state: &State, rows: usize) -> String {
    let count = state.order.len();
    let shown = match count {
        0 => "no connection".to_owned(),
        _ => format!("connections {}-{} of {count}", state.top + 1, (state.top + rows).min(count)),
    };
    let filter = match state.filter.is_empty() {
        true => String::new(),
        false => format!(" with \"{}\", {} in all", state.filter, state.snapshot.connections.len()),
    };
    let reversed = if state.is_reversed { ", reversed" } else { "" };
    format!("{shown}{filter}, by {}{reversed}", state.sort.name())
}

/// The last line: a question, what is typed, what has happened, or the keys.
fn footer(state: &State) -> Line {
    let keys: &[&str] = match &state.mode {
        Mode::Confirm(victim) => {
            let text = format!("end connection {} of {}? y/n", victim.id, victim.peer);
            return Line { text, look: Look::Alarm };
        }
        Mode::Filter(_) => {
            return plain(format!("filter: {}_  (Enter keeps it, Esc does not)", state.filter));
        }
        Mode::Page(..) => &["q back", "up/down scroll"],
        Mode::Table => {
            &["q quit", "? help", "s sort", "r reverse", "/ filter", "Enter details", "x end", "t processes"]
        }
    };
    match &state.message {
        Some(message) => Line { text: message.clone(), look: Look::Alarm },
        None => plain(fit(keys, "  ", usize::from(state.size.0))),
    }
}
