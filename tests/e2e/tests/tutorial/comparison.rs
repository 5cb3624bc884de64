//! Compares what a command prints with what the text shows.
//!
//! Process ids and ports differ from run to run: those in the text begin with 4 and have four or
//! five digits, and stand for the same number wherever they stand in a block. `…` stands for
//! anything. Spaces between columns are one. Lines of different processes can come in any order.

use std::collections::BTreeMap;

/// The numbers that those in the text have stood for so far.
pub(crate) type Numbers = BTreeMap<String, String>;

/// Whether the lines are those that the text shows; notes the numbers.
pub(crate) fn matches(shown: &[&str], printed: &[String], numbers: &mut Numbers) -> bool {
    let Some((first, rest)) = shown.split_first() else { return printed.is_empty() };
    for (at, line) in printed.iter().enumerate() {
        let mut tried = numbers.clone();
        let others = || printed.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, line)| line);
        if is_line(first, line, &mut tried)
            && matches(rest, &others().cloned().collect::<Vec<_>>(), &mut tried)
        {
            *numbers = tried;
            return true;
        }
    }
    false
}

/// Replaces the numbers of the text by those for which they have stood.
pub(crate) fn with_numbers(text: &str, numbers: &Numbers) -> String {
    let mut replaced = String::new();
    for token in tokens(text) {
        replaced += numbers.get(token).map_or(token, |number| number);
    }
    replaced
}

fn is_line(shown: &str, printed: &str, numbers: &mut Numbers) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, printed) = (words(shown), words(printed));
    let (shown, printed) = (tokens(&shown), tokens(&printed));
    is_same(&shown, &printed, numbers)
}

fn is_same(shown: &[&str], printed: &[&str], numbers: &mut Numbers) -> bool {
    let Some((first, rest)) = shown.split_first() else { return printed.is_empty() };
    if *first == "…" {
        return (0..=printed.len()).any(|skipped| {
            let mut tried = numbers.clone();
            let is_same = is_same(rest, &printed[skipped..], &mut tried);
            if is_same {
                *numbers = tried;
            }
            is_same
        });
    }
    let Some((number, others)) = printed.split_first() else { return false };
    let fits = match is_example(first) {
        true if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            numbers.entry((*first).to_owned()).or_insert_with(|| (*number).to_owned()) == number
        }
        _ => first == number,
    };
    fits && is_same(rest, others, numbers)
}

/// A number that differs from run to run.
fn is_example(token: &str) -> bool {
    token.starts_with('4')
        && (4..=5).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_digit())
}

/// Numbers, and the single characters between them.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (token, after) = rest.split_at(digits.max(first.len_utf8()));
        tokens.push(token);
        rest = after;
    }
    tokens
}

#[test]
fn lines_are_compared_but_for_what_differs() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (shown, printed, is_same) in [
        ("hello", "hello", true),
        ("hello", "hello2", false),
        ("pid 4001, 1", "pid 17, 1", true),
        ("pid 4001, 1", "pid 17, 2", false),
        ("pid 4001 of 4001", "17 of 17", false),
        ("4001 of 4001", "17 of 17", true),
        ("4001 of 4001", "17 of 18", false),
        ("4001 S  a", " 17  S a", true),
        ("socket:[…] x", "socket:[1234] x", true),
        ("socket:[…] x", "socket:[1234] y", false),
        ("one\ntwo", "two\none", true),
        ("one\none", "one\ntwo", false),
        ("one", "one\none", false),
        ("4001 a\n4002 b", "8 b\n7 a", true),
        ("127.0.0.1:9999", "127.0.0.1:9998", false),
        ("", "x", false),
    ] {
        let shown_lines: Vec<&str> = shown.lines().collect();
        let found = matches(&shown_lines, &lines(printed), &mut Numbers::new());
        assert_eq!(found, is_same, "{shown:?} {printed:?}");
    }
}

#[test]
fn commands_get_the_numbers_that_were_printed() {
    let mut numbers = Numbers::new();
    assert!(matches(&["process 4001"], &["process 17".to_owned()], &mut numbers));
    assert_eq!(with_numbers("kill 4001 4002 9999", &numbers), "kill 17 4002 9999");
}
