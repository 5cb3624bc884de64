//! The screen, event by event.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::draw::draw;
use super::pages;
use super::screen::{Look, lines};
use super::snapshot::tests::{row, snapshot, status};
use super::state::{Action, Event, Mode, State};

/// A state with these connections, on a terminal of this size.
fn state(size: (u16, u16), rows: &[Value]) -> State {
    State::new("web".to_owned(), size, snapshot(1, &[status(None)], rows))
}

fn rows(ids: impl IntoIterator<Item = u64>) -> Vec<Value> {
    ids.into_iter().map(|id| row(id, &format!("192.0.2.{}:5000", id % 250))).collect()
}

fn renew(state: &mut State, seconds: u64, rows: &[Value]) {
    let shot = snapshot(seconds, &[status(None)], rows);
    assert_eq!(state.apply(Event::Snapshot(Box::new(shot))), None);
}

/// Presses keys: letters are themselves.
fn press(state: &mut State, keys: &str) -> Option<Action> {
    let mut last = None;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            letter => KeyCode::Char(letter),
        };
        last = state.apply(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    last
}

fn press_key(state: &mut State, code: KeyCode) -> Option<Action> {
    state.apply(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn text(state: &State) -> String {
    lines(state).into_iter().map(|line| line.text + "\n").collect()
}

fn selected(state: &State) -> u64 {
    state.connection().map_or(0, |one| one.number)
}

#[track_caller]
fn expect(state: &State, part: &str) {
    assert!(text(state).contains(part), "{part:?} is not in\n{}", text(state));
}

/// What a terminal shows.
fn drawn(state: &State, size: (u16, u16), has_colours: bool) -> ratatui::buffer::Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("memory");
    terminal.draw(|frame| draw(frame, state, has_colours)).expect("memory");
    terminal.backend().buffer().clone()
}

#[test]
fn a_screen_of_80_by_24_has_everything() {
    let mut state = state((80, 24), &rows(1..=30));
    let shot = lines(&state);
    assert_eq!(shot.len(), 24);
    assert_eq!(shot[0].text, "tine 0.1.0  web  serving  up 3min 5s");
    assert_eq!(shot[1].text, "3 of 40 connections  - accepted/s  - rejected/s  1 failed  2 rejected");
    assert_eq!(shot[2].text, "supervisor 900");
    assert_eq!(shot[3].text, " \\_ forker 1 901                    \\_ forker 2 902, restarted 3 times");
    assert_eq!(shot[4].text, " \\_ 3 connections");
    assert_eq!(shot[5].text, "connections 1-16 of 30, by id");
    assert!(shot[6].text.starts_with("  ID PEER"), "{shot:?}");
    assert_eq!((shot[7].look, shot[8].look), (Look::Selected, Look::Plain));
    assert!(shot[7].text.starts_with("   1 192.0.2.1:5000"), "{shot:?}");
    assert!(shot[23].text.starts_with("q quit"), "{shot:?}");
    assert!(shot.iter().all(|line| line.text.chars().count() <= 80), "{shot:#?}");
    renew(&mut state, 2, &rows(1..=30));
    expect(&state, "0.0 accepted/s  0.0 rejected/s");
}

#[test]
fn the_selected_connection_stays_selected() {
    let mut state = state((80, 24), &rows([1, 2, 3, 4]));
    press(&mut state, "jj");
    assert_eq!(selected(&state), 3);
    renew(&mut state, 2, &rows([3, 4, 5]));
    assert_eq!((selected(&state), state.cursor), (3, 0));
    press(&mut state, "r");
    assert_eq!((selected(&state), state.cursor), (3, 2));
    // It has ended: the one in its place is selected.
    renew(&mut state, 3, &rows([4, 5]));
    assert_eq!(selected(&state), 4);
    renew(&mut state, 4, &[]);
    assert_eq!(selected(&state), 0);
    expect(&state, "no connection");
}

#[test]
fn the_first_row_is_selected_whichever_it_is_until_one_is_chosen() {
    let mut state = state((80, 24), &rows([2, 3]));
    renew(&mut state, 2, &rows([1, 2, 3]));
    assert_eq!(selected(&state), 1);
    press(&mut state, "j");
    renew(&mut state, 3, &rows([0, 1, 2, 3]));
    assert_eq!(selected(&state), 2);
    press(&mut state, "g");
    renew(&mut state, 4, &rows([5, 6]));
    assert_eq!(selected(&state), 5);
}

#[test]
fn the_table_scrolls_with_the_selection() {
    let mut state = state((80, 24), &rows(1..=100));
    for (key, number, top) in [
        (KeyCode::PageDown, 17, 1),
        (KeyCode::PageDown, 33, 17),
        (KeyCode::Up, 32, 17),
        (KeyCode::PageUp, 16, 15),
        (KeyCode::End, 100, 84),
        (KeyCode::Down, 100, 84),
        (KeyCode::PageUp, 84, 83),
        (KeyCode::Home, 1, 0),
        (KeyCode::Up, 1, 0),
    ] {
        press_key(&mut state, key);
        assert_eq!((selected(&state), state.top), (number, top), "{key:?}");
    }
    press_key(&mut state, KeyCode::End);
    // A larger terminal has no empty lines, a smaller one still has the selected row.
    assert_eq!(state.apply(Event::Resize(80, 60)), None);
    assert_eq!((selected(&state), state.top), (100, 48));
    state.apply(Event::Resize(80, 10));
    expect(&state, " 100 192.0.2.100:5000");
}

#[test]
fn sort_and_order_are_named() {
    let mut state = state((80, 24), &rows([1, 2]));
    for name in ["age", "peer", "in", "out", "cpu", "memory", "id"] {
        press(&mut state, "s");
        expect(&state, &format!(", by {name}\n"));
    }
    press(&mut state, "S");
    expect(&state, ", by id, reversed\n");
    assert_eq!(selected(&state), 2);
}

#[test]
fn a_filter_is_typed_and_kept_or_dropped() {
    let mut state = state((80, 24), &rows([1, 2, 21]));
    press(&mut state, "/192.0.2.2");
    expect(&state, "filter: 192.0.2.2_");
    expect(&state, "connections 1-2 of 2 with \"192.0.2.2\", 3 in all");
    press(&mut state, "q");
    expect(&state, "no connection with \"192.0.2.2q\"");
    press(&mut state, "\u{8}1\n");
    assert_eq!((state.order.len(), selected(&state)), (1, 21));
    press(&mut state, "/x\u{1b}");
    assert_eq!((state.filter.as_str(), state.order.len()), ("192.0.2.21", 1));
    assert_eq!(press(&mut state, "\u{1b}"), None);
    assert_eq!(state.order.len(), 3);
    // The selected connection stays selected if it matches; if not, the first one that does is.
    press(&mut state, "G/192.0.2.2\n");
    assert_eq!((selected(&state), state.cursor), (21, 1));
    press(&mut state, "/\u{8}1\n");
    assert_eq!((selected(&state), state.cursor), (1, 0));
    press(&mut state, "\u{1b}");
    assert_eq!(press(&mut state, "\u{1b}"), Some(Action::Quit));
}

#[test]
fn only_a_yes_ends_a_connection() {
    let mut ended = row(12, "192.0.2.1:5000");
    (ended["id"], ended["service"]) = (json!("web:12"), json!("web"));
    let mut state = state((80, 24), &[ended.clone()]);
    assert_eq!(press(&mut state, "K"), None);
    expect(&state, "end connection web:12 of 192.0.2.1:5000? y/n");
    assert_eq!(press(&mut state, "j \n"), None);
    expect(&state, "end connection web:12");
    assert_eq!(press(&mut state, "n"), None);
    assert!(matches!(state.mode, Mode::Table));
    press(&mut state, "x");
    let Some(Action::Kill(victim)) = press(&mut state, "y") else { panic!("{}", text(&state)) };
    assert_eq!((victim.number, victim.service.as_deref()), (12, Some("web")));
    expect(&state, "ending connection web:12");
    let id = || "web:12".to_owned();
    state.apply(Event::Killed { id: id(), result: Err("you may not".into()) });
    expect(&state, "connection web:12 has not been ended: you may not");
    state.apply(Event::Killed { id: id(), result: Ok(()) });
    expect(&state, "connection web:12 has ended");
    // The next key takes the message away.
    press(&mut state, "j");
    expect(&state, "q quit");
}

#[test]
fn a_question_ends_with_its_connection() {
    let mut state = state((80, 24), &rows([1, 2]));
    press(&mut state, "x");
    let mut other = row(1, "192.0.2.9:1");
    other["pid"] = json!(77);
    renew(&mut state, 2, &[other]);
    expect(&state, "connection 1 has ended");
    assert_eq!(press(&mut state, "y"), None);
    let mut empty = self::state((80, 24), &[]);
    press(&mut empty, "x");
    assert!(matches!(empty.mode, Mode::Table));
}

#[test]
fn details_follow_the_connection_until_it_ends() {
    let mut state = state((80, 24), &rows([1, 2]));
    press(&mut state, "j\n");
    expect(&state, "connection 2\n");
    expect(&state, "peer            192.0.2.2:5000");
    let mut later = rows([1, 2]);
    later[1]["bytes_in"] = json!(77);
    renew(&mut state, 2, &later);
    expect(&state, "bytes_in        77");
    renew(&mut state, 3, &rows([1]));
    expect(&state, "connection 2 has ended");
    expect(&state, "bytes_in        77");
    // It cannot be ended any more.
    press(&mut state, "x");
    assert!(matches!(state.mode, Mode::Page(..)));
    assert_eq!(press(&mut state, "q"), None);
    press(&mut state, "\nx");
    expect(&state, "end connection 1 of");
}

#[test]
fn help_and_processes_scroll_on_a_small_terminal() {
    let mut state = state((60, 8), &rows([1]));
    press(&mut state, "?");
    assert!(pages::lines(&state).iter().all(|line| line.chars().count() <= 60));
    expect(&state, "up, down, k, j");
    press_key(&mut state, KeyCode::End);
    expect(&state, "q, Ctrl-C          quit");
    press_key(&mut state, KeyCode::Down);
    expect(&state, "q, Ctrl-C          quit");
    press_key(&mut state, KeyCode::Home);
    expect(&state, "up, down, k, j");
    press(&mut state, "?t");
    expect(&state, "forker 2 902, restarted 3 times");
    press(&mut state, "t");
    expect(&state, "192.0.2.1:5000");
}

#[test]
fn a_tree_that_does_not_fit_says_so() {
    let services: Vec<Value> = ["a", "b", "c", "d"].map(|name| status(Some(name))).into();
    let state = State::new("web".to_owned(), (80, 24), snapshot(1, &services, &[]));
    expect(&state, "12 of 160 connections");
    expect(&state, "a: supervisor 900, serving");
    expect(&state, " 8 more lines: t");
}

#[test]
fn a_lost_server_is_said_and_the_operator_can_quit() {
    let mut state = state((80, 24), &rows([1]));
    assert_eq!(state.apply(Event::Tick), Some(Action::Ask));
    state.apply(Event::Lost("the server has ended; start it again".into()));
    expect(&state, "web: the server has ended; start it again");
    assert_eq!(lines(&state)[0].look, Look::Alarm);
    // It is asked again.
    assert_eq!(state.apply(Event::Tick), Some(Action::Ask));
    renew(&mut state, 2, &rows([1]));
    expect(&state, "tine 0.1.0  web  serving");
    state.apply(Event::Lost("gone".into()));
    assert_eq!(press(&mut state, "q"), Some(Action::Quit));
}

#[test]
fn a_held_screen_stays_as_it_is() {
    let mut state = state((80, 24), &rows([1]));
    press(&mut state, "p");
    expect(&state, "HELD");
    renew(&mut state, 2, &rows([1, 2]));
    assert_eq!((state.order.len(), state.apply(Event::Tick)), (1, None));
    press(&mut state, "p");
    assert_eq!(state.apply(Event::Tick), Some(Action::Ask));
}

#[test]
fn control_c_quits_from_everywhere() {
    for keys in ["", "/abc", "x", "?", "\n", "t"] {
        let mut state = state((80, 24), &rows([1]));
        press(&mut state, keys);
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.apply(Event::Key(key)), Some(Action::Quit), "{keys:?}");
    }
}

