//! Draws the lines of the screen, with colours or without.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::screen::{Look, lines};
use super::state::State;

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame, state: &State, has_colours: bool) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    for (line, y) in lines(state).iter().zip(area.top()..area.bottom()) {
        let style = style(line.look, has_colours);
        buffer.set_stringn(area.x, y, &line.text, usize::from(area.width), style);
        // The whole line, not only its text.
        buffer.set_style(Rect::new(area.x, y, area.width, 1), style);
    }
}

/// Without colours, bold and reverse tell apart what matters.
fn style(look: Look, has_colours: bool) -> Style {
    let style = Style::new();
    let (style, colour) = match look {
        Look::Plain => return style,
        Look::Head => (style.add_modifier(Modifier::BOLD), None),
        Look::Heading => (style.add_modifier(Modifier::BOLD), Some(Color::Cyan)),
        Look::Selected => (style.add_modifier(Modifier::REVERSED), None),
        Look::Ending => (style, Some(Color::Yellow)),
        Look::Alarm => (style.add_modifier(Modifier::BOLD), Some(Color::Red)),
    };
    match colour {
        Some(colour) if has_colours => style.fg(colour),
        _ => style,
    }
}
