//! A step as one screen: which line is where, and what it says.

use super::screen::{Item, Screen, Step};
use super::texts::Texts;
use super::wrap::{columns, wrap};

/// The columns of a screen; a terminal has 80. One is left free, so that none breaks the line.
pub(super) const WIDTH: usize = 79;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Bold,
}

/// A line of a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

fn plain(text: impl Into<String>) -> Line {
    Line { text: text.into(), look: Look::Plain }
}

fn bold(text: impl Into<String>) -> Line {
    Line { text: text.into(), look: Look::Bold }
}

/// The lines of a step, without the last line, which waits.
pub(super) fn lines(screen: &Screen, texts: &dyn Texts) -> Vec<Line> {
    let (step, last) = (screen.step, Step::ALL.len());
    let mut lines = vec![bold(format!("tine demo  {}/{last}  {}", step.number(), texts.title(step)))];
    lines.push(plain(""));
    lines.extend(wrap("", texts.explanation(step), WIDTH).into_iter().map(plain));
    lines.push(plain(""));
    for item in &screen.items {
        match item {
            Item::Said(fact) => lines.extend(wrap("* ", &texts.fact(fact), WIDTH).into_iter().map(plain)),
            Item::Line(line) => lines.push(plain(cut(&format!("  {line}")))),
        }
    }
    lines.push(plain(""));
    lines.push(bold(texts.outside()));
    lines.extend(screen.commands.iter().map(|command| plain(format!("  $ {command}"))));
    lines.push(plain(""));
    lines
}

/// The beginning of a line that is as wide as the screen at most.
fn cut(line: &str) -> String {
    let mut cut = line.to_owned();
    while columns(&cut) > WIDTH {
        cut.pop();
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::language::Language;
    use crate::demo::screen::Fact;
    use crate::demo::screens::longest::screens;
    use crate::demo::texts;

    #[test]
    fn every_screen_fits_a_terminal_of_80_columns_and_24_lines() {
        assert_eq!(screens().iter().map(|screen| screen.step).collect::<Vec<_>>(), Step::ALL);
        for language in [Language::English, Language::Chinese] {
            let texts = texts::of(language);
            for screen in screens() {
                let mut lines = lines(&screen, texts);
                lines.push(plain(texts.waits_for_key()));
                let screen: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
                assert!(lines.len() <= 24, "{} lines:\n{}", lines.len(), screen.join("\n"));
                for line in screen {
                    assert!(columns(line) <= WIDTH, "{} columns: {line}", columns(line));
                    assert!(!line.ends_with(' ') && !line.contains('\t'), "{line:?}");
                }
            }
            for line in [texts.waits_for(Duration::from_millis(86_399_999)), texts.over().to_owned()] {
                assert!(columns(&line) <= WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn an_explanation_has_two_to_five_lines() {
        for language in [Language::English, Language::Chinese] {
            for step in Step::ALL {
                let lines = wrap("", texts::of(language).explanation(step), WIDTH).len();
                assert!((2..=5).contains(&lines), "{language:?} {step:?}: {lines}");
            }
        }
    }

    #[test]
    fn a_screen_has_a_title_facts_and_commands() {
        let screen = Screen::of(Step::Drain).fact(Fact::Refused { port: 80 }).line("drain").command("ps");
        let english = lines(&screen, texts::of(Language::English));
        assert_eq!(english[0], bold("tine demo  8/9  Drain: stop gracefully"));
        let rest: Vec<&str> =
            english.iter().skip_while(|line| !line.text.starts_with('*')).map(|line| &*line.text).collect();
        let refused = "* A new client gets \"connection refused\" (ECONNREFUSED) from port 80.";
        let outside = "See it from outside, in another terminal:";
        assert_eq!(rest, [refused, "  drain", "", outside, "  $ ps", ""]);
        let chinese = lines(&screen, texts::of(Language::Chinese));
        assert_eq!(chinese[0].text, "tine demo  8/9  平滑停止（drain）");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        assert_eq!(columns(&cut(&"x".repeat(200))), WIDTH);
        assert_eq!(columns(&cut(&"进".repeat(200))), WIDTH - 1);
        assert_eq!(cut("short"), "short");
    }
}
