//! Lines of a limited width. Chinese characters are two columns wide, and a line may end between
//! any two of them, except before a closing and after an opening punctuation mark.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Punctuation that does not begin a line.
const CLOSING: &str = "，。、；：！？）」』》";
/// Punctuation that does not end a line.
const OPENING: &str = "（「『《";

/// The columns that a text takes on a terminal.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// Breaks a text into lines of at most this width. The first begins with `first`, the others with
/// as many spaces. A word that is longer has a line of its own.
pub(super) fn wrap(first: &str, text: &str, width: usize) -> Vec<String> {
    let indent = columns(first);
    let mut lines = vec![first.to_owned()];
    let mut is_empty = true;
    for piece in pieces(text) {
        let line = lines.last().map_or(0, |line| columns(line));
        let space = usize::from(piece.follows_space && !is_empty);
        let fits = line + space + columns(&piece.text) <= width;
        if !fits && !is_empty {
            lines.push(" ".repeat(indent));
        }
        if let Some(line) = lines.last_mut() {
            if fits && space > 0 {
                line.push(' ');
            }
            line.push_str(&piece.text);
        }
        is_empty = false;
    }
    lines
}

/// Characters that stay together.
struct Piece {
    text: String,
    /// Whether a space is before it, if both are in one line.
    follows_space: bool,
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut follows_space = false;
    for character in text.chars() {
        if character == ' ' {
            follows_space = true;
            continue;
        }
        match pieces.last_mut() {
            Some(piece) if !follows_space && stays_with(&piece.text, character) => piece.text.push(character),
            _ => pieces.push(Piece { text: character.into(), follows_space }),
        }
        follows_space = false;
    }
    pieces
}

/// Whether a line may not end between a text and the next character.
fn stays_with(text: &str, next: char) -> bool {
    let is_wide = |character: char| character.width() == Some(2);
    let last = text.chars().next_back();
    CLOSING.contains(next)
        || last.is_some_and(|last| OPENING.contains(last))
        || (!is_wide(next) && last.is_some_and(|last| !is_wide(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_characters_are_two_columns_wide() {
        for (text, expected) in [("", 0), ("abc", 3), ("进程", 4), ("进程 7。", 8), ("（fork）", 8)] {
            assert_eq!(columns(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_end_where_they_may() {
        for (first, text, width, expected) in [
            ("", "one two three", 7, &["one two", "three"][..]),
            ("", "one two three", 8, &["one two", "three"]),
            ("- ", "one two three", 9, &["- one two", "  three"]),
            ("", "", 9, &[""]),
            ("", "averylongword b", 5, &["averylongword", "b"]),
            ("- ", "averylongword b", 5, &["- averylongword", "  b"]),
            ("", "监督进程和派生进程", 8, &["监督进程", "和派生进", "程"]),
            ("", "监督进程和派生进程", 9, &["监督进程", "和派生进", "程"]),
            // A comma goes to the next line with the character before it.
            ("", "监督进程，派生进程", 8, &["监督进", "程，派生", "进程"]),
            // An opening parenthesis goes with what is after it.
            ("", "进程（fork）退出", 6, &["进程", "（fork）", "退出"]),
            // Words of other scripts stay whole, with or without a space.
            ("", "调用waitpid回收", 10, &["调用", "waitpid回", "收"]),
            ("", "调用 waitpid 回收", 10, &["调用", "waitpid 回", "收"]),
            ("* ", "内核 accept 之后", 10, &["* 内核", "  accept", "  之后"]),
        ] {
            assert_eq!(wrap(first, text, width), expected, "{text:?} in {width}");
        }
    }
}
