//! Tables of documents whose last column names a test.

use std::collections::BTreeSet;

/// The tests that the tables of a section name, in their last cells.
///
/// # Panics
/// If there is no such section.
#[must_use]
pub fn tests_named_in<'a>(document: &'a str, section: &str) -> BTreeSet<&'a str> {
    let (_, text) = document.split_once(&format!("\n## {section}\n")).expect("a section of this name");
    let text = text.split("\n## ").next().unwrap_or_default();
    text.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next()).collect()
}

/// The names of the test functions in the source of a test.
#[must_use]
pub fn tests_in(source: &str) -> BTreeSet<&str> {
    let after = source.split("#[test]\n").skip(1);
    after.filter_map(|text| text.trim_start().strip_prefix("fn ")?.split(['(', '$']).next()).collect()
}
