//! Sections of documents: tables whose last column names a test, commands that tests start.

use std::collections::BTreeSet;

/// The text of a section.
///
/// # Panics
/// If there is no section of this name.
#[must_use]
pub fn section<'a>(document: &'a str, name: &str) -> &'a str {
    let (_, text) = document.split_once(&format!("\n## {name}\n")).expect("a section of this name");
    text.split("\n## ").next().unwrap_or_default()
}

/// The headings of a section, each with the fenced blocks below it.
#[must_use]
pub fn blocks(section: &str) -> Vec<(&str, Vec<&str>)> {
    let parts = section.split("\n### ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, text)| (name, text.split("```\n").skip(1).step_by(2).collect())).collect()
}

/// The tests that the tables of a section name, in their last cells.
///
/// # Panics
/// If there is no such section.
#[must_use]
pub fn tests_named_in<'a>(document: &'a str, section: &str) -> BTreeSet<&'a str> {
    let text = self::section(document, section);
    text.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next()).collect()
}

/// The names of the test functions in the source of a test.
#[must_use]
pub fn tests_in(source: &str) -> BTreeSet<&str> {
    let after = source.split("#[test]\n").skip(1);
    after.filter_map(|text| text.trim_start().strip_prefix("fn ")?.split(['(', '$']).next()).collect()
}