#[test]
fn services_that_differ_are_counted() {
    let mut paused = status(Some("b"));
    paused["phase"] = json!("paused");
    let services = [status(Some("a")), paused, status(Some("c"))];
    let state = State::new("web".to_owned(), (80, 24), snapshot(1, &services, &[]));
    expect(&state, "web  serving 2, paused 1  up");
}

#[test]
fn any_size_can_be_drawn() {
    for keys in ["", "x", "?", "\n", "t", "/1"] {
        for size in
            [(0, 0), (1, 1), (2, 2), (5, 3), (10, 4), (20, 5), (60, 15), (80, 7), (80, 24), (300, 100)]
        {
            let mut state = state(size, &rows(1..=50));
            press(&mut state, keys);
            press_key(&mut state, KeyCode::End);
            assert_eq!(lines(&state).len(), usize::from(size.1), "{keys:?} {size:?}");
            // A terminal that has another size than the one that was told.
            drawn(&state, (size.0 + 3, size.1 + 1), true);
            drawn(&state, (1, 1), false);
        }
    }
}

#[test]
fn only_the_rows_on_the_screen_are_made() {
    let state = state((80, 24), &rows(1..=5000));
    assert_eq!(state.order.len(), 5000);
    // The rows that are not in order are never looked at: their places do not exist.
    let mut broken = state;
    broken.order[16..].fill(usize::MAX);
    let shown = drawn(&broken, (80, 24), true);
    assert_eq!(shown.area().height, 24);
    assert_eq!(lines(&broken).len(), 24);
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let mut state = state((80, 24), &rows([1, 2]));
    press(&mut state, "x");
    for has_colours in [true, false] {
        let cells = drawn(&state, (80, 24), has_colours);
        let coloured = cells.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(coloured, has_colours);
        // What matters is told apart all the same.
        for (y, modifier) in [(7, Modifier::REVERSED), (23, Modifier::BOLD), (6, Modifier::BOLD)] {
            assert!(cells[(40, y)].modifier.contains(modifier), "line {y}");
        }
    }
}
